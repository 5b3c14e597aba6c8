"""Made-up batches: folders of jobs with valid transcripts of every outcome; the same every time, times included."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Sequence
from datetime import timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

from runner.errors import Cause, Outcome
from runner.messages import Reply, Text, Usage
from runner.transcript import (
    NO_HASH,
    AgentEnded,
    AgentPrompted,
    AnyEvent,
    BranchDelivered,
    JobEnded,
    JobStarted,
    ModelReplied,
    Resumed,
    SandboxOpened,
)
from tests.report.sample import HOSTILE, START, Clock, call, checked, decided, job_facts, ran, sandbox_report, taken

OUTCOMES: tuple[tuple[Outcome, int, str], ...] = (
    ("solved", 55, "all 2 checks passed"),
    ("unsolved", 16, "1 of 2 checks failed; first 'pytest -q tests/test_pager.py': exit 1"),
    ("changed", 6, "something changed; no checks were asked"),
    ("no_change", 5, "nothing changed"),
    (
        "denied",
        3,
        "nothing changed; 4 calls were denied; first Bash(git push) by Bash(git push:*) (policies/ci.yaml:9)",
    ),
    ("limit", 7, "limits.cost_usd reached; what was done so far came out; 1 check failed"),
    ("tampered", 1, "interfered with: tests/test_pager.py"),
    ("provider_error", 3, "HTTP 529 overloaded_error, 20 tries"),
    ("sandbox_error", 2, "the container went away: out of memory (2,147,483,648 bytes)"),
    ("repo_error", 1, "git: no space left on device"),
    ("cancelled", 1, "cancelled by SIGINT"),
)
CAUSES: dict[Outcome, Cause] = {"provider_error": "provider", "sandbox_error": "oom", "repo_error": "disk"}
SUBJECTS = ("Last page is dropped", "Crash on an empty file", "Wrong total in the invoice", "Timezone is ignored")
PLACES = (
    "when the list has 100 entries",
    "on Windows",
    "after an upgrade from 2.3",
    "with --json",
    "if no user is set",
)
LAST_WORDS = "I've fixed the bug in `pager/core.py`. All tests pass. I committed the changes."


def write_chained(path: Path, events: Sequence[AnyEvent]) -> str:
    """Write events with the times they have as a transcript; its hash is returned."""
    prev, lines = NO_HASH, []
    for number, event in enumerate(events, start=1):
        line = event.model_copy(update={"seq": number, "prev": prev}).model_dump_json().encode()
        prev = hashlib.sha256(line).hexdigest()
        lines.append(line)
    path.write_bytes(b"\n".join(lines) + b"\n")
    return prev


def write_batch(folder: Path, jobs: int, *, turns: int = 6, hostile: bool = False) -> None:
    """So many jobs; of 50 or more, some are unfinished or damaged."""
    chance = random.Random(jobs)
    for number in range(1, jobs + 1):
        events = job_events(number, chance, turns=turns, hostile=HOSTILE[number % len(HOSTILE)] if hostile else "")
        place = folder / events[0].model_dump()["job"]["id"]
        place.mkdir(parents=True)
        if number % 50 == 49:
            events = events[: len(events) // 2]
        write_chained(place / "transcript.jsonl", events)
        if number % 500 == 450:
            damage(place / "transcript.jsonl")


def damage(transcript: Path, line: int = 4) -> None:
    """Change one letter in a line."""
    lines = transcript.read_bytes().split(b"\n")
    lines[line - 1] = lines[line - 1].replace(b"text", b"tEXt", 1)
    transcript.write_bytes(b"\n".join(lines))


def job_events(number: int, chance: random.Random, *, turns: int = 6, hostile: str = "") -> list[AnyEvent]:
    outcome, _, reason = chance.choices(OUTCOMES, [weight for _, weight, _ in OUTCOMES])[0]
    title = f"{chance.choice(SUBJECTS)} {chance.choice(PLACES)} (#{number + 1200}){hostile}"
    resolved = {"title": title, "source": f"issues.json:{number}"}
    model = chance.choice(("anthropic:claude-sonnet-4-6", "anthropic:claude-haiku-4-5"))
    clock = Clock()
    clock._now = START + timedelta(seconds=number * 9 + chance.random() * 30)
    clock.add(JobStarted(job=job_facts(id=f"fix-{number:04}", task="fix-issue", model=model, resolved=resolved)))
    if number % 20 == 0:
        doubt = Decimal("0.031") if number % 40 == 0 else Decimal()
        clock.add(Resumed(attempt=2, transcript="5" * 64, replies=0, cost_doubtful_usd=doubt), after=0.1)
    clock.add(SandboxOpened(purpose="agent", report=sandbox_report()), after=0.4)
    clock.add(AgentPrompted(text=f"{title}\n\nIt does not work.", system="You are careful."), after=0.2)
    scale = chance.lognormvariate(0, 0.8)
    for turn in range(1, max(2, round(turns * scale)) + 1):
        _add_turn(clock, turn, chance, scale, model)
    _add_end(clock, outcome, reason + hostile, chance)
    return clock.events


def _add_turn(clock: Clock, turn: int, chance: random.Random, scale: float, model: str) -> None:
    use = call(turn, "Bash", command="python -m pytest -q" if turn % 3 == 0 else "git diff")
    usage = Usage(
        input_tokens=round(900 * scale * chance.random()),
        output_tokens=round(700 * scale * chance.random()),
        cache_read_tokens=4_000 * turn,
    )
    cheap = Decimal("0.3") if "haiku" in model else Decimal(1)
    cost = cheap * (3 * usage.input_tokens + 15 * usage.output_tokens + usage.cache_read_tokens // 3) / 1_000_000
    reply = Reply(content=(Text(text="On it."), use), stop_reason="tool_use", usage=usage, model=model.split(":")[1])
    seconds = 2 + 9 * scale * chance.random()
    clock.add(
        ModelReplied(turn=turn, request_hash="0" * 64, reply=reply, cost_usd=cost, seconds=seconds), after=seconds
    )
    clock.add(decided(turn, use, allowed=turn % 7 != 6))
    clock.add(ran(turn, use, "2 passed", error=turn % 6 == 0, ran=turn % 7 != 6), after=0.3)


def _add_end(clock: Clock, outcome: Outcome, reason: str, chance: random.Random) -> None:
    if outcome not in ("provider_error", "sandbox_error", "cancelled"):
        words = LAST_WORDS if chance.random() < 0.2 else "Done; see the diff."
        clock.add(AgentEnded(reason="done", message=words), after=0.1)
        if outcome in ("solved", "unsolved", "changed", "limit", "tampered"):
            size: dict[str, Any] = {"files": 1, "paths": ("pager/core.py",), "insertions": chance.randint(1, 90)}
            clock.add(taken(tree="7e" * 20, **size), after=0.4)
        if outcome in ("solved", "unsolved", "limit"):
            clock.add(SandboxOpened(purpose="checks", report=sandbox_report()), after=0.5)
            clock.add(checked("pytest -q", 0 if outcome == "solved" else 1, "x"), after=1.5)
            clock.add(checked("ruff check .", 0, "x"), after=0.4)
        if outcome in ("solved", "unsolved", "changed", "limit"):
            clock.add(BranchDelivered(branch=f"claw/fix-{chance.randint(1000, 9999)}", bundle=None), after=0.1)
    clock.add(JobEnded(outcome=outcome, reason=reason, cause=CAUSES.get(outcome)), after=0.2)
