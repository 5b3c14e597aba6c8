"""Whole jobs through the front door: real files, a real engine, the real SDK against a scripted server."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from runner.approvals.base import Approver
from runner.config import load
from runner.job import run_job
from runner.models import RetryBudget, open_model
from runner.models.script import Turn
from runner.policy.loading import load_policy
from runner.resolve import resolve
from runner.result import JobResult
from runner.sandbox.container import ContainerEngine
from runner.task import Task
from runner.transcript import AnyEvent
from tests.agents.jobs import bash
from tests.repo.repositories import Repository

CHECK = "grep -q fixed code.txt"
FIX = bash("echo fixed > code.txt && git commit -qam 'Fix the code'")
SMALL: dict[str, Any] = {"memory": "256m", "disk": "64m", "tmp": "16m", "inodes": 10_000, "best_effort": []}

RunTask = Callable[..., JobResult]


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    repository = Repository(tmp_path / "repo")
    repository.write("code.txt", "broken\n")
    repository.write("tests/test.sh", "grep -q fixed code.txt\n")
    repository.commit("first")
    return repository


@pytest.fixture
def run_task(
    engine: ContainerEngine, repository: Repository, tmp_path: Path, base_image: Any, toolbox_volume: str
) -> RunTask:
    """Runs a task whose model says `turns`; keys replace those of the task, `policy` those of the policy."""

    def run(
        turns: Sequence[Turn],
        *,
        policy: dict[str, Any] | None = None,
        watch: Callable[[AnyEvent], None] = lambda event: None,
        mask: tuple[str, ...] = (),
        include_uncommitted: bool = False,
        variables: Mapping[str, str] | None = None,
        approver: Approver | None = None,
        answers_as: str = "claude-sonnet-4-6",
        **keys: Any,
    ) -> JobResult:
        script = {"version": 1, "model": answers_as, "turns": [_written(turn) for turn in turns]}
        (tmp_path / "script.yaml").write_text(yaml.safe_dump(script))
        task = {
            "version": 1,
            "name": "fix",
            "prompt": "Fix code.txt.",
            "repo": {"url": str(repository.path), "base": "main"},
            "model": "scripted:script.yaml",
            "checks": {"run": [CHECK]},
            "limits": {"seconds": 60, "retries": 2},
        }
        (tmp_path / "task.yaml").write_text(yaml.safe_dump(task | keys))
        rules = {"version": 1, "mode": "blacklist", "container": SMALL}
        (tmp_path / "policy.yaml").write_text(yaml.safe_dump(rules | (policy or {})))
        loaded, judged = load(tmp_path / "task.yaml", Task), load_policy(tmp_path / "policy.yaml")
        job = resolve(
            loaded,
            judged,
            runs=tmp_path / "runs",
            include_uncommitted=include_uncommitted,
            variables=variables or {},
        )
        budget = RetryBudget.of(loaded.value.limits)
        model = open_model(loaded.value.model, folder=tmp_path, variables={}, budget=budget)
        try:
            return run_job(job, engine=engine, model=model, watch=watch, mask=mask, approver=approver)
        finally:
            model.close()

    return run


def _written(turn: Turn) -> dict[str, Any]:
    return turn.model_dump(mode="json", exclude_defaults=True)


def job_folder(tmp_path: Path, result: JobResult) -> Path:
    return tmp_path / "runs" / result.job
