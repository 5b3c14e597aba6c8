"""The jobs of a batch's folder, each as its transcript has it, and nothing else."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Literal, NamedTuple

from pydantic import ValidationError

from runner.errors import OUTCOMES, Outcome
from runner.messages import Usage
from runner.report.units import plural
from runner.result import Incomplete, JobResult, compute_result, incomplete
from runner.transcript import AnyEvent, JobEnded, JobStarted, Reader, TranscriptError, first_problem

TRANSCRIPT = "transcript.jsonl"
ATTEMPTS = "attempts"
"""In a job's folder: what earlier attempts left."""

Row = JobResult | Incomplete
"""What a transcript says of its job."""
Word = Outcome | Literal["unfinished", "damaged"]
WORDS: tuple[Word, ...] = (*OUTCOMES, "unfinished", "damaged")

Tone = Literal["good", "warn", "bad"]
TONES: dict[Word, Tone] = {
    "solved": "good",
    "changed": "good",
    "no_change": "warn",
    "denied": "warn",
    "limit": "warn",
    "cancelled": "warn",
    "unfinished": "warn",
}
"""Colour of the outcome; what is not here is bad."""


def word_of(row: Row) -> Word:
    """Its outcome, or why it has none."""
    return row.outcome if isinstance(row, JobResult) else row.problem


def tone_of(row: Row) -> Tone:
    return TONES.get(word_of(row), "bad")


def title_of(row: Row) -> str:
    """What people know the job by."""
    return row.title or row.task or row.job


def false_claims(row: Row) -> int:
    """Claims of the agent's last message that what was observed contradicts."""
    return sum(claim.holds is False for claim in row.claims) if isinstance(row, JobResult) else 0


class Read(NamedTuple):
    """A transcript, read, and what it says."""

    row: Row
    events: Sequence[AnyEvent]
    """Until the first damaged line."""


def read_batch(folder: Path) -> Iterator[tuple[Path, Read]]:
    """Every job below a folder with what its transcript says, sorted by the folders' names, one at a time."""
    for path in sorted(folder.iterdir()):
        if path.is_dir() and not path.is_symlink() and (transcript := _transcript(path)) is not None:
            yield path, read_job(transcript, name=path.name)


def is_batch_of_transcripts(folder: Path) -> bool:
    """Whether any folder in it is one of a job."""
    return any(_transcript(path) for path in folder.iterdir() if path.is_dir())


def _transcript(folder: Path) -> Path | None:
    """Of the attempt that is under way or over, or of the last one before it."""
    earlier = sorted((folder / ATTEMPTS).glob(f"*/{TRANSCRIPT}"), key=lambda path: (len(path.parts[-2]), path))
    return next((path for path in (folder / TRANSCRIPT, *reversed(earlier)) if path.is_file()), None)


def read_job(transcript: Path, *, name: str) -> Read:
    """What one transcript says; `name` stands for the job's id where it does not say that."""
    reader = Reader(transcript)
    events: list[AnyEvent] = []
    try:
        events.extend(reader)
    except (TranscriptError, OSError) as error:
        return Read(_incomplete(events, name, "damaged", _without_folder(str(error), transcript)), events)
    try:
        if _is_whole(events) and not reader.torn_bytes:
            return Read(compute_result(events, transcript_hash=reader.hash), events)
        return Read(_incomplete(events, name, "unfinished", _how_far(events)), events)
    except ValueError as error:
        return Read(Incomplete(job=name, problem="damaged", reason=_no_result(error)), events)


def _no_result(error: ValueError) -> str:
    """Every line is an event, and yet: a time that is none, a job that says too little."""
    what = first_problem(error) if isinstance(error, ValidationError) else str(error)
    return f"no result can be computed of it: {what}"


def _is_whole(events: Sequence[AnyEvent]) -> bool:
    return bool(events) and isinstance(events[0], JobStarted) and isinstance(events[-1], JobEnded)


def _incomplete(
    events: Sequence[AnyEvent], name: str, problem: Literal["unfinished", "damaged"], reason: str
) -> Incomplete:
    try:
        return incomplete(events, job=name, problem=problem, reason=reason)
    except ValueError as error:
        return Incomplete(job=name, problem="damaged", reason=f"{reason}; {_no_result(error)}")


def _how_far(events: Sequence[AnyEvent]) -> str:
    if not events:
        return "nothing happened yet"
    return f"still running, or ended by force; {plural(len(events), 'event')}, last: {events[-1].type}"


def _without_folder(message: str, transcript: Path) -> str:
    return message.replace(f"{transcript.parent}/", "")


class Totals(NamedTuple):
    """All jobs of a batch together."""

    jobs: int
    outcomes: dict[Word, int]
    """Those that occur, in the order of `WORDS`."""
    cost_usd: Decimal
    """As far as it is known."""
    cost_doubtful_usd: Decimal
    cost_complete: bool
    usage: Usage
    turns: int
    denials: int
    false_claims: int
    """Jobs with a claim that does not hold."""
    seconds: float
    """Of all ended jobs, one after the other."""
    started_at: str
    """Of the first; "" when none has begun."""
    ended_at: str
    """Time of the last event of any; "" when there is none."""


def totals(rows: Sequence[Row]) -> Totals:
    counts = Counter(word_of(row) for row in rows)
    ended = [row for row in rows if isinstance(row, JobResult)]
    return Totals(
        jobs=len(rows),
        outcomes={word: counts[word] for word in WORDS if counts[word]},
        cost_usd=_sum(row.cost_usd for row in rows),
        cost_doubtful_usd=_sum(row.cost_doubtful_usd for row in rows),
        cost_complete=all(row.cost_complete and row.cost_usd is not None for row in rows),
        usage=_used(rows),
        turns=sum(row.turns for row in rows),
        denials=sum(len(row.denials) for row in ended),
        false_claims=sum(bool(false_claims(row)) for row in rows),
        seconds=round(sum(row.seconds for row in ended), 3),
        started_at=min((row.started_at for row in rows if row.started_at), default=""),
        ended_at=max((end for row in rows if (end := _last_at(row))), default=""),
    )


def _sum(amounts: Iterable[Decimal | None]) -> Decimal:
    return sum((amount for amount in amounts if amount is not None), Decimal())


def _used(rows: Sequence[Row]) -> Usage:
    return Usage(**{name: sum(getattr(row.usage, name) for row in rows) for name in Usage.model_fields})


def _last_at(row: Row) -> str:
    return row.ended_at if isinstance(row, JobResult) else row.last_at
