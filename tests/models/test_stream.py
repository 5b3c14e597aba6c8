"""Bytes in, a Reply or StreamBroken out: no input crashes, hangs or slips something half-finished through."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.messages import Opaque, Reply, Text, ToolUse, Usage
from runner.models.arguments import parse_arguments
from runner.models.stream import Assembly, ErrorEvent, StreamBroken, stream_events

START = {"id": "msg_1", "model": "m", "usage": {"input_tokens": 7, "output_tokens": 1}}
TEXT = {"type": "text", "text": ""}
TOOL = {"type": "tool_use", "id": "toolu_1", "name": "Bash", "input": {}}


def started(block: dict[str, Any], index: int = 0) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def grown(index: int = 0, **delta: Any) -> dict[str, Any]:
    return {"type": "content_block_delta", "index": index, "delta": delta}


def stopped(index: int = 0) -> dict[str, Any]:
    return {"type": "content_block_stop", "index": index}


def ended(stop_reason: str | None = "end_turn", **usage: Any) -> dict[str, Any]:
    return {"type": "message_delta", "delta": {"stop_reason": stop_reason}, "usage": usage or {"output_tokens": 9}}


BEGIN: dict[str, Any] = {"type": "message_start", "message": START}
STOP = {"type": "message_stop"}
PING = {"type": "ping"}
HELLO = [started(TEXT), grown(type="text_delta", text="he"), grown(type="text_delta", text="llo"), stopped()]
CALL = [
    started(TOOL, 1),
    grown(1, type="input_json_delta", partial_json='{"command":'),
    grown(1, type="input_json_delta", partial_json='"ls"}'),
    stopped(1),
]
WHOLE = [BEGIN, PING, *HELLO, *CALL, ended("tool_use"), STOP]


def wire(*events: Any) -> bytes:
    return b"".join(f"event: {e.get('type')}\ndata: {json.dumps(e)}\n\n".encode() for e in events)


def read(*chunks: bytes, taken: tuple[str, ...] = ()) -> Reply:
    assembly = Assembly(taken)
    for event in stream_events(chunks):
        assembly.add(event)
    return assembly.reply()


def test_a_whole_stream_is_a_reply() -> None:
    reply = read(wire(*WHOLE))
    assert reply == Reply(
        content=(Text(text="hello"), ToolUse(id="toolu_1", name="Bash", input={"command": "ls"})),
        stop_reason="tool_use",
        usage=Usage(input_tokens=7, output_tokens=9),
        model="m",
        id="msg_1",
    )


@settings(deadline=None)
@given(st.lists(st.integers(0, len(wire(*WHOLE))), max_size=30), st.sampled_from([b"\n", b"\r\n"]))
def test_how_the_bytes_are_split_does_not_matter(cuts: list[int], newline: bytes) -> None:
    data = wire(*WHOLE).replace(b"\n", newline)
    edges = [0, *sorted(cuts), len(data)]
    assert read(*(data[a:b] for a, b in zip(edges, edges[1:], strict=False))) == read(wire(*WHOLE))


@pytest.mark.parametrize("count", range(len(WHOLE)))
def test_a_stream_that_ends_early_is_broken(count: int) -> None:
    with pytest.raises(StreamBroken):
        read(wire(*WHOLE[:count]))


@settings(deadline=None)
@given(st.integers(0, len(wire(*WHOLE)) - 1))
def test_a_stream_cut_at_any_byte_is_broken(length: int) -> None:
    with pytest.raises(StreamBroken):
        read(wire(*WHOLE)[:length])


@pytest.mark.parametrize("missing", [i for i, event in enumerate(WHOLE) if event not in (PING, WHOLE[3], WHOLE[4])])
def test_a_stream_without_one_of_its_events_is_no_good_reply(missing: int) -> None:
    events = [event for i, event in enumerate(WHOLE) if i != missing]
    try:
        reply = read(wire(*events))
    except StreamBroken:
        return
    # Only pieces of the arguments can go unseen, and then the call is not one that may run.
    assert reply.tool_uses[0].invalid


@pytest.mark.parametrize(
    "doubled",
    [i for i, event in enumerate(WHOLE) if event["type"] not in ("ping", "message_delta", "content_block_delta")],
)
def test_an_event_that_comes_twice_breaks_the_stream(doubled: int) -> None:
    with pytest.raises(StreamBroken):
        read(wire(*WHOLE[: doubled + 1], *WHOLE[doubled:]))


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from([*WHOLE, STOP, ended(None), started(TEXT, 0), stopped(7)]), max_size=14))
def test_events_in_any_order_give_a_reply_or_broken(events: list[dict[str, Any]]) -> None:
    try:
        reply = read(wire(*events))
    except StreamBroken:
        return
    assert STOP in events
    assert reply.stop_reason in ("end_turn", "tool_use")


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FIELDS = [(i, *path) for i, e in enumerate(WHOLE) for path in [("type",), *((k,) for k in e if k != "type")]]
FIELDS += [(0, "message", k) for k in START] + [(0, "message", "usage", "input_tokens")]
FIELDS += [(i, k, f) for i, e in enumerate(WHOLE) for k in ("content_block", "delta") if k in e for f in e[k]]


@settings(max_examples=400, deadline=None)
@given(st.sampled_from(FIELDS), json_values)
def test_any_value_in_any_field_gives_a_reply_or_broken(field: tuple[Any, ...], value: Any) -> None:
    events = json.loads(json.dumps(WHOLE))
    place = events[field[0]]
    for key in field[1:-1]:
        place = place[key]
    place[field[-1]] = value
    try:
        reply = read(wire(*events))
    except (StreamBroken, ErrorEvent):
        return
    assert Reply.model_validate_json(reply.model_dump_json()) == reply


@settings(max_examples=300, deadline=None)
@given(
    st.binary(max_size=200)
    | st.lists(st.sampled_from([b"data: ", b"\n", b"{}", b"[", b"\xff", b"event: x"])).map(b"".join)
)
def test_garbage_is_broken(garbage: bytes) -> None:
    with pytest.raises(StreamBroken):
        read(wire(*WHOLE[:4]), garbage + b"\n\n")


@pytest.mark.parametrize(
    "data",
    [
        b"{",
        b"[]",
        b"null",
        b'"x"',
        b"{}",
        b'{"type": 1}',
        b'{"type":"message_stop"',
        b"\xff\xfe",
        b'{"type":"\\ud800"}',
    ],
    ids=repr,
)
def test_data_that_is_no_event_breaks_the_stream(data: bytes) -> None:
    with pytest.raises(StreamBroken):
        read(wire(*WHOLE[:4]), b"data: " + data + b"\n\n")


@pytest.mark.parametrize(
    ("events", "reason"),
    [
        ([BEGIN, *HELLO, STOP], "without a stop reason"),
        ([BEGIN, *HELLO, ended(None), STOP], "without a stop reason"),
        ([BEGIN, *HELLO[:2], ended(), STOP], "out of place"),
        ([*HELLO, ended(), STOP], "out of place"),
        ([BEGIN, started(TEXT, 1)], "block 0 was due"),
        ([BEGIN, started(TEXT, -1)], "block 0 was due"),
        ([BEGIN, started(TEXT), started(TEXT, 1)], "out of place"),
        ([BEGIN, grown(type="text_delta", text="x")], "not open"),
        ([BEGIN, started(TEXT), grown(3, type="text_delta", text="x")], "not open"),
        ([BEGIN, started(TEXT), stopped(1)], "not open"),
        ([BEGIN, started(TEXT), grown(type="input_json_delta", partial_json="{}")], "got a 'input_json_delta'"),
        ([BEGIN, started(TOOL), grown(type="text_delta", text="x")], "got a 'text_delta'"),
        ([BEGIN, started({"text": ""})], "no type"),
        ([BEGIN, started(TOOL | {"id": "../x"}), stopped()], "tool id"),
        ([BEGIN, started(TOOL | {"id": ""}), stopped()], "tool id"),
        ([BEGIN, started(TOOL | {"name": ""}), stopped()], "names no tool"),
        ([BEGIN, started(TOOL), stopped(), started(TOOL, 1), stopped(1)], "came twice"),
        ([BEGIN, *HELLO, ended(), started(TEXT, 1)], "out of place"),
        ([*WHOLE, started(TEXT, 2)], "after message_stop"),
        ([*WHOLE, STOP], "after message_stop"),
        ([{"type": "message_start", "message": START | {"usage": {}}}, *HELLO, ended(), STOP], "no usage"),
        ([{"type": "message_start", "message": START | {"usage": {"input_tokens": -1}}}], "malformed"),
        ([{"type": "message_start", "message": START | {"usage": {"input_tokens": True}}}], "malformed"),
    ],
)
def test_broken_streams_say_what_is_wrong(events: list[dict[str, Any]], reason: str) -> None:
    with pytest.raises(StreamBroken, match=reason):
        read(wire(*events))


def test_a_tool_id_of_an_earlier_turn_is_not_accepted_again() -> None:
    with pytest.raises(StreamBroken, match="came twice"):
        read(wire(*WHOLE), taken=("toolu_1",))


def test_an_error_event_is_told_apart_from_a_broken_stream() -> None:
    error = {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}
    with pytest.raises(ErrorEvent, match="overloaded_error: Overloaded") as caught:
        read(wire(*WHOLE[:4], error))
    assert caught.value.kind == "overloaded_error"


def test_unknown_events_are_passed_over() -> None:
    assert read(wire(*WHOLE[:3], {"type": "from_the_future", "x": [1]}, *WHOLE[3:])) == read(wire(*WHOLE))


def test_usage_is_merged_and_never_shrinks() -> None:
    start = START | {"usage": {"input_tokens": 7, "output_tokens": 1, "cache_read_input_tokens": 50}}
    delta = ended(output_tokens=9, input_tokens=0, cache_read_input_tokens=None, cache_creation_input_tokens=3)
    reply = read(wire({"type": "message_start", "message": start}, *HELLO, delta, STOP))
    assert reply.usage == Usage(input_tokens=7, output_tokens=9, cache_read_tokens=50, cache_write_tokens=3)


def test_usage_is_known_before_the_end() -> None:
    assembly = Assembly()
    assert not assembly.started
    for event in stream_events([wire(*WHOLE[:5])]):
        assembly.add(event)
    assert assembly.started
    assert assembly.usage == Usage(input_tokens=7, output_tokens=1)


@pytest.mark.parametrize("reason", ["end_turn", "tool_use", "max_tokens", "stop_sequence", "refusal", "pause_turn"])
def test_known_stop_reasons_are_kept(reason: str) -> None:
    assert read(wire(BEGIN, *HELLO, ended(reason), STOP)).stop_reason == reason


def test_an_unknown_stop_reason_is_other() -> None:
    assert read(wire(BEGIN, *HELLO, ended("tired"), STOP)).stop_reason == "other"


def test_thinking_and_unknown_blocks_are_put_together_and_kept() -> None:
    thinking = [
        started({"type": "thinking", "thinking": "", "signature": ""}),
        grown(type="thinking_delta", thinking="let "),
        grown(type="thinking_delta", thinking="me"),
        grown(type="signature_delta", signature="sig"),
        stopped(),
    ]
    unknown = [started({"type": "hologram", "shape": [1, {"a": 2}]}, 1), grown(1, type="x", extra=3), stopped(1)]
    server = [
        started({"type": "server_tool_use", "id": "s", "name": "web", "input": {}}, 2),
        grown(2, type="input_json_delta", partial_json='{"q":'),
        grown(2, type="input_json_delta", partial_json="1}"),
        stopped(2),
    ]
    reply = read(wire(BEGIN, *thinking, *unknown, *server, ended(), STOP))
    assert reply.content == (
        Opaque(block={"type": "thinking", "thinking": "let me", "signature": "sig"}),
        Opaque(block={"type": "hologram", "shape": [1, {"a": 2}], "extra": 3}),
        Opaque(block={"type": "server_tool_use", "id": "s", "name": "web", "input": {"q": 1}}),
    )


def call(*pieces: str, **block: Any) -> ToolUse:
    deltas = [grown(type="input_json_delta", partial_json=piece) for piece in pieces]
    return read(wire(BEGIN, started(TOOL | block), *deltas, stopped(), ended("tool_use"), STOP)).tool_uses[0]


@pytest.mark.parametrize(
    ("pieces", "reason"),
    [
        (['{"command": "ls'], "Unterminated string"),
        (['{"command": "ls"'], "not valid JSON"),
        (["{'command': 1}"], "not valid JSON"),
        (['{"a":1}', '{"b":2}'], "Extra data"),
        (["[1]"], "not a JSON object but an array"),
        (['"rm"'], "a string"),
        (["null"], "null"),
        (["7"], "a number"),
        (["true"], "a boolean"),
        (['{"a": NaN}'], "NaN is not a number"),
        (['{"a": -Infinity}'], "Infinity is not a number"),
        (['{"a": 1e999}'], "1e999 is not a number"),
        (['{"a": 1, "a": 2}'], "key 'a' is there twice"),
        (['{"x": {"a": 1, "a": 2}}'], "key 'a' is there twice"),
        (['{"a": "\\ud800"}'], "surrogate"),
        (['{"a": ' + "[" * 100 + "]" * 100 + "}"], "deeper than 64"),
        (['{"a": ' + "[" * 100_000], "deeper than 64"),
        (['{"a": ' + "9" * 5000 + "}"], "digits"),
        ([" "], "not valid JSON"),
    ],
    ids=lambda value: str(value)[:30],
)
def test_arguments_that_are_not_one_json_object_make_an_invalid_call(pieces: list[str], reason: str) -> None:
    use = call(*pieces)
    assert use.input == {}
    assert use.invalid is not None
    assert reason in use.invalid
    assert "\n" not in use.invalid


@pytest.mark.parametrize(
    ("pieces", "value"),
    [
        ([], {}),
        ([""], {}),
        (["", "{}"], {}),
        (['{"a": "\\ud83d', '\\ude00"}'], {"a": "😀"}),
        (['{"a": "', "é", '"}'], {"a": "é"}),
        (['{"a": "\\u0000"}'], {"a": "\0"}),
    ],
)
def test_good_arguments_come_through(pieces: list[str], value: dict[str, Any]) -> None:
    use = call(*pieces)
    assert (use.input, use.invalid) == (value, None)


def test_arguments_given_at_the_start_hold_when_no_pieces_come() -> None:
    assert call(input={"command": "ls"}).input == {"command": "ls"}


@settings(deadline=None)
@given(
    st.dictionaries(
        st.text(), json_values.filter(lambda v: "nan" not in repr(v).lower() and "inf" not in repr(v).lower())
    )
)
def test_arguments_are_what_the_model_wrote(value: dict[str, Any]) -> None:
    assert parse_arguments(json.dumps(value)) == value


def test_endless_lines_and_events_are_stopped() -> None:
    def line() -> Any:
        while True:
            yield b"data: " + b"x" * 65536

    def event() -> Any:
        while True:
            yield b"data: " + b"x" * 65530 + b"\n"

    for endless in (line(), event()):
        with pytest.raises(StreamBroken, match="longer than"):
            list(stream_events(endless))
