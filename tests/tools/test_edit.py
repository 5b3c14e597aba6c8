from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.sandbox.base import REPO
from runner.tools.edit import find


def test_the_one_match_is_replaced_and_shown_with_its_surroundings(run, put, get) -> None:
    put("a.py", "".join(f"line {n}\n" for n in range(1, 21)))
    answer = run("Edit", file_path="a.py", old_string="line 10\n", new_string="ten\nand a half\n")
    assert get("a.py").decode().splitlines()[8:12] == ["line 9", "ten", "and a half", "line 11"]
    assert answer.content.startswith(f"Edited {REPO}/a.py. Now it reads:\n     6\tline 6\n")
    assert "\n    10\tten\n    11\tand a half\n    12\tline 11\n" in answer.content
    assert "line 20" not in answer.content


def test_several_matches_are_refused_with_their_number_and_lines(run, put, get) -> None:
    put("a.py", "x = 1\ny = 2\nx = 1\n")
    answer = run("Edit", file_path="a.py", old_string="x = 1", new_string="x = 3")
    assert answer.is_error
    assert "occurs 2 times" in answer.content
    assert "(lines 1, 3)" in answer.content
    assert get("a.py") == b"x = 1\ny = 2\nx = 1\n"


def test_very_many_matches_are_counted_no_further_than_makes_sense(run, put, get) -> None:
    put("a.txt", "a" * 3000)
    answer = run("Edit", file_path="a.txt", old_string="a", new_string="b")
    assert "occurs 1000 or more times" in answer.content
    assert not run("Edit", file_path="a.txt", old_string="a", new_string="b", replace_all=True).is_error
    assert get("a.txt") == b"b" * 3000


def test_overlapping_matches_are_not_unique(run, put) -> None:
    put("a.txt", "aaa\n")
    answer = run("Edit", file_path="a.txt", old_string="aa", new_string="b")
    assert answer.is_error
    assert "occurs 2 times" in answer.content


def test_replace_all_replaces_all(run, put, get) -> None:
    put("a.py", "x = 1\ny = 2\nx = 1\n")
    answer = run("Edit", file_path="a.py", old_string="x = 1", new_string="x = 3", replace_all=True)
    assert get("a.py") == b"x = 3\ny = 2\nx = 3\n"
    assert "(2 places)" in answer.content


def test_text_that_is_not_there_is_said(run, put, get) -> None:
    put("a.py", "x = 1\n")
    answer = run("Edit", file_path="a.py", old_string="z = 1", new_string="")
    assert answer.is_error
    assert f"was not found in {REPO}/a.py" in answer.content
    assert get("a.py") == b"x = 1\n"


def test_wrong_white_space_is_pointed_out_with_the_true_text(run, put) -> None:
    put("a.py", "def f():\n\tif x:\n\t\treturn  1\n")
    answer = run("Edit", file_path="a.py", old_string="    if x:\n        return 1\n", new_string="")
    assert answer.is_error
    assert "matches from line 2 on if white space is ignored" in answer.content
    assert answer.content.endswith("     2\t\tif x:\n     3\t\t\treturn  1")


def test_pasted_line_numbers_are_pointed_out(run, put) -> None:
    put("a.py", "x = 1\ny = 2\n")
    answer = run("Edit", file_path="a.py", old_string="     1\tx = 1\n     2\ty = 2", new_string="")
    assert answer.is_error
    assert "begins with line numbers" in answer.content


def test_a_file_may_hold_numbers_and_tabs_itself(run, put, get) -> None:
    put("a.tsv", "1\tone\n2\ttwo\n")
    assert not run("Edit", file_path="a.tsv", old_string="2\ttwo", new_string="2\tzwei").is_error
    assert get("a.tsv") == b"1\tone\n2\tzwei\n"


def test_crlf_lines_match_what_read_shows_and_stay_crlf(run, put, get) -> None:
    put("a.txt", "one\r\ntwo\r\nthree\r\n")
    assert not run("Edit", file_path="a.txt", old_string="one\ntwo\n", new_string="1\n2\n2b\n").is_error
    assert get("a.txt") == b"1\r\n2\r\n2b\r\nthree\r\n"
    assert not run("Edit", file_path="a.txt", old_string="three", new_string="3\n4").is_error
    assert get("a.txt") == b"1\r\n2\r\n2b\r\n3\r\n4\r\n"


def test_a_file_with_both_line_ends_keeps_each(run, put, get) -> None:
    put("a.txt", "one\ntwo\nthree\r\nfour\r\nfive\n")
    assert not run("Edit", file_path="a.txt", old_string="three\nfour\n", new_string="3\n4\n").is_error
    assert get("a.txt") == b"one\ntwo\n3\r\n4\r\nfive\n"


def test_bytes_elsewhere_in_the_file_stay_as_they_are(run, put, get) -> None:
    put("a.txt", b"\xef\xbb\xbfcaf\xe9 \x80\r\nname = old\nno end")
    assert not run("Edit", file_path="a.txt", old_string="name = old", new_string="name = né").is_error
    assert get("a.txt") == b"\xef\xbb\xbfcaf\xe9 \x80\r\nname = n\xc3\xa9\nno end"


def test_text_with_unreadable_bytes_is_explained(run, put) -> None:
    put("a.txt", b"caf\xe9 au lait\n")
    answer = run("Edit", file_path="a.txt", old_string="caf\ufffd au lait", new_string="tea")
    assert answer.is_error
    assert "not valid UTF-8" in answer.content


@pytest.mark.parametrize(("old", "new", "says"), [("", "x", "old_string is empty"), ("same", "same", "are the same")])
def test_an_edit_that_means_nothing_is_refused(run, put, old: str, new: str, says: str) -> None:
    put("a.txt", "same\n")
    answer = run("Edit", file_path="a.txt", old_string=old, new_string=new)
    assert answer.is_error
    assert says in answer.content


def test_a_missing_file_is_not_made(run, put) -> None:
    put("parser.py", "")
    answer = run("Edit", file_path="parse.py", old_string="a", new_string="b")
    assert answer.is_error
    assert f"Did you mean: {REPO}/parser.py?" in answer.content


def test_everything_may_be_deleted(run, put, get) -> None:
    put("a.txt", "all\n")
    answer = run("Edit", file_path="a.txt", old_string="all\n", new_string="")
    assert answer.content.endswith("(the file is now empty)")
    assert get("a.txt") == b""


def test_the_mode_of_an_edited_file_stays(run, put, session) -> None:
    put("run.sh", "#!/bin/sh\nfalse\n")
    run("Bash", command="chmod 755 run.sh")
    run("Edit", file_path="run.sh", old_string="false", new_string="true")
    assert session.sandbox.stat(f"{REPO}/run.sh").mode & 0o777 == 0o755


words = st.text(st.sampled_from("ab\n\t é"), min_size=1, max_size=8)


@given(before=words, old=words, after=words, crlf=st.booleans())
def test_found_pieces_are_what_a_reader_of_the_file_sees(before: str, old: str, after: str, crlf: bool) -> None:
    """Whatever the line ends: text that Read shows is found, and replacing it by itself changes no byte."""
    text = before + old + after
    data = (text.replace("\n", "\r\n") if crlf else text).encode()
    piece = find(data, old, old)
    assert len(piece.places) >= 1
    assert data.replace(piece.old, piece.new) == data
    assert {text[: text.find(old)].count("\n")} <= {data[:place].count(b"\n") for place in piece.places}
