from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from runner.policy import Call
from runner.policy.contain import Grant
from runner.sandbox.base import REPO
from runner.toolbox import landlock
from runner.tools.base import Session
from runner.tools.bash import Bash

needs_landlock = pytest.mark.skipif(landlock.abi() == 0, reason="this kernel has no Landlock")


def test_output_and_errors_come_together_in_order(run) -> None:
    answer = run("Bash", command="echo one; echo two >&2; echo three")
    assert answer.content == "one\ntwo\nthree"
    assert not answer.is_error
    assert answer.details["exit_code"] == 0


def test_nothing_printed_is_said(run) -> None:
    assert run("Bash", command="true").content == "(no output)"


def test_a_failure_is_an_error_with_its_exit_code_and_output(run) -> None:
    answer = run("Bash", command="echo before; exit 7")
    assert answer.is_error
    assert answer.content == "Exit code 7\nbefore"
    assert answer.details["exit_code"] == 7


def test_the_working_directory_is_kept_between_calls(run, put) -> None:
    put("src/a.txt", "")
    assert run("Bash", command="pwd").content == str(REPO)
    run("Bash", command="cd src")
    assert run("Bash", command="pwd; ls").content == f"{REPO}/src\na.txt"
    run("Bash", command="cd .. && exit 3")
    assert run("Bash", command="pwd").content == str(REPO)


def test_variables_are_not_kept(run) -> None:
    run("Bash", command="export SEEN=yes; cd /tmp")
    assert run("Bash", command="echo ${SEEN:-no}").content == "no"


def test_leaving_a_deleted_directory_behind_is_said_at_once(run) -> None:
    answer = run("Bash", command="mkdir d && cd d && rmdir ../d")
    assert answer.content == "(The next command starts in /workspace/repo.)"
    assert run("Bash", command="pwd").content == str(REPO)


def test_closing_the_way_to_the_directory_is_no_failure_of_the_command(run) -> None:
    answer = run("Bash", command="mkdir -p a/b && cd a/b && chmod 0 .. && echo done")
    assert answer.content == "done\n(The next command starts in /workspace/repo.)"
    assert not answer.is_error
    assert run("Bash", command="chmod 755 a && pwd").content == str(REPO)


def test_a_command_is_not_run_elsewhere_when_its_directory_vanished(run, session: Session) -> None:
    run("Bash", command="mkdir d && cd d")
    session.sandbox.exec("rmdir d")
    answer = run("Bash", command="touch stray")
    assert answer.is_error
    assert answer.content.startswith(f"The command was not run: the working directory {REPO}/d is not there")
    assert session.sandbox.stat(f"{REPO}/stray").kind == "missing"
    assert run("Bash", command="pwd").content == str(REPO)


def test_a_timeout_keeps_what_was_printed_and_ends_the_whole_tree(run, session: Session) -> None:
    answer = run("Bash", command="echo before; (trap '' TERM; sleep 987654) & sleep 987654", timeout=500)
    assert answer.is_error
    assert answer.content.startswith("Timed out: the command and all it started were ended after 0.5 s.\n")
    assert answer.content.endswith("\nbefore")
    assert answer.details["timed_out"] is True
    assert session.sandbox.exec("grep -l '98765[4]' /proc/[0-9]*/cmdline").output == b""


def test_the_time_of_the_job_caps_every_timeout(run, session: Session) -> None:
    session.seconds_left = 0.5
    started = time.monotonic()
    assert run("Bash", command="sleep 60", timeout=600_000).details["timed_out"]
    assert time.monotonic() - started < 30


def test_a_timeout_beyond_the_most_counts_as_the_most(session: Session) -> None:
    for milliseconds, seconds in ((None, 120), (1_500, 1.5), (600_000, 600), (600_001, 600), (10**400, 600)):
        assert Bash(command="true", timeout=milliseconds)._seconds() == seconds


def test_a_signal_is_named(run) -> None:
    answer = run("Bash", command="echo out; kill -SEGV $$")
    assert answer.is_error
    assert answer.content == "Ended by signal SIGSEGV.\nout"
    assert answer.details["signal"] == 11


def test_long_output_keeps_head_and_tail_and_says_what_is_missing(run, tmp_path: Path) -> None:
    answer = run("Bash", command="seq 1 100000")
    assert len(answer.content) < 32_000
    assert answer.content.startswith("1\n2\n3\n")
    assert answer.content.endswith("\n99999\n100000")
    marker = re.search(
        r"\[… ([\d,]+) of 588,895 bytes left out here; the full output is the artifact (\S+) …\]", answer.content
    )
    assert marker
    kept = len(answer.content.encode()) - len(marker[0].encode())
    assert abs(588_895 - int(marker[1].replace(",", "")) - kept) < 10
    assert marker[2] == answer.details["log"]
    assert marker[2] == "logs/0001-bash.log"


