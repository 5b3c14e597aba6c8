"""One job: a task under a policy, in a sandbox, to a result. The whole product on one screen: `run_job`."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Literal

from runner.admission import admit
from runner.agents import AGENTS, AgentEnd, Context
from runner.agents.base import Approve, Clock
from runner.approvals.base import Approver, Nobody
from runner.approvals.remembered import Remembered
from runner.checks import Proven, feedback, passed, prove_on_base, run_checks
from runner.config import Loaded
from runner.egress import Fetcher, Meter
from runner.enclosure import confinement_in_words, contain
from runner.errors import Cancelled, ConfigError, ModelError, RunnerError
from runner.ledger import JobLedger, Ledger
from runner.masking import Masker
from runner.models import Metered, Model, Payable, Playing, Spool
from runner.past import Past
from runner.policy import Policy
from runner.preparation import Prepared, Site, prepared, survey
from runner.recorded import facts, known_facts
from runner.repo import (
    NOTHING_HIDDEN,
    Hidden,
    Quarantine,
    Taken,
    brought_in,
    changed_protected,
    deliver,
    hide,
    open_quarantine,
    own_files,
    take,
    untracked,
)
from runner.repo.masked_patch import masked_patch
from runner.report import TRANSCRIPT, write_artifacts
from runner.report.visible import one_line
from runner.resolve import Job
from runner.result import JobResult, Verdict, compute_result, judge
from runner.sandbox.container import ContainerEngine
from runner.task import Task
from runner.transcript import (
    AnyEvent,
    BranchDelivered,
    BranchTaken,
    CheckRan,
    Contained,
    Diverged,
    GateRan,
    JobEnded,
    JobStarted,
    Transcript,
    of_kind,
    read,
)

DELIVERED = frozenset(("solved", "changed", "unsolved", "limit"))
"""Outcomes whose work becomes a branch; of every other one the patch is kept."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Stage:
    """What surrounds a job that is one of many; by itself it begins at once, and goes on to its end."""

    slot: Callable[[], AbstractContextManager[object]] = nullcontext
    """`with slot():` surrounds the agent's work; it may wait. Raises Cancelled when the job is to be left meanwhile."""
    enter: Callable[[Literal["running", "checking"]], object] = lambda state: None
    """Called as the job gets there. What it raises ends the job without a result."""
    effect: Callable[[str, str], str] = lambda name, value: value
    """Called with what the job is about to do to the world (`branch`, and its name). What it returns is done: what an
    earlier attempt said, if one did. What it raises ends the job without a result, and nothing is done."""
    stopped: Callable[[], bool] = lambda: False
    """Whether the job is to be left as it is, to be resumed later."""
    on_stop: Callable[[Callable[[], object]], object] = lambda act: None
    """Takes what is to be called, from another thread, when that becomes true."""


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
    past: Past | None
    stage: Stage
    events: list[AnyEvent] = field(default_factory=list)
    hidden: Hidden = NOTHING_HIDDEN
    taken: Taken | None = None
    tampered: tuple[str, ...] = ()
    error: RunnerError | Cancelled | None = None


def run_job(
    job: Job,
    *,
    engine: ContainerEngine,
    model: Payable | None,
    watch: Callable[[AnyEvent], None] = lambda event: None,
    mask: tuple[str, ...] = (),
    approver: Approver | None = None,
    approve: Approve = "none",
    past: Past | None = None,
    ledger: Ledger | None = None,
    stage: Stage | None = None,
    spool: Spool | None = None,
) -> JobResult:
    """Do the job and write all its artifacts into `job.folder`, which must hold no transcript yet.

    However the job goes, this returns its result; what is raised is a bug of ours, or the disk's failure. `watch` sees
    every event as it is recorded; the values in `mask`, and of the job's secrets, are kept out of all that is written.
    `approver` is asked what the policy, or `approve`, wants a person to decide: nobody, when it is None. With a `past`
    what earlier attempts paid for is played first; without a `model` nothing else is, and no branch appears. `ledger`
    has a say in every request, beside the job's own cap. `spool` is the model's: when the job has ended, all that it
    holds is recorded. Raises ConfigError, before anything is started, for a cost limit that cannot be kept; Cancelled
    when the stage stops, and what its `enter` raises: then the job is left as it is, to be resumed.
    """
    if job.task.value.limits.cost_usd is not None and model is not None and model.price is None:
        raise ConfigError(
            f"limits.cost_usd: cannot be kept, because the price of {model.name} is unknown; leave it out"
        )
    job.folder.mkdir(parents=True, exist_ok=True)
    values = (*mask, *job.secrets.values())
    masker = Masker(values)
    events: list[AnyEvent] = []
    with Transcript.open(job.folder / TRANSCRIPT, mask=values) as transcript:
        stage = stage or Stage()
        record = _recorder(transcript, events, watch, stage)
        live = Metered(model, _ledger(job, past, ledger)) if model is not None else None
        run = _Run(
            job=job,
            engine=engine,
            model=_player(live, past, record),
            approver=Remembered(approver or Nobody(), past.answers if past else {}),
            approve=approve,
            record=record,
            transcript=transcript,
            mask=masker.text,
            meter=Meter(job.policy.value.egress.bytes),
            past=past,
            stage=stage,
            events=events,
        )
        run.record(JobStarted(job=facts(job, run.model, approve)))
        _do(run, deliver_it=model is not None)
        run.record(_end(run))
    run.model.close()
    if spool is not None:
        spool.discard()
    return _written(run, masker)


