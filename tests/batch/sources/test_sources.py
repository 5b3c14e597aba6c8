"""Sources: every format that there is, told apart, and what is wrong with a row said at its place."""

from __future__ import annotations

import io
import json
import os
import sys
import tracemalloc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.batch.sources import KINDS, BadRow, Found, Row, Skipped, read_source
from runner.batch.sources.base import MAX_ROW_BYTES
from runner.errors import ConfigError
from runner.task import EXAMPLE

FILES = Path(__file__).parent / "files"


def _read(path: Path) -> list[Found]:
    return list(read_source(str(path)))


def _rows(path: Path) -> list[Row]:
    found = _read(path)
    assert all(isinstance(one, Row) for one in found), found
    return [one for one in found if isinstance(one, Row)]


def _issue(path: Path, number: int = 0) -> dict[str, Any]:
    issue: dict[str, Any] = _rows(path)[number].values["issue"]
    return issue


def _of(tmp_path: Path, text: str | bytes, name: str = "s.json") -> list[Found]:
    file = tmp_path / name
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return list(read_source(str(file)))


def _short(found: list[Found]) -> list[str]:
    """`line key` of rows, `line: what` of the others."""
    said = [f"{one.place} {one.key}" if isinstance(one, Row) else _what(one) for one in found]
    return [text.rpartition("/")[2].partition(":")[2] for text in said]


def _what(one: BadRow | Skipped) -> str:
    return str(one) if isinstance(one, BadRow) else f"{one.place}: {one.why}"


# --- Formats


def test_what_gh_lists() -> None:
    first, second = _rows(FILES / "gh-list.json")
    assert (first.place, first.number, first.key, first.title) == (
        f"{FILES}/gh-list.json:2", 42, "42", "Last page dropped",
    )  # fmt: skip
    assert second.place.endswith("gh-list.json:30")
    assert set(first.values) == {"issue"}
    assert first.values["issue"] == {
        "number": 42,
        "title": "Last page dropped",
        "body": "Steps:\n\n1. ask for page 3 of 3\n",
        "author": "ana",
        "author_association": None,
        "labels": ["bug", "help wanted"],
        "assignees": [],
        "milestone": "2.0",
        "state": "open",
        "state_reason": None,
        "repository": "acme/pager",
        "url": "https://github.com/acme/pager/issues/42",
        "created_at": "2026-01-02T03:04:05Z",
        "updated_at": "2026-01-03T00:00:00Z",
        "closed_at": None,
        "comments": [
            {
                "author": "cy",
                "author_association": "NONE",
                "body": "same",
                "url": "https://github.com/acme/pager/issues/42#issuecomment-1",
                "created_at": "2026-01-02T04:00:00Z",
            }
        ],
    }
    assert (second.values["issue"]["state"], second.values["issue"]["state_reason"]) == ("closed", "completed")


def test_what_gh_shows_of_one() -> None:
    assert (_issue(FILES / "gh-view.json")["number"], _issue(FILES / "gh-view.json")["author"]) == (42, "ana")


def test_issues_of_the_rest_interface_without_its_pull_requests() -> None:
    issue, pull = _read(FILES / "rest.json")
    assert isinstance(issue, Row)
    said = issue.values["issue"]
    assert (said["body"], said["author"], said["author_association"]) == ("", "ana", "MEMBER")
    assert (said["labels"], said["assignees"], said["comments"]) == (["bug"], ["bo"], [])
    assert (said["repository"], said["url"]) == ("acme/pager", "https://github.com/acme/pager/issues/42")
    assert set(issue.values) == {"issue"}
    assert pull == Skipped(f"{FILES}/rest.json:28", "a pull request")


def test_the_payload_of_an_event() -> None:
    [row] = _rows(FILES / "event.json")
    assert (row.values["issue"]["number"], row.values["issue"]["repository"]) == (42, "acme/pager")
    assert row.values["comment"] == {
        "author": "bo",
        "author_association": "MEMBER",
        "body": "/claw fix this",
        "url": "https://github.com/acme/pager/issues/42#issuecomment-1",
        "created_at": "2026-01-02T04:00:00Z",
    }


def test_an_event_about_a_pull_request_is_left_out(tmp_path: Path) -> None:
    commented = {"issue": {"number": 1, "title": "x", "pull_request": {"url": "u"}}, "comment": {"body": "b"}}
    assert _short(_of(tmp_path, json.dumps(commented))) == ["1: a pull request"]
    opened = {"action": "opened", "number": 1, "pull_request": {"title": "x"}}
    assert _short(_of(tmp_path, json.dumps(opened))) == ["1: a pull request"]


