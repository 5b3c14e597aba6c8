"""What earlier attempts at a job left in its folder, for the next attempt: resuming is playing it again.

The first attempt writes into the job's folder. Before another begins, all that lies there moves to `attempts/<n>/`; the
transcript moves last, so that a killed move is finished by the next one. When a person wants the job done afresh, all
attempts move to `aside/<n>/`: what they cost counts, and nothing of them is played.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import Literal

from runner.approvals.base import Answer
from runner.approvals.remembered import Asked, answers
from runner.ledger import in_usd
from runner.messages import Price, Usage
from runner.models import Earlier, recorded_of
from runner.report import TRANSCRIPT
from runner.transcript import BranchTaken, ModelReplied, Reader, Resumed, TranscriptError, of_kind

ATTEMPTS, ASIDE = "attempts", "aside"
QUARANTINE = "quarantine"
"""Begins the names of folders with a job's private repository."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Past:
    """All attempts at a job before this one."""

    attempt: int
    """Number of the attempt that this is for."""
    earlier: Earlier
    """What they paid for."""
    commits: frozenset[str] = frozenset()
    """That they took: a branch that points to one of them is the job's own."""
    answers: Mapping[Asked, Answer] = field(default_factory=dict)
    """That people gave."""
    transcript: str
    """Hash of the last one's transcript."""
    on_difference: Literal["stop", "go_on"] = "go_on"

    def event(self) -> Resumed:
        """For the transcript of the new attempt."""
        earlier = self.earlier
        return Resumed(
            attempt=self.attempt,
            transcript=self.transcript,
            replies=len(earlier.replies),
            replies_usage=sum((one.reply.usage + one.reply.wasted for one in earlier.replies), Usage()),
            replies_cost_usd=_cost_usd(earlier.replies),
            usage=earlier.usage,
            cost_usd=earlier.cost_usd,
            cost_doubtful_usd=in_usd(earlier.doubtful),
        )


def _cost_usd(replies: Sequence[ModelReplied]) -> Decimal | None:
    costs = [one.cost_usd for one in replies]
    return None if None in costs else sum((cost for cost in costs if cost is not None), Decimal(0))


def put_away(folder: Path) -> int:
    """Move what the last attempt left in the job's folder to `attempts/<n>/`; returns the number of the next attempt.

    Raises OSError.
    """
    number = len(_put_away(folder)) + 1
    if not (folder / TRANSCRIPT).exists():
        return number
    place = folder / ATTEMPTS / str(number)
    place.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if path.name.startswith(QUARANTINE):
            # On its way out already: what a killed runner had there goes a moment after it.
            shutil.rmtree(path, ignore_errors=True)
        elif path.name not in (ATTEMPTS, ASIDE, TRANSCRIPT):
            path.rename(place / path.name)
    (folder / TRANSCRIPT).rename(place / TRANSCRIPT)
    return number + 1


def set_aside(folder: Path) -> None:
    """Have the next attempt begin afresh. Raises OSError."""
    put_away(folder)
    if (folder / ATTEMPTS).exists():
        (folder / ASIDE).mkdir(exist_ok=True)
        (folder / ATTEMPTS).rename(folder / ASIDE / str(len(list((folder / ASIDE).iterdir())) + 1))


@dataclass(frozen=True, kw_only=True, slots=True)
class Aside:
    """What attempts that were set aside cost, in micro-USD."""

    spent: int
    doubtful: int
    """That they may have cost besides."""
    whole: bool
    """False: a transcript of theirs is damaged, and what it tells of is not counted."""


def paid_aside(folder: Path, *, price: Price | None) -> Aside:
    """Nothing of them is played, so that a damaged transcript, for which a job was begun anew, stands in no way."""
    found, damaged = list[Earlier](), 0
    for place in (folder / ASIDE).glob("*"):
        try:
            found.append(recorded_of(sorted(place.glob(f"*/{TRANSCRIPT}"), key=_number), price=price))
        except TranscriptError:
            damaged += 1
    return Aside(spent=sum(one.spent for one in found), doubtful=sum(one.doubtful for one in found), whole=not damaged)


def past_of(folder: Path, *, price: Price | None, on_difference: Literal["stop", "go_on"] = "go_on") -> Past | None:
    """What the attempts that were put away left; None when there is none. Raises TranscriptError for a damaged one.

    `price` is that of the job's model, for what is in doubt.
    """
    transcripts = _put_away(folder)
    if not transcripts:
        return None
    readers = [Reader(path) for path in transcripts]
    events = [event for reader in readers for event in reader]
    return Past(
        attempt=len(transcripts) + 1,
        earlier=recorded_of(transcripts, price=price),
        commits=frozenset(event.commit for event in of_kind(events, BranchTaken) if event.commit),
        answers=answers(events),
        transcript=readers[-1].hash,
        on_difference=on_difference,
    )


def transcripts_of(folder: Path) -> list[Path]:
    """Of all attempts at a job, oldest first."""
    last = folder / TRANSCRIPT
    return [*_put_away(folder), *([last] if last.exists() else [])]


def _put_away(folder: Path) -> list[Path]:
    found = (folder / ATTEMPTS).glob(f"*/{TRANSCRIPT}")
    return sorted(found, key=_number)


def _number(transcript: Path) -> int:
    """Of the attempt that a transcript was put away with."""
    return int(transcript.parent.name)
