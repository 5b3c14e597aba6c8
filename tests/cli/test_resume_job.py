"""A job that was run by itself and killed: `claw-runner resume JOB`."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from runner.cli import main
from runner.report import RESULT, TRANSCRIPT
from runner.sandbox.container import ContainerEngine
from runner.transcript import ModelReplied, Reader, Resumed, of_kind, read
from tests.full_jobs import CHECK, SMALL, repository  # noqa: F401  fixture
from tests.models.test_earlier import attempt
from tests.repo.repositories import Repository

pytestmark = pytest.mark.engine

SECONDS = 120


@pytest.fixture
def job(tmp_path: Path, repository: Repository, engine: ContainerEngine) -> Path:
    """The folder of a job whose runner was killed after the first reply, while a command ran."""
    task = {
        "version": 1,
        "name": "fix",
        "prompt": "Fix code.txt.",
        "repo": {"url": str(repository.path), "base": "main"},
        "model": "scripted:replies.yaml",
        "checks": {"run": [CHECK]},
        "output": {"commit_message": "Mend it"},
    }
    slow = {"name": "Bash", "input": {"command": "sleep 3; echo fixed > code.txt"}}
    replies = {"version": 1, "model": "claude-sonnet-4-6", "turns": [{"tools": [slow]}, {"text": "Done."}]}
    policy = {"version": 1, "mode": "blacklist", "container": {**SMALL, "best_effort": ["user_namespace"]}}
    for name, value in (("task", task), ("replies", replies), ("policy", policy)):
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(value))
    command = [sys.executable, "-m", "runner", "run", "task.yaml", "--policy", "policy.yaml", "--engine", engine.name]
    with subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE) as runner:
        folder = _begun(tmp_path / "runs")
        runner.send_signal(signal.SIGKILL)
    return folder


def _begun(runs: Path) -> Path:
    deadline = time.monotonic() + SECONDS
    while time.monotonic() < deadline:
        for transcript in runs.glob(f"*/{TRANSCRIPT}"):
            if of_kind(tuple(Reader(transcript)), ModelReplied):
                return transcript.parent
        time.sleep(0.05)
    raise AssertionError("no reply came")


def _resume(folder: Path) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "runner", "resume", folder.name, "--json"]
    where = folder.parent.parent
    return subprocess.run(
        command, cwd=where, env=os.environ, capture_output=True, text=True, timeout=SECONDS, check=False
    )


def test_it_goes_on_and_pays_for_no_reply_again(job: Path, repository: Repository) -> None:
    done = _resume(job)
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    assert (result["outcome"], result["attempt"], result["played_replies"]) == ("solved", 2, 1)
    events = read(job / TRANSCRIPT)
    assert [event.reply.played for event in of_kind(events, ModelReplied)] == [True, False]
    assert of_kind(events, Resumed)[0].replies == 1
    assert repository.git("log", "-1", "--format=%s", result["branch"]) == "Mend it"


def test_one_that_has_ended_is_not_done_again(job: Path) -> None:
    _resume(job)
    before = (job / RESULT).read_bytes()
    done = _resume(job)
    assert done.returncode == 2
    assert "has ended (solved)" in done.stderr
    assert (job / RESULT).read_bytes() == before


def test_one_that_a_runner_works_on_is_left_to_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    transcript = attempt(tmp_path / "runs" / "fix-1")
    handle = os.open(transcript.parent, os.O_RDONLY)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX)
        assert main(["resume", "fix-1"]) == 2
    finally:
        os.close(handle)
    assert "fix-1: a runner is at work on it; claw-runner logs fix-1 -f follows it" in capsys.readouterr().err
    assert transcript.exists()


def test_a_runner_keeps_others_off_its_job(job: Path, engine: ContainerEngine) -> None:
    command = [sys.executable, "-m", "runner", "resume", job.name, "--json"]
    where = job.parent.parent
    with subprocess.Popen(command, cwd=where, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as first:
        deadline = time.monotonic() + SECONDS
        while not (job / "attempts" / "1" / TRANSCRIPT).exists() and time.monotonic() < deadline:
            time.sleep(0.02)
        second = _resume(job)
        assert first.wait(SECONDS) == 0
    assert second.returncode == 2
    assert "a runner is at work on it" in second.stderr


def test_one_without_its_transcript_cannot_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "fix-1").mkdir(parents=True)
    (tmp_path / "runs" / "fix-1" / RESULT).write_text("{}")
    assert main(["resume", "fix-1"]) == 2
    assert "its transcript is gone" in capsys.readouterr().err
