"""One job: a task under a policy, in a sandbox, to a result. The whole product on one screen: `run_job`."""

from __future__ import annotations

import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Literal

from runner.admission import admit
from runner.agents import AGENTS, AgentEnd, Context
from runner.agents.base import Approve, Clock
from runner.approvals.base import Approver, Nobody
from runner.config import Loaded
from runner.egress import Fetcher, Gateway, Meter, host_ca_bundle
from runner.enclosure import confinement_in_words, contain, enclosed
from runner.errors import Cancelled, ChecksError, ConfigError, ModelError, RunnerError, SandboxError
from runner.masking import Masker, check_maskable
from runner.models import Model
from runner.policy import Policy
from runner.repo import (
    NOTHING_HIDDEN,
    Hidden,
    Quarantine,
    Source,
    Taken,
    brought_in,
    changed_protected,
    check_branch,
    deliver,
    hide,
    ignore_untracked,
    locate,
    open_quarantine,
    own_files,
    put,
    restore_protected,
    take,
    untracked,
)
from runner.repo.masked_patch import masked_patch
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
    Contained,
    GateRan,
    JobEnded,
    JobStarted,
    SandboxOpened,
    SetupRan,
    Transcript,
    of_kind,
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
    secrets: Mapping[str, str] = field(default_factory=dict, repr=False)
    """Variables of the host that commands see, by name."""
    authorities: bytes | None = field(default=None, repr=False)
    """What commands trust in place of the image's certificate authorities."""


def resolve(
    task: Loaded[Task],
    policy: Loaded[Policy],
    *,
    runs: Path,
    include_uncommitted: bool = False,
    variables: Mapping[str, str] = MappingProxyType({}),
) -> Job:
    """A job of that task: named, its base pinned, its templates rendered. Makes no folder.

    Of `variables`, the host's, the policy names those that come in (`secrets`). Raises ConfigError for what is wrong in
    the files or with a secret, RepoError for a remote that does not answer.
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
        secrets=_secrets(policy, variables),
        authorities=host_ca_bundle(variables) if policy.value.egress.ca == "host" else None,
    )
    check_branch(source, job.branch)
    return job


def _secrets(policy: Loaded[Policy], variables: Mapping[str, str]) -> dict[str, str]:
    """The variables that the policy lets in, with their values. Raises ConfigError for one that is not there."""
    found: dict[str, str] = {}
    for number, name in enumerate(policy.value.secrets):
        where = policy.where(("secrets", number))
        if not (value := variables.get(name)):
            raise ConfigError(f"{where}: secrets: {name} is not set here; export it, or take it out of the list")
        check_maskable(name, value)
        found[name] = value
    return found


@dataclass(kw_only=True, slots=True)
class _Run:
    """A job under way: what it works with, and what has come of it."""

    job: Job
    engine: ContainerEngine
    model: Model
    approver: Approver
    approve: Approve
    record: Callable[[AnyEvent], None]
    transcript: Transcript
    mask: Callable[[str], str]
    meter: Meter
    events: list[AnyEvent] = field(default_factory=list)
    hidden: Hidden = NOTHING_HIDDEN
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
    approver: Approver | None = None,
    approve: Approve = "none",
) -> JobResult:
    """Do the job and write all its artifacts into `job.folder`, which must not exist yet.

    However the job goes, this returns its result; what is raised is a bug of ours, or the disk's failure. `watch` sees
    every event as it is recorded; the values in `mask`, and of the job's secrets, are kept out of all that is written.
    `approver` is asked what the policy, or `approve`, wants a person to decide: nobody, when it is None. Raises
    ConfigError, before anything is started, for a cost limit that cannot be kept.
    """
    if job.task.value.limits.cost_usd is not None and model.price is None:
        raise ConfigError(
            f"limits.cost_usd: cannot be kept, because the price of {model.name} is unknown; leave it out"
        )
    job.folder.mkdir(parents=True)
    values = (*mask, *job.secrets.values())
    masker = Masker(values)
    events: list[AnyEvent] = []
    with Transcript.open(job.folder / TRANSCRIPT, mask=values) as transcript:
        run = _Run(
            job=job,
            engine=engine,
            model=model,
            approver=approver or Nobody(),
            approve=approve,
            record=_recorder(transcript, events, watch),
            transcript=transcript,
            mask=masker.text,
            meter=Meter(job.policy.value.egress.bytes),
            events=events,
        )
        run.record(JobStarted(job=_facts(job, model)))
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
    recorded = read(job.folder / TRANSCRIPT)
    result = compute_result(recorded, transcript_hash=transcript.hash)
    patch = run.taken.patch if run.taken else b""
    found = any(one.kind == "secret" for ran in of_kind(recorded, GateRan) for one in ran.violations)
    shown = masked_patch(patch or b"", masker, holds_secret=found)
    return write_artifacts(job.folder, result, recorded, shown)


def _recorder(
    transcript: Transcript, events: list[AnyEvent], watch: Callable[[AnyEvent], None]
) -> Callable[[AnyEvent], None]:
    """What appends an event; from any thread, for connections end while the agent works."""
    lock = threading.RLock()

    def record(event: AnyEvent) -> None:
        with lock:
            transcript.record(event)
            events.append(event)
            watch(transcript.as_recorded(event))

    return record


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
    """Agent, branch, gate, checks; and again while checks fail and repair rounds are left."""
    task, policy = run.job.task.value, run.job.policy.value
    run.hidden = hide(quarantine, policy)
    config = _sandbox_config(run)
    with _sandbox(run, config, "agent") as (sandbox, gateway):
        left = _prepare(run, quarantine, sandbox)
        # Only what a rule denies is kept from commands: without such a rule nobody need know which files there are.
        tracked = brought_in(quarantine, run.hidden) if policy.deny else ()
        made = untracked(sandbox) if policy.deny and task.setup else ()
        held = contain(sandbox, policy, tracked=tracked, left=made, outside=run.hidden.paths)
        run.record(held)
        gateway.phase = "agent"
        agent, context = AGENTS[task.agent](), _context(run, sandbox, gateway, held)
        end = _tried(run, partial(agent.run, context))
        for round in range(task.checks.repair_rounds + 1):
            _take(run, quarantine, sandbox, left)
            failed = _check(run, quarantine, config, round) if _admitted(run, quarantine) else []
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
def _sandbox(
    run: _Run, config: SandboxConfig, purpose: Literal["agent", "checks"]
) -> Iterator[tuple[Sandbox, Gateway]]:
    """An open sandbox, its commands in the phase of setup."""
    with enclosed(
        run.engine,
        config,
        run.job.policy.value,
        record=run.record,
        meter=run.meter,
        secrets=run.job.secrets,
        authorities=run.job.authorities,
    ) as (sandbox, gateway):
        run.record(SandboxOpened(purpose=purpose, report=asdict(sandbox.report)))
        yield sandbox, gateway


def _prepare(run: _Run, quarantine: Quarantine, sandbox: Sandbox) -> tuple[bytes, ...]:
    """Repository and setup; returns the untracked paths that setup left, which are not the agent's work."""
    task = run.job.task.value
    put(quarantine, sandbox, branch=run.job.branch, author=task.output.author, hidden=run.hidden)
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


