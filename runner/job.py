"""One job: a task under a policy, in a sandbox, to a result. The whole product on one screen: `run_job`."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Literal

from runner.agents import AGENTS, AgentEnd, Context
from runner.config import Loaded
from runner.errors import Cancelled, ChecksError, ConfigError, ModelError, RunnerError, SandboxError
from runner.models import Model
from runner.policy import Policy
from runner.repo import (
    Quarantine,
    Source,
    Taken,
    changed_protected,
    check_branch,
    deliver,
    ignore_untracked,
    locate,
    open_quarantine,
    put,
    restore_protected,
    take,
)
from runner.report import TRANSCRIPT, write_artifacts
from runner.result import JobResult, Verdict, compute_result, judge
from runner.sandbox import owner, profile
from runner.sandbox.base import Sandbox, SandboxConfig
from runner.sandbox.container import ContainerEngine
from runner.sandbox.image import ensure_image, ensure_toolbox
from runner.task import Task
from runner.task import texts as task_texts
from runner.transcript import (
    AnyEvent,
    BranchDelivered,
    BranchTaken,
    CheckRan,
    JobEnded,
    JobStarted,
    SandboxOpened,
    SetupRan,
    Transcript,
    read,
)

DELIVERED = frozenset(("solved", "changed", "unsolved", "limit"))
"""Outcomes whose work becomes a branch; of every other one the patch is kept."""
SETUP_SECONDS = 1800.0
"""For one setup command."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Job:
    """One attempt at one task under one policy: resolved. Nothing below reads YAML or the host's variables."""

    id: str
    folder: Path
    task: Loaded[Task]
    policy: Loaded[Policy]
    source: Source
    prompt: str
    branch: str
    message: str


def resolve(task: Loaded[Task], policy: Loaded[Policy], *, runs: Path, include_uncommitted: bool = False) -> Job:
    """A job of that task: named, its base pinned, its templates rendered. Makes no folder.

    Raises ConfigError for what is wrong in the files, RepoError for a remote that does not answer.
    """
    what, now = task.value, datetime.now(UTC)
    id = f"{what.name}-{now:%Y%m%d-%H%M%S}-{secrets.token_hex(2)}"
    source = locate(what.repo, folder=task.path.parent, include_uncommitted=include_uncommitted)
    texts = task_texts(task, id)
    job = Job(
        id=id,
        folder=runs.absolute() / id,
        task=task,
        policy=policy,
        source=source,
        prompt=texts.prompt,
        branch=texts.branch,
        message=texts.commit_message,
    )
    check_branch(source, job.branch)
    return job


@dataclass(kw_only=True, slots=True)
class _Run:
    """A job under way: what it works with, and what has come of it."""

    job: Job
    engine: ContainerEngine
    model: Model
    record: Callable[[AnyEvent], None]
    transcript: Transcript
    events: list[AnyEvent] = field(default_factory=list)
    taken: Taken | None = None
    tampered: tuple[str, ...] = ()
    error: RunnerError | Cancelled | None = None


def run_job(
    job: Job,
    *,
    engine: ContainerEngine,
    model: Model,
    watch: Callable[[AnyEvent], None] = lambda event: None,
    mask: tuple[str, ...] = (),
) -> JobResult:
    """Do the job and write all its artifacts into `job.folder`, which must not exist yet.

    However the job goes, this returns its result; what is raised is a bug of ours, or the disk's failure. `watch` sees
    every event as it is recorded; the values in `mask` are kept out of the transcript. Raises ConfigError, before
    anything is started, for a cost limit that cannot be kept.
    """
    if job.task.value.limits.cost_usd is not None and model.price is None:
        raise ConfigError(
            f"limits.cost_usd: cannot be kept, because the price of {model.name} is unknown; leave it out"
        )
    job.folder.mkdir(parents=True)
    with Transcript.open(job.folder / TRANSCRIPT, mask=mask) as transcript:
        run = _begin(job, engine, model, transcript, watch)
        try:
            with open_quarantine(job.source, folder=job.folder) as quarantine:
                _work(run, quarantine)
                _deliver(run, quarantine)
        except (RunnerError, Cancelled) as error:
            run.error = error
        except KeyboardInterrupt:
            run.error = Cancelled()
        verdict = _judge(run)
        run.record(JobEnded(outcome=verdict.outcome, reason=verdict.reason, exit_code=verdict.exit_code))
    events = read(job.folder / TRANSCRIPT)
    result = compute_result(events, transcript_hash=transcript.hash)
    patch = run.taken.patch if run.taken else b""
    return write_artifacts(job.folder, result, events, patch or b"")


