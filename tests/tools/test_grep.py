from __future__ import annotations

import pytest

from runner.policy import Call
from runner.policy.contain import Grant
from runner.sandbox.base import REPO
from runner.toolbox import landlock
from runner.tools.base import Session
from runner.tools.grep import MAX_CHARS, Grep


@pytest.fixture
def tree(put) -> None:
    put("a.py", "import os\n\ndef find(x):\n    return x\n")
    put("sub/b.py", "find = 1\nFIND = 2\nfind(find)\n")
    put("c.txt", "find me\n")


@pytest.mark.usefixtures("tree")
class TestModes:
    def test_files_are_listed_when_nothing_else_is_asked(self, run) -> None:
        assert run("Grep", pattern="find").content.split("\n") == [
            f"{REPO}/a.py",
            f"{REPO}/c.txt",
            f"{REPO}/sub/b.py",
        ]

    def test_content_shows_numbered_lines(self, run) -> None:
        answer = run("Grep", pattern="^find", output_mode="content")
        assert answer.content.split("\n") == [
            f"{REPO}/c.txt:1:find me",
            f"{REPO}/sub/b.py:1:find = 1",
            f"{REPO}/sub/b.py:3:find(find)",
        ]

    def test_numbers_may_be_left_out(self, run) -> None:
        answer = run("Grep", pattern="me$", output_mode="content", **{"-n": False})
        assert answer.content == f"{REPO}/c.txt:find me"

    def test_count_counts_lines_per_file(self, run) -> None:
        answer = run("Grep", pattern="find", output_mode="count", path="sub")
        assert answer.content == f"{REPO}/sub/b.py:2"

    def test_context_is_shown_around_matches(self, run) -> None:
        expected = [f"{REPO}/a.py:2-", f"{REPO}/a.py:3:def find(x):", f"{REPO}/a.py:4-    return x"]
        for context in ({"-C": 1}, {"-A": 1, "-B": 1}):
            answer = run("Grep", pattern="def", output_mode="content", path="a.py", **context)
            assert [line.replace("py:2-", "py:2-") for line in answer.content.split("\n")] == expected

    def test_case_can_be_ignored(self, run) -> None:
        assert run("Grep", pattern="IMPORT").content == "No matches found."
        assert run("Grep", pattern="IMPORT", **{"-i": True}).content == f"{REPO}/a.py"

    def test_glob_and_type_choose_files(self, run) -> None:
        assert run("Grep", pattern="find", glob="*.txt").content == f"{REPO}/c.txt"
        assert run("Grep", pattern="find", glob="sub/**").content == f"{REPO}/sub/b.py"
        assert run("Grep", pattern="find me", type="py").content == "No matches found."

    def test_a_match_may_span_lines_when_asked(self, run) -> None:
        assert run("Grep", pattern="import.*def").content == "No matches found."
        assert run("Grep", pattern="import.*def", multiline=True).content == f"{REPO}/a.py"

    def test_head_limit_cuts_and_says_so(self, run) -> None:
        answer = run("Grep", pattern="find", head_limit=1)
        assert answer.content.split("\n") == [
            f"{REPO}/a.py",
            "(only the first 1 results are shown; narrow the search, or raise head_limit)",
        ]

    def test_a_single_file_may_be_searched(self, run) -> None:
        assert run("Grep", pattern="me", path="c.txt", output_mode="content").content == f"{REPO}/c.txt:1:find me"


def test_no_match_is_no_error(run) -> None:
    answer = run("Grep", pattern="nothing")
    assert answer.content == "No matches found."
    assert not answer.is_error


def test_a_bad_expression_is_explained(run) -> None:
    answer = run("Grep", pattern="(unclosed")
    assert answer.is_error
    assert "unclosed group" in answer.content


def test_an_unknown_type_is_explained(run) -> None:
    answer = run("Grep", pattern="a", type="klingon")
    assert answer.is_error
    assert "unrecognized file type: klingon" in answer.content


@pytest.mark.parametrize("text", ["-e", "--pre=/bin/sh", "--help", "--", "-"])
def test_values_that_look_like_options_are_values(run, put, text: str) -> None:
    put("a.txt", f"x{text}y\n")
    assert run("Grep", pattern=text).content == f"{REPO}/a.txt"
    assert run("Grep", pattern="x", glob=text).content == "No matches found."
    assert run("Grep", pattern="x", type=text).is_error
    assert run("Grep", pattern="x", path=text).content.startswith(f"{REPO}/{text} does not exist.")


