"""The result of a job, computed from its transcript."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Literal

from runner.errors import EXIT_CODES
from runner.result.bill import billed
from runner.result.claims import claims
from runner.result.evidence import (
    approvals,
    check_passed,
    checks_of_last_commit,
    checks_on_base,
    containment,
    denied_calls,
    egress_uses,
    gate,
    unjudged_calls,
)
from runner.result.phases import seconds_between, timings
from runner.result.schema import CheckResult, DiffStat, Incomplete, JobFacts, JobResult, SandboxState, SnapshotState
from runner.transcript import (
    AgentEnded,
    AnyEvent,
    BranchDelivered,
    BranchTaken,
    CheckRan,
    Diverged,
    JobEnded,
    JobStarted,
    Resumed,
    SandboxOpened,
    SnapshotUsed,
    ToolDecided,
    ToolRan,
    of_kind,
)


def compute_result(events: Sequence[AnyEvent], *, transcript_hash: str) -> JobResult:
    """The result of a finished transcript, without its list of artifacts.

    Raises ValidationError when `job_started` or `sandbox_opened` lack what a result needs.
    """
    started, ended = of_kind(events, JobStarted)[0], of_kind(events, JobEnded)[-1]
    facts = JobFacts.model_validate(started.job)
    branch = of_kind(events, BranchTaken)[-1] if of_kind(events, BranchTaken) else None
    delivered = next(iter(of_kind(events, BranchDelivered)), None)
    bill = billed(events)
    return JobResult(
        job=facts.id,
        task=facts.task,
        title=facts.resolved.title,
        source=facts.resolved.source,
        outcome=ended.outcome,
        reason=ended.reason,
        cause=ended.cause,
        exit_code=EXIT_CODES[ended.outcome] if ended.exit_code is None else ended.exit_code,
        attempt=max((event.attempt for event in of_kind(events, Resumed)), default=1),
        started_at=started.time,
        ended_at=ended.time,
        repo=facts.repo,
        base=branch.base if branch and branch.base else facts.base,
        branch=delivered.branch if delivered else None,
        bundle=delivered.bundle if delivered else None,
        commit=branch.commit if branch else None,
        tree=branch.tree if branch else "",
        commits=branch.commits if branch else (),
        diff=_diff(branch),
        notes=branch.notes if branch else (),
        checks=tuple(_check(check) for check in [*checks_on_base(events), *checks_of_last_commit(events)]),
        repair_rounds=max((check.round for check in of_kind(events, CheckRan)), default=0),
        model=facts.model,
        models=bill.models,
        usage=bill.usage,
        cost_usd=bill.cost_usd,
        cost_complete=bill.complete,
        cost_doubtful_usd=bill.doubtful_usd,
        played_replies=bill.played,
        diverged=tuple(event.turn for event in of_kind(events, Diverged)),
        limits=facts.limits,
        turns=bill.replies,
        tool_calls=_tool_calls(events),
        denials=denied_calls(events),
        approvals=approvals(events),
        unjudged=unjudged_calls(events),
        egress=egress_uses(events),
        contained=containment(events),
        gate=gate(events),
        sandbox=_sandbox(events),
        snapshot=_snapshot(events),
        final_message=next((end.message for end in reversed(of_kind(events, AgentEnded))), ""),
        claims=claims(events),
        seconds=seconds_between(started, ended),
        timings=timings(events),
        hashes=facts.hashes | {"transcript": transcript_hash},
    )


def incomplete(
    events: Sequence[AnyEvent], *, job: str, problem: Literal["unfinished", "damaged"], reason: str
) -> Incomplete:
    """What is known of a job from the events that there are; `job` names it where they do not."""
    bill = billed(events)
    started = next(iter(of_kind(events, JobStarted)), None)
    facts = JobFacts.model_validate(started.job) if started else None
    return Incomplete(
        job=facts.id if facts else job,
        task=facts.task if facts else "",
        title=facts.resolved.title if facts else "",
        source=facts.resolved.source if facts else "",
        problem=problem,
        reason=reason,
        started_at=events[0].time if events else "",
        last_at=events[-1].time if events else "",
        turns=bill.replies,
        usage=bill.usage,
        cost_usd=bill.cost_usd,
        cost_doubtful_usd=bill.doubtful_usd,
    )


def _diff(branch: BranchTaken | None) -> DiffStat:
    if branch is None:
        return DiffStat()
    return DiffStat(files=branch.files, insertions=branch.insertions, deletions=branch.deletions, paths=branch.paths)


def _check(check: CheckRan) -> CheckResult:
    return CheckResult(
        command=check.command,
        exit_code=check.exit_code,
        passed=check_passed(check),
        timed_out=check.timed_out,
        seconds=check.seconds,
        log=check.log,
        kind=check.kind,
        on=check.on,
        tampered=check.tampered,
    )


def _tool_calls(events: Iterable[AnyEvent]) -> dict[str, int]:
    """Calls per tool, a call that the sandbox did not survive included."""
    names: dict[tuple[int, str], str] = {}
    for event in events:
        if isinstance(event, ToolDecided):
            names[event.turn, event.call.id] = event.call.name
        elif isinstance(event, ToolRan):
            names.setdefault((event.turn, event.tool_use_id), event.name)
    return dict(Counter(names.values()).most_common())


def _sandbox(events: Iterable[AnyEvent]) -> SandboxState | None:
    report = next((event.report for event in of_kind(events, SandboxOpened) if event.purpose == "agent"), None)
    if report is None:
        return None
    return SandboxState.model_validate(
        {name: report[name] for name in SandboxState.model_fields.keys() & report.keys()}
    )


def _snapshot(events: Iterable[AnyEvent]) -> SnapshotState | None:
    used = [event for event in of_kind(events, SnapshotUsed) if event.purpose == "agent"]
    return SnapshotState(key=used[-1].key, made=used[-1].made, seconds=used[-1].seconds) if used else None
