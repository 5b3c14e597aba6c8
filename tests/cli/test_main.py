"""The command line's frame: finding commands, exit codes, signals, broken pipes, and a help that answers at once."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import IO

import pytest

from runner import __version__
from runner.cli import COMMANDS, Command, help_text, main

COMMAND = [sys.executable, "-c"]
SCRIPT = """
import sys
import runner.cli as cli
cli.COMMANDS = {name: cli.Command("tests.cli.commands", name, "Group", "does it", True) for name in sys.argv[1:2]}
sys.exit(cli.main(sys.argv[1:]))
"""
ROOT = Path(__file__).parent.parent.parent


def _run(*args: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """A command of commands.py in a process of its own."""
    return subprocess.run(
        [*COMMAND, SCRIPT, *args], cwd=ROOT, input=stdin, capture_output=True, text=True, timeout=60, check=False
    )


def _start(*args: str, stdout: int | IO[str] = subprocess.PIPE) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, SCRIPT, *args],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=stdout,
        stderr=subprocess.PIPE,
        text=True,
        restore_signals=True,
    )


# --- Help ---


def test_the_help_fits_eighty_columns_and_names_every_command() -> None:
    text = help_text()
    assert max(map(len, text.splitlines())) <= 80
    assert all(re.search(rf"^  {name}  +\S", text, re.MULTILINE) for name in COMMANDS)


def test_the_help_says_first_what_a_newcomer_needs() -> None:
    text = help_text()
    assert text.index("claw-runner init") < text.index("claw-runner run task.yaml") < text.index("Jobs:")


@pytest.mark.parametrize("args", [["--help"], ["-h"], ["help"]])
def test_help_goes_to_standard_output(args: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(args) == 0
    assert capsys.readouterr().out == help_text()


def test_no_command_is_a_usage_error_that_shows_the_help(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", help_text())


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--version"]) == 0
    assert capsys.readouterr().out == f"claw-runner {__version__}\n"


def test_the_top_level_help_imports_no_command_and_no_library() -> None:
    script = "import sys; from runner.cli import main; main(['--help']); print(sorted(sys.modules), file=sys.stderr)"
    done = subprocess.run([*COMMAND, script], cwd=ROOT, capture_output=True, text=True, timeout=60, check=True)
    for library in ("typer", "rich", "pydantic", "yaml", "jinja2", "docker", "podman", "anthropic", "runner.cli.check"):
        assert f"'{library}'" not in done.stderr


def test_the_top_level_help_costs_little_more_than_python_itself() -> None:
    def seconds(*args: str) -> float:
        started = time.perf_counter()
        subprocess.run([sys.executable, *args], cwd=ROOT, stdout=subprocess.DEVNULL, timeout=60, check=True)
        return time.perf_counter() - started

    bare = min(seconds("-c", "pass") for _ in range(5))
    asked = min(seconds("-c", "from runner.cli import main; main(['--help'])") for _ in range(5))
    assert asked - bare < 0.2


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_there_and_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    command = COMMANDS[name]
    function = getattr(importlib.import_module(command.module), command.function)
    assert inspect.getdoc(function)
    assert main([*name.split(), "--help"]) == 0
    captured = capsys.readouterr()
    assert f"claw-runner {name}" in captured.out
    assert captured.err == ""


# --- Finding the command ---


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["chek"], "there is no command 'chek'; did you mean 'check'?"),
        (["image", "bild"], "'image' needs a second word: image build, image list"),
        (["image"], "'image' needs a second word: image build, image list"),
        (["--verison"], "there is no option '--verison'; claw-runner --help lists the commands"),
        (["zzz"], "there is no command 'zzz'; claw-runner --help lists the commands"),
        (["init", "--jsn"], "init: No such option: --jsn"),
        (["schema"], "schema: Missing argument"),
        (["schema", "tsk"], "schema: Invalid value for 'format': 'tsk' is not one of 'task', 'policy'"),
        (["check", "x.yaml", "--limits.turns"], "--limits.turns needs a value"),
        (["init", "--limits.turns", "5"], "init: No such option: --limits.turns"),
    ],
)
def test_a_usage_error_says_what_is_near_and_exits_2(
    args: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(args) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(f"claw-runner: {said}")
    assert captured.out == ""


def test_overrides_are_taken_out_of_the_arguments() -> None:
    done = _run("overrides", "a", "--limits.turns", "5", "b", "--x.y_z.w=1 2", "--repo.base", "-c", "--", "--no.t", "c")
    expected = "['a', 'b', '--no.t', 'c'] {'limits.turns': '5', 'x.y_z.w': '1 2', 'repo.base': '-c'}\n"
    assert (done.returncode, done.stdout) == (0, expected)


# --- Exit codes ---


@pytest.mark.parametrize(
    ("command", "code", "said"),
    [
        ("answer", 11, ""),
        ("nothing", 0, ""),
        ("config_error", 2, "claw-runner: a.yaml:1:2: x: is wrong\nclaw-runner: b.yaml:3:4: y: is \\x1b[31mred\n"),
        ("engine_error", 21, "claw-runner: no engine answers\n"),
        ("interrupted", 130, ""),
    ],
)
def test_what_a_command_gives_becomes_an_exit_code(command: str, code: int, said: str) -> None:
    done = _run(command)
    assert (done.returncode, done.stderr) == (code, said)


@pytest.mark.parametrize("command", ["bug", "other_pipe"])
def test_a_bug_exits_70_with_a_traceback(command: str) -> None:
    done = _run(command)
    assert done.returncode == 70
    assert "Traceback" in done.stderr
    assert "claw-runner: BUG: " in done.stderr


# --- Signals and pipes ---


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
def test_a_signal_lets_the_command_clean_up(number: signal.Signals, code: int) -> None:
    process = _start("sleep")
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    out, err = process.communicate("0\n", timeout=60)
    assert (process.returncode, out) == (code, "cleaned up\n")
    assert err == f"claw-runner: cancelled by {number.name}\n"


def test_a_second_signal_waits_for_the_clean_up_and_a_third_does_not() -> None:
    process = _start("sleep")
    assert process.stdout
    assert process.stderr
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    time.sleep(0.3)  # or the two count as one
    process.send_signal(signal.SIGTERM)
    assert process.stderr.readline() == "claw-runner: still cleaning up; once more ends at once\n"
    process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert (process.returncode, out) == (143, "")


def test_signals_that_were_ignored_stay_ignored() -> None:
    script = f"import signal\nsignal.signal(signal.SIGHUP, signal.SIG_IGN)\n{SCRIPT}"
    process = subprocess.Popen(
        [*COMMAND, script, "sleep"],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGHUP)
    time.sleep(0.3)
    assert process.poll() is None
    process.send_signal(signal.SIGTERM)
    process.communicate("0\n", timeout=60)
    assert process.returncode == 143


def test_main_gives_the_signals_back(capsys: pytest.CaptureFixture[str]) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]
    main(["--version"])
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)] == before
    assert capsys.readouterr().out


def test_main_runs_in_any_thread(capsys: pytest.CaptureFixture[str]) -> None:
    codes: list[int] = []
    thread = threading.Thread(target=lambda: codes.append(main(["--version"])))
    thread.start()
    thread.join(60)
    assert codes == [0]
    assert capsys.readouterr().out


def test_a_reader_that_goes_away_is_no_error() -> None:
    process = _start("chatter")
    assert process.stdout
    assert process.stderr
    process.stdout.readline()
    process.stdout.close()
    assert process.wait(60) == 141
    assert process.stderr.read() == ""
    process.stderr.close()
    if process.stdin:
        process.stdin.close()


def test_a_full_disk_under_standard_output_is_a_failure() -> None:
    if not os.path.exists("/dev/full"):  # noqa: PTH110
        pytest.skip("no /dev/full here")
    with open("/dev/full", "w") as full:
        process = _start("chatter", stdout=full)
        _, err = process.communicate(timeout=60)
    assert process.returncode != 0
    assert "No space left" in err


def test_a_terminal_without_unicode_is_no_error() -> None:
    done = subprocess.run(
        [*COMMAND, "import sys; from runner.cli import main; sys.exit(main(['check', 'é.yaml']))"],
        cwd=ROOT,
        env={**os.environ, "PYTHONIOENCODING": "ascii"},
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 2
    assert b"\\xe9.yaml: there is no such file" in done.stderr


def test_a_command_says_where_it_is() -> None:
    assert all(
        isinstance(command, Command) and command.module.startswith("runner.cli.") for command in COMMANDS.values()
    )


def test_closed_streams_are_no_reason_to_fail(tmp_path: Path) -> None:
    program = f"exec {sys.executable} -m runner --version <&- >&- 2>&-"
    assert subprocess.run(["sh", "-c", program], check=False, timeout=60).returncode == 0
    program = f"exec {sys.executable} -m runner status <&- >&- 2>&-"
    assert subprocess.run(["sh", "-c", program], check=False, timeout=60, cwd=tmp_path).returncode == 0
