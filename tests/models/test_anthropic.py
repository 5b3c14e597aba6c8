"""Anthropic's API: what is sent, with what settings, and that the key goes nowhere else."""

from __future__ import annotations

import json
import logging
import socket
import ssl
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from runner.errors import ConfigError
from runner.messages import Message, Opaque, Reply, Request, Retried, Text, ToolResult, ToolSpec, ToolUse
from runner.models import NoReply, RetryBudget, open_model
from runner.models.anthropic import AnthropicModel, open_anthropic, request_body
from runner.models.exchange import Exchange, event
from runner.models.script import ScriptedCall, Trouble, Turn
from runner.models.scripted import ScriptedServer
from runner.models.secret import Secret
from runner.transcript import ModelFailed, ModelReplied, ModelRetried

GOOD = Turn(text="All is well.")


def opened(variables: Mapping[str, str], model: str = "claude-sonnet-4-6", retries: int = 0) -> AnthropicModel:
    return open_anthropic(model, variables=variables, budget=RetryBudget(tries=retries, seconds=5))


# -- the request


def user(*blocks: Any) -> Message:
    return Message(role="user", content=blocks)


def assistant(*blocks: Any) -> Message:
    return Message(role="assistant", content=blocks)


def body(*messages: Message, system: str = "Be brief.", tools: int = 2) -> dict[str, Any]:
    specs = tuple(ToolSpec(name=f"T{i}", description="d", input_schema={"type": "object"}) for i in range(tools))
    return request_body(Request(system=system, messages=messages, tools=specs, max_tokens=9, seconds=1), "m")


CALL = ToolUse(id="t1", name="Bash", input={"command": "ls"})
RESULT = ToolResult(tool_use_id="t1", content="")
POINT = {"type": "ephemeral"}


def test_a_request_is_what_the_api_documents() -> None:
    result = ToolResult(tool_use_id="t1", content="x", is_error=True)
    assert body(user(Text(text="Fix it.")), assistant(CALL), user(result)) == {
        "model": "m",
        "max_tokens": 9,
        "stream": True,
        "system": [{"type": "text", "text": "Be brief.", "cache_control": POINT}],
        "tools": [
            {"name": "T0", "description": "d", "input_schema": {"type": "object"}},
            {"name": "T1", "description": "d", "input_schema": {"type": "object"}, "cache_control": POINT},
        ],
        "messages": [
            {"role": "user", "content": [{"type": "text", "text": "Fix it.", "cache_control": POINT}]},
            {"role": "assistant", "content": [CALL.model_dump(exclude={"invalid"})]},
            {"role": "user", "content": [result.model_dump() | {"cache_control": POINT}]},
        ],
    }


def test_there_are_at_most_four_cache_points_and_the_last_messages_have_two() -> None:
    messages = [m for i in range(20) for m in (user(Text(text=f"u{i}")), assistant(Text(text=f"a{i}")))]
    sent = body(*messages, user(Text(text="end")))
    assert json.dumps(sent).count("cache_control") == 4
    marked = [m["content"][-1]["text"] for m in sent["messages"] if "cache_control" in m["content"][-1]]
    assert marked == ["u19", "end"]


def test_cache_points_stay_within_what_is_there() -> None:
    sent = body(user(Text(text="x")), system="", tools=0)
    assert set(sent) == {"model", "max_tokens", "stream", "messages"}
    assert json.dumps(sent).count("cache_control") == 1


def test_blocks_that_the_api_refuses_are_left_out() -> None:
    sent = body(user(Text(text="x")), assistant(Text(text=""), CALL, Text(text=" \n")), user(RESULT))
    assert [block["type"] for block in sent["messages"][1]["content"]] == ["tool_use"]


def test_messages_of_one_role_are_joined_with_results_first() -> None:
    sent = body(user(Text(text="x")), assistant(Text(text="")), user(Text(text="y")), assistant(CALL))
    assert [message["role"] for message in sent["messages"]] == ["user", "assistant"]
    sent = body(user(Text(text="x")), assistant(CALL), user(Text(text="hint")), user(RESULT))
    assert [block["type"] for block in sent["messages"][2]["content"]] == ["tool_result", "text"]


def test_opaque_blocks_go_back_as_they_came() -> None:
    block = {"type": "thinking", "thinking": " \n", "signature": "s", "new": {"deep": [None, 1.5]}}
    sent = body(user(Text(text="x")), assistant(Opaque(block=block)), user(Text(text="y")))
    assert sent["messages"][1]["content"] == [block]


