"""A finished job done again without its model, on a real engine."""

from __future__ import annotations

from pathlib import Path

import pytest

from runner.errors import ConfigError
from runner.replay import Replayed, replay
from runner.report import RESULT, TRANSCRIPT
from runner.result import JobResult
from runner.sandbox.container import ContainerEngine
from runner.transcript import ModelReplied, of_kind, read
from tests.agents.jobs import bash, says
from tests.full_jobs import FIX, RunTask, job_folder, repository, run_task  # noqa: F401  fixtures
from tests.repo.repositories import Repository

pytestmark = pytest.mark.engine


def _again(engine: ContainerEngine, tmp_path: Path, result: JobResult) -> Replayed:
    return replay(job_folder(tmp_path, result), to=tmp_path / "again", engine=engine, variables={})


def test_the_same_files_come_out(
    run_task: RunTask, engine: ContainerEngine, tmp_path: Path, repository: Repository
) -> None:
    result = run_task([FIX, bash("printf '\\0\\377' > data && chmod 755 data"), says("Done.")])
    before = repository.git("for-each-ref")
    done = _again(engine, tmp_path, result)
    assert (done.same, done.differences) == (True, ())
    assert done.tree_now == repository.git("rev-parse", f"{result.branch}^{{tree}}")
    assert (done.result.outcome, done.result.branch) == ("solved", None)
    assert repository.git("for-each-ref") == before


def test_what_hangs_on_chance_is_said_to_differ(run_task: RunTask, engine: ContainerEngine, tmp_path: Path) -> None:
    result = run_task([bash("date +%s%N | tee code.txt"), says("Done.")], checks={})
    done = _again(engine, tmp_path, result)
    assert not done.same
    assert done.differences[0].startswith("turn 2:")


def test_nothing_is_paid_and_the_bill_of_then_is_shown(
    run_task: RunTask, engine: ContainerEngine, tmp_path: Path
) -> None:
    result = run_task([FIX, says("Done.")])
    done = _again(engine, tmp_path, result)
    replies = of_kind(read(tmp_path / "again" / TRANSCRIPT), ModelReplied)
    assert [reply.reply.played for reply in replies] == [True, True]
    assert done.result.cost_usd == result.cost_usd


def test_a_repaired_job_is_done_again_with_its_repairs(
    run_task: RunTask, engine: ContainerEngine, tmp_path: Path
) -> None:
    turns = [bash("echo worse > code.txt"), says("Done."), bash("echo fixed > code.txt"), says("Now.")]
    result = run_task(turns, checks={"run": ["grep -q fixed code.txt"], "repair_rounds": 1})
    done = _again(engine, tmp_path, result)
    assert (done.same, done.result.repair_rounds) == (True, 1)


def test_a_job_whose_sandbox_gave_nothing_cannot_be_compared(
    run_task: RunTask, engine: ContainerEngine, tmp_path: Path
) -> None:
    result = run_task([says("Never asked.")], setup=["false"])
    with pytest.raises(ConfigError, match="nothing to compare"):
        _again(engine, tmp_path, result)


def test_a_base_that_is_gone_is_said_so(
    run_task: RunTask, engine: ContainerEngine, tmp_path: Path, repository: Repository
) -> None:
    result = run_task([FIX, says("Done.")])
    repository.git("checkout", "-q", "--orphan", "other")
    repository.git("commit", "-q", "-m", "another beginning")
    repository.git("branch", "-q", "-D", "main", str(result.branch))
    repository.git("reflog", "expire", "--expire=now", "--all")
    repository.git("gc", "-q", "--prune=now")
    with pytest.raises(ConfigError, match=r"repo\.base: no branch, tag or commit"):
        _again(engine, tmp_path, result)


def test_the_job_itself_is_left_as_it_was(run_task: RunTask, engine: ContainerEngine, tmp_path: Path) -> None:
    result = run_task([FIX, says("Done.")])
    folder = job_folder(tmp_path, result)
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    _again(engine, tmp_path, result)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before
    assert JobResult.model_validate_json((folder / RESULT).read_bytes()).outcome == "solved"
