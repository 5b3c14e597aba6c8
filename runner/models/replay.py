"""A model that plays the recorded replies of an earlier job, in their order, to exactly the same requests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from runner.errors import ConfigError
from runner.messages import Price, Reply, Request, Retried
from runner.models.base import NoReply, Pay
from runner.models.playing import difference, end_of_recording
from runner.models.prices import price_of
from runner.transcript import ModelReplied, Reader

TRANSCRIPT = "transcript.jsonl"


def open_replay(job: str, *, folder: Path) -> ReplayModel:
    """`replay:JOB`, where JOB is a job folder or its transcript, seen from `folder`, or a name under `runs/` here.

    Raises ConfigError when there is none, or when the transcript is damaged.
    """
    path = _transcript(job, folder)
    replies = [event for event in Reader(path) if isinstance(event, ModelReplied)]
    if not replies:
        raise ConfigError(f"replay:{job}: {path} holds no reply of a model")
    return ReplayModel(f"replay:{job}", replies)


def _transcript(job: str, folder: Path) -> Path:
    places = [folder / job, Path("runs") / job]
    for place in places:
        for path in (place, place / TRANSCRIPT):
            if path.is_file():
                return path
    raise ConfigError(f"replay:{job}: no {TRANSCRIPT} in {' or '.join(str(place) for place in places)}")


class ReplayModel:
    """See `runner.models.base.Payable`.

    Nobody bills a replay; its price and usage are the recorded ones all the same, and it is paid for like any other,
    because limits act on them, and with other limits the job would ask for other replies.
    """

    def __init__(self, name: str, replies: list[ModelReplied]) -> None:
        self.name = name
        self._replies = replies
        self._played = 0

    @property
    def price(self) -> Price | None:
        return price_of(self._replies[0].reply.model)

    def reply(
        self,
        request: Request,
        *,
        on_text: Callable[[str], None] | None = None,
        on_retry: Callable[[Retried], None] | None = None,
        pay: Pay | None = None,
    ) -> Reply:
        payment = pay() if pay is not None else None
        if self._played == len(self._replies):
            raise NoReply(f"{self.name}: {end_of_recording(self._played)}")
        recorded = self._replies[self._played]
        what = difference(recorded, request)
        if what is not None:
            raise NoReply(f"{self.name}: {what}; compare the two transcripts, or run the task with its model")
        self._played += 1
        used = recorded.reply.usage + recorded.reply.wasted
        if payment is not None:
            payment.settle(used, used)
        if on_text is not None and recorded.reply.text:
            on_text(recorded.reply.text)
        # To this job it is a reply like any other, however the recorded one came by it.
        return recorded.reply.model_copy(update={"played": False})

    def close(self) -> None:
        pass