def test_text_that_has_no_utf8_is_sent_all_the_same(bench: Callable[..., Any], ask: Callable[..., Request]) -> None:
    made = bench(GOOD)
    assert made.model.reply(ask("file \udcff.txt, 😀")).text == "All is well."
    assert made.server.requests[0].body["messages"][0]["content"][0]["text"] == "file ?.txt, 😀"


def test_the_next_turn_reads_from_the_cache_what_the_last_one_wrote(
    bench: Callable[..., Any], ask: Callable[..., Request], go_on: Callable[..., Request]
) -> None:
    model = bench(*[Turn(tools=(ScriptedCall(name="Bash"),))] * 3).model
    request = ask("Fix it. " * 100)
    first = model.reply(request)
    second = model.reply(request := go_on(request, first))
    third = model.reply(go_on(request, second))
    assert first.usage.cache_read_tokens == 0
    assert second.usage.cache_read_tokens == first.usage.cache_write_tokens > 0
    assert third.usage.cache_read_tokens == second.usage.cache_read_tokens + second.usage.cache_write_tokens


# -- settings


def test_a_missing_key_is_said_with_the_next_step() -> None:
    for variables in ({}, {"ANTHROPIC_API_KEY": ""}, {"ANTHROPIC_API_KEY": " \n"}):
        with pytest.raises(ConfigError, match=r"^anthropic:claude-sonnet-4-6: ANTHROPIC_API_KEY is not set; export it"):
            opened(variables)


@pytest.mark.parametrize("key", ["sk-ant canary", "sk-ant\ncanary", "sk-ant-cänary", "sk-ant-\x00canary"])
def test_a_key_that_cannot_be_one_is_refused_without_showing_it(key: str) -> None:
    with pytest.raises(ConfigError, match="copy it again") as caught:
        opened({"ANTHROPIC_API_KEY": key})
    assert "nary" not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "api.anthropic.com",
        "ftp://x",
        "https://",
        "https://u:secret@",
        "https://[::1",
        "https://x:99999",
        "https://x?a=b",
        "https://x y",
    ],
)
def test_an_address_that_is_none_is_refused_without_showing_it(url: str) -> None:
    with pytest.raises(ConfigError, match="ANTHROPIC_BASE_URL: must be an address like") as caught:
        opened({"ANTHROPIC_API_KEY": "k", "ANTHROPIC_BASE_URL": url})
    assert "secret" not in str(caught.value)


def test_the_host_s_own_environment_is_not_asked(monkeypatch: pytest.MonkeyPatch, ask: Callable[..., Request]) -> None:
    monkeypatch.setenv("ANTHROPIC_API_KEY", "from-the-environment")
    monkeypatch.setenv("ANTHROPIC_AUTH_TOKEN", "from-the-environment")
    monkeypatch.setenv("ANTHROPIC_BASE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    with (
        ScriptedServer([GOOD]) as server,
        closing(opened({"ANTHROPIC_API_KEY": server.key, "ANTHROPIC_BASE_URL": server.url})) as model,
    ):
        assert model.reply(ask()).text == "All is well."
        assert "from-the-environment" not in str(server.requests[0].headers)


def test_a_base_url_may_have_a_path(ask: Callable[..., Request]) -> None:
    with (
        ScriptedServer([GOOD]) as server,
        closing(opened({"ANTHROPIC_API_KEY": server.key, "ANTHROPIC_BASE_URL": f"{server.url}/gateway"})) as model,
        pytest.raises(NoReply, match="HTTP 404 .*POST /gateway/v1/messages"),
    ):
        model.reply(ask())


@pytest.mark.parametrize("name", ["http_proxy", "HTTP_PROXY", "ALL_PROXY"])
def test_requests_go_through_the_proxy_of_the_host(ask: Callable[..., Request], name: str) -> None:
    # The scripted server serves as the proxy: it is asked for a whole URL, of a host that does not exist.
    with ScriptedServer([GOOD]) as server:
        variables = {"ANTHROPIC_API_KEY": server.key, "ANTHROPIC_BASE_URL": "http://api.invalid", name: server.url}
        with closing(opened(variables)) as model:
            assert model.reply(ask()).text == "All is well."
        assert server.requests[0].headers["host"] == "api.invalid"


@pytest.mark.parametrize("exempt", ["*", "api.invalid", ".invalid", "other, *.invalid", "invalid:80"])
def test_no_proxy_is_obeyed(ask: Callable[..., Request], exempt: str) -> None:
    with ScriptedServer([GOOD]) as server:
        variables = {"ANTHROPIC_API_KEY": server.key, "ANTHROPIC_BASE_URL": "http://api.invalid"}
        variables |= {"http_proxy": server.url, "no_proxy": exempt}
        with closing(opened(variables)) as model, pytest.raises(NoReply, match=r"api\.invalid: "):
            model.reply(ask(seconds=5))
        assert server.requests == []


