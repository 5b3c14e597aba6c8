"""The result of one job: how it ended, by evidence, and where everything is.

`judge` decides the outcome from the events so far and what went wrong; `compute_result` computes the rest from the
events of the finished transcript, alone, so that anyone who has the transcript can compute the same result again.
"""

from __future__ import annotations

from runner.result.bill import Bill, Payment, billed, payments
from runner.result.claims import claims
from runner.result.compute import compute_result, incomplete
from runner.result.evidence import subject_of
from runner.result.outcome import Verdict, judge
from runner.result.phases import Phase, Span, spans
from runner.result.schema import (
    Approval,
    Approvals,
    Artifact,
    CheckResult,
    Claim,
    Containment,
    ControlState,
    Denial,
    DiffStat,
    EgressUse,
    GateState,
    Incomplete,
    JobFacts,
    JobResult,
    ModelCost,
    SandboxState,
    SnapshotState,
)

__all__ = [
    "Approval",
    "Approvals",
    "Artifact",
    "Bill",
    "CheckResult",
    "Claim",
    "Containment",
    "ControlState",
    "Denial",
    "DiffStat",
    "EgressUse",
    "GateState",
    "Incomplete",
    "JobFacts",
    "JobResult",
    "ModelCost",
    "Payment",
    "Phase",
    "SandboxState",
    "SnapshotState",
    "Span",
    "Verdict",
    "billed",
    "claims",
    "compute_result",
    "incomplete",
    "judge",
    "payments",
    "spans",
    "subject_of",
]
