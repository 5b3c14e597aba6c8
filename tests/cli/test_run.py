"""`claw-runner run` as a process of its own: what it prints, its exit code, and what is left when it is ended."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from runner.models import SPOOL
from runner.models.script import Turn
from runner.models.scripted import ScriptedServer
from runner.sandbox.container import ContainerEngine
from tests.agents.jobs import bash, says
from tests.repo.repositories import Repository

pytestmark = pytest.mark.engine

FIX = bash("env; cat /proc/self/environ; echo fixed > code.txt")
CONTAINER = {"memory": "256m", "disk": "64m", "tmp": "16m", "inodes": 10_000}

Start = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def files(tmp_path: Path, base_image: Any, toolbox_volume: str) -> Path:
    """A folder with a repository, a task and a policy."""
    repository = Repository(tmp_path / "repo")
    repository.write("code.txt", "broken\n")
    repository.commit("first")
    task = {
        "version": 1,
        "name": "fix",
        "prompt": "Fix code.txt.",
        "repo": {"url": "repo", "base": "main"},
        "model": "scripted:script.yaml",
        "checks": {"run": ["grep -q fixed code.txt"]},
        "limits": {"seconds": 60, "retries": 0},
    }
    policy = {"version": 1, "mode": "blacklist", "container": CONTAINER}
    (tmp_path / "task.yaml").write_text(yaml.safe_dump(task))
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump(policy))
    _script(tmp_path, FIX, says("Done."))
    return tmp_path


def _script(folder: Path, *turns: Turn) -> None:
    written = [turn.model_dump(mode="json", exclude_defaults=True) for turn in turns]
    script = {"version": 1, "model": "claude-sonnet-4-6", "turns": written}
    (folder / "script.yaml").write_text(yaml.safe_dump(script))


@pytest.fixture
def start(files: Path, engine: ContainerEngine) -> Start:
    def start(*options: str, **variables: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "runner", "run", "task.yaml", "--policy", "policy.yaml"]
        return subprocess.Popen(
            [*command, "--engine", engine.name, *options],
            cwd=files,
            env={**os.environ, "COLUMNS": "80", **variables},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    return start


def _containers(engine: ContainerEngine, folder: Path) -> list[str]:
    """Containers, running or not, of the jobs in a folder."""
    jobs = [path.name for path in folder.glob("runs/fix-*")]
    assert jobs
    listed: list[dict[str, Any]] = engine.api.get("/containers/json?all=true")
    return [found["Id"] for found in listed if (found.get("Labels") or {}).get("claw-runner.job") in jobs]


def _until(true: Callable[[], object], seconds: float = 30) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if true():
            return True
        time.sleep(0.1)
    return False


def _transcript(folder: Path) -> str:
    return "".join(path.read_text() for path in folder.glob("runs/fix-*/transcript.jsonl"))


def test_a_job_prints_its_progress_and_its_summary(start: Start, files: Path) -> None:
    out, err = (process := start()).communicate(timeout=120)
    assert process.returncode == 0, err
    assert "SOLVED" in out
    assert "claw/fix-" in out
    assert "turn 1" in err
    assert max(map(len, (out + err).splitlines())) <= 80 + len(str(files)), "wider than a terminal"


def test_json_is_all_there_is_on_stdout(start: Start) -> None:
    out, err = (process := start("--json", "--quiet")).communicate(timeout=120)
    assert (process.returncode, err) == (0, "")
    assert json.loads(out)["outcome"] == "solved"


def test_the_exit_code_is_the_outcomes(start: Start, files: Path) -> None:
    _script(files, says("Nothing to do."))
    process = start()
    process.communicate(timeout=120)
    assert process.returncode == 11


def test_verify_and_show_know_the_job(start: Start, files: Path) -> None:
    start().communicate(timeout=120)
    for command in ("verify", "show"):
        asked = [sys.executable, "-m", "runner", command, "fix-"]
        subprocess.run(asked, check=True, cwd=files, capture_output=True, timeout=60)


def test_runs_are_invisible_to_the_repository_they_lie_in(start: Start, files: Path) -> None:
    start("--runs", "repo/runs").communicate(timeout=120)
    assert Repository.existing(files / "repo").git("status", "--porcelain") == ""


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_stopped_job_cleans_up_and_leaves_a_result(
    start: Start, files: Path, engine: ContainerEngine, number: signal.Signals, code: int
) -> None:
    _script(files, bash("echo begun; sleep 600"), says("Done."))
    process = start()
    assert _until(lambda: "tool_decided" in _transcript(files)), process.stderr
    process.send_signal(number)
    process.communicate(timeout=60)
    assert process.returncode == code
    (result,) = files.glob("runs/fix-*/result.json")
    assert json.loads(result.read_text())["outcome"] == "cancelled"
    assert not _containers(engine, files)
    assert not list(files.glob("runs/fix-*/quarantine"))


def test_a_killed_job_leaves_no_container(start: Start, files: Path, engine: ContainerEngine) -> None:
    _script(files, bash("setsid sleep 600 & sleep 600"), says("Done."))
    process = start()
    assert _until(lambda: "tool_decided" in _transcript(files))
    assert _containers(engine, files)
    process.kill()
    process.communicate(timeout=60)
    assert _until(lambda: not _containers(engine, files), seconds=15)
    (job,) = files.glob("runs/fix-*")
    assert _until(lambda: {path.name for path in job.iterdir()} <= {"transcript.jsonl", "logs", SPOOL}, seconds=15)


def test_the_key_reaches_the_provider_and_nothing_else(start: Start, files: Path) -> None:
    with ScriptedServer([FIX, says("Done.")], model="claude-sonnet-4-6") as server:
        variables = {"ANTHROPIC_API_KEY": server.key, "ANTHROPIC_BASE_URL": server.url}
        out, err = (process := start("--model", "anthropic:claude-sonnet-4-6", **variables)).communicate(timeout=120)
    # The server answers 401 to any other key.
    assert process.returncode == 0, err
    written = [path.read_bytes() for path in files.rglob("*") if path.is_file()]
    assert not [data for data in (*written, out.encode(), err.encode()) if server.key.encode() in data]


def test_a_reader_that_goes_away_does_not_stop_the_job(start: Start, files: Path) -> None:
    with start() as process:
        assert process.stderr is not None
        assert process.stdout is not None
        process.stderr.readline()
        process.stderr.close()
        assert "SOLVED" in process.stdout.read()
    assert process.returncode == 0


def test_a_place_that_cannot_be_written_is_named(start: Start, files: Path) -> None:
    (files / "file").write_text("")
    out, err = (process := start("--runs", "file/runs")).communicate(timeout=60)
    assert (process.returncode, out, err.count("\n")) == (2, "", 1)
    assert "--runs: no job can be written to file/runs: Not a directory" in err


def test_a_dry_run_runs_nothing(start: Start, files: Path) -> None:
    out, err = (process := start("--dry-run")).communicate(timeout=60)
    assert process.returncode == 0, err
    assert "Fix code.txt." in out
    assert not (files / "runs").exists()


def test_a_wrong_key_is_one_line_and_exit_code_two(start: Start, files: Path) -> None:
    task = files / "task.yaml"
    task.write_text(task.read_text() + "chekcs: {}\n")
    out, err = (process := start()).communicate(timeout=60)
    assert (process.returncode, out) == (2, "")
    assert err.count("\n") == 1
    assert "task.yaml:" in err
    assert "checks" in err
