"""`claw-runner batch SOURCE` and `resume BATCH`: a job for each issue, row or task, until all have ended."""

from __future__ import annotations

import math
import os
import secrets
import sys
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, Literal, cast

import typer

from runner.batch.base import BatchEvent, BatchSpec, Execute, Limits, Planned
from runner.batch.dry_run import plan_table
from runner.batch.execute import Equipment, local_executor
from runner.batch.live import Way, way_to_follow
from runner.batch.plan import Plan, plan, rebuild, require_prices, worst_case_usd
from runner.batch.sources import Kind, Selection, numbers, read_source
from runner.batch.standing import QUEUED, UNDER_WAY, Standing, standing
from runner.batch.store import Store
from runner.cli.attend import Watch, attend
from runner.cli.inputs import model_from_here, policy_file
from runner.cli.jobs import RUNS, find_either, is_batch, runs_folder, typed
from runner.cli.run import go_on, hidden_values
from runner.config import Loaded, load
from runner.errors import ConfigError
from runner.models import Governors, RetryBudget, open_model, warm
from runner.policy import Policy, load_policy
from runner.policy.loading import preset
from runner.report import REPORT
from runner.report.batch import write_batch_report
from runner.report.github import to_github
from runner.report.visible import one_line, visible_json
from runner.resolve import secret_values
from runner.sandbox.container import ContainerEngine
from runner.sandbox.engines import EngineChoice, open_engine
from runner.task import Task
from runner.template import slug

OnDifference = Literal["stop", "go-on"]
_DIFFERENCE: dict[OnDifference, Literal["stop", "go_on"]] = {"stop": "stop", "go-on": "go_on"}

SOURCE = "issues as JSON, JSON lines or a table, a folder of task files; or - for standard input"

Several = list[str] | None


def batch(
    ctx: typer.Context,
    source: Annotated[str, typer.Argument(metavar="SOURCE", help=SOURCE)],
    policy: Annotated[str, typer.Option(metavar="POLICY", help="a policy file, or readonly, edit, ci or full-offline")],
    task: Annotated[Path | None, typer.Option(metavar="TEMPLATE", help="the task for each row of the source")] = None,
    kind: Annotated[Kind, typer.Option(help="what SOURCE is, where that does not show")] = "auto",
    name: Annotated[str | None, typer.Option(help="the batch's id begins so; else as the template is called")] = None,
    jobs: Annotated[int, typer.Option(metavar="N", min=1, max=1024, help="agents that work at the same time")] = 4,
    ahead: Annotated[int, typer.Option(metavar="N", min=0, max=1024, help="sandboxes prepared for the next jobs")] = 1,
    cost_usd: Annotated[float | None, typer.Option(metavar="USD", help="the most that all jobs may cost")] = None,
    jobs_per_minute: Annotated[float | None, typer.Option(metavar="N", help="begin no more than so many")] = None,
    tokens_per_minute: Annotated[int | None, typer.Option(metavar="N", min=1, help="read anew, and written")] = None,
    retries: Annotated[int, typer.Option(metavar="N", min=0, help="of a job, when it is not the job's fault")] = 2,
    vary: Annotated[Several, typer.Option(metavar="KEY=A,B", help="each row once for each value: model=a,b")] = None,
    label: Annotated[Several, typer.Option(metavar="LABEL", help="only issues that have it")] = None,
    state: Annotated[str | None, typer.Option(metavar="STATE", help="only issues that are open, or closed")] = None,
    author_association: Annotated[
        Several, typer.Option(metavar="WORD", help="only issues by such authors: OWNER, MEMBER, …")
    ] = None,
    only: Annotated[str | None, typer.Option(metavar="12,15-20", help="only these numbers")] = None,
    skip: Annotated[int, typer.Option(metavar="N", help="leave out the first N rows")] = 0,
    first: Annotated[int | None, typer.Option(metavar="N", help="no more than N rows")] = None,
    shuffle: Annotated[int | None, typer.Option(metavar="SEED", help="the rows in another order first")] = None,
    model: Annotated[str | None, typer.Option(help="instead of the task's; paths are seen from here")] = None,
    engine: Annotated[EngineChoice, typer.Option(help="the container engine")] = "auto",
    engine_url: Annotated[str | None, typer.Option(metavar="URL", help="where the engine is, if not here")] = None,
    runs: Annotated[Path, typer.Option(metavar="DIR", help="where the batch's folder is made")] = RUNS,
    on_difference: Annotated[
        OnDifference, typer.Option(help="when a job that is played again does not go as it went")
    ] = "go-on",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only show the jobs, and what they cost at most")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="only the summary at the end")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="an event a line, and nothing else on stdout")] = False,
) -> int:
    """Do a job for each row of SOURCE: an issue, a line of a table, a task file.

    Any key of the task can be replaced: --limits.turns 20. A row that cannot be used is named, and the rest goes on.
    ^C finishes the jobs under way, ^C again leaves them half-way; claw-runner resume goes on with them, also after a
    crash. The exit code is that of the worst job (claw-runner --help lists them).
    """
    overrides = dict(ctx.obj or {}) | ({"model": model_from_here(model)} if model else {})
    rules = load_policy(policy_file(policy))
    template = load(task, Task, overrides=overrides) if task else None
    selection = Selection(
        labels=tuple(label or ()),
        state=state,
        author_associations=tuple(author_association or ()),
        only=numbers(only) if only else (),
        skip=skip,
        first=first,
        shuffle=shuffle,
    )
    rows = read_source(source, kind=kind)
    planned = plan(rows, template, vary=vary or (), overrides=overrides, selection=selection)
    asked = _asked(planned.jobs)
    if cost_usd is not None:
        require_prices(model for model, _ in asked)
    if dry_run:
        _show(planned, cost_usd, as_json)
        return 2 if planned.bad else 0
    _complain(planned, quiet)
    _require_secrets(asked, rules)
    spec = BatchSpec(
        id=_id(name or (template.value.name if template else Path(source).stem)),
        source=source,
        policy_file=policy if preset(policy) else str(rules.path.absolute()),
        policy_sha256=rules.sha256,
        limits=_limits(
            Limits(jobs=jobs, ahead=ahead, retries=retries),
            cost_usd=cost_usd,
            jobs_per_minute=jobs_per_minute,
            tokens_per_minute=tokens_per_minute,
        ),
        engine=engine,
        engine_url=engine_url,
        on_difference=_DIFFERENCE[on_difference],
        created_at=datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z"),
    )
    with (
        open_engine(engine, url=engine_url) as connected,
        Store.create(runs_folder(runs) / spec.id, spec, planned.jobs) as store,
    ):
        code = _work(store, connected, rules, way_to_follow(as_json=as_json, quiet=quiet, stream=sys.stderr))
    return code or (2 if planned.bad else 0)