def _begin(
    job: Job, engine: ContainerEngine, model: Model, transcript: Transcript, watch: Callable[[AnyEvent], None]
) -> _Run:
    def record(event: AnyEvent) -> None:
        transcript.record(event)
        run.events.append(event)
        watch(event)

    run = _Run(job=job, engine=engine, model=model, record=record, transcript=transcript)
    record(JobStarted(job=_facts(job, model)))
    return run


def _facts(job: Job, model: Model) -> dict[str, object]:
    """The resolved job for the transcript; see `runner.result.JobFacts`."""
    return {
        "id": job.id,
        "task": job.task.value.name,
        "repo": job.source.url,
        "base": job.source.base,
        "model": model.name,
        "limits": job.task.value.limits.model_dump(mode="json"),
        "hashes": {"task": job.task.sha256, "policy": job.policy.sha256},
        "resolved": {
            "task": job.task.value.model_dump(mode="json"),
            "policy": job.policy.value.model_dump(mode="json"),
            "prompt": job.prompt,
            "branch": job.branch,
            "uncommitted": job.source.uncommitted,
        },
    }


# -- the agent's part


def _work(run: _Run, quarantine: Quarantine) -> None:
    """Agent, branch, checks; and again while checks fail and repair rounds are left."""
    task = run.job.task.value
    config = _sandbox_config(run)
    with _sandbox(run, config, "agent") as sandbox:
        left = _prepare(run, quarantine, sandbox)
        agent, context = AGENTS[task.agent](), _context(run, sandbox)
        end = _tried(run, partial(agent.run, context))
        for round in range(task.checks.repair_rounds + 1):
            _take(run, quarantine, sandbox, left)
            failed = _check(run, quarantine, config, round)
            if not failed or end is None or end.reason != "done" or round == task.checks.repair_rounds:
                return
            end = _tried(run, partial(agent.resume, context, _feedback(failed)))


def _sandbox_config(run: _Run) -> SandboxConfig:
    """Pins the image; builds or pulls what is missing."""
    image = ensure_image(run.engine, run.job.task.value.image)
    logs = run.job.folder / "logs"
    logs.mkdir()
    return SandboxConfig(
        image=image.reference,
        image_digest=image.digest,
        profile=profile.from_policy(run.job.policy.value.container),
        toolbox_volume=ensure_toolbox(run.engine),
        labels={owner.LABEL: "1", owner.OWNER: owner.mine(), owner.JOB: run.job.id},
        log_folder=str(run.job.folder),
    )


@contextmanager
def _sandbox(run: _Run, config: SandboxConfig, purpose: Literal["agent", "checks"]) -> Iterator[Sandbox]:
    with run.engine.open_sandbox(config) as sandbox:
        run.record(SandboxOpened(purpose=purpose, report=asdict(sandbox.report)))
        yield sandbox


def _prepare(run: _Run, quarantine: Quarantine, sandbox: Sandbox) -> tuple[bytes, ...]:
    """Repository and setup; returns the untracked paths that setup left, which are not the agent's work."""
    task = run.job.task.value
    put(quarantine, sandbox, branch=run.job.branch, author=task.output.author)
    if not task.setup:
        return ()
    _setup(run, sandbox)
    return ignore_untracked(sandbox)


def _setup(run: _Run, sandbox: Sandbox) -> None:
    for command in run.job.task.value.setup:
        done = sandbox.exec(command, seconds=SETUP_SECONDS)
        output = done.output.decode(errors="replace")
        run.record(SetupRan(command=command, exit_code=done.exit_code, seconds=done.seconds, output=output))
        if not done.ok:
            how = "timed out" if done.timed_out else f"ended with exit code {done.exit_code}"
            raise SandboxError(f"setup: {command!r} {how}; its last line: {(output.splitlines() or [''])[-1][:200]}")


