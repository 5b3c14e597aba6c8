"""Frames: what goes in comes out, however it is split; what is no frame is refused at once."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.toolbox import frames

STREAMS = st.integers(0, 2**32 - 1)
PAYLOADS = st.one_of(
    st.tuples(st.just(frames.DATA), st.binary(max_size=200)),
    st.tuples(st.just(frames.CREDIT), st.binary(min_size=4, max_size=4)),
    st.tuples(st.just(frames.CANCEL), st.just(b"")),
    st.tuples(st.sampled_from([frames.OPEN, frames.END]), st.binary(min_size=2, max_size=200)),
)


@given(st.lists(st.tuples(STREAMS, PAYLOADS), max_size=20), st.lists(st.integers(1, 50), min_size=1))
def test_frames_survive_any_split(messages: list[tuple[int, tuple[int, bytes]]], sizes: list[int]) -> None:
    data = b"".join(frames.encode(stream, kind, payload) for stream, (kind, payload) in messages)
    parser, found = frames.Parser(), []
    while data:
        size = sizes[len(found) % len(sizes)]
        found += parser.feed(data[:size])
        data = data[size:]
    assert found == [(stream, kind, payload) for stream, (kind, payload) in messages]


@given(st.lists(st.binary(max_size=400), max_size=20))
def test_garbage_is_refused_or_waits_for_more_but_nothing_else_happens(chunks: list[bytes]) -> None:
    parser = frames.Parser()
    try:
        for chunk in chunks:
            for _, kind, payload in parser.feed(chunk):
                least, most = frames.LENGTHS[kind]
                assert least <= len(payload) <= most
    except frames.ProtocolError:
        pass
    assert len(parser._buffer) <= frames.MAX_JSON + frames.HEADER.size + 400


@pytest.mark.parametrize(
    ("length", "kind"),
    [
        (frames.MAX_DATA + 1, frames.DATA),
        (frames.MAX_JSON + 1, frames.OPEN),
        (2**32 - 1, frames.END),
        (3, frames.CREDIT),
        (1, frames.CANCEL),
        (0, frames.OPEN),
        (5, 0),
        (5, 255),
    ],
)
def test_a_bad_header_is_refused_before_its_payload_comes(length: int, kind: int) -> None:
    with pytest.raises(frames.ProtocolError):
        frames.Parser().feed(frames.HEADER.pack(length, 1, kind))


@pytest.mark.parametrize(
    "payload", [b"", b"[]", b"1", b"{", b'{"a":NaN}', b'{"a":Infinity}', b"\xff\xfe", b"[" * 100_000, b'{"a":' * 50_000]
)
def test_json_that_is_no_object_is_refused(payload: bytes) -> None:
    with pytest.raises(frames.ProtocolError):
        frames.decode_json(payload)


@given(st.dictionaries(st.text(), st.one_of(st.text(), st.integers(), st.booleans(), st.none())))
def test_json_comes_out_as_it_went_in(value: dict[str, object]) -> None:
    [(stream, kind, payload)] = frames.Parser().feed(frames.encode_json(7, frames.OPEN, value))
    assert (stream, kind, frames.decode_json(payload)) == (7, frames.OPEN, value)


def test_bytes_that_are_not_utf8_travel_as_lone_surrogates() -> None:
    name = b"caf\xe9".decode("utf-8", "surrogateescape")
    [(_, _, payload)] = frames.Parser().feed(frames.encode_json(1, frames.END, {"path": name}))
    assert payload.isascii()
    assert frames.decode_json(payload)["path"] == name


def test_a_message_that_fits_no_frame_is_not_made() -> None:
    with pytest.raises(ValueError, match="at most 1048576"):
        frames.encode_json(1, frames.OPEN, {"script": "x" * frames.MAX_JSON})
