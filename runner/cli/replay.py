"""`claw-runner replay JOB`: do a finished job again without a model, and say whether it gives the same files."""

from __future__ import annotations

import json
import os
import sys
import tempfile
from contextlib import ExitStack
from pathlib import Path
from typing import Annotated

import typer

from runner.approvals import Screen
from runner.cli.jobs import find_job
from runner.cli.run import hidden_values
from runner.errors import ConfigError
from runner.replay import Replayed
from runner.replay import replay as do_again
from runner.report.progress import progress_line
from runner.report.units import plural
from runner.report.visible import one_line
from runner.sandbox.engines import EngineChoice, open_engine
from runner.transcript import AnyEvent

DIFFERS = 1
"""Exit code when other files came out than then."""
MOST_SHOWN = 10


def replay(
    job: Annotated[str, typer.Argument(metavar="JOB", help="folder of a job, its id, or the beginning of its id")],
    engine: Annotated[EngineChoice, typer.Option(help="the container engine")] = "auto",
    engine_url: Annotated[str | None, typer.Option(metavar="URL", help="where the engine is, if not here")] = None,
    keep: Annotated[Path | None, typer.Option(metavar="DIR", help="keep its transcript and report there")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="no progress lines")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print what came of it as JSON and nothing else")] = False,
) -> int:
    """Do a finished job again: its recorded replies, in a fresh container, its tool calls run anew.

    It costs nothing and makes no branch. Exit code 0: the same files came out. 1: others did. 2: this job cannot be
    done again. Else that of what failed.
    """
    folder = find_job(job)
    if keep is not None and keep.exists():
        raise ConfigError(f"--keep: {keep} is there already")
    screen = Screen(sys.stderr)

    def show(event: AnyEvent) -> None:
        line = progress_line(event, runs=None)
        if line is not None and not (quiet or as_json):
            screen.say(line)

    with ExitStack() as held:
        to = keep or Path(held.enter_context(tempfile.TemporaryDirectory(prefix="claw-replay-")), folder.name)
        connected = held.enter_context(open_engine(engine, url=engine_url))
        done = do_again(
            folder, to=to, engine=connected, variables=os.environ, watch=show, mask=hidden_values(os.environ)
        )
    _print(folder.name, done, as_json)
    return _exit_code(done)


def _exit_code(done: Replayed) -> int:
    if done.same:
        return 0
    return done.result.exit_code if done.result.exit_code >= 20 else DIFFERS


def _print(job: str, done: Replayed, as_json: bool) -> None:
    if as_json:
        shown = {
            "job": job,
            "same": done.same,
            "tree_then": done.tree_then,
            "tree_now": done.tree_now,
            "differences": done.differences,
            "outcome": done.result.outcome,
            "reason": done.result.reason,
        }
        print(json.dumps(shown, indent=2))
        return
    what = "the same files came out" if done.same else "other files came out"
    print(
        f"{'SAME' if done.same else 'DIFFERENT'}  {one_line(job)}: {what} ({done.tree_now[:12] or 'nothing changed'})"
    )
    if not done.same:
        print(f"  then {done.tree_then[:12] or 'nothing changed'}; now {one_line(done.result.reason)}")
    for line in done.differences[:MOST_SHOWN]:
        print(f"  {one_line(line)}")
    if len(done.differences) > MOST_SHOWN:
        print(f"  and {plural(len(done.differences) - MOST_SHOWN, 'difference')} more")