def _context(run: _Run, sandbox: Sandbox) -> Context:
    task = run.job.task.value
    return Context(
        prompt=run.job.prompt.rstrip() + _protected_note(task),
        sandbox=sandbox,
        model=run.model,
        policy=run.job.policy.value,
        limits=task.limits,
        max_tokens=task.max_tokens,
        deadline=time.monotonic() + task.limits.seconds,
        record=run.record,
    )


def _protected_note(task: Task) -> str:
    if not task.checks.protect:
        return ""
    paths = ", ".join(task.checks.protect)
    return f"\n\nThese paths are protected: a change to any of them makes the work invalid: {paths}"


def _tried(run: _Run, step: Callable[[], AgentEnd]) -> AgentEnd | None:
    """How the agent ended; None when its model failed. What it did until then is worth looking at all the same."""
    try:
        return step()
    except ModelError as error:
        run.error = error
        return None


# -- what came of it


def _take(run: _Run, quarantine: Quarantine, sandbox: Sandbox, left: tuple[bytes, ...]) -> None:
    task = run.job.task.value
    trailers = {
        "Agent-Run": run.job.id,
        "Agent-Model": run.model.name,
        "Agent-Transcript-SHA256": run.transcript.hash,
        "Agent-Policy-SHA256": run.job.policy.sha256,
    }
    taken = take(
        quarantine, sandbox, author=task.output.author, message=run.job.message, trailers=trailers, ignored=left
    )
    run.taken = taken
    run.tampered = changed_protected(quarantine, taken, task.checks.protect)
    run.record(
        BranchTaken(
            commit=taken.commit,
            base=quarantine.base,
            commits=taken.commits,
            committed_by_runner=taken.runner_committed,
            files=taken.diff.files,
            insertions=taken.diff.insertions,
            deletions=taken.diff.deletions,
            paths=taken.diff.paths,
            notes=taken.notes,
        )
    )


def _check(run: _Run, quarantine: Quarantine, config: SandboxConfig, round: int) -> list[CheckRan]:
    """Run the checks on what came out, in a sandbox of their own; returns those that failed."""
    task, taken = run.job.task.value, run.taken
    assert taken is not None
    if run.tampered or not task.checks.run or (taken.commit is None and task.expect_change):
        return []
    commit = restore_protected(quarantine, taken, task.checks.protect)
    try:
        with _sandbox(run, config, "checks") as sandbox:
            put(quarantine, sandbox, branch=run.job.branch, author=task.output.author, commit=commit)
            _setup(run, sandbox)
            ran = [
                _one_check(run, sandbox, command, round, number) for number, command in enumerate(task.checks.run, 1)
            ]
    except SandboxError as error:
        raise ChecksError(f"the checks gave no verdict: {error}") from error
    return [check for check in ran if check.exit_code != 0 or check.timed_out]


def _one_check(run: _Run, sandbox: Sandbox, command: str, round: int, number: int) -> CheckRan:
    log = f"logs/check-{round}-{number}.log"
    done = sandbox.exec(command, seconds=run.job.task.value.checks.seconds, log=log)
    check = CheckRan(
        round=round,
        command=command,
        exit_code=done.exit_code,
        timed_out=done.timed_out,
        seconds=done.seconds,
        output=done.output.decode(errors="replace"),
        log=done.log,
    )
    run.record(check)
    return check


def _feedback(failed: list[CheckRan]) -> str:
    """What the agent is told about failed checks."""
    parts = ["Your work was checked in a fresh container, and it failed:"]
    for check in failed:
        how = "timed out" if check.timed_out else f"exit code {check.exit_code}"
        parts.append(f"$ {check.command}   ({how})\n{check.output[-8000:]}")
    parts.append("Find the cause and mend it.")
    return "\n\n".join(parts)


def _judge(run: _Run) -> Verdict:
    task = run.job.task.value
    return judge(
        run.events, checks=task.checks.run, expect_change=task.expect_change, tampered=run.tampered, error=run.error
    )


def _deliver(run: _Run, quarantine: Quarantine) -> None:
    """Give the work to the user as a branch, when the outcome is one that they will want to look at."""
    if run.taken is None or run.taken.commit is None or _judge(run).outcome not in DELIVERED:
        return
    delivered = deliver(quarantine, run.taken, run.job.branch, folder=run.job.folder)
    bundle = delivered.bundle.name if delivered.bundle else None
    run.record(BranchDelivered(branch=delivered.branch, bundle=bundle))