def test_an_issue_has_the_keys_that_the_example_of_tasks_has() -> None:
    [row] = _rows(FILES / "event.json")
    assert {name: set(value) for name, value in row.values.items()} == {
        name: set(value) for name, value in EXAMPLE.items()
    }


def test_rows_of_data_sets() -> None:
    instance, both, named = _rows(FILES / "rows.jsonl")
    assert (instance.key, instance.number, instance.title) == ("acme__pager-7", 1, "acme__pager-7")
    assert instance.values["row"]["FAIL_TO_PASS"] == '["tests/test_p.py::test_last"]'
    assert set(instance.values) == {"row"}
    assert (both.place.rpartition(":")[2], both.key, set(both.values)) == ("3", "8", {"issue", "row"})
    assert both.values["row"]["base"] == {"sha": "9f1c0de"}
    assert (named.key, named.title) == ("3", "third row")


def test_a_table_of_issues() -> None:
    first, second = _rows(FILES / "issues.csv")
    assert (first.place, second.place) == (f"{FILES}/issues.csv:2", f"{FILES}/issues.csv:6")
    issue = first.values["issue"]
    assert (issue["number"], issue["labels"]) == (42, ["bug", "help wanted"])
    assert issue["body"] == 'Steps:\n\n1. ask for "page 3"\n'
    assert first.values["row"]["due_date"] == "2026-02-01"
    assert (second.title, second.values["issue"]["body"]) == ("Crash, on an empty list", "")


def test_a_table_of_anything() -> None:
    first, second = _rows(FILES / "files.tsv")
    assert (first.key, second.key) == ("1", "2")
    assert second.values == {"row": {"path": "src/b.py", "goal": "document it"}}


def test_a_folder_of_tasks(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text("version: 1\nname: b\nprompt: x\n")
    (tmp_path / "a.yml").write_text("version: 1\nname: a\nprompt: x\n")
    (tmp_path / "replies.yaml").write_text("version: 1\nturns: []\n")
    (tmp_path / "broken.yaml").write_text("a: [\n")
    (tmp_path / ".hidden.yaml").write_text("name: x\n")
    (tmp_path / "notes.txt").write_text("x")
    a, b, broken, replies = _read(tmp_path)
    assert isinstance(a, Row)
    assert isinstance(b, Row)
    assert (a.task_file, b.task_file) == (tmp_path / "a.yml", tmp_path / "b.yaml")
    assert isinstance(broken, BadRow)
    assert broken.place == f"{tmp_path}/broken.yaml:2:1"
    assert replies == Skipped(f"{tmp_path}/replies.yaml", "no task, which has a name and a prompt")


def test_a_task_file_is_a_source_of_one(tmp_path: Path) -> None:
    (tmp_path / "b.yaml").write_text("version: 1\nname: b\nprompt: x\n")
    assert [row.task_file for row in _rows(tmp_path / "b.yaml")] == [tmp_path / "b.yaml"]


@pytest.mark.parametrize("name", ["gh-list.json", "event.json", "rows.jsonl", "issues.csv"])
def test_standard_input_is_told_by_its_content(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO((FILES / name).read_bytes())))
    found = list(read_source("-"))
    assert [one.values for one in found if isinstance(one, Row)] == [row.values for row in _rows(FILES / name)]
    assert found[0].place.startswith("stdin:")


def test_a_kind_can_be_said(tmp_path: Path) -> None:
    (tmp_path / "list").write_text("path,goal\na,b\n")
    with pytest.raises(ConfigError, match="--kind"):
        _read(tmp_path / "list")
    [row] = read_source(str(tmp_path / "list"), kind="csv")
    assert isinstance(row, Row)
    assert row.values["row"] == {"path": "a", "goal": "b"}
    assert KINDS == ("auto", "json", "jsonl", "csv", "tasks")


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ('[{"number":1,"title":"a"}][{"number":2,"title":"b"}]', "pages.json"),
        ('{"number":1,"title":"a"}\n{"number":2,"title":"b"}\n', "lines.txt"),
        ('{\n"number":1,"title":"a"\n}\n{\n"number":2,"title":"b"\n}\n', "pretty.json"),
        ('\ufeff[{"number":1,"title":"a"},{"number":2,"title":"b"}]', "bom.json"),
        ("\ufeffnumber;title\r\n1;a\r\n2;b\r\n", "bom.csv"),
        ("number,title,body\n\n1,a,\n2,b,\n\n", "gaps.csv"),
    ],
)
def test_other_ways_to_write_the_same(tmp_path: Path, text: str, name: str) -> None:
    found = _of(tmp_path, text, name)
    assert [one.title for one in found if isinstance(one, Row)] == ["a", "b"]
    assert len(found) == 2