def test_a_proxy_that_is_none_is_refused() -> None:
    with pytest.raises(ConfigError, match="https_proxy: must begin with"):
        opened({"ANTHROPIC_API_KEY": "k", "https_proxy": "gopher://x"})


# -- TLS


@pytest.fixture
def tls_port(tmp_path: Path) -> Iterator[int]:
    """A port behind which a server speaks TLS with a certificate that nobody has signed."""
    subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1"]
    files = ["-keyout", str(tmp_path / "key"), "-out", str(tmp_path / "cert")]
    argv = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]
    subprocess.run([*argv, *subject, *files], check=True, capture_output=True, timeout=30)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert", tmp_path / "key")

    def serve(listener: socket.socket) -> None:
        while True:
            try:
                connection, _ = listener.accept()
                with connection, context.wrap_socket(connection, server_side=True):
                    pass
            except ssl.SSLError:
                continue
            except OSError:
                return

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, args=(listener,))
        thread.start()
        yield listener.getsockname()[1]
        listener.shutdown(socket.SHUT_RDWR)
        thread.join()


def test_a_certificate_that_is_not_trusted_ends_the_request_at_once(tls_port: int, ask: Callable[..., Request]) -> None:
    variables = {"ANTHROPIC_API_KEY": "k", "ANTHROPIC_BASE_URL": f"https://127.0.0.1:{tls_port}"}
    with closing(opened(variables, retries=5)) as model, pytest.raises(NoReply, match="CERTIFICATE_.*SSL_CERT_FILE"):
        model.reply(ask())


