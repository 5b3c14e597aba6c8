from __future__ import annotations

import pytest

from runner.policy import Call
from runner.sandbox.base import REPO
from runner.tools.base import Session
from runner.tools.read import MAX_CHARS, MAX_FILE_BYTES, Read


def test_lines_are_numbered_as_in_cat_n(run, put) -> None:
    path = put("a.txt", "one\n\n  three\n")
    answer = run("Read", file_path=path)
    assert answer.content == "     1\tone\n     2\t\n     3\t  three"
    assert not answer.is_error


def test_a_relative_path_starts_at_the_repository(run, put) -> None:
    put("src/a.txt", "here\n")
    assert run("Read", file_path="src/a.txt").content == "     1\there"
    assert run("Read", file_path="./src/../src//a.txt").content == "     1\there"


def test_offset_and_limit_choose_lines_and_the_rest_is_announced(run, put) -> None:
    path = put("a.txt", "".join(f"line {n}\n" for n in range(1, 11)))
    answer = run("Read", file_path=path, offset=3, limit=2)
    assert answer.content == "     3\tline 3\n     4\tline 4\n(lines 3-4 of 10; go on with offset=5)"
    assert run("Read", file_path=path, offset=9).content == "     9\tline 9\n    10\tline 10"


def test_the_announced_offset_leads_on_without_gap(run, put) -> None:
    path = put("a.txt", "".join(f"line {n}\n" for n in range(1, 4002)))
    first = run("Read", file_path=path)
    assert first.content.endswith("  2000\tline 2000\n(lines 1-2000 of 4001; go on with offset=2001)")
    assert run("Read", file_path=path, offset=2001).content.startswith("  2001\tline 2001\n")


def test_a_long_line_is_cut_and_says_so(run, put) -> None:
    path = put("a.txt", "x" * 2500 + "\nshort\n")
    lines = run("Read", file_path=path).content.split("\n")
    assert lines[0] == "     1\t" + "x" * 2000 + "… (line cut: it has 2,500 characters)"
    assert lines[1] == "     2\tshort"


def test_an_answer_is_bounded_and_says_how_to_go_on(run, put) -> None:
    path = put("a.txt", ("y" * 1999 + "\n") * 1000)
    answer = run("Read", file_path=path)
    assert len(answer.content) < MAX_CHARS + 200
    last = answer.details["last"]
    assert answer.content.endswith(f"(lines 1-{last} of 1000; go on with offset={last + 1})")


def test_an_offset_behind_the_end_says_how_long_the_file_is(run, put) -> None:
    answer = run("Read", file_path=put("a.txt", "one\ntwo"), offset=3)
    assert answer.is_error
    assert answer.content == "There is no line 3: the file has 2 lines."


def test_an_empty_file_is_told_from_a_missing_one(run, put) -> None:
    answer = run("Read", file_path=put("a.txt", ""))
    assert answer.content == "(The file exists, but it is empty.)"
    assert not answer.is_error


def test_only_line_feeds_end_lines(run, put) -> None:
    path = put("a.txt", "a\x0cb\u2028c\r\nd\r\n")
    assert run("Read", file_path=path).content == "     1\ta\x0cb\u2028c\n     2\td"


def test_a_byte_order_mark_is_not_shown(run, put) -> None:
    assert run("Read", file_path=put("a.txt", b"\xef\xbb\xbfone\n")).content == "     1\tone"


def test_bytes_that_are_not_utf8_are_replaced_and_said(run, put) -> None:
    answer = run("Read", file_path=put("a.txt", b"caf\xe9\n"))
    assert answer.content.startswith("     1\tcaf\ufffd\n(the file is not valid UTF-8;")
    said = run("Read", file_path=put("b.txt", "a real \ufffd\n"))
    assert said.content == "     1\ta real \ufffd"


def test_a_binary_file_is_refused(run, put) -> None:
    answer = run("Read", file_path=put("a.bin", b"ELF\0\1\2"))
    assert answer.is_error
    assert "is a binary file of 6 bytes" in answer.content


def test_a_file_that_is_too_big_is_refused_with_a_way_out(run, session: Session) -> None:
    session.sandbox.exec(f"truncate -s {MAX_FILE_BYTES + 1} big.txt")
    answer = run("Read", file_path="big.txt")
    assert answer.is_error
    assert "10,000,001 bytes" in answer.content
    assert "Grep" in answer.content


def test_a_folder_is_refused_with_a_way_out(run, put) -> None:
    put("src/a.txt", "")
    answer = run("Read", file_path="src")
    assert answer.is_error
    assert f"{REPO}/src is a directory" in answer.content


def test_a_missing_file_is_answered_with_similar_names(run, put) -> None:
    put("src/parser.py", "")
    put("docs/guide.md", "")
    assert run("Read", file_path="src/parsr.py").content == (
        f"{REPO}/src/parsr.py does not exist. Did you mean: {REPO}/src/parser.py?"
    )
    assert run("Read", file_path="wrong/guide.md").content == (
        f"{REPO}/wrong/guide.md does not exist. Did you mean: {REPO}/docs/guide.md?"
    )
    assert run("Read", file_path="zzzzzz").content == f"{REPO}/zzzzzz does not exist."


def test_names_that_the_policy_hides_are_not_offered(run, put, session: Session) -> None:
    put("secret.py", "")
    session.permits = lambda call: "secret" not in call.subject
    assert run("Read", file_path="secrt.py").content == f"{REPO}/secrt.py does not exist."


def test_a_path_below_a_file_is_an_error_of_its_own(run, put) -> None:
    put("a.txt", "one\n")
    assert run("Read", file_path="a.txt/b").is_error


@pytest.mark.parametrize("kind", ["mkfifo it", "ln -s nowhere it"])
def test_what_is_no_file_is_refused_at_once(run, session: Session, kind: str) -> None:
    session.sandbox.exec(kind)
    answer = run("Read", file_path="it")
    assert answer.is_error


def test_a_link_is_judged_by_its_target_as_well(session: Session) -> None:
    session.sandbox.exec("ln -s /etc/passwd link")
    calls = Read(file_path="link").calls(session)
    assert calls == (Call(tool="Read", subject=f"{REPO}/link"), Call(tool="Read", subject="/etc/passwd"))


def test_a_link_that_changes_after_it_was_judged_is_not_followed(session: Session, put) -> None:
    put("harmless.txt", "harmless\n")
    session.sandbox.exec("ln -s harmless.txt link")
    read = Read(file_path="link")
    calls = read.calls(session)
    session.sandbox.exec("ln -sf /etc/passwd link")
    assert read.run(session, calls).content == "     1\tharmless"


def test_doubled_slashes_and_dots_do_not_hide_a_path_from_the_policy(session: Session) -> None:
    for path in ("//etc/passwd", "/etc/./passwd", "../../etc/passwd", "/workspace/../etc/passwd"):
        assert {call.subject for call in Read(file_path=path).calls(session)} == {"/etc/passwd"}
