"""What a provider, or somebody in between, can do to a request; the scripted server does it, over a real socket.

The scenarios are those that the SDK alone gets wrong, or that loops get wrong on top of it: each ends in a whole reply
or in a NoReply with a reason, in bounded time and memory, and no tool call is ever taken from half a reply.
"""

from __future__ import annotations

import gzip
import json
import socket
import threading
import time
import tracemalloc
from collections.abc import Callable
from contextlib import closing
from decimal import Decimal
from typing import Any

import pytest

from runner.messages import Opaque, Reply, Request, Retried, Text, ToolUse, Usage
from runner.models import NoReply, RetryBudget
from runner.models.anthropic import AnthropicModel
from runner.models.exchange import Exchange, event
from runner.models.script import ScriptedCall, ScriptedUsage, Trouble, Turn
from runner.models.secret import Secret

CALL = Turn(text="I look.", tools=(ScriptedCall(name="Bash", input={"command": "ls"}),))
GOOD = Turn(text="All is well.")
EVENTS = 10
"""That CALL is sent in: start, ping, three for the text, three for the call, delta, stop."""
SLOW = 8.0
"""Seconds; generous, for a busy machine. What is tested would else last for ever."""


def trouble(**kind: Any) -> Turn:
    return Turn(text="I look.", tools=CALL.tools, fault=Trouble(**kind))


def streamed(*data: bytes) -> Callable[[Exchange], None]:
    """Answers with just this stream, ended properly."""

    def answer(exchange: Exchange) -> None:
        exchange.stream()
        for piece in data:
            exchange.send(piece)
        exchange.end()

    return answer


def raw(data: bytes) -> Callable[[Exchange], None]:
    return lambda exchange: exchange.raw(data)


def events(*kinds: dict[str, Any]) -> bytes:
    return b"".join(event(**kind) for kind in kinds)


def begin(**usage: int) -> dict[str, Any]:
    counts = {"input_tokens": 100, "output_tokens": 1, **usage}
    return {"kind": "message_start", "message": {"id": "msg_x", "model": "claude-sonnet-4-6", "usage": counts}}


TOOL = {"type": "tool_use", "id": "toolu_x", "name": "Bash", "input": {}}
START_TOOL = {"kind": "content_block_start", "index": 0, "content_block": TOOL}
ARGUMENTS = {
    "kind": "content_block_delta",
    "index": 0,
    "delta": {"type": "input_json_delta", "partial_json": '{"command": "rm -rf ."}'},
}
STOP_BLOCK = {"kind": "content_block_stop", "index": 0}
END = {"kind": "message_delta", "delta": {"stop_reason": "tool_use"}, "usage": {"output_tokens": 20}}
STOP = {"kind": "message_stop"}
TOOL_CALL = (begin(), START_TOOL, ARGUMENTS, STOP_BLOCK, END, STOP)


# -- statuses


@pytest.mark.parametrize("status", [408, 409, 429, 500, 502, 503, 504, 529])
def test_transient_statuses_are_retried(bench: Callable[..., Any], ask: Callable[..., Request], status: int) -> None:
    told: list[Retried] = []
    made = bench(trouble(status=status), CALL, retries=1)
    assert made.model.reply(ask(), on_retry=told.append).tool_uses[0].input == {"command": "ls"}
    assert [one.status for one in told] == [status]
    assert "scripted trouble" in told[0].cause


@pytest.mark.parametrize(
    ("status", "said"),
    [
        (400, "invalid_request_error"),
        (401, "ANTHROPIC_API_KEY"),
        (402, "credit"),
        (403, "ANTHROPIC_API_KEY"),
        (404, "model id"),
        (413, "too long"),
        (418, "api_error"),
        (422, "api_error"),
    ],
)
def test_other_statuses_end_the_request_at_once(
    bench: Callable[..., Any], ask: Callable[..., Request], status: int, said: str
) -> None:
    made = bench(trouble(status=status), GOOD, retries=5)
    with pytest.raises(NoReply, match=rf"^anthropic:claude-sonnet-4-6: HTTP {status} .*{said}"):
        made.model.reply(ask())
    assert len(made.server.requests) == 1
    assert made.budget.tries == 5