def resume(
    batch: Annotated[str, typer.Argument(metavar="BATCH|JOB", help="its folder, its id, or the beginning of its id")],
    jobs: Annotated[int | None, typer.Option(metavar="N", min=1, max=1024, help="agents at the same time")] = None,
    ahead: Annotated[int | None, typer.Option(metavar="N", min=0, max=1024, help="sandboxes prepared")] = None,
    cost_usd: Annotated[float | None, typer.Option(metavar="USD", help="the most that all jobs may cost")] = None,
    jobs_per_minute: Annotated[float | None, typer.Option(metavar="N", help="begin no more than so many")] = None,
    tokens_per_minute: Annotated[int | None, typer.Option(metavar="N", min=1, help="read anew, and written")] = None,
    retries: Annotated[int | None, typer.Option(metavar="N", min=0, help="of a job, when it is not its fault")] = None,
    on_difference: Annotated[
        OnDifference | None, typer.Option(help="when a job that is played again does not go as it went")
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="only the summary at the end")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="an event a line, and nothing else on stdout")] = False,
) -> int:
    """Go on with a batch, whatever ended it: ^C, a crash, a cap on its cost, or `claw-runner stop`.

    Jobs that have ended stay as they are. What is half-way goes on, and no reply that came is paid for again. Options
    that are given hold from now on. Several runners may work on one batch. A job that was run by itself goes on in the
    same way.
    """
    folder = find_either(batch)
    if not is_batch(folder):
        _require_own(folder)
        return go_on(folder, quiet=quiet, as_json=as_json)
    with Store.open(folder) as store:
        limits = _limits(
            store.spec.limits,
            jobs=jobs,
            ahead=ahead,
            cost_usd=cost_usd,
            jobs_per_minute=jobs_per_minute,
            tokens_per_minute=tokens_per_minute,
            retries=retries,
        )
        spec, policy = store.spec, _policy(store.spec)
        asked = _asked(row.planned for row in store.jobs(states=(*QUEUED, *UNDER_WAY)))
        if cost_usd is not None:
            require_prices(model for model, _ in asked)
        _require_secrets(asked, policy)
        with open_engine(cast("EngineChoice", spec.engine), url=spec.engine_url) as connected:
            store.change_limits(limits, on_difference=_DIFFERENCE[on_difference] if on_difference else None)
            store.clear_stop()
            way = way_to_follow(as_json=as_json, quiet=quiet, stream=sys.stderr)
            if way in ("live", "plain"):
                print(_where_it_is(standing(store)), file=sys.stderr)
            return _work(store, connected, policy, way)


def _require_own(job: Path) -> None:
    if is_batch(job.parent):
        raise ConfigError(f"{job.name} is a job of batch {typed(job.parent)}; claw-runner resume {typed(job.parent)}")


