"""`claw-runner status [BATCH]`: how far batches are, who works on them, what they cost, and what went wrong."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import typer
from rich.text import Text

from runner.batch.base import Holder, JobRow
from runner.batch.causes import CAUSES, cause_of
from runner.batch.picture import clock, counts_text, folded, money_text, progress_bar, rough
from runner.batch.standing import ENDED, QUEUED, UNDER_WAY, Standing, standing
from runner.batch.store import Store
from runner.batch.summary import next_command
from runner.cli.jobs import RUNS, batches, find_batch, typed
from runner.cli.rows import Row, rows_text
from runner.cli.screen import WIDTH, print_lines
from runner.cli.tail import last_events
from runner.errors import EXIT_CODES, Cause, ConfigError, Outcome
from runner.ledger import in_usd
from runner.report import TRANSCRIPT
from runner.report.progress import progress_line
from runner.report.units import plural, usd
from runner.report.visible import one_line, visible_json
from runner.sandbox import owner as owners
from runner.transcript import ModelReplied

MOST_RUNNING = 20
REASON_CHARS = 200
MOST_NAMED = 3
"""Jobs that are named of each kind of failure."""

Word = Literal["running", "stopping", "stopped", "idle", "ended"]
"""running: some runner holds jobs of it. stopping: it does, and was asked to begin no more. stopped: it was, and nobody
does any more. idle: nobody holds a job; its runner waits for something, or has died."""


def status(
    batch: Annotated[
        str | None, typer.Argument(metavar="BATCH", help="its folder, its id, or the beginning of its id")
    ] = None,
    runs: Annotated[Path, typer.Option(metavar="DIR", help="where batches are listed from")] = RUNS,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON and nothing else")] = False,
) -> int:
    """Print how far a batch is: its jobs, its money, who works on it, what went wrong.

    Without BATCH: one line for each, the newest first. The exit code says nothing of the batch.
    """
    if batch is None:
        _list(runs, as_json)
        return 0
    with Store.open(find_batch(batch)) as store:
        found = look_at(store)
    if as_json:
        sys.stdout.write(visible_json(_facts(found)) + "\n")
    else:
        print_lines(_cut(_lines(found)))
    return 0


# -- looking


@dataclass(frozen=True, kw_only=True, slots=True)
class Failures:
    """Jobs that ended badly in the same way."""

    kind: Cause | Outcome
    """The cause, when it was ours or the outside's; the outcome otherwise."""
    jobs: tuple[str, ...]
    reason: str
    """That most of them have."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Doing:
    """A job under way, or left half-way."""

    row: JobRow
    turn: int
    seconds_ago: float | None
    """Since the last thing that was heard of it."""
    line: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Looked:
    """A batch at one moment."""

    store: Store
    word: Word
    standing: Standing
    runners: Sequence[Holder]
    doing: Sequence[Doing]
    failures: Sequence[Failures]
    waiting: int
    """Jobs that wait to be tried again."""
    seconds_left: float | None


def look_at(store: Store) -> Looked:
    now, found, runners = time.time(), standing(store), store.runners()
    under_way = store.jobs(states=UNDER_WAY, whole=False)
    ended = list(store.jobs(states=ENDED, whole=False))
    waiting = sum(row.not_before > now for row in store.jobs(states=QUEUED, whole=False))
    return Looked(
        store=store,
        word=_word(store, found, runners),
        standing=found,
        runners=runners,
        doing=[_doing(store, row, now) for row in under_way],
        failures=_failures(ended),
        waiting=waiting,
        seconds_left=_seconds_left(ended, found, store.spec.limits.jobs * max(1, len(runners))),
    )


def _word(store: Store, found: Standing, runners: Sequence[Holder]) -> Word:
    if found.ended == found.jobs:
        return "ended"
    if store.asked_to_stop():
        return "stopping" if runners else "stopped"
    return "running" if runners else "idle"


def _doing(store: Store, row: JobRow, now: float) -> Doing:
    events = last_events(store.folder / row.planned.id / TRANSCRIPT)
    turn = next((event.turn for event in events if isinstance(event, ModelReplied)), 0)
    line = next(filter(None, map(progress_line, events)), "")
    ago = now - datetime.fromisoformat(events[0].time).timestamp() if events else None
    return Doing(row=row, turn=turn, seconds_ago=ago, line=" ".join(line.partition("\n")[0].split()))


def _failures(ended: Sequence[JobRow]) -> list[Failures]:
    """The kinds of failures, the most frequent first."""
    kinds: dict[Cause | Outcome, list[JobRow]] = {}
    for row in ended:
        if row.ended and EXIT_CODES[row.ended.outcome] != 0:
            kinds.setdefault(cause_of(row.ended) or row.ended.outcome, []).append(row)
    return [
        Failures(kind=kind, jobs=tuple(row.planned.id for row in rows), reason=_commonest(rows))
        for kind, rows in sorted(kinds.items(), key=lambda item: -len(item[1]))
    ]


def _commonest(rows: Sequence[JobRow]) -> str:
    [(reason, _)] = Counter(row.ended.reason for row in rows if row.ended).most_common(1)
    return reason


def _seconds_left(ended: Sequence[JobRow], found: Standing, at_a_time: int) -> float | None:
    """As long as the jobs so far took on average, so many at a time. None: none has ended, or all have."""
    seconds = [row.ended.seconds for row in ended if row.ended and row.ended.seconds]
    left = found.jobs - found.ended
    return left * sum(seconds) / len(seconds) / at_a_time if seconds and left else None


# -- words


def _cut(lines: Iterator[Text]) -> Iterator[Text]:
    for line in lines:
        line.truncate(WIDTH, overflow="ellipsis")
        yield line


def _lines(found: Looked) -> Iterator[Text]:
    spec = found.store.spec
    yield Text.assemble((one_line(spec.id), "bold"), "  ", (found.word, _STYLES[found.word]))
    yield progress_bar(found.standing, WIDTH)
    yield from folded(counts_text(found.standing, left=not found.runners), WIDTH)
    yield from folded([Text(part) for part in _amounts(found)], WIDTH)
    yield Text()
    yield from _labelled("source", f"{spec.source}, since {_date(spec.created_at)}")
    yield from _labelled("policy", spec.policy_file)
    for holder in found.runners:
        yield from _labelled("runner", f"{_who(holder.owner)}, with {plural(holder.jobs, 'job')}")
    if found.waiting:
        yield from _labelled("waiting", f"{plural(found.waiting, 'job')} to be tried again")
    yield from _doing_lines(found)
    yield from _failure_lines(found)
    yield from _next(found)


_STYLES: dict[Word, str] = {
    "running": "bold green",
    "stopping": "bold yellow",
    "stopped": "bold yellow",
    "idle": "bold yellow",
    "ended": "bold",
}


def _amounts(found: Looked) -> Iterator[str]:
    yield money_text(found.standing)
    if found.seconds_left is not None:
        yield f"about {rough(found.seconds_left)} of work left"


def _labelled(label: str, text: str) -> Iterator[Text]:
    for line in rows_text([(label.ljust(8), text)], indent="").splitlines():
        yield Text(line)


def _date(at: str) -> str:
    return f"{at[:10]} {at[11:16]} UTC" if at else "unknown"


def _who(owner: str) -> str:
    pid = owner.split(":")[2:3]
    return f"process {one_line(pid[0])} here" if owners.state(owner) == "alive" and pid else "one on another machine"


def _doing_lines(found: Looked) -> Iterator[Text]:
    if not found.doing:
        return
    width = min(24, max(len(one_line(doing.row.planned.id)) for doing in found.doing))
    yield Text()
    yield Text(f"{'job':<{width}}  {'state':<8}  turn  heard of  last", "dim")
    for doing in found.doing[:MOST_RUNNING]:
        job = one_line(doing.row.planned.id)
        ago = "" if doing.seconds_ago is None else clock(doing.seconds_ago)
        row = f"{job[:width]:<{width}}  {doing.row.state:<8}  {doing.turn or '':>4}  {ago:>8}  "
        yield Text.assemble(row, (doing.line, "dim"))
    if len(found.doing) > MOST_RUNNING:
        yield Text(f"and {len(found.doing) - MOST_RUNNING:,} more", "dim")


def _failure_lines(found: Looked) -> Iterator[Text]:
    rows: list[Row] = []
    for failures in found.failures:
        named = ", ".join(failures.jobs[:MOST_NAMED])
        more = len(failures.jobs) - MOST_NAMED
        rows.append((failures.kind, f"{len(failures.jobs):,}: {named}{f' and {more:,} more' if more > 0 else ''}"))
        rows.append(("", failures.reason[:REASON_CHARS]))
        if remedy := _remedy(failures):
            rows.append(("", f"→ {remedy}"))
    if rows:
        yield Text()
        yield from map(Text, rows_text(rows, indent="").splitlines())


def _remedy(failures: Failures) -> str:
    return next((treatment.remedy for cause, treatment in CAUSES.items() if cause == failures.kind), "")


def _next(found: Looked) -> Iterator[Text]:
    name = typed(found.store.folder)
    if found.word == "running":
        command = f"claw-runner logs {name} -f"
    else:
        command = next_command(name, found.standing, stopping=found.word == "stopping")
    if command:
        yield Text()
        yield from _labelled("next", command)


# -- JSON


def _facts(found: Looked) -> dict[str, Any]:
    spec, counts, totals = found.store.spec, found.standing.counts, found.standing.totals
    return {
        "batch": spec.id,
        "folder": str(found.store.folder),
        "state": found.word,
        "source": spec.source,
        "policy": spec.policy_file,
        "created_at": spec.created_at,
        "limits": dataclasses.asdict(spec.limits),
        "jobs": counts.jobs,
        "states": dict(counts.states),
        "outcomes": dict(counts.outcomes),
        "waiting": found.waiting,
        "cost_usd": _money(totals.spent),
        "reserved_usd": _money(totals.reserved),
        "doubtful_usd": _money(totals.doubtful),
        "tokens": totals.tokens,
        "turns": totals.turns,
        "seconds_left": found.seconds_left,
        "runners": [dataclasses.asdict(holder) for holder in found.runners],
        "running": [_doing_facts(doing) for doing in found.doing],
        "failures": [dataclasses.asdict(failures) for failures in found.failures],
    }


def _money(micro: int) -> str:
    return format(in_usd(micro), "f")


def _doing_facts(doing: Doing) -> dict[str, Any]:
    row = doing.row
    facts = {"job": row.planned.id, "title": row.planned.title, "state": row.state, "attempt": row.attempt}
    return facts | {"turn": doing.turn, "seconds_ago": doing.seconds_ago, "last": doing.line}


# -- all batches


def _list(runs: Path, as_json: bool) -> None:
    found = sorted(_looked_at(batches(runs)), key=lambda one: one.created_at, reverse=True)
    if as_json:
        sys.stdout.write(visible_json([dataclasses.asdict(one) for one in found]) + "\n")
    elif not found:
        print(f"there is no batch in {runs}/; claw-runner batch --help says how to begin one")
    else:
        print_lines(_table(found))


@dataclass(frozen=True, kw_only=True, slots=True)
class Listed:
    """A batch in the list of all."""

    batch: str
    folder: str
    state: Word
    jobs: int
    ended: int
    succeeded: int
    cost_usd: str
    created_at: str


def _looked_at(folders: Sequence[Path]) -> Iterator[Listed]:
    for folder in folders:
        try:
            with Store.open(folder) as store:
                yield _listed(store)
        except ConfigError as error:
            # One that cannot be read does not keep us from the others.
            print(f"claw-runner: {one_line(str(error))}", file=sys.stderr)


def _listed(store: Store) -> Listed:
    found = standing(store)
    good = sum(count for outcome, count in found.counts.outcomes.items() if EXIT_CODES[outcome] == 0)
    return Listed(
        batch=store.spec.id,
        folder=str(store.folder),
        state=_word(store, found, store.runners()),
        jobs=found.jobs,
        ended=found.ended,
        succeeded=good,
        cost_usd=_money(found.totals.spent),
        created_at=store.spec.created_at,
    )


def _table(found: Sequence[Listed]) -> Iterator[Text]:
    width = min(34, max(len(one_line(one.batch)) for one in found))
    yield Text(f"{'batch':<{width}}  {'state':<8}  {'ended':>13}  {'good':>5}  {'cost':>8}", "dim")
    for one in found:
        ended = f"{one.ended:,} of {one.jobs:,}"
        row = f"  {ended:>13}  {one.succeeded:>5,}  {usd(float(one.cost_usd)):>8}"
        yield Text.assemble(f"{one_line(one.batch):<{width}}  ", (f"{one.state:<8}", _STYLES[one.state]), row)