@pytest.mark.parametrize("status", [429, 503, 529])
def test_x_should_retry_false_is_obeyed(bench: Callable[..., Any], ask: Callable[..., Request], status: int) -> None:
    made = bench(trouble(status=status, headers={"x-should-retry": "false"}), GOOD, retries=5)
    with pytest.raises(NoReply, match=str(status)):
        made.model.reply(ask())


def test_x_should_retry_true_is_obeyed(bench: Callable[..., Any], ask: Callable[..., Request]) -> None:
    assert bench(trouble(status=400, headers={"x-should-retry": "true"}), GOOD, retries=1).model.reply(ask()).text


@pytest.mark.parametrize("headers", [{"retry-after-ms": "120"}, {"retry-after": "0.12"}])
def test_retry_after_is_waited_for(
    bench: Callable[..., Any], ask: Callable[..., Request], headers: dict[str, str]
) -> None:
    told: list[Retried] = []
    began = time.monotonic()
    bench(trouble(status=429, headers=headers), GOOD, retries=1).model.reply(ask(), on_retry=told.append)
    assert time.monotonic() - began >= 0.12
    assert 0.12 <= told[0].wait_seconds < 0.2


@pytest.mark.parametrize("value", ["86400", "Fri, 31 Dec 2999 23:59:59 GMT"])
def test_a_long_retry_after_ends_the_request_at_once(
    bench: Callable[..., Any], ask: Callable[..., Request], value: str
) -> None:
    began = time.monotonic()
    with pytest.raises(NoReply, match=r"retry-after.*limits\.retry_seconds.*run the job again later"):
        bench(trouble(status=429, headers={"retry-after": value}), GOOD, retries=9).model.reply(ask())
    assert time.monotonic() - began < SLOW


def test_overload_that_does_not_end_uses_up_the_budget(bench: Callable[..., Any], ask: Callable[..., Request]) -> None:
    made = bench(*[trouble(status=529)] * 9, retries=4)
    with pytest.raises(NoReply, match=r"HTTP 529 overloaded_error: scripted trouble \(try 5\); .*limits\.retries"):
        made.model.reply(ask())
    assert len(made.server.requests) == 5


@pytest.mark.parametrize(
    "body", ["", "<html>busy</html>", "{", "[]", '{"error": 7}', '{"error": {"type": 1}}', "\u202e\x1b[31m"]
)
@pytest.mark.parametrize("status", [400, 529])
def test_any_body_of_an_error_is_survived(
    bench: Callable[..., Any], ask: Callable[..., Request], status: int, body: str
) -> None:
    with pytest.raises(NoReply, match=rf"HTTP {status}") as caught:
        bench(trouble(status=status, body=body)).model.reply(ask())
    assert str(caught.value).isprintable()


def test_an_endless_error_body_does_not_hide_its_status(bench: Callable[..., Any], ask: Callable[..., Request]) -> None:
    def endless(exchange: Exchange) -> None:
        exchange.raw(b"HTTP/1.1 529 Overloaded\r\ncontent-type: text/plain\r\n\r\n")
        while not exchange.stopped.is_set():
            exchange.raw(b"x" * 65536)

    assert bench(endless, GOOD, retries=1).model.reply(ask()).text == "All is well."


def test_an_error_body_that_never_comes_does_not_hide_its_status(
    bench: Callable[..., Any], ask: Callable[..., Request]
) -> None:
    def silent(exchange: Exchange) -> None:
        exchange.raw(b"HTTP/1.1 400 Bad Request\r\ncontent-length: 100\r\n\r\n")
        exchange.stopped.wait(SLOW)

    with pytest.raises(NoReply, match="HTTP 400"):
        bench(silent, silence=0.2).model.reply(ask())


# -- streams that break