def _end(run: _Run) -> JobEnded:
    verdict, error = _judge(run), run.error
    cause = error.cause if isinstance(error, RunnerError) and error.outcome == verdict.outcome else None
    return JobEnded(outcome=verdict.outcome, reason=verdict.reason, exit_code=verdict.exit_code, cause=cause)


def _written(run: _Run, masker: Masker) -> JobResult:
    """The job's artifacts, and its result."""
    recorded = read(run.job.folder / TRANSCRIPT)
    result = compute_result(recorded, transcript_hash=run.transcript.hash)
    patch = run.taken.patch if run.taken else b""
    found = any(one.kind == "secret" for ran in of_kind(recorded, GateRan) for one in ran.violations)
    return write_artifacts(run.job.folder, result, recorded, masked_patch(patch or b"", masker, holds_secret=found))


def _ledger(job: Job, past: Past | None, above: Ledger | None) -> JobLedger:
    """The job's own cap, of which earlier attempts have used some, within what is above it."""
    cap = job.task.value.limits.cost_usd
    return JobLedger(
        None if cap is None else Decimal(str(cap)),
        above=above,
        spent=past.earlier.spent if past else 0,
        doubtful=past.earlier.doubtful if past else 0,
    )


def _player(model: Model | None, past: Past | None, record: Callable[[AnyEvent], None]) -> Model:
    """The model of the job: what earlier attempts paid for, then `model`."""
    if past is None:
        assert model is not None, "BUG: a job with nothing to answer it"
        return model
    return Playing(
        past.earlier.replies,
        model,
        on_difference=past.on_difference,
        diverged=lambda turn, what: record(Diverged(turn=turn, what=what)),
    )


def _do(run: _Run, *, deliver_it: bool) -> None:
    """All of the job up to the branch; what goes wrong is left in `run.error`."""
    if run.past is not None:
        run.record(run.past.event())
    try:
        with open_quarantine(run.job.source, folder=run.job.folder) as quarantine:
            _work(run, quarantine)
            if deliver_it:
                _deliver(run, quarantine)
    except (RunnerError, Cancelled) as error:
        if run.stage.stopped():
            # What failed may have failed because it was taken away.
            raise Cancelled from error
        run.error = error
    except KeyboardInterrupt:
        run.error = Cancelled()


def _recorder(
    transcript: Transcript, events: list[AnyEvent], watch: Callable[[AnyEvent], None], stage: Stage
) -> Callable[[AnyEvent], None]:
    """What appends an event; from any thread, for connections end while the agent works."""
    lock, job = threading.RLock(), threading.get_ident()

    def record(event: AnyEvent) -> None:
        if threading.get_ident() == job and stage.stopped():
            raise Cancelled
        with lock:
            transcript.record(event)
            events.append(event)
            watch(transcript.as_recorded(event))

    return record


def leave_unbegun(
    folder: Path, task: Loaded[Task], policy: Loaded[Policy], error: RunnerError, *, mask: tuple[str, ...] = ()
) -> JobResult:
    """The artifacts of a job that could not begin: its repository does not answer, a template does not render.

    `folder` must hold no transcript. Raises OSError.
    """
    what = task.value
    known = known_facts(folder.name, task, policy, repo=what.repo.url, base=what.repo.base, model=what.model)
    with Transcript.open(folder / TRANSCRIPT, mask=mask) as transcript:
        transcript.record(JobStarted(job=known))
        transcript.record(JobEnded(outcome=error.outcome, reason=one_line(str(error)), cause=error.cause))
    recorded = read(folder / TRANSCRIPT)
    return write_artifacts(folder, compute_result(recorded, transcript_hash=transcript.hash), recorded, b"")


# -- the agent's part


