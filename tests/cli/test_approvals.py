"""`claw-runner approvals`, from another process than the one that asks."""

from __future__ import annotations

import json
import os
import re
import select
import shlex
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from runner.approvals.queue import FOLDER, questions
from runner.cli import main
from runner.sandbox.container import ContainerEngine
from tests.agents.jobs import bash, says
from tests.approvals.terminals import PATIENCE
from tests.approvals.test_queue import until
from tests.repo.repositories import Repository

JOB = "fix-20260504-093000-a1b2"

ASKER = """
import json, sys
from pathlib import Path
from runner.approvals import Ask, open_approver
folder, facts = Path(sys.argv[1]), json.loads(sys.argv[2])
answer = open_approver(folder, terminal=False).ask(Ask(**facts))
print(json.dumps([answer.allowed, answer.scope, answer.by, answer.reason]))
"""

Asker = Callable[..., "subprocess.Popen[str]"]


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs").mkdir()
    return tmp_path / "runs"


@pytest.fixture
def asks(runs: Path) -> Iterator[Asker]:
    """Starts a process that asks, as a job would, and waits until its question is in the queue."""
    started: list[subprocess.Popen[str]] = []

    def start(**more: Any) -> subprocess.Popen[str]:
        facts = {"id": f"{JOB}/1", "call": "Bash(pip install x)", "reason": "no rule allows 'pip install x'"}
        facts |= {"suggestion": "Bash(pip install:*)", "input": '{"command": "pip install x"}', "seconds": PATIENCE}
        facts |= more
        folder = runs / facts["id"].partition("/")[0]
        folder.mkdir(exist_ok=True)
        command = [sys.executable, "-c", ASKER, str(folder), json.dumps(facts)]
        started.append(subprocess.Popen(command, stdout=subprocess.PIPE, text=True))
        until(lambda: any(found.question.id == facts["id"] for found in questions(runs)))
        return started[-1]

    yield start
    for process in started:
        process.kill()
        process.communicate()


def told(process: subprocess.Popen[str]) -> list[Any]:
    """What the process that asked was answered: allowed, scope, by, reason."""
    out, _ = process.communicate(timeout=PATIENCE)
    answer: list[Any] = json.loads(out)
    return answer


def claw_runner(*args: str) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "runner", "approvals", *args]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


Output = pytest.CaptureFixture[str]


# -- answering


def test_a_question_is_answered_from_another_process(asks: Asker) -> None:
    asking = asks()
    out, err = (process := claw_runner("allow", "fix-2026", "--reason", "fine")).communicate(timeout=PATIENCE)
    assert (process.returncode, err) == (0, "")
    assert out == "allowed once: Bash(pip install x)\n"
    assert told(asking)[:2] == [True, "once"]


def test_an_answer_can_be_for_the_whole_job_and_shows_the_rule(asks: Asker, capsys: Output) -> None:
    asking = asks()
    assert main(["approvals", "allow", f"{JOB}/1", "--for-job"]) == 0
    assert "Bash(pip install:*)" in capsys.readouterr().out.splitlines()[1]
    assert told(asking)[:2] == [True, "job"]


def test_a_denial_carries_its_reason_and_who_gave_it(asks: Asker) -> None:
    asking = asks()
    assert main(["approvals", "deny", JOB, "--reason", "use the standard library"]) == 0
    user = Path(f"/proc/{os.getpid()}").owner()
    assert told(asking) == [False, "once", user, "use the standard library"]


def test_of_answers_at_the_same_time_one_counts_and_the_others_are_told(asks: Asker) -> None:
    asking = asks()
    racing = [claw_runner(verb, JOB, "--reason", f"{number}") for number, verb in enumerate(["allow", "deny"] * 2)]
    ends = [(process.communicate(timeout=PATIENCE), process.returncode) for process in racing]
    assert sorted(code for _, code in ends) == [0, 2, 2, 2]
    winner = next(number for number, (_, code) in enumerate(ends) if code == 0)
    assert told(asking)[0::3] == [winner % 2 == 0, f"{winner}"]
    for (_, err), code in ends:
        assert not code or re.search(f"{JOB}/1: (was (allowed|denied) already, by .*|cannot be|is being answered)", err)


# -- too late


def test_a_question_that_expired_cannot_be_answered_any_more(asks: Asker, capsys: Output) -> None:
    assert told(asks(seconds=0.1)) == [False, "once", "timeout", "nobody answered within 0.1 s"]
    assert main(["approvals", "allow", JOB]) == 2
    assert re.fullmatch(
        rf"claw-runner: {JOB}/1: it is too late: nobody had answered by \d\d:\d\d:\d\d UTC, so it was denied\n",
        capsys.readouterr().err,
    )