# --- Places


def test_a_row_of_a_list_knows_its_line(tmp_path: Path) -> None:
    text = '[\n\n {"number": 1,\n "title": "a"},\n\n {"number": 2, "title": "b\\n"}, {"number": 3, "title": "c"}\n]'
    assert _short(_of(tmp_path, text)) == ["3 1", "6 2", "6:33 3"]


def test_rows_of_one_long_line_are_told_by_their_column(tmp_path: Path) -> None:
    assert _short(_of(tmp_path, '[{"number":1,"title":"a"},{"number":2}]')) == [
        "1 1",
        "1:27 2",
    ]


# --- Bad rows


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ('{"number": 2, "title": "b"', "is not JSON: expecting ',' delimiter (at its end)"),
        ('{"number": 2, "title": }', "is not JSON: expecting value (at '}"),
        ('{"number": 2, "body": "b"}', "title: must be the issue's title (there is none); ask gh for it: --json"),
        ('{"number": 2, "title": " "}', "title: must be the issue's title (got ' ')"),
        ('{"number": "2", "title": "b"}', "number: must be the issue's number, a whole one from 1 (got '2')"),
        ('{"number": 2.0, "title": "b"}', "(got 2.0)"),
        ('{"number": true, "title": "b"}', "(got true)"),
        ('{"number": 0, "title": "b"}', "(got 0)"),
        ('{"number": 1, "title": "b"}', "is '1' again, which is at "),
        ('{"number": 2, "title": "b", "title": "c"}', "has the key 'title' twice"),
        ('{"number": 2, "title": "b", "body": ["x"]}', "body: must be text (got a list)"),
        ('{"number": 2, "title": "b", "state": 1}', "state: must be text (got 1)"),
        ('{"number": 2, "title": "b", "x": NaN}', "is not JSON: there is no NaN"),
        ('{"number": 2, "title": "b", "x": 1e999}', "has a number that is too large ('1e999')"),
        ('{"number": 2, "title": "b", "x": ' + "9" * 5_000 + "}", "has a number with too many digits"),
        ('{"number": 2, "title": "b", "x": ' + "[" * 50 + "]" * 50 + "}", "is nested more than 20 deep"),
        ('{"x": ' + "[" * 100_000 + "]" * 100_000 + "}", "is nested more than 20 deep"),
        ('{"number": 2, "title": "a\0b"}', "is not JSON: invalid control character"),
        ('{"k\\u200b": 1}', "has a key with something invisible in it ('k\\u200b')"),
        ('{"issue": {"number": 1.5}}', "number: must be"),
        ("12", "is a number, not an object; give what gh issue list"),
        ('"https://github.com/a/b/issues/1"', "is a text, not an object"),
        ("[1]", "is a list, not an object"),
        ("null", "is null, not an object"),
        ('{"number": 2, "title": "' + "x" * MAX_ROW_BYTES + '"}', "is larger than 4 MiB"),
    ],
    ids=lambda text: text[:40],
)  # fmt: skip
def test_a_bad_line_says_what_is_wrong_and_the_rest_goes_on(tmp_path: Path, row: str, what: str) -> None:
    text = f'{{"number": 1, "title": "a"}}\n{row}\n{{"number": 3, "title": "c"}}\n'
    first, bad, third = _of(tmp_path, text, "s.jsonl")
    assert isinstance(first, Row)
    assert isinstance(bad, BadRow)
    assert bad.place == f"{tmp_path}/s.jsonl:2"
    assert what in bad.what
    assert isinstance(third, Row)


@pytest.mark.parametrize(
    "row",
    ['{"number": 2, "title": }', '{"title" "b", "number": 2}', "nonsense", '{"body":"' + "x" * 20_000_000 + '"}'],
    ids=lambda text: text[:40],
)  # fmt: skip
def test_a_bad_row_of_a_list_does_not_end_it(tmp_path: Path, row: str) -> None:
    found = _of(tmp_path, f'[{{"number": 1, "title": "a"}},\n{row},\n{{"number": 3, "title": "c"}}]')
    assert [type(one) for one in found] == [Row, BadRow, Row]
    assert [one.place.rpartition(":")[2] for one in found] == ["1", "2", "3"]


