"""A batch with somebody looking on: at a real terminal, with a real ^C; only the jobs need no container."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from runner.batch.store import Store
from runner.cli import main
from tests.batch.stored import planned, spec
from tests.cli.attended import GO, HOSTILE
from tests.cli.terminals import PATIENCE, at_a_terminal

ID = "fix-issues-20261121-9f3a"
ACTS = set("\x1b\x07\u202e\u200b\x9b\x00")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A batch of 7 jobs, 3 at a time; the fifth fails."""
    jobs = [planned(number, id=f"fix-{number}", title=f"Page {number} {HOSTILE}") for number in range(1, 8)]
    path = tmp_path / "runs" / ID
    Store.create(path, replace(spec(jobs=3, ahead=0, cost_usd=50.0), id=ID), jobs).close()
    return path


def left(folder: Path) -> tuple[int, int]:
    """Jobs that have ended, and that nobody holds and have not."""
    with Store.open(folder) as store:
        states = store.counts().states
        assert not store.runners()
        return states.get("ended", 0), states.get("queued", 0)


def run(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tests.cli.attended", str(folder), *options]
    return subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)


# -- at a terminal


@pytest.mark.parametrize(("columns", "lines"), [(80, 24), (40, 12)])
def test_a_person_sees_the_batch_at_work_and_then_how_it_went(folder: Path, columns: int, lines: int) -> None:
    with at_a_terminal("tests.cli.attended", str(folder), columns=columns, lines=lines) as seat:
        seat.sees("0 of 7 jobs")
        seat.sees("3 running · 4 queued")
        seat.sees("fix-3")
        (folder / GO).touch()
        assert seat.ends() == 10
    assert "DONE  7 of 7 jobs ended" in seat.words()
    assert "unsolved        fix-5" in seat.words()
    assert not set(seat.words()) & ACTS
    assert left(folder) == (7, 0)


def test_the_cursor_is_there_whatever_happens(folder: Path) -> None:
    with at_a_terminal("tests.cli.attended", str(folder)) as seat:
        seat.sees("3 running")
        seat.process.kill()
        seat.ends()
    assert seat.seen.rfind("\x1b[?25h") > seat.seen.rfind("\x1b[?25l")


# -- stopping it


def test_control_c_lets_what_runs_end_and_says_how_to_go_on(folder: Path) -> None:
    with at_a_terminal("tests.cli.attended", str(folder)) as seat:
        seat.sees("3 running")
        seat.types("\x03")
        seat.sees("finishing 3 running jobs; ^C again leaves them half-way")
        (folder / GO).touch()
        assert seat.ends() == 130
    assert "STOPPED  3 of 7 jobs ended" in seat.words()
    assert f"claw-runner resume {folder}" in seat.words()
    assert left(folder) == (3, 4)


def test_control_c_twice_leaves_what_runs_half_way(folder: Path) -> None:
    with at_a_terminal("tests.cli.attended", str(folder)) as seat:
        seat.sees("3 running")
        seat.types("\x03")
        seat.sees("^C again leaves them half-way")
        seat.types("\x03")
        assert seat.ends() == 130
    assert "STOPPED  0 of 7 jobs ended" in seat.words()
    assert left(folder) == (0, 7)


def test_what_was_stopped_goes_on_and_ends(folder: Path) -> None:
    with at_a_terminal("tests.cli.attended", str(folder)) as seat:
        seat.sees("3 running")
        seat.types("\x03")
        seat.sees("finishing")
        seat.types("\x03")
        assert seat.ends() == 130
    (folder / GO).touch()
    assert run(folder).returncode == 10
    assert left(folder) == (7, 0)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_leaves_what_runs_half_way_at_once(folder: Path, number: int, code: int) -> None:
    with at_a_terminal("tests.cli.attended", str(folder)) as seat:
        seat.sees("3 running")
        seat.process.send_signal(number)
        assert seat.ends() == code
    assert left(folder) == (0, 7)


def test_a_terminal_that_goes_away_leaves_a_batch_to_go_on_with(folder: Path) -> None:
    with at_a_terminal("tests.cli.attended", str(folder)) as seat:
        seat.sees("3 running")
        seat.hangs_up()
        assert seat.process.wait(PATIENCE) == 129
    assert left(folder) == (0, 7)


def test_whoever_asks_by_nohup_is_left_alone(folder: Path) -> None:
    command = ["nohup", sys.executable, "-m", "tests.cli.attended", str(folder), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        assert process.stdout is not None
        while json.loads(process.stdout.readline())["kind"] != "job_event":
            pass
        process.send_signal(signal.SIGHUP)
        (folder / GO).touch()
        process.stdout.read()
    assert process.returncode == 10


def test_another_process_can_stop_it(folder: Path) -> None:
    with at_a_terminal("tests.cli.attended", str(folder)) as seat:
        seat.sees("3 running")
        assert main(["stop", str(folder), "--now"]) == 0
        assert seat.ends() == 143
    assert left(folder) == (0, 7)


# -- nobody at a terminal


def test_a_log_has_lines_and_the_summary_is_on_standard_output(folder: Path) -> None:
    (folder / GO).touch()
    ran = run(folder)
    assert ran.returncode == 10
    assert sum(line.startswith("started") for line in ran.stderr.splitlines()) == 7
    assert sum(line.startswith("solved ") for line in ran.stderr.splitlines()) == 6
    assert ran.stdout.startswith(f"DONE  7 of 7 jobs ended  {ID}\n")
    assert max(map(len, ran.stdout.splitlines()[:-2])) <= 80
    assert not (set(ran.stdout) | set(ran.stderr)) & ACTS
    assert "::error" not in ran.stderr.replace("⟨::⟩error", "")


def test_quiet_leaves_the_summary(folder: Path) -> None:
    (folder / GO).touch()
    ran = run(folder, "--quiet")
    assert (ran.returncode, ran.stderr) == (10, "")
    assert ran.stdout.startswith("DONE  7 of 7 jobs ended")


def test_json_is_all_that_is_on_standard_output(folder: Path) -> None:
    (folder / GO).touch()
    ran = run(folder, "--json")
    events = [json.loads(line) for line in ran.stdout.splitlines()]
    assert (ran.returncode, ran.stderr) == (10, "")
    assert [events[0]["kind"], events[-1]["kind"]] == ["batch_started", "batch_ended"]
    assert sum(event["kind"] == "job_ended" for event in events) == 7
    end = events[-1]
    assert (end["exit_code"], end["left"], end["outcomes"]) == (10, 0, {"solved": 6, "unsolved": 1})


def test_a_log_in_another_encoding_can_be_written(folder: Path) -> None:
    (folder / GO).touch()
    command = [sys.executable, "-m", "tests.cli.attended", str(folder)]
    ran = subprocess.run(
        command,
        capture_output=True,
        timeout=PATIENCE,
        check=False,
        env={**os.environ, "PYTHONIOENCODING": "ascii:backslashreplace"},
    )
    assert ran.returncode == 10, ran.stderr
    assert b"#" * 60 in ran.stdout
