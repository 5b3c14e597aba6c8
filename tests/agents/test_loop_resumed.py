"""An agent whose runner dies at any write goes on where it was, and no reply is paid for twice."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import closing
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from runner.agents import AGENTS, AgentEnd, Context
from runner.agents.base import Clock
from runner.ledger import JobLedger, in_usd
from runner.models import SPOOL, Metered, Playing, RetryBudget, Spool, recorded_of
from runner.models.anthropic import AnthropicModel
from runner.models.prices import price_of
from runner.models.script import Turn
from runner.models.scripted import ScriptedServer
from runner.models.secret import Secret
from runner.models.spool import SpoolHeader
from runner.past import Past
from runner.result.bill import billed
from runner.sandbox.base import Sandbox
from runner.task import Limits
from runner.transcript import AnyEvent, Diverged, ModelReplied, Transcript, of_kind, read
from tests.agents.jobs import ANYTHING, MODEL, calls, fails, says, used
from tests.tools.sandboxes import toolbox

USED = used(input_tokens=1000, output_tokens=100)
COST = 4500
"""Micro-USD of a reply."""
CUT = 3000 + 15
"""Known of a reply that was cut: all of its input, and a token."""
CAP = Decimal(1)
TURNS: tuple[Turn, ...] = (
    calls(("Nope", {}), text="First.", usage=USED),
    fails(status=529),
    calls(("Nope", {}), usage=USED),
    says("Half", usage=USED, fault={"after": 4}),
    *(calls(("Nope", {}), text="More.", usage=USED) for _ in range(20)),
)
REPLIES = 4


class Death(BaseException):
    """The runner is killed: nobody hears of it."""


@dataclass
class Fate:
    """Kills a runner at one of its writes: before it, or just after it."""

    writes: int
    before: bool

    def meets(self, write: Callable[[], None]) -> None:
        self.writes -= 1
        if self.writes == 0 and self.before:
            raise Death
        write()
        if self.writes == 0:
            raise Death


class MortalSpool(Spool):
    def __init__(self, path: Path, fate: Fate) -> None:
        super().__init__(path)
        self._fate = fate

    def begin(self, header: SpoolHeader) -> None:
        self._fate.meets(partial(super().begin, header))

    def keep(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in super().keep(chunks):
            self._fate.meets(lambda: None)
            yield chunk


@dataclass
class Runner:
    """Attempts at one job, whose server lives on."""

    server: ScriptedServer
    sandbox: Sandbox
    folder: Path
    transcripts: list[Path] = field(default_factory=list)

    def attempt(self, fate: Fate) -> AgentEnd:
        """Go on where the last attempt ended. Raises Death."""
        earlier = recorded_of(self.transcripts, price=price_of(MODEL))
        assert earlier.spent <= self.bill <= earlier.spent + earlier.doubtful
        folder = self.folder / str(len(self.transcripts) + 1)
        folder.mkdir()
        path = folder / "transcript.jsonl"
        spool = MortalSpool(folder / SPOOL, fate)
        ledger = JobLedger(CAP, spent=earlier.spent, doubtful=earlier.doubtful)
        model = AnthropicModel(
            MODEL,
            MODEL,
            base_url=self.server.url,
            key=Secret(self.server.key),
            budget=RetryBudget(tries=5, seconds=60, first_wait_seconds=0.001),
            spool=spool,
        )
        events: list[AnyEvent] = []
        with closing(model), Transcript.open(path) as transcript:
            self.transcripts.append(path)

            def record(event: AnyEvent) -> None:
                fate.meets(partial(transcript.record, event))
                events.append(event)

            if len(self.transcripts) > 1:
                record(Past(attempt=len(self.transcripts), earlier=earlier, transcript="").event())
            playing = Playing(
                earlier.replies,
                Metered(model, ledger),
                on_difference="go_on",
                diverged=lambda turn, what: record(Diverged(turn=turn, what=what)),
            )
            context = Context(
                prompt="Fix it.",
                sandbox=self.sandbox,
                model=playing,
                policy=ANYTHING,
                limits=Limits(turns=REPLIES),
                max_tokens=1000,
                clock=Clock(600),
                events=events,
                record=record,
            )
            end = AGENTS["loop"]().run(context)
        spool.discard()
        return end

    @property
    def bill(self) -> int:
        """Micro-USD of all that was served: what the server cut short it bills as far as it told."""
        served = TURNS[: len(self.server.requests)]
        return sum(0 if turn.fault and turn.fault.status else CUT if turn.fault else COST for turn in served)


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Sandbox]:
    with toolbox(tmp_path_factory.mktemp("toolbox")) as sandbox:
        yield sandbox


deaths = st.builds(Fate, writes=st.integers(1, 34), before=st.booleans())


@settings(max_examples=50, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(fates=st.lists(deaths, max_size=4))
@example(fates=[Fate(8, True), Fate(3, False)])
@example(fates=[Fate(24, False), Fate(4, False)])
def test_a_job_whose_runner_dies_at_any_write_is_done_and_paid_for_once(sandbox: Sandbox, fates: list[Fate]) -> None:
    with TemporaryDirectory() as folder, ScriptedServer(TURNS, model=MODEL) as server:
        runner = Runner(server, sandbox, Path(folder))
        end = None
        for fate in [*(Fate(one.writes, one.before) for one in fates), Fate(0, False)]:
            try:
                end = runner.attempt(fate)
                break
            except Death:
                continue
        assert end is not None
        assert (end.reason, end.turns) == ("limits.turns", REPLIES)
        events = read(runner.transcripts[-1])
        replies = of_kind(events, ModelReplied)
        assert len({one.reply.id for one in replies}) == REPLIES
        assert of_kind(events, Diverged) == []
        earlier = recorded_of(runner.transcripts, price=price_of(MODEL))
        assert earlier.spent <= runner.bill <= earlier.spent + earlier.doubtful
        # Of what is paid for and not played, each is a stream that was cut: a token of output, not a whole reply.
        assert earlier.usage.output_tokens <= len(fates) + 1
        # What the last transcript says alone is what all of them say together.
        assert billed(events).cost_usd == end.cost_usd == in_usd(earlier.spent)
        assert billed(events).doubtful_usd == in_usd(earlier.doubtful)


def test_without_a_death_the_doubt_is_only_that_of_the_stream_that_was_cut(sandbox: Sandbox, tmp_path: Path) -> None:
    with ScriptedServer(TURNS, model=MODEL) as server:
        runner = Runner(server, sandbox, tmp_path)
        runner.attempt(Fate(0, False))
        earlier = recorded_of(runner.transcripts, price=price_of(MODEL))
        assert earlier.spent == runner.bill == REPLIES * COST + CUT
        assert earlier.doubtful == 999 * 15
        bill = billed(read(runner.transcripts[-1]))
        assert (bill.doubtful_usd, bill.complete) == (in_usd(earlier.doubtful), False)
        assert list(tmp_path.rglob(SPOOL)) == []
