"""Cutting files into rows: wherever the chunks end, the rows are the same, and none is lost."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from runner.batch.sources.base import MAX_ROW_BYTES, TOO_LONG
from runner.batch.sources.pieces import lines, values

VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.sampled_from(['"', "\\", "]", "{", ",\n"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=10,
)
OBJECTS = st.dictionaries(st.text(max_size=3), VALUES, max_size=4)
LAYOUTS = st.sampled_from([None, 0, 2])


def _chunks(data: bytes, size: int) -> list[bytes]:
    return [data[at : at + size] for at in range(0, len(data), size)]


@settings(max_examples=50)
@given(st.lists(OBJECTS | VALUES, max_size=5), LAYOUTS, st.booleans(), st.integers(1, 50))
def test_a_list_is_cut_into_its_values(items: list[Any], indent: int | None, ascii: bool, size: int) -> None:
    text = json.dumps(items, indent=indent, ensure_ascii=ascii)
    pieces = list(values(_chunks(text.encode("utf-8", "surrogatepass"), size)))
    assert [json.loads(piece.data.decode("utf-8", "surrogatepass")) for piece in pieces] == items
    assert not any(piece.mistake for piece in pieces)


@settings(max_examples=50)
@given(st.lists(OBJECTS, min_size=1, max_size=5), LAYOUTS, st.sampled_from(["", "\n", "\r\n\n", " , "]))
def test_objects_may_follow_each_other_without_a_list(items: list[Any], indent: int | None, between: str) -> None:
    text = between.join(json.dumps(item, indent=indent) for item in items)
    assert [json.loads(piece.data) for piece in values([text.encode()])] == items


@settings(max_examples=50)
@given(st.lists(OBJECTS, max_size=5), LAYOUTS, st.integers(1, 50))
def test_a_piece_begins_where_it_says(items: list[Any], indent: int | None, size: int) -> None:
    text = json.dumps(items, indent=indent)
    for piece in values(_chunks(text.encode(), size)):
        line = text.splitlines()[piece.line - 1]
        begun = line[piece.column - 1 :] if piece.column else line.lstrip(" [")
        assert begun.startswith(piece.data.decode().splitlines()[0])


@given(st.text(st.sampled_from('[]{}",\\ \n:1a'), max_size=60), st.integers(1, 10))
def test_any_text_is_cut_the_same_way_in_whatever_chunks(text: str, size: int) -> None:
    data = text.encode()
    whole = list(values([data]))
    assert list(values(_chunks(data, size))) == whole
    # Nothing but what stands between values is dropped.
    assert sum(len(piece.data) for piece in whole) <= len(data)


@given(st.binary(max_size=60), st.integers(1, 10))
def test_lines_are_all_there_is(data: bytes, size: int) -> None:
    pieces = list(lines(_chunks(data, size)))
    assert b"".join(piece.data for piece in pieces) == data
    assert [piece.line for piece in pieces] == list(range(1, len(pieces) + 1))
    assert all(piece.data.find(b"\n") in (-1, len(piece.data) - 1) for piece in pieces)


def test_what_is_too_long_is_not_kept() -> None:
    chunk = b"x" * 2**20
    [long, after] = lines([chunk, chunk, chunk, chunk, b"x\n", b"after\n"])
    assert (long.data, long.mistake, after.data) == (b"", TOO_LONG, b"after\n")
    [inside, after] = values([b'["', chunk, chunk, chunk, chunk, b'", 1]'])
    assert (inside.data, inside.mistake, after.data) == (b"", TOO_LONG, b"1")


def test_as_much_as_allowed_is_kept() -> None:
    line = b"x" * (MAX_ROW_BYTES - 1) + b"\n"
    assert [piece.data for piece in lines([line])] == [line]