def test_output_that_is_no_utf8_is_shown_as_far_as_it_goes(run) -> None:
    assert run("Bash", command=r"printf 'caf\351\n'").content == "caf\ufffd"


def test_a_command_has_no_input(run) -> None:
    assert run("Bash", command="cat; echo done").content == "done"


def test_a_script_of_several_lines_runs_as_it_is(run) -> None:
    script = "for i in 1 2; do\n  echo $i\ndone\ncat <<'X'\n$HOME \"'\nX\n"
    assert run("Bash", command=script).content == "1\n2\n$HOME \"'"


def test_nothing_of_a_finished_call_still_runs(run, session: Session) -> None:
    run("Bash", command="sleep 876543 & disown; setsid sleep 876543 & exit 0")
    assert session.sandbox.exec("grep -l '87654[3]' /proc/[0-9]*/cmdline").output == b""


def test_the_policy_judges_the_command_as_it_is(session: Session) -> None:
    command = "  git status && rm -rf / "
    assert Bash(command=command).calls(session) == (Call(tool="Bash", subject=command),)


def test_a_background_command_is_started_read_and_ended(run) -> None:
    started = run("Bash", command="echo hello; while :; do sleep 0.1; done", run_in_background=True)
    assert not started.is_error
    id = started.details["bash_id"]
    assert repr(id) in started.content
    seen = _wait_for(run, id, "hello")
    assert seen.startswith("Still running.\n")
    assert "(no new output)" in run("BashOutput", bash_id=id).content
    ended = run("KillBash", shell_id=id)
    assert ended.content.startswith(f"Background command {id} has ended.\nEnded by signal ")
    assert run("BashOutput", bash_id=id).details["running"] is False


def test_a_background_command_outlives_its_call_and_reports_its_exit(run) -> None:
    id = run("Bash", command="sleep 0.3; echo late; exit 4", run_in_background=True).details["bash_id"]
    run("Bash", command="true")
    seen = _wait_for(run, id, "Exit code 4")
    assert "late" in seen


def test_an_unknown_id_is_answered_with_the_known_ones(run) -> None:
    assert run("BashOutput", bash_id="9").content == "There is no background command '9': none was started."
    id = run("Bash", command="sleep 60", run_in_background=True).details["bash_id"]
    answer = run("KillBash", shell_id="nope")
    assert answer.is_error
    assert answer.content == f"There is no background command 'nope': the ids are {id}."


def _wait_for(run, id: str, text: str) -> str:
    """All that a background command reported until the text appeared."""
    seen = ""
    deadline = time.monotonic() + 30
    while text not in seen and time.monotonic() < deadline:
        seen += run("BashOutput", bash_id=id).content + "\n"
        time.sleep(0.05)
    assert text in seen
    return seen


HELD = "(Commands may write to src/ alone.)"


def held(session: Session) -> None:
    session.sandbox.exec("mkdir src docs; echo doc >docs/doc")
    granted = [Grant(path=path, access="write") for path in (f"{REPO}/src", "/dev")]
    session.sandbox.confine([Grant(path="/", access="read"), *granted])
    session.confinement = HELD


@needs_landlock
def test_a_command_is_held_to_what_the_policy_grants_and_the_model_told_so(run, session: Session) -> None:
    held(session)
    assert run("Bash", command="echo new >src/new && cat docs/doc").content == "doc"
    answer = run("Bash", command="echo new >docs/doc")
    assert answer.content.endswith(f"Permission denied\n{HELD}")
    assert HELD not in run("Bash", command="echo Permission denied").content
    assert HELD not in run("Bash", command="exit 1").content


@needs_landlock
def test_a_background_command_is_held_too(run, session: Session) -> None:
    held(session)
    id = run("Bash", command="rm docs/doc; sleep 600 & wait; exit 1", run_in_background=True).details["bash_id"]
    said = ""
    deadline = time.monotonic() + 60
    while "denied" not in said and time.monotonic() < deadline:
        said += run("BashOutput", bash_id=id).content
    assert "Permission denied" in said
    run("KillBash", shell_id=id)
    assert session.sandbox.stat(f"{REPO}/docs/doc").kind == "file"


def test_what_is_judged_tells_where_the_command_starts(run, put, session: Session) -> None:
    put("src/a", "")
    run("Bash", command="cd src")
    assert Bash(command="pwd").calls(session) == (Call(tool="Bash", subject="pwd", cwd=f"{REPO}/src"),)
