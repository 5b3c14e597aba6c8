"""`claw-runner run TASK --policy POLICY`: one job, from two files to a branch and its artifacts."""

from __future__ import annotations

import fcntl
import os
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Annotated

import typer

from runner.agents.base import Approve
from runner.approvals import Screen, open_approver
from runner.cli.check import check
from runner.cli.inputs import model_from_here, policy_file
from runner.cli.jobs import RUNS, runs_folder, typed
from runner.config import load
from runner.errors import ConfigError
from runner.job import run_job
from runner.models import SPOOL, RetryBudget, Spool, open_model, warm
from runner.past import past_of, put_away, transcripts_of
from runner.policy import load_policy
from runner.recorded import recorded_job
from runner.report import RESULT, print_summary
from runner.report.github import to_github
from runner.report.progress import progress_line
from runner.resolve import Job, resolve
from runner.sandbox.engines import EngineChoice, open_engine
from runner.task import Task
from runner.transcript import (
    AnyEvent,
    ApprovalAnswered,
    ApprovalAsked,
    JobEnded,
    JobStarted,
    SandboxOpened,
    of_kind,
    read,
)

KEYS = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN")
"""Host variables whose values are kept out of every transcript, whatever a tool prints."""
RESUMABLE = frozenset(("cancelled", "provider_error", "sandbox_error", "checks_error", "repo_error"))
"""Outcomes with which a job has not come to an end of its own."""


def run(
    ctx: typer.Context,
    task: Annotated[Path, typer.Argument(metavar="TASK", help="the task file")],
    policy: Annotated[str, typer.Option(metavar="POLICY", help="a policy file, or readonly, edit, ci or full-offline")],
    model: Annotated[str | None, typer.Option(help="instead of the task's; paths are seen from here")] = None,
    engine: Annotated[EngineChoice, typer.Option(help="the container engine")] = "auto",
    engine_url: Annotated[str | None, typer.Option(metavar="URL", help="where the engine is, if not here")] = None,
    runs: Annotated[Path, typer.Option(metavar="DIR", help="where the job's folder is made")] = RUNS,
    include_uncommitted: Annotated[
        bool, typer.Option("--include-uncommitted", help="start from the work tree as it is")
    ] = False,
    approve: Annotated[
        Approve, typer.Option(help="ask a person about these calls, although the policy allows them")
    ] = "none",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only show what would run, as `check` does")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="no progress lines")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print result.json, and nothing else on stdout")] = False,
) -> int:
    """Run one task under a policy in a throwaway container.

    Any key of the task can be replaced: --limits.turns 20, --repo.base v1.2. Progress goes to stderr. The exit code
    is that of the outcome (claw-runner --help lists them).
    """
    overrides = dict(ctx.obj or {}) | ({"model": model_from_here(model)} if model else {})
    if dry_run:
        ctx.obj = overrides
        return check(ctx, [task], policy=policy, json_output=as_json)
    loaded, rules = load(task, Task, overrides=overrides), load_policy(policy_file(policy))
    warm(loaded.value.model)
    job = resolve(loaded, rules, runs=runs_folder(runs), include_uncommitted=include_uncommitted, variables=os.environ)
    with _alone(job.folder):
        return _do(job, Path(runs), engine, engine_url, approve=approve, quiet=quiet, as_json=as_json)


def go_on(folder: Path, *, quiet: bool, as_json: bool) -> int:
    """`claw-runner resume JOB`: what was paid for is played, and the job goes on; returns its exit code.

    Raises ConfigError for a job that has ended by itself, that some runner works on, or that its transcript does not
    tell enough about.
    """
    with _alone(folder):
        return _go_on(folder, quiet=quiet, as_json=as_json)


def _go_on(folder: Path, *, quiet: bool, as_json: bool) -> int:
    transcripts = transcripts_of(folder)
    if not transcripts:
        raise ConfigError(f"{folder}: its transcript is gone, so it cannot go on; claw-runner run does its task anew")
    transcript = transcripts[-1]
    events = read(transcript)
    ended = of_kind(events, JobEnded)
    if ended and ended[-1].outcome not in RESUMABLE:
        raise ConfigError(f"{folder.name} has ended ({ended[-1].outcome}); claw-runner run does its task anew")
    job = recorded_job(transcript, events, to=folder, variables=os.environ)
    warm(job.task.value.model)
    put_away(folder)
    opened = of_kind(events, SandboxOpened)
    engine: EngineChoice = opened[0].report["engine"] if opened else "auto"
    approve: Approve = of_kind(events, JobStarted)[0].job["resolved"]["approve"]
    return _do(job, folder.parent, engine, None, approve=approve, quiet=quiet, as_json=as_json)


def _do(
    job: Job,
    runs: Path,
    engine: EngineChoice,
    engine_url: str | None,
    *,
    approve: Approve,
    quiet: bool,
    as_json: bool,
) -> int:
    mask, task = hidden_values(os.environ), job.task.value
    spool = Spool(job.folder / SPOOL, (*mask, *job.secrets.values()))
    budget, folder = RetryBudget.of(task.limits), job.task.path.parent
    talker = open_model(task.model, folder=folder, variables=os.environ, budget=budget, spool=spool)
    try:
        with open_engine(engine, url=engine_url) as connected:
            screen = Screen(sys.stderr)
            terminal = not (quiet or as_json) and _at_a_terminal()
            shown = _show_progress(screen, terminal, None if runs == RUNS else runs)
            result = run_job(
                job,
                engine=connected,
                model=talker,
                watch=(lambda event: None) if quiet else shown,
                mask=mask,
                approver=open_approver(job.folder, terminal=terminal, screen=screen),
                approve=approve,
                past=past_of(job.folder, price=talker.price),
                spool=spool,
            )
            # Before the engine is closed, which waits until it has removed every container.
            if as_json:
                sys.stdout.write((job.folder / RESULT).read_text(encoding="utf-8"))
            else:
                print_summary(result, runs / job.id)
            to_github(os.environ, [result], title=job.id, folder=job.folder, stream=sys.stderr)
    finally:
        talker.close()
    return result.exit_code


@contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Nobody else works on the job meanwhile; the lock goes with our process, however that dies. Raises ConfigError."""
    folder.mkdir(parents=True, exist_ok=True)
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _lock(folder, handle)
        yield
    finally:
        os.close(handle)
        with suppress(OSError):
            folder.rmdir()  # of a job that was refused before it began


def _lock(folder: Path, handle: int) -> None:
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise ConfigError(
            f"{folder.name}: a runner is at work on it; claw-runner logs {typed(folder)} -f follows it"
        ) from error


def hidden_values(variables: Mapping[str, str]) -> tuple[str, ...]:
    """The keys of providers among the host's variables."""
    return tuple(value for name in KEYS if (value := variables.get(name)))


def _at_a_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty() and sys.stderr.isatty()


def _show_progress(screen: Screen, terminal: bool, runs: Path | None) -> Callable[[AnyEvent], None]:
    """At a terminal the question itself is shown, so that lines about it would say it twice."""

    def show(event: AnyEvent) -> None:
        if terminal and isinstance(event, ApprovalAsked | ApprovalAnswered):
            return
        line = progress_line(event, runs=runs)
        if line is None:
            return
        try:
            screen.say(line)
        except OSError:
            # Whoever read it has gone (`2>&1 | head`): no reason to stop a job that costs money. What is still buffered
            # goes nowhere, or the interpreter fails over it at its end.
            with open(os.devnull, "wb") as nowhere:
                os.dup2(nowhere.fileno(), sys.stderr.fileno())

    return show