def test_a_tls_handshake_that_hangs_ends_at_the_deadline(ask: Callable[..., Request]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"https://127.0.0.1:{listener.getsockname()[1]}"
        model = opened({"ANTHROPIC_API_KEY": "k", "ANTHROPIC_BASE_URL": url})
        with closing(model), pytest.raises(NoReply, match="within the time"):
            model.reply(ask(seconds=0.3))


# -- the key


def canary() -> str:
    # Put together here, so that the text stands in no file and in no frame but this one.
    return "-".join(["sk", "ant", "api03", "canary", "0123456789"])


COUNTS = {"input_tokens": 1, "output_tokens": 1}


def echoing(exchange: Exchange) -> None:
    """A provider that says the key back wherever it can."""
    key = exchange.headers["authorization"].removeprefix("Bearer ")
    exchange.stream({"x-echo": key, "request-id": key})
    exchange.send(event("message_start", message={"id": key, "model": key, "usage": COUNTS}))
    blocks = [
        ({"type": "text", "text": ""}, {"type": "text_delta", "text": f"Your key is {key}."}),
        (
            {"type": "tool_use", "id": "t", "name": "Bash", "input": {}},
            {"type": "input_json_delta", "partial_json": json.dumps({key: [key]})},
        ),
        ({"type": "thinking", "thinking": key}, {"type": "signature_delta", "signature": key}),
    ]
    for index, (block, delta) in enumerate(blocks):
        exchange.send(event("content_block_start", index=index, content_block=block))
        exchange.send(event("content_block_delta", index=index, delta=delta))
        exchange.send(event("content_block_stop", index=index))
    exchange.send(event("message_delta", delta={"stop_reason": "end_turn"}, usage=COUNTS))
    exchange.send(event("message_stop"))
    exchange.end()


def echoing_error(status: int, *, body: bytes | None = None) -> Callable[[Exchange], None]:
    def answer(exchange: Exchange) -> None:
        key = exchange.headers["authorization"].removeprefix("Bearer ")
        if body is not None:
            exchange.whole(status, body.replace(b"KEY", key.encode()), {"location": f"http://{key}/"})
        else:
            exchange.error(status, f"bad key {key} {'x' * 250} {key}", {"x-key": key}, kind=key)

    return answer


def echoing_break(exchange: Exchange) -> None:
    key = exchange.headers["authorization"].removeprefix("Bearer ")
    exchange.stream()
    exchange.send(event("error", error={"type": key, "message": f"the key {key} is worn out"}))
    exchange.end()


def bad_tool(exchange: Exchange) -> None:
    key = exchange.headers["authorization"].removeprefix("Bearer ")
    exchange.stream()
    exchange.send(event("message_start", message={"id": "m", "model": "m", "usage": COUNTS}))
    block = {"type": "tool_use", "id": f"../{key}", "name": "Bash"}
    exchange.send(event("content_block_start", index=0, content_block=block))
    exchange.send(event("content_block_stop", index=0))
    exchange.end()


def in_pieces(exchange: Exchange) -> None:
    """No single read, and no single event, holds the whole key."""
    key = exchange.headers["authorization"].removeprefix("Bearer ")
    exchange.stream()
    exchange.send(event("message_start", message={"id": "m", "model": "m", "usage": COUNTS}))
    exchange.send(event("content_block_start", index=0, content_block={"type": "text", "text": "Your key is "}))
    for piece in (key[:9], key[9:], "."):
        exchange.send(event("content_block_delta", index=0, delta={"type": "text_delta", "text": piece}))
    exchange.send(event("content_block_stop", index=0))
    exchange.send(event("message_delta", delta={"stop_reason": "end_turn"}, usage=COUNTS) + event("message_stop"))
    exchange.end()


ECHOES = {
    "reply": echoing,
    "pieces": in_pieces,
    "400": echoing_error(400),
    "401": echoing_error(401),
    "529": echoing_error(529),
    "307": echoing_error(307),
    "text": echoing_error(500, body=b"KEY is not welcome"),
    "200": echoing_error(200, body=b"KEY"),
    "error event": echoing_break,
    "broken": bad_tool,
    "cut": Turn(text="x", fault=Trouble(after=3)),
    "reset": Turn(text="x", fault=Trouble(after=3, then="reset")),
    "hang": Turn(text="x", fault=Trouble(after=3, then="hang")),
}


@pytest.mark.parametrize("answer", ECHOES.values(), ids=ECHOES)
def test_the_key_is_in_no_repr_error_log_or_event(
    bench: Callable[..., Any], ask: Callable[..., Request], caplog: pytest.LogCaptureFixture, answer: Any
) -> None:
    caplog.set_level(logging.DEBUG)
    made = bench(answer, answer, retries=1, key=canary())
    seen: list[str] = [repr(made.model), str(made.model), repr(vars(made.model)), f"{made.model!r:>1}"]
    told: list[Retried] = []
    try:
        reply: Reply = made.model.reply(ask(seconds=1.5), on_text=seen.append, on_retry=told.append)
        replied = ModelReplied(turn=1, request_hash="", reply=reply, cost_usd=None, seconds=0)
        seen += [repr(reply), replied.model_dump_json()]
        assert reply.text.startswith("Your key is **")
    except NoReply as error:
        seen += [str(error), repr(error), repr(vars(error)), ModelFailed(turn=1, error=str(error)).model_dump_json()]
        seen += traceback.TracebackException.from_exception(error, capture_locals=True).format()
    seen += [ModelRetried(turn=1, retried=one).model_dump_json() for one in told]
    seen += [repr(vars(made.model._client)), caplog.text]
    assert made.server.requests[0].headers["authorization"] == f"Bearer {canary()}"
    assert not [text for text in seen if canary() in text]


def test_a_secret_shows_itself_only_when_asked() -> None:
    secret = Secret(canary())
    assert canary() not in f"{secret} {secret!r} {secret!s} {[secret]} {secret:}"
    assert secret.reveal() == canary()
    assert secret.scrub(f"a {canary()} b") == "a *** b"


# -- what it costs to begin


def test_opening_a_model_imports_no_sdk() -> None:
    code = (
        "import sys, pathlib; from runner.models import *\n"
        "open_model('anthropic:claude-sonnet-4-6', folder=pathlib.Path('.'), variables={'ANTHROPIC_API_KEY': 'k'},"
        " budget=RetryBudget(tries=0, seconds=0)).close()\n"
        "print(*(name in sys.modules for name in ('anthropic', 'httpx2', 'genai_prices')))"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert out.stdout.split() == ["False", "False", "False"]


def test_warming_imports_the_sdk_in_the_background() -> None:
    code = (
        "import sys, gc, threading; from runner.models import warm\n"
        "warm('replay:x'); assert threading.active_count() == 1\n"
        "warm('anthropic:x'); threads = threading.enumerate()\n"
        "[thread.join() for thread in threads if thread is not threading.main_thread()]\n"
        "print(len(threads), 'anthropic' in sys.modules, gc.isenabled())"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert out.stdout.split() == ["2", "True", "True"]


def test_a_model_that_was_never_used_closes() -> None:
    open_model(
        "anthropic:x", folder=Path(), variables={"ANTHROPIC_API_KEY": "k"}, budget=RetryBudget(tries=0, seconds=0)
    ).close()