def test_bytes_that_are_no_utf_8_are_one_bad_row(tmp_path: Path) -> None:
    lines = b'{"number":1,"title":"\xff"}\n{"number":2,"title":"b"}\n'
    assert _short(_of(tmp_path, lines, "s.jsonl")) == ["1: byte 0xff is not UTF-8; save the file as UTF-8", "2 2"]
    table = b"number,title,body\n1,\xff,x\n2,b,x\n"
    assert _short(_of(tmp_path, table, "s.csv")) == ["2: byte 0xff is not UTF-8; save the file as UTF-8", "3 2"]


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ('[{"number":1,"title":"a"}, {"number":2', "is not closed; is the file cut off?"),
        ('[{"number":1,"title":"a"}, {"number":2,"title":"b', "is not closed; is the file cut off?"),
        ('[{"number":1,"title":"a"},', "the list is not closed; is the file cut off?"),
        ('[{"number":1,"title":"a"}', "the list is not closed; is the file cut off?"),
    ],
)
def test_a_file_that_was_cut_off_says_so(tmp_path: Path, text: str, what: str) -> None:
    row, bad = _of(tmp_path, text)
    assert isinstance(row, Row)
    assert isinstance(bad, BadRow)
    assert bad.what == what


@pytest.mark.parametrize(
    ("record", "what"),
    [
        ("2,b", "has 2 cells, the header 3; put a text with ',' in it into double quotes"),
        ("2", "has 1 cell, the header 3"),
        ("2,b,c,d", "has 4 cells, the header 3"),
        ('2,"b"x,c', "is no record of a table"),
        ("x,b,c", "number: must be the issue's number, a whole one from 1 (got 'x')"),
        ("2,,c", "title: must be the issue's title (got '')"),
        ("2,a\0b,c", "has a NUL byte in it"),
        ('2,b,"' + "x" * 200_000 + '"', "field larger than field limit"),
        ('2,b,"' + ("x" * 99 + "\n") * 50_000 + '"', "is larger than 4 MiB"),
        ('2,b,"' + "x" * MAX_ROW_BYTES + '"', "is larger than 4 MiB"),
    ],
    ids=lambda text: text[:20],
)
def test_a_bad_record_says_what_is_wrong_and_the_rest_goes_on(tmp_path: Path, record: str, what: str) -> None:
    first, bad, third = _of(tmp_path, f"number,title,body\n1,a,x\n{record}\n3,c,x\n", "s.csv")
    assert isinstance(first, Row)
    assert isinstance(bad, BadRow)
    assert bad.place == f"{tmp_path}/s.csv:3"
    assert what in bad.what
    assert isinstance(third, Row)


def test_a_quote_that_is_not_closed_is_said_where_it_opens(tmp_path: Path) -> None:
    found = _of(tmp_path, 'number,title,body\n1,a,x\n2,b,"x\n3,c,x\n', "s.csv")
    assert _short(found) == ["2 1", "3: has a double quote that is not closed; is the file cut off?"]


def test_a_quote_within_a_cell_is_a_character(tmp_path: Path) -> None:
    found = _of(tmp_path, 'number,title,body\n1,a 5" pipe,x\n2,b,x\n', "s.csv")
    assert [one.title for one in found if isinstance(one, Row)] == ['a 5" pipe', "b"]


# --- No sources


@pytest.mark.parametrize(
    ("content", "name", "what"),
    [
        (b"", "s.json", "is empty; did the command that should have written it fail?"),
        (b" \n\n", "s.jsonl", "is empty"),
        (b"\x7fELF\0\0", "s", "is no text in UTF-8"),
        ("number,title".encode("utf-16"), "s.csv", "is no text in UTF-8"),
        (b"Hello, title\nof the world\n", "s.txt", "s.txt:2: has 1 cell"),
        (b"Dear all, here are the issues.\n", "s.txt", "is none of JSON, JSON lines, a table with a header, or a task"),
        (b"no issues match your search\n", "s.json", "is none of JSON"),
        (b"a,a\n1,2\n", "s.csv", "s.csv:1: the first line is no header of a table: there are two columns 'a'"),
        (b"a,,b\n1,2,3\n", "s.csv", "column 2 is called ''"),
        (b"<html>\n", "s.csv", "column 1 is called '<html>'"),
    ],
)
def test_what_is_no_source_is_one_mistake(tmp_path: Path, content: bytes, name: str, what: str) -> None:
    if "cell" in what:
        assert what in "\n".join(_what(one) for one in _of(tmp_path, content, name) if not isinstance(one, Row))
        return
    with pytest.raises(ConfigError) as caught:
        _of(tmp_path, content, name)
    assert what in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path))


def test_a_file_that_is_not_there_is_said_with_the_one_that_is_meant(tmp_path: Path) -> None:
    (tmp_path / "issues.json").write_text("[]")
    with pytest.raises(ConfigError, match=r"there is no such file or folder; did you mean 'issues.json'\?"):
        _read(tmp_path / "isues.json")
    assert _read(tmp_path / "issues.json") == []