# -- before


def _id(name: str) -> str:
    return f"{slug(name)}-{datetime.now(UTC):%Y%m%d}-{secrets.token_hex(2)}"


def _limits(limits: Limits, **given: float | None) -> Limits:
    """The limits with what was given in their place. Raises ConfigError for what cannot be one."""
    for name in ("cost_usd", "jobs_per_minute"):
        value = given.get(name)
        if value is not None and not (value > 0 and math.isfinite(value)):
            raise ConfigError(f"--{name.replace('_', '-')}: must be greater than 0 (got {value:g})")
    changed: dict[str, Any] = {name: value for name, value in given.items() if value is not None}
    return replace(limits, **changed)


def _asked(jobs: Iterable[Planned]) -> list[tuple[str, Path]]:
    """The models that the jobs ask, each with the folder that its paths are seen from."""
    return sorted({(job.task["model"], Path(job.task_file).parent) for job in jobs})


def _require_secrets(asked: Sequence[tuple[str, Path]], policy: Loaded[Policy]) -> None:
    """Raises ConfigError for what every job would end with: a secret or a key that is not set here."""
    secret_values(policy, os.environ)
    mistakes: list[ConfigError] = []
    for model, folder in asked:
        try:
            open_model(model, folder=folder, variables=os.environ, budget=RetryBudget(tries=0, seconds=0)).close()
        except ConfigError as error:
            mistakes.append(error)
    if mistakes and len(mistakes) == len(asked):
        raise mistakes[0]


def _complain(planned: Plan, quiet: bool) -> None:
    """Name the rows that cannot be used, and what else a person should know. Raises ConfigError when no job is left."""
    for bad in planned.bad:
        print(f"claw-runner: {one_line(str(bad))}", file=sys.stderr)
    if not quiet:
        for note in planned.notes:
            print(f"note: {one_line(note)}", file=sys.stderr)
    if not planned.jobs:
        raise ConfigError("there is no job to do; claw-runner batch --dry-run shows what comes of a source")


def _show(planned: Plan, cost_usd: float | None, as_json: bool) -> None:
    if as_json:
        sys.stdout.write(visible_json(_plan_facts(planned)) + "\n")
    else:
        sys.stdout.write("".join(f"{line}\n" for line in plan_table(planned, cost_usd=cost_usd)))


def _plan_facts(planned: Plan) -> dict[str, Any]:
    jobs = []
    for job in planned.jobs:
        worst = worst_case_usd(rebuild(job).value)
        facts = {name: getattr(job, name) for name in ("id", "title", "source", "task_file", "notes")}
        jobs.append(facts | {"model": job.task["model"], "at_most_usd": None if worst is None else format(worst, "f")})
    bad = [{"place": row.place, "what": row.what} for row in planned.bad]
    return {"jobs": jobs, "bad": bad, "notes": planned.notes}


def _policy(spec: BatchSpec) -> Loaded[Policy]:
    """The batch's policy, as it is now: somebody may have mended it so that the batch can go on."""
    loaded = load_policy(policy_file(spec.policy_file))
    if loaded.sha256 != spec.policy_sha256:
        print(f"note: {loaded.path} is not as it was when the batch began; it holds as it is now", file=sys.stderr)
    return loaded


def _where_it_is(found: Standing) -> str:
    """`going on: 312 ended, 4 half-way, 184 queued`."""
    parts = [(found.ended, "ended"), (found.working, "half-way"), (found.queued, "queued")]
    return "going on: " + ", ".join(f"{count:,} {word}" for count, word in parts if count)


# -- at work


def _work(store: Store, engine: ContainerEngine, policy: Loaded[Policy], way: Way) -> int:
    limits = store.spec.limits
    for row in islice(store.jobs(states=(*QUEUED, *UNDER_WAY)), 1):
        warm(row.planned.task["model"])

    def executor(watch: Watch) -> Execute:
        governors = Governors(
            window=limits.jobs,
            tokens_per_minute=limits.tokens_per_minute,
            on_change=lambda text: watch(BatchEvent(kind="slowed", time=time.time(), text=text)),
        )
        mask = hidden_values(os.environ)
        equipment = Equipment(policy=policy, engine=engine, variables=os.environ, mask=mask, governors=governors)
        return local_executor(store, equipment)

    return attend(store, executor, way, report=_report)


def _report(folder: Path) -> Path | None:
    """Write the batch's report, and what GitHub Actions asks for. A full disk takes nothing away from the jobs."""
    try:
        written = write_batch_report(folder)
    except OSError as error:
        print(f"claw-runner: no report could be written: {error}; claw-runner report {folder}", file=sys.stderr)
        return None
    to_github(os.environ, written.rows, title=folder.name, folder=folder, stream=sys.stderr)
    return folder / REPORT
