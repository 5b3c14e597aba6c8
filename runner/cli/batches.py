"""`claw-runner stop BATCH` and `retry BATCH`: what a person wants of a batch that somebody works on, or nobody."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Annotated

import typer

from runner.batch.base import JobRow
from runner.batch.standing import ENDED, standing
from runner.batch.store import Store
from runner.cli.jobs import find_batch, typed
from runner.document.words import near
from runner.errors import EXIT_CODES, OUTCOMES, ConfigError, Outcome
from runner.report.units import plural

BATCH = typer.Argument(metavar="BATCH", help="its folder, its id, or the beginning of its id")


def stop(
    batch: Annotated[str, BATCH],
    now: Annotated[bool, typer.Option("--now", help="leave the jobs under way half-way, to be resumed")] = False,
) -> int:
    """Let a batch begin no further job: those under way are finished, or with --now left half-way.

    Returns at once. Every runner that works on the batch, hears of it within seconds.
    """
    folder = find_batch(batch)
    with Store.open(folder) as store:
        found, runners = standing(store), store.runners()
        if found.ended == found.jobs:
            print(f"{plural(found.jobs, 'job')}, all ended: there is nothing to stop")
            return 0
        store.ask_to_stop("now" if now else "drain")
    if not runners:
        print("nobody holds a job of it; a runner that waits to try one again ends now")
    elif now:
        print(f"{plural(found.working, 'job')} under way will be left half-way, within seconds; no other begins")
    else:
        print(f"{plural(found.working, 'job')} under way will be finished; no other begins")
    print(f"to go on with it: claw-runner resume {typed(folder)}")
    return 0


def retry(
    batch: Annotated[str, BATCH],
    outcome: Annotated[
        list[str] | None, typer.Option(metavar="OUTCOME,…", help="jobs that ended so; can be given several times")
    ] = None,
    job: Annotated[list[str] | None, typer.Option(metavar="ID", help="this job; can be given several times")] = None,
    fresh: Annotated[
        bool | None,
        typer.Option(
            "--fresh/--no-fresh",
            help="begin anew, or go on with what is paid for; else outcomes 20-23 go on, others begin anew",
        ),
    ] = None,
) -> int:
    """Put jobs that have ended back into the queue of their batch; `resume` then does them.

    What they have cost stays in the batch's account.
    """
    folder, outcomes = find_batch(batch), _outcomes(outcome or [])
    if not outcomes and not job:
        raise ConfigError(f"retry: which jobs? --outcome {','.join(OUTCOMES[3:5])}, or --job ID")
    with Store.open(folder) as store:
        chosen = _chosen(store, outcomes, job or [])
        anew = [row.planned.id for row in chosen if _begins_anew(row, fresh)]
        on = [row.planned.id for row in chosen if not _begins_anew(row, fresh)]
        store.again(ids=anew, fresh=True)
        store.again(ids=on, fresh=False)
        runners = store.runners()
    if not chosen:
        print("no job of it ended so")
        return 0
    print(f"queued again: {_words(len(anew), len(on))}")
    print("the runner that works on it takes them up" if runners else f"next: claw-runner resume {typed(folder)}")
    return 0


def _outcomes(given: Sequence[str]) -> set[Outcome]:
    """The outcomes that are named, with commas between them or one by one. Raises ConfigError."""
    named = {word.strip() for part in given for word in part.split(",") if word.strip()}
    for word in sorted(named - set(OUTCOMES)):
        meant = near(word, OUTCOMES)
        hint = f"did you mean {meant!r}?" if meant else f"there are {', '.join(OUTCOMES)}"
        raise ConfigError(f"--outcome: there is no outcome {word!r}; {hint}")
    return {outcome for outcome in OUTCOMES if outcome in named}


def _chosen(store: Store, outcomes: Collection[Outcome], ids: Sequence[str]) -> list[JobRow]:
    """The jobs that are meant, all of which have ended. Raises ConfigError."""
    named = [store.job(id) for id in dict.fromkeys(ids)]
    for row in named:
        if row.state != "ended":
            raise ConfigError(f"--job: {row.planned.id!r} has not ended, it is {row.state}; there is nothing to retry")
    known = {row.planned.id for row in named}
    matching = store.jobs(states=ENDED, outcomes=outcomes, whole=False) if outcomes else ()
    return [*named, *(row for row in matching if row.planned.id not in known)]


def _begins_anew(row: JobRow, fresh: bool | None) -> bool:
    """What is ours or the outside's to blame for leaves work worth going on with, as the batch's cap on cost does; what
    the agent did does not."""
    if fresh is not None:
        return fresh
    ended = row.ended
    if ended is None or (ended.outcome == "limit" and ended.reason.startswith("batch.cost_usd ")):
        return False
    return EXIT_CODES[ended.outcome] < EXIT_CODES["provider_error"]


def _words(anew: int, on: int) -> str:
    parts = [f"{plural(anew, 'job')} to begin anew"] if anew else []
    return ", ".join(parts + ([f"{plural(on, 'job')} to go on with what was paid for"] if on else []))