def test_no_argument_can_make_ripgrep_run_a_program(run, put) -> None:
    put("a.txt", "x\n")
    for value in ("--pre=touch", "--pre", "--hostname-bin=touch", "--search-zip"):
        arguments = Grep(pattern=value, glob=value, type=value, path=value)._arguments(value)
        at = [index for index, argument in enumerate(arguments) if argument == value]
        assert [arguments[index - 1] for index in at] == ["-e", "--"]


def test_a_configuration_in_the_sandbox_is_not_read(run, put) -> None:
    put("a.txt", "x\n")
    put(".ripgreprc", "--invert-match\n")
    run("Bash", command="cp .ripgreprc ~/.ripgreprc")
    assert run("Grep", pattern="nothing").content == "No matches found."


def test_gitignored_files_and_git_itself_are_left_out_but_dot_files_are_not(run, put) -> None:
    put(".git/config", "needle\n")
    put(".gitignore", "ignored/\n")
    put("ignored/a.txt", "needle\n")
    put(".github/ci.yml", "needle\n")
    assert run("Grep", pattern="needle").content == f"{REPO}/.github/ci.yml"
    assert run("Grep", pattern="needle", glob="**/config").content == "No matches found."


def test_binary_files_do_not_flood_the_answer(run, put) -> None:
    put("a.bin", b"needle\0" + b"\xff" * 1000)
    put("a.txt", "needle\n")
    assert run("Grep", pattern="needle", output_mode="content").content == f"{REPO}/a.txt:1:needle"


def test_long_lines_and_many_matches_are_bounded(run, put) -> None:
    put("min.js", "needle " * 100_000 + "\n")
    put("many.txt", ("needle " + "x" * 900 + "\n") * 3000)
    answer = run("Grep", pattern="needle", output_mode="content", head_limit=100_000)
    assert len(answer.content) < MAX_CHARS + 2_000
    assert "are shown; narrow the search" in answer.content


def test_matches_in_files_that_the_policy_hides_are_left_out_and_counted(run, put, session: Session) -> None:
    put(".env", "TOKEN=1\n")
    put("a.py", "TOKEN=2\n")
    session.permits = lambda call: not call.subject.endswith("/.env")
    for mode in ("content", "files_with_matches", "count"):
        answer = run("Grep", pattern="TOKEN", output_mode=mode, **{"-C": 2})
        assert answer.content.startswith(f"{REPO}/a.py")
        assert ".env" not in answer.content
        assert "TOKEN=1" not in answer.content
        assert answer.content.endswith("(matches in 1 files that the policy does not let you read were left out)")


@pytest.mark.parametrize("name", ["new\nline.txt", "col:1:on.txt", "dash-2-.txt"])
def test_odd_names_do_not_get_past_the_policy(run, session: Session, name: str) -> None:
    folder = "secret" + name
    session.sandbox.exec(["sh", "-c", 'mkdir "$1" && echo needle > "$1/a.txt"', "sh", folder], program="argv")
    session.permits = lambda call: "secret" not in call.subject
    for mode in ("content", "files_with_matches", "count"):
        assert f"{REPO}" not in run("Grep", pattern="needle", output_mode=mode).content


def test_links_are_not_followed(run, put) -> None:
    put("a.txt", "needle\n")
    run("Bash", command="ln -s /etc etc; ln -s a.txt b.txt")
    assert run("Grep", pattern="needle|root:").content == f"{REPO}/a.txt"


def test_the_place_is_what_the_policy_judges(session: Session) -> None:
    assert Grep(pattern="x").calls(session) == (Call(tool="Grep", subject=str(REPO)),)
    assert Grep(pattern="x", path="/etc/").calls(session) == (Call(tool="Grep", subject="/etc"),)


def test_what_the_jobs_user_may_not_read_is_counted_and_no_failure(run, put, session: Session) -> None:
    put("a.txt", "needle\n")
    session.sandbox.exec("echo needle >closed; mkdir keys; chmod 0 closed keys")
    assert run("Grep", pattern="needle").content == f"{REPO}/a.txt\n(2 paths could not be read)"
    answer = run("Grep", pattern="nothing")
    assert (answer.content, answer.is_error) == ("No matches found.\n(2 paths could not be read)", False)


@pytest.mark.skipif(landlock.abi() == 0, reason="this kernel has no Landlock")
def test_a_search_is_held_to_what_commands_may_read(run, put, session: Session) -> None:
    put("a.txt", "needle\n")
    session.sandbox.exec("mkdir /workspace/keys; echo needle >/workspace/keys/id")
    session.sandbox.confine(
        [Grant(path="/", access="read", without=("/workspace/keys",)), Grant(path="/dev", access="write")]
    )
    assert run("Grep", pattern="needle", path="/workspace").content == f"{REPO}/a.txt\n(1 paths could not be read)"