def test_a_question_of_a_killed_runner_is_gone(asks: Asker, capsys: Output) -> None:
    asking = asks()
    asking.send_signal(signal.SIGKILL)
    asking.communicate(timeout=PATIENCE)
    assert main(["approvals", "list"]) == 0
    assert "gone: its runner has ended" in capsys.readouterr().out
    assert main(["approvals", "allow", JOB]) == 2
    assert capsys.readouterr().err == (f"claw-runner: {JOB}/1: the job is gone: the runner that asked has ended\n")
    assert not list((asking_folder := Path("runs") / JOB / FOLDER).glob("*.answer.json")), asking_folder


def test_a_question_of_an_interrupted_job_is_closed(asks: Asker, capsys: Output) -> None:
    asking = asks()
    asking.send_signal(signal.SIGINT)
    asking.communicate(timeout=PATIENCE)
    assert main(["approvals", "deny", JOB]) == 2
    assert capsys.readouterr().err == f"claw-runner: {JOB}/1: the job has ended\n"


# -- looking


def test_what_waits_is_listed_with_its_command_and_its_time(asks: Asker, capsys: Output) -> None:
    asks()
    asks(id="other-1/4", call="Write(/workspace/repo/" + "x" * 200 + ")")
    assert main(["approvals", "list"]) == 0
    first, command, second, path = capsys.readouterr().out.splitlines()
    assert re.fullmatch(rf"{JOB}/1  asked .* ago, .* left", first)
    assert command == "    Bash(pip install x)"
    assert second.startswith("other-1/4  asked ")
    assert path.endswith("…")
    assert max(map(len, (first, command, second, path))) <= 80


def test_the_list_as_json_has_all_of_it(asks: Asker, capsys: Output) -> None:
    asks()
    assert main(["approvals", "list", "--json"]) == 0
    (listed,) = json.loads(capsys.readouterr().out)
    assert (listed["id"], listed["job"], listed["state"], listed["answer"]) == (f"{JOB}/1", JOB, "waiting", None)
    assert listed["call"] == "Bash(pip install x)"
    assert "token" not in listed


def test_what_was_answered_is_not_listed_and_can_be_shown(asks: Asker, capsys: Output) -> None:
    asking = asks()
    main(["approvals", "deny", JOB, "--reason", "no"])
    told(asking)
    capsys.readouterr()
    assert main(["approvals", "list"]) == 0
    assert capsys.readouterr().out == "nothing is asked\n"
    assert main(["approvals", "show", JOB]) == 0
    assert re.search("answer   denied by .*: no\n", capsys.readouterr().out)


def test_a_question_is_shown_whole(asks: Asker, capsys: Output) -> None:
    script = "true # a comment\nrm -rf src\n" + "echo x\n" * 100
    asks(call=f"Bash({script})", input=json.dumps({"command": script}), rule="Bash(rm:*)", where="policy.yaml:7")
    assert main(["approvals", "show", f"{JOB}/1"]) == 0
    shown = capsys.readouterr().out
    assert "   | Bash(true # a comment\n   | rm -rf src\n" in shown
    assert shown.count("   | echo x\n") == 200
    assert "rule     Bash(rm:*) (policy.yaml:7)\n" in shown
    assert "always   Bash(pip install:*)\n" in shown


def test_nothing_in_a_question_acts_on_the_terminal(asks: Asker, capsys: Output) -> None:
    hostile = "\x1b[31mred\x1b]0;title\x07\u202e\u200b\x9b2J"
    texts = dict.fromkeys(("call", "reason", "rule", "where", "suggestion"), hostile)
    asks(**texts, input=json.dumps({hostile: hostile}))
    for command in ("list", "show", "deny"):
        assert main(["approvals", command, *([JOB] if command != "list" else [])]) == 0
    assert not set(capsys.readouterr().out) & set("\x1b\x07\u202e\u200b\x9b")


def test_files_that_are_no_questions_do_not_matter(asks: Asker, runs: Path, capsys: Output) -> None:
    asks()
    queue = runs / JOB / FOLDER
    for name, data in (("2.json", b"{"), ("3.json", b"\xff\x00"), ("notes.txt", b"x"), ("4.answer.json", b"{}")):
        (queue / name).write_bytes(data)
    (queue / "5.json").symlink_to("/dev/zero")
    (queue / "6.json").mkdir()
    assert main(["approvals", "list"]) == 0
    assert len(capsys.readouterr().out.splitlines()) == 2