@pytest.mark.parametrize("then", ["cut", "reset", "end", "garbage", "error"])
@pytest.mark.parametrize("after", range(EVENTS - 1))
def test_a_stream_that_breaks_anywhere_is_asked_for_again(
    bench: Callable[..., Any], ask: Callable[..., Request], after: int, then: str
) -> None:
    made = bench(trouble(after=after, then=then), CALL, retries=1)
    reply = made.model.reply(ask())
    assert reply.tool_uses == (ToolUse(id="toolu_00002_0", name="Bash", input={"command": "ls"}),)
    assert len(made.server.requests) == 2


@pytest.mark.parametrize("then", ["cut", "reset", "end", "garbage", "error"])
@pytest.mark.parametrize("after", range(EVENTS - 1))
def test_no_tool_call_of_a_broken_stream_comes_out(
    bench: Callable[..., Any], ask: Callable[..., Request], after: int, then: str
) -> None:
    with pytest.raises(NoReply):
        bench(trouble(after=after, then=then)).model.reply(ask())


@pytest.mark.parametrize("then", ["hang", "pings"])
@pytest.mark.parametrize("after", [0, 1, 5, EVENTS - 1])
def test_a_stream_that_never_ends_ends_at_the_deadline(
    bench: Callable[..., Any], ask: Callable[..., Request], after: int, then: str
) -> None:
    began = time.monotonic()
    with pytest.raises(NoReply, match="no finished reply within the time"):
        bench(trouble(after=after, then=then), GOOD, retries=3).model.reply(ask(seconds=0.3))
    assert 0.3 <= time.monotonic() - began < SLOW


def test_a_silent_connection_is_given_up_and_asked_again(
    bench: Callable[..., Any], ask: Callable[..., Request]
) -> None:
    told: list[Retried] = []
    made = bench(trouble(after=3, then="hang"), GOOD, retries=1, silence=0.2)
    assert made.model.reply(ask(), on_retry=told.append).text == "All is well."
    assert told[0].cause == "nothing came for 0.2 s"


def drip(data: bytes) -> Callable[[Exchange], None]:
    """A byte now and then: no read ever waits for long."""

    def answer(exchange: Exchange) -> None:
        for byte in data:
            if exchange.stopped.wait(0.02):
                return
            exchange.raw(bytes([byte]))

    return answer


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nx-filler: " + b"x" * 1000,
        b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n\r\n" + b": comment" * 100,
        b"HTTP/1.1 103 Early Hints\r\n\r\n" * 100,
    ],
    ids=["headers", "body", "informational"],
)
def test_a_byte_at_a_time_ends_at_the_deadline(
    bench: Callable[..., Any], ask: Callable[..., Request], data: bytes
) -> None:
    began = time.monotonic()
    with pytest.raises(NoReply, match="no finished reply within the time"):
        bench(drip(data)).model.reply(ask(seconds=0.4))
    assert time.monotonic() - began < SLOW