def test_a_folder_without_tasks_is_a_mistake(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no task file"):
        _read(tmp_path)


# --- Text of strangers


def test_what_is_hidden_is_taken_out_of_every_text_and_said(tmp_path: Path) -> None:
    issue = {
        "number": 1,
        "title": "a\u200b <!-- seen in titles -->\u202e",
        "body": "b<!-- hidden -->",
        "labels": [{"name": "bu\u2060g"}],
        "comments": [{"author": {"login": "x"}, "body": "c\U000e0041"}],
    }
    [row] = _of(tmp_path, json.dumps([issue]))
    assert isinstance(row, Row)
    assert row.title == "a <!-- seen in titles -->"
    assert row.values["issue"]["body"] == "b"
    assert row.values["issue"]["labels"] == ["bug"]
    assert row.values["issue"]["comments"][0]["body"] == "c"
    assert [note.partition(";")[0] for note in row.notes] == [
        "2 invisible characters (U+200B, U+202E) taken out of title",
        "1 HTML comment (15 characters) taken out of body",
        "1 invisible character (U+2060) taken out of labels[0].name",
        "1 invisible character (U+E0041) taken out of comments[0].body",
    ]


def test_a_row_of_a_data_set_is_cleaned_as_well(tmp_path: Path) -> None:
    [row] = _of(tmp_path, json.dumps({"statement": "a<!-- x -->\r\n", "half": "\ud83d", "more": ["\x1b[31m"]}))
    assert isinstance(row, Row)
    assert row.values["row"] == {"statement": "a\n", "half": "", "more": ["[31m"]}
    json.dumps(row.values).encode()


def test_notes_do_not_grow_without_bound(tmp_path: Path) -> None:
    [row] = _of(tmp_path, json.dumps({"texts": ["\u200b"] * 1_000}))
    assert isinstance(row, Row)
    assert row.notes[-1] == "and 990 texts more"
    assert len(row.notes) == 11


PARTS = st.sampled_from(
    [b'{"number":1,"title":"a"}', b'{"title":', b'"issue":', b'"comment":', b"number,title,body\n", b"1,a,b\n", b"null"]
    + [b"[", b"]", b"{", b"}", b",", b":", b'"', b"\\", b" ", b"\n", b"\r", b"\0", b"\xff", b"\xef\xbb\xbf"]
    + [b"1e999", b'"\\ud800"']
)


@given(
    st.lists(PARTS, max_size=12).map(b"".join) | st.binary(max_size=40),
    st.sampled_from(["json", "jsonl", "csv", "txt"]),
)
def test_any_bytes_are_rows_or_a_mistake(tmp_path_factory: pytest.TempPathFactory, content: bytes, suffix: str) -> None:
    file = tmp_path_factory.getbasetemp() / f"any.{suffix}"
    file.write_bytes(content)
    try:
        found = list(read_source(str(file)))
    except ConfigError as error:
        assert str(error).startswith(str(file))  # noqa: PT017
        return
    for one in found:
        assert one.place.startswith(f"{file}:")
        if isinstance(one, Row):
            assert one.key
            json.dumps(one.values, allow_nan=False, ensure_ascii=False).encode()


# --- Streams


@pytest.fixture
def large(tmp_path: Path) -> Iterator[Path]:
    """16 MB of JSON lines."""
    file = tmp_path / "large.jsonl"
    with file.open("w") as out:
        for number in range(1, 161):
            out.write(f'{{"number": {number}, "title": "t", "body": "{"x" * 100_000}"}}\n')
    yield file
    file.unlink()  # else pytest keeps it


def test_a_large_file_is_not_in_memory_at_once(large: Path) -> None:
    assert large.stat().st_size > 16_000_000
    tracemalloc.start()
    try:
        assert sum(1 for one in read_source(str(large)) if isinstance(one, Row)) == 160
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 4_000_000


def test_a_file_is_read_no_further_than_asked(tmp_path: Path) -> None:
    rows = read_source(str(FILES / "rows.jsonl"))
    assert next(rows).place.endswith(":1")
    read, write = os.pipe()
    os.write(write, (b'{"a": 1}\n' * 8_000)[:65_536])
    with os.fdopen(read, "rb"), os.fdopen(write, "wb"):
        # The pipe stays open: whoever read on to its end would wait for ever.
        assert next(read_source(f"/dev/fd/{read}", kind="jsonl")).place == f"/dev/fd/{read}:1"
