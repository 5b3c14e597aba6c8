"""A small batch in a folder, with a clock that stands still."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from runner.batch.base import BatchSpec, Ended, Lease, Limits, Planned
from runner.batch.store import Store

SOLVED = Ended(outcome="solved", reason="all checks pass", cost_micro_usd=10, seconds=1.5, turns=2, tokens=30)
LOST = Ended(outcome="sandbox_error", reason="the container went away", cause="sandbox", turns=1, tokens=7)
EVER = 1e9
"""Seconds: a lease that does not expire here."""


class Clock:
    def __init__(self) -> None:
        self.now = 1_000.0

    def __call__(self) -> float:
        return self.now


def planned(number: int, **changed: Any) -> Planned:
    values: dict[str, Any] = {
        "id": f"job-{number}",
        "key": f"key-{number}",
        "title": f"Job {number}",
        "source": f"issues.json:{number}",
        "task_file": "/tasks/fix.yaml",
        "task_sha256": "0" * 64,
        "task": {"prompt": "Mend {{ issue.title }}.", "checks": {"run": ["pytest -q"]}},
        "values": {"issue": {"title": f"Job {number}", "number": number, "body": None}},
    }
    return Planned(**{**values, **changed})


def spec(**limits: Any) -> BatchSpec:
    return BatchSpec(id="b", source="issues.json", policy_file="/p.yaml", policy_sha256="1", limits=Limits(**limits))


def make(folder: Path, jobs: int = 3, *, clock: Clock | None = None, **limits: Any) -> Store:
    plans = [planned(number) for number in range(1, jobs + 1)]
    return Store.create(folder, spec(**limits), plans, clock=clock or Clock())


def take(store: Store, owner: str = "a", *, seconds: float = EVER) -> Lease:
    """The next job, which must be there."""
    lease = store.lease(owner, seconds=seconds)
    assert lease is not None
    return lease
