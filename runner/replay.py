"""A finished job done again, without a model and without cost: does it give the same files?"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from runner.errors import ConfigError
from runner.job import run_job
from runner.models import recorded_of
from runner.past import Past, transcripts_of
from runner.recorded import recorded_job
from runner.report import TRANSCRIPT
from runner.result import JobResult
from runner.sandbox.container import ContainerEngine
from runner.transcript import AnyEvent, BranchTaken, Diverged, SandboxOpened, of_kind, read


@dataclass(frozen=True, kw_only=True, slots=True)
class Replayed:
    """What came of it."""

    tree_then: str
    """Id of the tree that came out of the job; "" when nothing was changed."""
    tree_now: str
    differences: tuple[str, ...]
    """Requests that were not those of then, an image that is not that of then; in words."""
    result: JobResult
    """Of the replay."""

    @property
    def same(self) -> bool:
        return self.tree_then == self.tree_now


def replay(
    folder: Path,
    *,
    to: Path,
    engine: ContainerEngine,
    variables: Mapping[str, str],
    watch: Callable[[AnyEvent], None] = lambda event: None,
    mask: tuple[str, ...] = (),
) -> Replayed:
    """Do the job in `folder` again: the recorded replies, its tool calls run anew. No branch appears.

    Its own transcript and artifacts go to the folder `to`, which must not be there.

    Raises ConfigError for a job that cannot be done again: it never came to its work, its base is gone, a secret of its
    policy is not set (`variables`); TranscriptError for a damaged transcript.
    """
    then = read(folder / TRANSCRIPT)
    taken = of_kind(then, BranchTaken)
    if not taken:
        raise ConfigError(f"{folder.name}: nothing came out of this job's sandbox, so there is nothing to compare with")
    job = recorded_job(folder / TRANSCRIPT, then, to=to, variables=variables)
    past = Past(
        attempt=1,
        earlier=recorded_of(transcripts_of(folder), price=None),
        transcript=then[-1].prev,
    )
    result = run_job(job, engine=engine, model=None, watch=watch, mask=mask, past=past)
    now = read(job.folder / TRANSCRIPT)
    trees = [event.tree for event in of_kind(now, BranchTaken)]
    return Replayed(
        tree_then=taken[-1].tree,
        tree_now=trees[-1] if trees else "",
        differences=tuple(_differences(then, now)),
        result=result,
    )


def _differences(then: Sequence[AnyEvent], now: Sequence[AnyEvent]) -> Iterator[str]:
    before, after = (next((e.report["image_digest"] for e in of_kind(all, SandboxOpened)), "") for all in (then, now))
    if before != after:
        yield f"the image is {after or 'none'}; then it was {before or 'none'}"
    yield from (f"turn {event.turn}: {event.what}" for event in of_kind(now, Diverged))