def _context(run: _Run, sandbox: Sandbox, gateway: Gateway, held: Contained) -> Context:
    task, policy = run.job.task.value, run.job.policy.value
    return Context(
        prompt=run.job.prompt.rstrip() + _protected_note(task),
        sandbox=sandbox,
        model=run.model,
        policy=policy,
        limits=task.limits,
        max_tokens=task.max_tokens,
        clock=Clock(task.limits.seconds),
        approver=run.approver,
        approve=run.approve,
        mask=run.mask,
        fetch=Fetcher(policy, run.record),
        confinement=confinement_in_words(held),
        notices=gateway.refusals_since,
        job=run.job.id,
        events=run.events,
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
        quarantine,
        sandbox,
        author=task.output.author,
        message=run.job.message,
        trailers=trailers,
        ignored=left,
        hidden=run.hidden,
        mask=run.mask,
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


def _admitted(run: _Run, quarantine: Quarantine) -> bool:
    """Whether the gate lets the diff pass; nothing changed always does."""
    job, taken = run.job, run.taken
    assert taken is not None
    if taken.commit is None:
        return True
    ran = admit(
        quarantine,
        taken,
        job.policy.value,
        job=job.id,
        events=run.events,
        approver=run.approver,
        record=run.record,
        secrets=tuple(job.secrets.values()),
        mask=run.mask,
        own_files=own_files(job.source, (job.task.path, job.policy.path, *job.policy.bases)),
    )
    return not ran.violations


def _check(run: _Run, quarantine: Quarantine, config: SandboxConfig, round: int) -> list[CheckRan]:
    """Run the checks on what came out, in a sandbox of their own; returns those that failed."""
    task, taken = run.job.task.value, run.taken
    assert taken is not None
    if run.tampered or not task.checks.run or (taken.commit is None and task.expect_change):
        return []
    commit = restore_protected(quarantine, taken, task.checks.protect)
    try:
        with _sandbox(run, config, "checks") as (sandbox, gateway):
            author = task.output.author
            put(quarantine, sandbox, branch=run.job.branch, author=author, commit=commit, hidden=run.hidden)
            _setup(run, sandbox)
            gateway.phase = "checks"
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
