"""`claw-runner run TASK --policy POLICY`: one job, from two files to a branch and its artifacts."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from runner.agents.base import Approve
from runner.approvals import Screen, open_approver
from runner.cli.check import check
from runner.cli.inputs import policy_file
from runner.cli.jobs import RUNS
from runner.config import load
from runner.errors import ConfigError
from runner.job import resolve, run_job
from runner.models import RetryBudget, open_model, warm
from runner.policy import load_policy
from runner.report import RESULT, print_summary
from runner.report.progress import progress_line
from runner.sandbox.engines import EngineChoice, open_engine
from runner.task import Task
from runner.transcript import AnyEvent, ApprovalAnswered, ApprovalAsked

KEYS = ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN")
"""Host variables whose values are kept out of every transcript, whatever a tool prints."""


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
    overrides = dict(ctx.obj or {}) | ({"model": _from_here(model)} if model else {})
    if dry_run:
        ctx.obj = overrides
        return check(ctx, [task], policy=policy, json_output=as_json)
    loaded, rules = load(task, Task, overrides=overrides), load_policy(policy_file(policy))
    warm(loaded.value.model)
    job = resolve(loaded, rules, runs=_folder(runs), include_uncommitted=include_uncommitted, variables=os.environ)
    budget = RetryBudget.of(loaded.value.limits)
    talker = open_model(loaded.value.model, folder=task.parent, variables=os.environ, budget=budget)
    mask = tuple(value for name in KEYS if (value := os.environ.get(name)))
    try:
        with open_engine(engine, url=engine_url) as connected:
            screen = Screen(sys.stderr)
            terminal = not (quiet or as_json) and _at_a_terminal()
            result = run_job(
                job,
                engine=connected,
                model=talker,
                watch=(lambda event: None)
                if quiet
                else _show_progress(screen, terminal, None if runs == RUNS else runs),
                mask=mask,
                approver=open_approver(job.folder, terminal=terminal, screen=screen),
                approve=approve,
            )
            # Before the engine is closed, which waits until it has removed every container.
            if as_json:
                sys.stdout.write((job.folder / RESULT).read_text(encoding="utf-8"))
            else:
                print_summary(result, runs / job.id)
    finally:
        talker.close()
    return result.exit_code


def _from_here(model: str) -> str:
    """A model given on the command line: its file is looked for from here, not from the task's folder."""
    provider, _, rest = model.partition(":")
    return f"{provider}:{Path(rest).absolute()}" if provider in ("scripted", "replay") and rest else model


def _folder(runs: Path) -> Path:
    """The folder of all jobs, made if missing, and hidden from the git repository that it may lie in."""
    ignore = runs / ".gitignore"
    try:
        runs.mkdir(parents=True, exist_ok=True)
        if not ignore.exists():
            ignore.write_text("*\n")
    except OSError as error:
        raise ConfigError(f"--runs: no job can be written to {runs}: {error.strerror}") from error
    return runs


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
