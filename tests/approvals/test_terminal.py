"""Asking at a terminal: nothing is allowed but by an answer that was typed to the question."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import sys
from collections.abc import Iterator

import pytest
import yaml

from runner.approvals import Answer
from tests.approvals.terminals import PATIENCE, Person, question, somebody
from tests.report.sample import HOSTILE


@pytest.fixture
def person() -> Iterator[Person]:
    with somebody() as person:
        yield person


def _answer(person: Person, typed: str, **more: object) -> Answer:
    answer = person.asked(question(**more))
    person.sees("\n> ")
    person.types(typed)
    return answer()


@pytest.mark.parametrize(
    ("typed", "allowed", "scope"),
    [
        ("o\n", True, "once"),
        ("once\n", True, "once"),
        (" O \n", True, "once"),
        ("j\n", True, "job"),
        ("a\n", True, "job"),
        ("d\n", False, "once"),
        ("n\n", False, "once"),
    ],
)
def test_each_choice_means_what_it_says(person: Person, typed: str, allowed: bool, scope: str) -> None:
    answer = _answer(person, typed)
    assert (answer.allowed, answer.scope, answer.by) == (allowed, scope, "terminal")


def test_a_denial_may_carry_a_reason(person: Person) -> None:
    assert _answer(person, "d use the  standard library\n").reason == "use the standard library"


def test_the_call_and_why_it_is_asked_are_shown(person: Person) -> None:
    _answer(person, "d\n", where="policy.yaml:7")
    assert "   | Bash(pip install x)\n" in person.seen
    assert "no rule allows 'pip install x' (policy.yaml:7)" in person.seen


def test_always_prints_a_rule_that_can_be_pasted(person: Person) -> None:
    _answer(person, "a\n")
    person.sees('- "Bash(pip install:*)"')
    pasted = person.seen[person.seen.index("allow:\n") :]
    assert yaml.safe_load(pasted) == {"allow": ["Bash(pip install:*)"]}


@pytest.mark.parametrize("rule", [None, "Bash(pip\u200b install:*)", "Bash(a\nb)"])
def test_always_is_not_offered_without_a_rule_whose_every_character_is_seen(person: Person, rule: str | None) -> None:
    answer = person.asked(question(suggestion=rule))
    person.sees("\n> ")
    assert "[a]lways" not in person.seen
    person.types("a\n")
    person.sees("Please answer with one of o, j, d.")
    person.types("d\n")
    assert not answer().allowed


@pytest.mark.parametrize("typed", ["\n", "y\n", "yes\n", "sure\n", "ooo\n", "o or d?\n", "always never\n"])
def test_what_is_no_choice_allows_nothing_and_is_asked_again(person: Person, typed: str) -> None:
    answer = person.asked(question())
    person.sees("\n> ")
    person.types(typed)
    person.sees("Please answer with one of o, j, a, d.")
    person.types("d\n")
    assert not answer().allowed


def test_all_arguments_can_be_viewed_before_the_answer(person: Person) -> None:
    answer = person.asked(question(call="Write(/workspace/repo/a.sh)", input='{"content": "line 1\\nrm -rf /\\n"}'))
    person.sees("\n> ")
    assert "rm -rf" not in person.seen
    person.types("v\n")
    person.sees("   content:\n   | line 1\n   | rm -rf /\n")
    person.types("d\n")
    assert not answer().allowed


def test_what_was_typed_before_the_question_is_not_its_answer(person: Person) -> None:
    person.types("o\no\n")
    assert select.select([person.keyboard], [], [], PATIENCE)[0]
    answer = person.asked(question())
    person.sees("\n> ")
    person.types("d not that\n")
    assert answer() == Answer(allowed=False, scope="once", by="terminal", reason="not that")


def test_nobody_there_is_a_denial_when_the_time_is_over(person: Person) -> None:
    answer = person.asked(question(seconds=0.2))
    person.sees("Time is over: denied.")
    assert answer() == Answer(allowed=False, scope="once", by="timeout", reason="nobody answered within 0.2 s")


def test_half_an_answer_is_none(person: Person) -> None:
    answer = person.asked(question(seconds=2))
    person.sees("\n> ")
    person.types("o")
    assert (answer().allowed, answer().by) == (False, "timeout")


def test_the_end_of_input_is_a_denial(person: Person) -> None:
    assert _answer(person, "\x04") == Answer(allowed=False, scope="once", by="terminal", reason="the input ended")


def test_a_terminal_that_goes_away_is_a_denial(person: Person) -> None:
    answer = person.asked(question())
    person.sees("\n> ")
    person.hangs_up()
    assert (answer().allowed, answer().by) == (False, "terminal")


def test_lines_of_others_wait_until_the_question_is_answered(person: Person) -> None:
    answer = person.asked(question())
    person.sees("\n> ")
    person.screen.say("refused  evil.example:443")
    person.types("o\n")
    answer()
    person.screen.say("turn 2")
    person.sees("turn 2")
    assert person.seen.endswith("> o\nAllowed once.\nrefused  evil.example:443\nturn 2\n")


def test_of_very_many_lines_that_wait_the_last_are_kept(person: Person) -> None:
    answer = person.asked(question())
    person.sees("\n> ")
    for number in range(5_000):
        person.screen.say(f"line {number};")
    person.types("o\n")
    person.sees("line 4999;")
    answer()
    assert "line 0;" not in person.seen


def test_two_questions_are_asked_one_after_the_other(person: Person) -> None:
    first = person.asked(question(call="Bash(first)"))
    person.sees("\n> ")
    second = person.asked(question(call="Bash(second)"))
    person.types("o\n")
    assert first().allowed
    person.sees("\n> ", times=2)
    assert person.seen.index("Allowed once.") < person.seen.index("Bash(second)")
    person.types("d\n")
    assert not second().allowed


def test_a_question_that_is_not_put_in_time_is_denied(person: Person) -> None:
    first = person.asked(question())
    person.sees("\n> ")
    assert person.asked(question(call="Bash(second)", seconds=0.2))().by == "timeout"
    assert "Bash(second)" not in person.seen
    person.types("d\n")
    first()


@pytest.mark.parametrize("hostile", HOSTILE)
def test_nothing_in_a_question_acts_on_the_terminal(person: Person, hostile: str) -> None:
    texts = dict.fromkeys(("id", "call", "reason", "rule", "where", "suggestion"), hostile)
    answer = person.asked(question(**texts))
    person.sees("\n> ")
    person.types("v\n")
    person.sees("\n> ", times=2)
    person.types("d\n")
    answer()
    assert not set(person.seen) & set("\x1b\x9b\x07\x08\x00\x7f\u202e\u2066\u200b")


def test_a_command_cannot_hide_in_what_a_terminal_would_swallow(person: Person) -> None:
    _answer(person, "d\n", call="Bash(true \x1b]0; ; rm -rf src ; \x07)")
    assert "   | Bash(true ␛]0; ; rm -rf src ; ␇)\n" in person.seen


def test_the_lines_of_a_script_stay_lines(person: Person) -> None:
    """On one line a comment would seem to swallow what follows it."""
    _answer(person, "d\n", call="Bash(true # harmless\nrm -rf src)")
    assert "   | Bash(true # harmless\n   | rm -rf src)\n" in person.seen


def test_of_a_long_call_both_ends_are_shown_and_what_is_not_is_said(person: Person) -> None:
    lines = [f"echo {number}" for number in range(2_000)]
    _answer(person, "d\n", call="\n".join(["Bash(first", *lines, "last)"]))
    assert "   | Bash(first\n" in person.seen
    assert "   | last)\n" in person.seen
    assert "[… 1,972 lines not shown: v shows all …]" in person.seen
    assert len(person.seen) < 4_000


BACKGROUND = """
import fcntl, os, sys, termios
fcntl.ioctl(0, termios.TIOCSCTTY, 0)
from runner.approvals import Screen, TerminalApprover
from tests.approvals.terminals import question
job = os.fork()
if job:
    _, status = os.waitpid(job, os.WUNTRACED)
    print("stopped" if os.WIFSTOPPED(status) else "ended", flush=True)
    sys.exit()
os.setpgid(0, 0)  # as a shell does for `claw-runner run … &`
answer = TerminalApprover(sys.stdin, Screen(sys.stdout)).ask(question(seconds=1))
print(f"{answer.allowed} {answer.by}", flush=True)
"""


def test_a_job_in_the_background_is_not_stopped_by_its_own_question() -> None:
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [sys.executable, "-c", BACKGROUND], stdin=slave, stdout=slave, stderr=slave, start_new_session=True
    )
    os.close(slave)
    seen = b""
    while select.select([master], [], [], PATIENCE)[0]:
        try:
            part = os.read(master, 65_536)
        except OSError:
            break  # nobody has it open any more
        seen += part
    process.wait(PATIENCE)
    os.close(master)
    assert seen.split()[-3:] == [b"False", b"timeout", b"ended"], seen.decode()