@pytest.mark.parametrize("command", ["show", "allow", "deny"])
def test_an_unknown_question_is_a_usage_error_that_names_what_waits(asks: Asker, command: str, capsys: Output) -> None:
    assert main(["approvals", command, "nothing"]) == 2
    assert capsys.readouterr().err == "claw-runner: there is no question 'nothing' in runs/; none waits\n"
    asks()
    assert main(["approvals", command, "nothing"]) == 2
    assert capsys.readouterr().err.endswith(f"; waiting: {JOB}/1\n")


def test_another_folder_of_jobs_can_be_named(asks: Asker, runs: Path, capsys: Output) -> None:
    asking = asks()
    runs.rename(runs.parent / "elsewhere")
    assert main(["approvals", "list"]) == 0
    assert capsys.readouterr().out == "nothing is asked\n"
    assert main(["approvals", "list", "--runs", "elsewhere"]) == 0
    assert JOB in capsys.readouterr().out
    asking.kill()


def test_a_reason_has_a_length(asks: Asker, capsys: Output) -> None:
    asks()
    assert main(["approvals", "deny", JOB, "--reason", "x" * 4_001]) == 2
    assert "--reason: must be at most 4,000 characters (got 4,001)" in capsys.readouterr().err


# -- a whole job


@pytest.fixture
def job(tmp_path: Path, base_image: Any, toolbox_volume: str, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with a repository, a task whose agent writes a file, and a policy that asks about it."""
    monkeypatch.chdir(tmp_path)
    repository = Repository(tmp_path / "repo")
    repository.write("code.txt", "broken\n")
    repository.commit("first")
    turns = [turn.model_dump(mode="json", exclude_defaults=True) for turn in (bash("echo x > code.txt"), says("Done."))]
    small = {"memory": "256m", "disk": "64m", "tmp": "16m", "inodes": 10_000}
    files = {
        "script": {"version": 1, "model": "claude-sonnet-4-6", "turns": turns},
        "policy": {"version": 1, "mode": "blacklist", "ask": ["Bash(echo:*)"], "container": small},
        "task": {
            "version": 1,
            "name": "fix",
            "prompt": "Fix code.txt.",
            "repo": {"url": "repo", "base": "main"},
            "model": "scripted:script.yaml",
        },
    }
    for name, content in files.items():
        (tmp_path / f"{name}.yaml").write_text(yaml.safe_dump(content))
    return tmp_path


def _result(folder: Path) -> dict[str, Any]:
    (path,) = folder.glob("runs/*/result.json")
    result: dict[str, Any] = json.loads(path.read_text())
    return result


@pytest.mark.engine
def test_a_headless_job_waits_in_the_queue_and_goes_on_with_the_answer(job: Path, engine: ContainerEngine) -> None:
    command = [sys.executable, "-m", "runner", "run", "task.yaml", "--policy", "policy.yaml", "--engine", engine.name]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        shown = ""
        while "approvals allow" not in shown:
            shown += (line := process.stderr.readline())
            assert line, shown
        answering = shlex.split(shown.splitlines()[-1])
        assert answering[0] == "claw-runner"
        if main(answering[1:]) != 0:
            process.terminate()
        shown += process.stderr.read()
    assert process.returncode == 0, shown
    result = _result(job)
    assert (result["outcome"], result["diff"]["paths"]) == ("changed", ["code.txt"])
    assert (result["approvals"]["asked"], result["approvals"]["allowed"]) == (1, 1)
    assert result["approvals"]["questions"][0]["call"] == "Bash(echo x > code.txt)"
    kept = [artifact["path"] for artifact in result["artifacts"] if artifact["path"].startswith("approvals/")]
    assert kept == ["approvals/1.answer.json", "approvals/1.json"]


@pytest.mark.engine
def test_a_job_at_a_terminal_asks_there(job: Path, engine: ContainerEngine) -> None:
    master, slave = os.openpty()
    command = [sys.executable, "-m", "runner", "run", "task.yaml", "--policy", "policy.yaml", "--engine", engine.name]
    shown, answered = "", False
    with subprocess.Popen(
        command, stdin=slave, stdout=subprocess.DEVNULL, stderr=slave, start_new_session=True
    ) as process:
        os.close(slave)
        while select.select([master], [], [], 2 * PATIENCE)[0]:
            try:
                shown += os.read(master, 65_536).decode()
            except OSError:
                break  # nobody has it open any more
            if not answered and shown.endswith("\n> "):
                os.write(master, b"d not today\n")
                answered = True
        os.close(master)  # which ends a process that still reads it
    assert process.returncode == 12, shown
    assert "| Bash(echo x > code.txt)" in shown
    result = _result(job)
    assert result["outcome"] == "denied"
    assert result["reason"].endswith("terminal denied it: not today")
    assert not list(job.glob("runs/*/approvals"))