def test_a_server_that_does_not_read_ends_at_the_deadline(ask: Callable[..., Request]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        model = AnthropicModel(
            "model",
            "claude-sonnet-4-6",
            base_url=f"http://127.0.0.1:{listener.getsockname()[1]}",
            key=Secret("key"),
            budget=RetryBudget(tries=3, seconds=5),
        )
        with closing(model), pytest.raises(NoReply, match="no finished reply within the time"):
            model.reply(ask("x" * 20_000_000, seconds=0.5))


@pytest.mark.parametrize(
    "stream",
    [
        events(begin(), START_TOOL, ARGUMENTS, STOP_BLOCK, STOP),
        events(begin(), START_TOOL, ARGUMENTS, STOP_BLOCK, {**END, "delta": {"stop_reason": None}}, STOP),
        events(begin(), START_TOOL, ARGUMENTS, END, STOP),
        events(START_TOOL, ARGUMENTS, STOP_BLOCK, END, STOP),
        events(begin(), {**START_TOOL, "index": 3}, STOP_BLOCK, END, STOP),
        events(begin(), ARGUMENTS, END, STOP),
        events(
            begin(),
            START_TOOL,
            ARGUMENTS,
            STOP_BLOCK,
            {**START_TOOL, "index": 1},
            {**STOP_BLOCK, "index": 1},
            END,
            STOP,
        ),
        events(begin(), *TOOL_CALL),
        events(*TOOL_CALL).replace(b"rm -rf", b"\xff\xfe"),
        events(*TOOL_CALL).replace(b'"index": 0', b'"index": "0"'),
        events(*TOOL_CALL).replace(b'"type": "content_block_stop"', b'"type": ["content_block_stop"]'),
        events(*TOOL_CALL).replace(b"\n\n", b"\n"),
        events(*TOOL_CALL).replace(b"data:", b"date:"),
        events(*TOOL_CALL).replace(b'"input_tokens": 100', b'"input_tokens": null'),
        b"",
        b"\n\n\n\n",
        b"data: " + b"[" * 100_000 + b"\n\n",
    ],
    ids=lambda stream: str(len(stream)),
)
def test_an_ill_formed_stream_is_no_reply(
    bench: Callable[..., Any], ask: Callable[..., Request], stream: bytes
) -> None:
    with pytest.raises(NoReply, match="broken stream"):
        bench(streamed(stream)).model.reply(ask())


def test_blocks_after_message_stop_are_not_taken(bench: Callable[..., Any], ask: Callable[..., Request]) -> None:
    late = events({**START_TOOL, "index": 1}, {**ARGUMENTS, "index": 1}, {**STOP_BLOCK, "index": 1}, END, STOP)
    for pieces in ((events(*TOOL_CALL) + late,), (events(*TOOL_CALL), late)):
        reply = bench(streamed(*pieces)).model.reply(ask())
        assert [use.id for use in reply.tool_uses] == ["toolu_x"]


def test_a_server_that_goes_on_after_message_stop_does_not_hold_us(
    bench: Callable[..., Any], ask: Callable[..., Request]
) -> None:
    began = time.monotonic()
    assert bench(trouble(after=EVENTS, then="pings")).model.reply(ask(seconds=60)).tool_uses
    assert bench(trouble(after=EVENTS, then="hang")).model.reply(ask(seconds=60)).tool_uses
    assert time.monotonic() - began < SLOW


@pytest.mark.parametrize(
    "kind", ["overloaded_error", "api_error", "rate_limit_error", "timeout_error", "brand_new_error"]
)
def test_transient_error_events_are_retried(bench: Callable[..., Any], ask: Callable[..., Request], kind: str) -> None:
    assert bench(trouble(after=4, then="error", error=kind), GOOD, retries=1).model.reply(ask()).text


@pytest.mark.parametrize("kind", ["invalid_request_error", "authentication_error", "permission_error", "billing_error"])
def test_final_error_events_are_not_retried(bench: Callable[..., Any], ask: Callable[..., Request], kind: str) -> None:
    with pytest.raises(NoReply, match=rf"broke off: {kind}: scripted trouble"):
        bench(trouble(after=4, then="error", error=kind), GOOD, retries=3).model.reply(ask())


# -- connections


def test_nobody_listening_is_retried_and_then_said(bench: Callable[..., Any], ask: Callable[..., Request]) -> None:
    made = bench(retries=2)
    made.server.stop()
    with pytest.raises(NoReply, match=r"127\.0\.0\.1:\d+: .*refused \(try 3\); .*limits\.retries"):
        made.model.reply(ask())


@pytest.mark.parametrize(
    "data",
    [b"", b"\0\1\2\3", b"HTTP/1.1 abc\r\n\r\n", b"SSH-2.0-x\r\n", b"HTTP/1.1 200 OK\r\ncontent-le"],
    ids=repr,
)
def test_what_is_no_http_is_retried(bench: Callable[..., Any], ask: Callable[..., Request], data: bytes) -> None:
    assert bench(raw(data), GOOD, retries=1).model.reply(ask()).text == "All is well."


def test_headers_without_end_are_refused(bench: Callable[..., Any], ask: Callable[..., Request]) -> None:
    def endless(exchange: Exchange) -> None:
        exchange.raw(b"HTTP/1.1 200 OK\r\n")
        while not exchange.stopped.is_set():
            exchange.raw(b"x-filler: " + b"x" * 5000 + b"\r\n")

    with pytest.raises(NoReply):
        bench(endless).model.reply(ask())


@pytest.mark.parametrize("chunk", [b"zz\r\nabc\r\n", b"-5\r\nabc\r\n", b"ffffffffffffffffffffff\r\nabc\r\n"], ids=repr)
def test_broken_chunks_are_retried(bench: Callable[..., Any], ask: Callable[..., Request], chunk: bytes) -> None:
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    assert bench(raw(head + chunk), GOOD, retries=1).model.reply(ask()).text == "All is well."


def test_what_follows_a_reply_is_not_taken_for_the_next_one(
    bench: Callable[..., Any], ask: Callable[..., Request]
) -> None:
    def whole(text: str) -> bytes:
        start = {"kind": "content_block_start", "index": 0, "content_block": {"type": "text", "text": text}}
        body = events(begin(), start, STOP_BLOCK, END, STOP)
        head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\n"
        return head + b"content-length: %d\r\n\r\n%b" % (len(body), body)

    def twice(exchange: Exchange) -> None:
        exchange.raw(whole("first") + whole("smuggled"))
        exchange.stopped.wait(SLOW)

    made = bench(twice, Turn(text="second"), retries=1)
    assert made.model.reply(ask()).text == "first"
    assert made.model.reply(ask()).text == "second"


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirects_are_not_followed(bench: Callable[..., Any], ask: Callable[..., Request], status: int) -> None:
    other = bench(GOOD)
    made = bench(trouble(status=status, headers={"location": f"{other.server.url}/v1/messages"}), GOOD, retries=3)
    with pytest.raises(NoReply, match=rf"HTTP {status}: redirected to .* not followed"):
        made.model.reply(ask())
    assert other.server.requests == []


@pytest.mark.parametrize(
    "turn",
    [
        trouble(body="<html>Sign in to the wifi</html>", headers={"content-type": "text/html"}),
        trouble(body=json.dumps({"type": "message", "content": []})),
        trouble(status=204, body=""),
    ],
    ids=["html", "json", "empty"],
)
def test_a_success_that_is_no_stream_is_said_and_not_retried(
    bench: Callable[..., Any], ask: Callable[..., Request], turn: Turn
) -> None:
    with pytest.raises(NoReply, match="instead of an event stream; is ANTHROPIC_BASE_URL a Messages API"):
        bench(turn, GOOD, retries=3).model.reply(ask())


# -- sizes


def packed(status: int) -> Callable[[Exchange], None]:
    bomb = gzip.compress(b"\0" * 50_000_000)
    head = f"HTTP/1.1 {status} X\r\ncontent-type: text/event-stream\r\ncontent-encoding: gzip\r\n"
    return raw(f"{head}content-length: {len(bomb)}\r\n\r\n".encode() + bomb)


@pytest.mark.parametrize("status", [200, 400])
def test_a_gzip_bomb_is_not_unpacked(bench: Callable[..., Any], ask: Callable[..., Request], status: int) -> None:
    made = bench(GOOD, packed(status))
    made.model.reply(ask())
    tracemalloc.start()
    try:
        with pytest.raises(NoReply, match="compressed" if status == 200 else "HTTP 400"):
            made.model.reply(ask())
        assert tracemalloc.get_traced_memory()[1] < 8_000_000
    finally:
        tracemalloc.stop()


def test_we_ask_for_no_compression(bench: Callable[..., Any], ask: Callable[..., Request]) -> None:
    made = bench(GOOD)
    made.model.reply(ask())
    assert made.server.requests[0].headers["accept-encoding"] == "identity"


def test_a_reply_beyond_the_size_limit_is_refused(bench: Callable[..., Any], ask: Callable[..., Request]) -> None:
    def endless(exchange: Exchange) -> None:
        exchange.stream()
        exchange.send(events(begin()))
        while not exchange.stopped.is_set():
            exchange.send(event("ping", filler="x" * 100_000) * 10)

    with pytest.raises(NoReply, match="longer than 32 MiB"):
        bench(endless, GOOD, retries=3).model.reply(ask())


def test_a_long_reply_in_small_pieces_comes_through(bench: Callable[..., Any], ask: Callable[..., Request]) -> None:
    piece = event("content_block_delta", index=0, delta={"type": "text_delta", "text": "x"})
    start = {"kind": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
    reply = bench(streamed(events(begin(), start), *[piece * 100] * 200, events(STOP_BLOCK, END, STOP))).model.reply(
        ask()
    )
    assert reply.content == (Text(text="x" * 20_000),)


# -- tool calls


@pytest.mark.parametrize("arguments", ['{"command": "ls', "[]", "null", '{"command": NaN}', '{"a":1,"a":2}', "{}{}"])
def test_broken_arguments_never_become_an_empty_call(
    bench: Callable[..., Any], ask: Callable[..., Request], arguments: str
) -> None:
    turn = Turn(
        tools=(ScriptedCall(name="Bash", json_text=arguments), ScriptedCall(name="Bash", input={"command": "ls"}))
    )
    broken, good = bench(turn).model.reply(ask()).tool_uses
    assert broken.invalid
    assert good.invalid is None


def test_a_call_cut_by_max_tokens_is_invalid(bench: Callable[..., Any], ask: Callable[..., Request]) -> None:
    turn = Turn(tools=(ScriptedCall(name="Write", json_text='{"content": "half a fi'),), stop_reason="max_tokens")
    reply = bench(turn).model.reply(ask())
    assert reply.stop_reason == "max_tokens"
    assert reply.tool_uses[0].invalid


def test_two_calls_with_one_id_are_refused(bench: Callable[..., Any], ask: Callable[..., Request]) -> None:
    turn = Turn(tools=(ScriptedCall(name="Bash", id="same"), ScriptedCall(name="Bash", id="same")))
    with pytest.raises(NoReply, match="'same' came twice"):
        bench(turn).model.reply(ask())


def test_an_id_of_an_earlier_turn_is_refused(
    bench: Callable[..., Any], ask: Callable[..., Request], go_on: Callable[..., Request]
) -> None:
    turn = Turn(tools=(ScriptedCall(name="Bash", id="same"),))
    model = bench(turn, turn).model
    request = ask()
    reply = model.reply(request)
    with pytest.raises(NoReply, match="'same' came twice"):
        model.reply(go_on(request, reply))


# -- money


def test_the_usage_of_broken_streams_is_kept(bench: Callable[..., Any], ask: Callable[..., Request]) -> None:
    counted = ScriptedUsage(input_tokens=1000, output_tokens=50, cache_read_tokens=70, cache_write_tokens=30)
    cut = Turn(text="x", usage=counted, fault=Trouble(after=4))
    reply = bench(cut, trouble(status=529), cut, GOOD, retries=3).model.reply(ask())
    assert reply.wasted == Usage(input_tokens=2000, output_tokens=2, cache_read_tokens=140, cache_write_tokens=60)


def test_the_usage_of_the_last_try_is_in_the_error(bench: Callable[..., Any], ask: Callable[..., Request]) -> None:
    late = Turn(text="x", usage=ScriptedUsage(input_tokens=1000, output_tokens=50), fault=Trouble(after=6))
    with pytest.raises(NoReply) as caught:
        bench(late, late, retries=1).model.reply(ask())
    assert caught.value.last == Usage(input_tokens=1000, output_tokens=50)
    assert caught.value.last_worst == Usage(input_tokens=1000, output_tokens=1000)


def test_retries_stop_when_they_may_have_cost_too_much(bench: Callable[..., Any], ask: Callable[..., Request]) -> None:
    # 1000 tokens in and at most 1000 out, at 3 and 15 dollars per million: 0.018 for each try.
    cut = Turn(text="x", usage=ScriptedUsage(input_tokens=1000, output_tokens=50), fault=Trouble(after=4))
    made = bench(*[cut] * 9, retries=9, cost_usd=Decimal("0.05"))
    with pytest.raises(NoReply, match=r"limits\.retry_cost_usd"):
        made.model.reply(ask(max_tokens=1000))
    assert len(made.server.requests) == 3
    assert made.budget.cost_usd == Decimal("-0.004")


# -- several at once, and ends


def test_one_thread_s_deadline_does_not_touch_another_s(bench: Callable[..., Any], ask: Callable[..., Request]) -> None:
    made = bench(trouble(after=2, then="hang"), Turn(text="late", fault=Trouble(delay_seconds=0.6)))
    errors: list[NoReply] = []

    def impatient() -> None:
        try:
            made.model.reply(ask(seconds=0.3))
        except NoReply as error:
            errors.append(error)

    thread = threading.Thread(target=impatient)
    thread.start()
    while not made.server.requests:
        time.sleep(0.005)
    assert made.model.reply(ask(seconds=30)).text == "late"
    thread.join()
    assert len(errors) == 1


@pytest.mark.parametrize("after", [0, 2, 5])
def test_closing_from_another_thread_ends_a_reply_under_way(
    bench: Callable[..., Any], ask: Callable[..., Request], after: int
) -> None:
    made = bench(trouble(after=after, then="hang"), GOOD, retries=3, silence=600)

    def close() -> None:
        while not made.server.requests:
            time.sleep(0.005)
        made.model.close()

    closer = threading.Thread(target=close)
    closer.start()
    with pytest.raises(NoReply, match="the model was closed"):
        made.model.reply(ask(seconds=600))
    closer.join()
    assert len(made.server.requests) == 1


def test_a_closed_model_sends_nothing_and_does_not_wait(bench: Callable[..., Any], ask: Callable[..., Request]) -> None:
    made = bench(trouble(status=500, headers={"retry-after": "500"}), GOOD, retries=3, retry_seconds=1000)
    with pytest.raises(NoReply, match="the model was closed"):
        made.model.reply(ask(seconds=600), on_retry=lambda told: made.model.close())
    with pytest.raises(NoReply, match="the model was closed"):
        made.model.reply(ask())
    assert len(made.server.requests) == 1


def test_what_a_callback_raises_flies_through(bench: Callable[..., Any], ask: Callable[..., Request]) -> None:
    def broken(text: str) -> None:
        raise BrokenPipeError(text)

    made = bench(GOOD, GOOD, retries=3)
    with pytest.raises(BrokenPipeError):
        made.model.reply(ask(), on_text=broken)
    assert made.model.reply(ask()).text == "All is well."
    assert made.budget.tries == 3


def test_thinking_is_handed_back_unchanged(
    bench: Callable[..., Any], ask: Callable[..., Request], go_on: Callable[..., Request]
) -> None:
    model = bench(Turn(thinking="Let me see. " * 40, tools=CALL.tools), GOOD).model
    request = ask()
    reply: Reply = model.reply(request)
    assert isinstance(reply.content[0], Opaque)
    # The server refuses thinking that is not the one it gave out.
    assert model.reply(go_on(request, reply)).text == "All is well."


def test_one_connection_serves_the_whole_conversation(
    bench: Callable[..., Any], ask: Callable[..., Request], go_on: Callable[..., Request]
) -> None:
    made = bench(CALL, CALL, trouble(status=529), CALL, retries=1)
    request = ask()
    for _ in range(3):
        request = go_on(request, made.model.reply(request))
    assert len(made.server.requests) == 4
    assert len({received.port for received in made.server.requests}) == 1
