"""The result of one job: how it ended, by evidence, and where everything is.

`judge` decides the outcome from the events so far and what went wrong; `compute_result` computes the rest from the
events of the finished transcript, alone, so that anyone who has the transcript can compute the same result again.
"""

from __future__ import annotations

from runner.result.bill import Bill, billed, model_of, usage_of, wasted_of
from runner.result.compute import compute_result
from runner.result.evidence import subject_of
from runner.result.outcome import Verdict, judge
from runner.result.phases import Phase, Span, spans
from runner.result.schema import (
    Approval,
    Approvals,
    Artifact,
    CheckResult,
    Containment,
    ControlState,
    Denial,
    DiffStat,
    EgressUse,
    GateState,
    JobFacts,
    JobResult,
    ModelCost,
    SandboxState,
)

__all__ = [
    "Approval",
    "Approvals",
    "Artifact",
    "Bill",
    "CheckResult",
    "Containment",
    "ControlState",
    "Denial",
    "DiffStat",
    "EgressUse",
    "GateState",
    "JobFacts",
    "JobResult",
    "ModelCost",
    "Phase",
    "SandboxState",
    "Span",
    "Verdict",
    "billed",
    "compute_result",
    "judge",
    "model_of",
    "spans",
    "subject_of",
    "usage_of",
    "wasted_of",
]