def _work(run: _Run, quarantine: Quarantine) -> None:
    """Agent, branch, gate, checks; and again while checks fail and repair rounds are left."""
    run.hidden = hide(quarantine, run.job.policy.value)
    site = survey(
        run.job,
        engine=run.engine,
        quarantine=quarantine,
        hidden=run.hidden,
        meter=run.meter,
        record=run.record,
        on_stop=run.stage.on_stop,
    )
    proven = prove_on_base(site)
    with prepared(site, "agent") as ready:
        run.stage.on_stop(run.model.close)
        held = _contained(run, quarantine, ready)
        ready.gateway.phase = "agent"
        with run.stage.slot():
            _repaired(run, site, ready, _context(run, ready, held), proven)


def _repaired(run: _Run, site: Site, ready: Prepared, context: Context, proven: Proven) -> None:
    """The agent's work, taken and checked, as often as repair rounds allow."""
    task = run.job.task.value
    agent = AGENTS[task.agent]()
    step = partial(agent.run, context)
    for round in range(task.checks.repair_rounds + 1):
        run.stage.enter("running")
        end = _tried(run, step)
        _take(run, site.quarantine, ready)
        run.stage.enter("checking")
        failed = _check(run, site, round, proven) if _admitted(run, site.quarantine) else []
        if not failed or end is None or end.reason != "done":
            return
        step = partial(agent.resume, context, feedback(failed))


def _contained(run: _Run, quarantine: Quarantine, ready: Prepared) -> Contained:
    """Hold the agent's commands to the policy's path rules."""
    task, policy = run.job.task.value, run.job.policy.value
    # Only what a rule denies is kept from commands: without such a rule nobody need know which files there are.
    tracked = brought_in(quarantine, run.hidden) if policy.deny else ()
    made = untracked(ready.sandbox) if policy.deny and task.setup else ()
    held = contain(ready.sandbox, policy, tracked=tracked, left=made, outside=run.hidden.paths)
    run.record(held)
    return held


def _context(run: _Run, ready: Prepared, held: Contained) -> Context:
    task, policy = run.job.task.value, run.job.policy.value
    return Context(
        prompt=run.job.prompt.rstrip() + _protected_note(task),
        sandbox=ready.sandbox,
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
        notices=ready.gateway.refusals_since,
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


def _take(run: _Run, quarantine: Quarantine, ready: Prepared) -> None:
    task = run.job.task.value
    trailers = {
        "Agent-Run": run.job.id,
        "Agent-Model": run.model.name,
        "Agent-Transcript-SHA256": run.transcript.hash,
        "Agent-Policy-SHA256": run.job.policy.sha256,
    }
    taken = take(
        quarantine,
        ready.sandbox,
        author=task.output.author,
        message=run.job.message,
        trailers=trailers,
        ignored=ready.left,
        hidden=run.hidden,
        mask=run.mask,
    )
    run.taken = taken
    run.tampered = changed_protected(quarantine, taken, task.checks.protect)
    run.record(
        BranchTaken(
            commit=taken.commit,
            tree=quarantine.tree(taken.commit) if taken.commit else "",
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


def _check(run: _Run, site: Site, round: int, proven: Proven) -> list[CheckRan]:
    """Run the checks on what came out; returns those that failed, if the agent may mend that."""
    task, taken = run.job.task.value, run.taken
    assert taken is not None
    if run.tampered or not _asked(task) or (taken.commit is None and task.expect_change):
        return []
    ran = run_checks(site, taken, round, proven=proven)
    # Who was caught at cheating is not told how, and gets no other try.
    return [] if any(check.tampered for check in ran) else [check for check in ran if not passed(check)]


def _asked(task: Task) -> tuple[str, ...]:
    """Every command that must pass on the work."""
    return (*task.checks.run, *task.checks.fail_to_pass, *task.checks.pass_to_pass)


def _judge(run: _Run) -> Verdict:
    task = run.job.task.value
    return judge(
        run.events, checks=_asked(task), expect_change=task.expect_change, tampered=run.tampered, error=run.error
    )


def _deliver(run: _Run, quarantine: Quarantine) -> None:
    """Give the work to the user as a branch, when the outcome is one that they will want to look at."""
    if run.taken is None or run.taken.commit is None or _judge(run).outcome not in DELIVERED:
        return
    branch = run.stage.effect("branch", run.job.branch)
    ours = run.past.commits if run.past else ()
    delivered = deliver(quarantine, run.taken, branch, folder=run.job.folder, ours=ours)
    bundle = delivered.bundle.name if delivered.bundle else None
    run.record(BranchDelivered(branch=delivered.branch, bundle=bundle))
