"""One job, through the front door: real files, a real engine, the real SDK against a scripted server."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from runner.errors import Cancelled, ConfigError
from runner.report import RESULT, TRANSCRIPT
from runner.result import JobResult
from runner.sandbox.container import ContainerEngine
from runner.transcript import AnyEvent, ModelReplied, ToolRan, read
from tests.agents.jobs import bash, fails, says
from tests.full_jobs import CHECK, FIX, RunTask, job_folder, repository, run_task  # noqa: F401  fixtures
from tests.repo.repositories import Repository

pytestmark = pytest.mark.engine

# -- what comes out


def test_a_fix_that_passes_is_solved_and_becomes_a_branch(
    run_task: RunTask, repository: Repository, tmp_path: Path
) -> None:
    before = _state(repository)
    result = run_task([FIX, says("Done.")])
    assert (result.outcome, result.exit_code) == ("solved", 0)
    assert result.branch == f"claw/{result.job}"
    assert repository.git("show", f"{result.branch}:code.txt") == "fixed"
    assert repository.git("rev-parse", result.branch) == result.commit
    assert result.diff.paths == ("code.txt",)
    assert _state(repository) == before, "the user's work tree, index or HEAD was touched"


def test_commits_carry_author_message_and_trailers(run_task: RunTask, repository: Repository) -> None:
    author = {"name": "Robo", "email": "robo@example.org"}
    result = run_task([FIX, says("Done.")], output={"author": author})
    shown = repository.git("log", "-1", "--format=%an <%ae>%n%B", str(result.branch))
    assert shown.startswith("Robo <robo@example.org>\nFix the code\n")
    assert f"Agent-Run: {result.job}" in shown
    assert "Agent-Model: scripted:script.yaml" in shown
    assert f"Agent-Policy-SHA256: {result.hashes['policy']}" in shown


def test_the_transcript_hash_in_the_commit_is_in_the_chain(
    run_task: RunTask, repository: Repository, tmp_path: Path
) -> None:
    result = run_task([FIX, says("Done.")])
    shown = repository.git(
        "log", "-1", "--format=%(trailers:key=Agent-Transcript-SHA256,valueonly)", str(result.branch)
    )
    assert shown in {event.prev for event in read(job_folder(tmp_path, result) / TRANSCRIPT)}


def test_uncommitted_work_is_committed_by_the_runner(run_task: RunTask, repository: Repository) -> None:
    result = run_task(
        [bash("echo fixed > code.txt"), says("Done.")],
        output={"commit_message": "Mend {{ vars.what }}"},
        vars={"what": "it"},
    )
    assert result.outcome == "solved"
    assert repository.git("log", "-1", "--format=%s", str(result.branch)) == "Mend it"


def test_the_patch_applied_to_base_gives_the_branch(run_task: RunTask, repository: Repository, tmp_path: Path) -> None:
    result = run_task([FIX, says("Done.")])
    repository.git("checkout", "-q", "--detach", result.base)
    repository.git("apply", "--index", str(job_folder(tmp_path, result) / "patch.diff"))
    assert repository.git("write-tree") == repository.git("rev-parse", f"{result.branch}^{{tree}}")


def test_every_artifact_is_there_and_has_its_hash(run_task: RunTask, tmp_path: Path) -> None:
    result = run_task([FIX, says("Done.")])
    folder = job_folder(tmp_path, result)
    assert {"transcript.jsonl", "patch.diff", "cost.json", "report.html"} <= {item.path for item in result.artifacts}
    assert {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()} == {
        item.path for item in result.artifacts
    } | {RESULT}
    assert JobResult.model_validate_json((folder / RESULT).read_bytes()) == result


def test_the_result_says_what_held(run_task: RunTask) -> None:
    result = run_task([FIX, says("Done.")])
    assert result.sandbox is not None
    controls = {control.name: control for control in result.sandbox.controls}
    assert {"capabilities", "seccomp", "network", "memory", "pids", "disk", "inodes"} <= set(controls)
    assert controls["capabilities"].status == controls["network"].status == "hard"
    assert result.sandbox.image_digest
    assert result.cost_usd is not None
    assert result.cost_usd > 0


# -- the other outcomes


def test_no_checks_is_changed(run_task: RunTask) -> None:
    assert run_task([FIX, says("Done.")], checks={}).outcome == "changed"


def test_failed_checks_are_unsolved_and_still_a_branch(run_task: RunTask, repository: Repository) -> None:
    result = run_task([bash("echo worse > code.txt"), says("All tests pass.")])
    assert (result.outcome, result.exit_code) == ("unsolved", 10)
    assert repository.git("show", f"{result.branch}:code.txt") == "worse"


def test_failed_checks_go_back_to_the_agent(run_task: RunTask) -> None:
    turns = [bash("echo worse > code.txt"), says("Done."), bash("echo fixed > code.txt"), says("Now.")]
    result = run_task(turns, checks={"run": ["echo the verdict; " + CHECK], "repair_rounds": 2})
    assert (result.outcome, result.repair_rounds) == ("solved", 1)


def test_the_agent_is_told_what_failed(run_task: RunTask) -> None:
    turns = [
        bash("echo worse > code.txt"),
        says("Done."),
        bash("echo fixed > code.txt", when="the verdict"),
        says("Now."),
    ]
    result = run_task(turns, checks={"run": ["echo the verdict; " + CHECK], "repair_rounds": 1})
    assert result.outcome == "solved"


def test_nothing_done_is_no_change(run_task: RunTask, repository: Repository) -> None:
    result = run_task([says("Nothing to do.")])
    assert (result.outcome, result.exit_code, result.branch) == ("no_change", 11, None)
    assert repository.git("branch", "--list", "claw/*") == ""


def test_nothing_done_because_it_was_denied(run_task: RunTask) -> None:
    result = run_task([FIX, says("I may not.")], policy={"deny": ["Bash(echo:*)"]})
    assert (result.outcome, result.exit_code) == ("denied", 12)
    assert result.denials[0].rule == "Bash(echo:*)"
    assert result.denials[0].where is not None
    assert result.denials[0].where.endswith("policy.yaml:10") or "policy.yaml:" in result.denials[0].where


def test_a_limit_is_named_and_the_work_is_kept(run_task: RunTask) -> None:
    turns = [bash("echo half > code.txt"), *[bash("true")] * 5]
    result = run_task(turns, limits={"turns": 3, "seconds": 60})
    assert (result.outcome, result.exit_code) == ("limit", 13)
    assert "limits.turns" in result.reason
    assert result.branch is not None


def test_the_job_ends_when_its_time_is_over(run_task: RunTask) -> None:
    result = run_task([bash("sleep 60"), says("Done.")], limits={"seconds": 2})
    assert (result.outcome, "limits.seconds" in result.reason) == ("limit", True)
    assert result.seconds < 30


def test_touching_protected_paths_is_tampering(run_task: RunTask, repository: Repository) -> None:
    result = run_task(
        [bash("echo true > tests/test.sh"), says("Done.")],
        checks={"run": ["sh tests/test.sh"], "protect": ["tests/**"]},
    )
    assert (result.outcome, result.exit_code, result.branch) == ("tampered", 14, None)
    assert "tests/test.sh" in result.reason


def test_a_dead_provider_is_not_the_agents_failure(run_task: RunTask, tmp_path: Path) -> None:
    result = run_task([bash("echo half > code.txt"), *[fails(status=500)] * 9], limits={"retries": 0, "seconds": 60})
    assert (result.outcome, result.exit_code, result.branch) == ("provider_error", 20, None)
    assert b"half" in (job_folder(tmp_path, result) / "patch.diff").read_bytes(), "what was done is lost"


def test_a_failing_setup_is_the_sandboxs(run_task: RunTask) -> None:
    result = run_task([FIX], setup=["echo no such thing; exit 3"])
    assert (result.outcome, result.exit_code) == ("sandbox_error", 21)
    assert "no such thing" in result.reason


def test_what_setup_leaves_is_not_work(run_task: RunTask) -> None:
    result = run_task([says("Nothing to do.")], setup=["touch left-over.txt"])
    assert result.outcome == "no_change"


def test_a_missing_image_is_named(run_task: RunTask) -> None:
    result = run_task([FIX], image="localhost/no-such-image:1")
    assert (result.outcome, "no-such-image" in result.reason) == ("sandbox_error", True)


def test_an_unknown_price_refuses_a_cost_limit(run_task: RunTask) -> None:
    with pytest.raises(ConfigError, match=r"limits\.cost_usd"):
        run_task([says("Done.")], answers_as="nobody-knows", limits={"cost_usd": 1})


def test_cancelling_gives_a_result(run_task: RunTask) -> None:
    def stop(event: AnyEvent) -> None:
        if isinstance(event, ModelReplied):
            raise Cancelled(15)

    result = run_task([FIX, says("Done.")], watch=stop)
    assert (result.outcome, result.exit_code, result.branch) == ("cancelled", 143, None)


# -- in and out


def test_uncommitted_changes_go_in_only_when_asked(run_task: RunTask, repository: Repository) -> None:
    repository.write("code.txt", "fixed\n")
    assert run_task([bash("cat code.txt"), says("Done.")]).outcome == "no_change"
    result = run_task([bash("grep fixed code.txt && echo more > new.txt"), says("Done.")], include_uncommitted=True)
    assert result.outcome == "solved"
    assert repository.git("rev-parse", f"{result.commits[0]}^") == result.base
    assert repository.git("show", f"{result.base}:code.txt") == "fixed"


def test_nothing_but_the_history_of_base_goes_in(run_task: RunTask, repository: Repository, tmp_path: Path) -> None:
    repository.git("checkout", "-q", "-b", "future")
    secret = repository.write("answer.txt", "the answer\n")
    future = repository.commit("the future")
    repository.git("tag", "later")
    repository.git("checkout", "-q", "main")
    secret.unlink(missing_ok=True)
    look = f"git cat-file -e {future} && echo THERE; git for-each-ref; git log --all --oneline; git reflog"
    result = run_task([bash(look), says("Done.")])
    seen = next(
        event.content for event in read(job_folder(tmp_path, result) / TRANSCRIPT) if isinstance(event, ToolRan)
    )
    assert "THERE" not in seen
    assert "later" not in seen
    assert "future" not in seen


def test_parallel_names_never_clash(run_task: RunTask, repository: Repository) -> None:
    results = [run_task([FIX, says("Done.")], output={"branch": "work"}) for _ in range(2)]
    assert [result.branch for result in results] == ["work", "work-2"]


def test_a_bundle_comes_out_where_there_is_no_repository_to_write_to(
    run_task: RunTask, repository: Repository, tmp_path: Path
) -> None:
    bundle = tmp_path / "in.bundle"
    repository.git("bundle", "create", "-q", str(bundle), "main")
    result = run_task([FIX, says("Done.")], repo={"url": str(bundle), "base": "main"})
    assert result.outcome == "solved"
    out = job_folder(tmp_path, result) / "branch.bundle"
    repository.git("fetch", "-q", str(out), f"refs/heads/{result.branch}:refs/heads/from-bundle")
    assert repository.git("show", "from-bundle:code.txt") == "fixed"


def test_masked_values_are_in_no_file(run_task: RunTask, tmp_path: Path) -> None:
    canary = "sk-canary-4242424242"
    result = run_task(
        [bash(f"echo {canary} > code.txt; cat code.txt"), says(f"It is {canary}.")], mask=(canary,), checks={}
    )
    folder = job_folder(tmp_path, result)
    files = [path for path in folder.rglob("*") if path.is_file() and path.name in (TRANSCRIPT, RESULT, "cost.json")]
    assert len(files) == 3
    assert not [path for path in files if canary in path.read_text()]


# -- nothing is left


def test_nothing_of_a_job_is_left(run_task: RunTask, engine: ContainerEngine, tmp_path: Path) -> None:
    result = run_task([bash("sleep 1000 & setsid sleep 1000 & echo fixed > code.txt"), says("Done.")])
    for thread in engine._farewells:
        thread.join()
    filters = json.dumps({"label": [f"claw-runner.job={result.job}"]})
    listed = engine.api.get(f"/containers/json?all=true&filters={filters}")
    assert listed == []
    assert not (job_folder(tmp_path, result) / "quarantine").exists()


def _state(repository: Repository) -> tuple[str, ...]:
    index = subprocess.run(
        ["sha256sum", repository.path / ".git" / "index"], capture_output=True, text=True, check=True
    )
    return (
        repository.git("status", "--porcelain"),
        repository.head,
        repository.git("branch", "--show-current"),
        index.stdout,
    )
