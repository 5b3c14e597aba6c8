"""Models that follow a script: a real HTTP server on loopback speaks the Messages API, and the real SDK talks to it.

Only the address differs from `anthropic:`, so that demos, tests and benchmarks run the very code that costs money.
"""

from __future__ import annotations

import json
import re
import secrets
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from itertools import chain, pairwise, repeat
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self

from runner.messages import Usage
from runner.models.anthropic import AnthropicModel
from runner.models.api_rules import ApiMessage, ApiRequest, Refused, judge, thoughts_of
from runner.models.exchange import Exchange, event, receive
from runner.models.governor import Governors
from runner.models.meter import Meter
from runner.models.retry import RetryBudget
from runner.models.script import Trouble, Turn, load_script
from runner.models.secret import Secret
from runner.models.spool import Spool

PIECE_CHARS = 200
"""Text and arguments come in pieces of this size, so that readers have something to put together."""
_STOP_SECONDS = 5.0


def open_scripted(
    file: str,
    *,
    folder: Path,
    budget: RetryBudget,
    spool: Spool | None = None,
    governors: Governors | None = None,
) -> AnthropicModel:
    """`scripted:FILE`, FILE seen from `folder`. Raises ConfigError. The server runs until the model is closed."""
    path = folder / file
    script = load_script(path)
    server = ScriptedServer(script.turns, model=script.model, source=str(path), keep_requests=False, catches_up=True)
    server.start()
    return AnthropicModel(
        f"scripted:{file}",
        script.model,
        base_url=server.url,
        key=Secret(server.key),
        budget=budget,
        spool=spool,
        governors=governors,
        on_close=server.stop,
    )


class Received(NamedTuple):
    """A request that the server took for valid."""

    body: dict[str, Any]
    headers: dict[str, str]
    """By lower-case names."""
    port: int
    """The client's: tells its connections apart."""


class ScriptedServer:
    """Serves turns, one to each valid request, on a port of 127.0.0.1 of its own; a context manager.

    A turn is a Turn, or a function that answers in its own way: it is given the Exchange, and the connection is closed
    when it returns. Requests are judged as the API would: what it refuses is answered with 400 and uses up no turn.
    """

    def __init__(
        self,
        turns: Sequence[Turn | Callable[[Exchange], None]],
        *,
        model: str = "scripted",
        source: str = "the script",
        key: str | None = None,
        keep_requests: bool = True,
        catches_up: bool = False,
    ) -> None:
        """`source` is what the turns came from, for messages; `key` is the API key to ask for, else a new one.

        `catches_up`: the first request may go on with a conversation that another server of the same turns has begun.
        """
        self.key = key or secrets.token_hex(16)
        self.requests: list[Received] = []
        """Valid requests so far; kept only if asked for, because each one repeats the conversation before it."""
        self._turns = chain.from_iterable(repeat(turn, turn.repeat if isinstance(turn, Turn) else 1) for turn in turns)
        self._model = model
        self._source = source
        self._keep_requests = keep_requests
        self._is_behind = catches_up
        self._served = 0
        self._thoughts: set[tuple[str, str]] = set()
        self._meter = Meter()
        self._lock = threading.Lock()
        self._stopped = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._connections: dict[socket.socket, threading.Thread] = {}

        self._acceptor = threading.Thread(target=self._accept, name="scripted-model", daemon=True)

    def start(self) -> None:
        self._acceptor.start()

    def stop(self) -> None:
        """Close everything, whatever is under way; may be called twice."""
        if self._stopped.is_set():
            return
        self._stopped.set()
        if self._acceptor.is_alive():
            # Closing the listener would leave the thread in accept(): one more connection wakes it.
            with suppress(OSError), socket.create_connection(self._listener.getsockname(), _STOP_SECONDS):
                self._acceptor.join(_STOP_SECONDS)
        self._listener.close()
        with self._lock:
            connections = dict(self._connections)
        for connection, thread in connections.items():
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
            thread.join(_STOP_SECONDS)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    # -- connections

    def _accept(self) -> None:
        while True:
            connection, _ = self._listener.accept()
            if self._stopped.is_set():
                connection.close()
                return
            thread = threading.Thread(target=self._serve, args=(connection,), name="scripted-reply", daemon=True)
            with self._lock:
                self._connections[connection] = thread
            thread.start()

    def _serve(self, connection: socket.socket) -> None:
        # Disconnecting in the middle of anything is the client's right.
        with suppress(OSError), connection, connection.makefile("rb") as incoming:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            while (exchange := receive(incoming, connection, self._stopped)) is not None:
                if not self._answer(exchange):
                    break
        with self._lock:
            del self._connections[connection]

    # -- requests

    def _answer(self, exchange: Exchange) -> bool:
        """Whether the connection can serve another request."""
        problem = self._problem(exchange)
        if problem is not None:
            exchange.error(*problem)
            return False
        try:
            request = judge(exchange.body, thoughts=None if self._is_behind else self._thoughts)
        except Refused as refused:
            exchange.error(400, str(refused))
            return True
        number, turn = self._next_turn(request, exchange)
        if turn is None:
            exchange.error(400, f"{self._source} has no turn for request {number}")
            return True
        if not isinstance(turn, Turn):
            turn(exchange)
            return False
        return self._play(turn, number, request, exchange)

    def _problem(self, exchange: Exchange) -> tuple[int, str] | None:
        """Status and message for what is no Messages API request at all."""
        if (exchange.method, exchange.path) != ("POST", "/v1/messages"):
            return 404, f"{exchange.method} {exchange.path} is not served here"
        if self.key not in (
            exchange.headers.get("x-api-key"),
            exchange.headers.get("authorization", "")[len("Bearer ") :],
        ):
            return 401, "invalid x-api-key"
        if "anthropic-version" not in exchange.headers:
            return 400, "anthropic-version: header is required"
        if not exchange.headers.get("content-type", "").startswith("application/json"):
            return 400, "content-type: must be application/json"
        if exchange.is_too_long:
            return 413, "Request exceeds the maximum size"
        return None

    def _next_turn(
        self, request: ApiRequest, exchange: Exchange
    ) -> tuple[int, Turn | Callable[[Exchange], None] | None]:
        """The number of the request, from 1, and its turn: the next one that has no `when` or whose `when` matches."""
        said = _words_of(request.messages[-1])
        with self._lock:
            if self._is_behind:
                self._catch_up(request)
            self._served += 1
            if self._keep_requests:
                port = exchange.connection.getpeername()[1]
                self.requests.append(Received(json.loads(exchange.body), exchange.headers, port))
            for turn in self._turns:
                if not isinstance(turn, Turn) or turn.when is None or re.search(turn.when, said):
                    return self._served, turn
            return self._served, None

    def _catch_up(self, request: ApiRequest) -> None:
        """Pass over the turns that the conversation has had, as one that the server itself began would have."""
        self._is_behind = False
        self._thoughts.update(thoughts_of(request))
        for before, message in pairwise(request.messages):
            if message.role == "assistant":
                self._pass_over(_words_of(before))

    def _pass_over(self, said: str) -> None:
        """The next turn that replies to that, and those before it."""
        for turn in self._turns:
            if not isinstance(turn, Turn) or turn.when is None or re.search(turn.when, said):
                # Counted as if it had been asked for: ids are made of the number.
                self._served += 1
                if not isinstance(turn, Turn) or turn.fault is None or turn.fault.replies:
                    return

    # -- replies

    def _play(self, turn: Turn, number: int, request: ApiRequest, exchange: Exchange) -> bool:
        trouble = turn.fault or Trouble()
        self._stopped.wait(trouble.delay_seconds)
        if trouble.body is not None:
            exchange.whole(trouble.status or 200, trouble.body.encode(), trouble.headers)
            return True
        if trouble.status is not None:
            exchange.error(trouble.status, trouble.message, trouble.headers, kind=trouble.error)
            return True
        events = list(self._events(turn, number, request))
        exchange.stream(trouble.headers)
        if trouble.after is None:
            exchange.send(b"".join(events))
            exchange.end()
            return True
        exchange.send(b"".join(events[: trouble.after]))
        return exchange.break_off(trouble)

    def _events(self, turn: Turn, number: int, request: ApiRequest) -> Iterator[bytes]:
        blocks = list(_blocks(turn, number))
        self._thoughts.update((b["thinking"], b["signature"]) for b, _ in blocks if b["type"] == "thinking")
        size = sum(len(json.dumps(block)) + len(text) for block, text in blocks)
        usage = turn.usage.usage() if turn.usage else self._meter.usage(request, size)
        yield event("message_start", message=_message(f"msg_{number:05d}", self._model, usage))
        yield event("ping")
        for index, (block, text) in enumerate(blocks):
            yield from _block_events(index, block, text)
        stop_reason = turn.stop_reason or ("tool_use" if turn.tools else "end_turn")
        yield event(
            "message_delta",
            delta={"stop_reason": stop_reason, "stop_sequence": None},
            usage={"output_tokens": usage.output_tokens},
        )
        yield event("message_stop")


def _message(id: str, model: str, usage: Usage) -> dict[str, Any]:
    counts = {
        "input_tokens": usage.input_tokens,
        "cache_creation_input_tokens": usage.cache_write_tokens,
        "cache_read_input_tokens": usage.cache_read_tokens,
        # The first token; message_delta has the true number.
        "output_tokens": min(1, usage.output_tokens),
    }
    message = {"id": id, "type": "message", "role": "assistant", "model": model, "content": [], "usage": counts}
    return message | {"stop_reason": None, "stop_sequence": None}


def _blocks(turn: Turn, number: int) -> Iterator[tuple[dict[str, Any], str]]:
    """The blocks of a reply, each with the text that its deltas carry."""
    if turn.thinking is not None:
        yield {"type": "thinking", "thinking": turn.thinking, "signature": f"signature-{number:05d}"}, turn.thinking
    if turn.text:
        yield {"type": "text", "text": ""}, turn.text
    for index, call in enumerate(turn.tools):
        id = call.id or f"toolu_{number:05d}_{index}"
        text = json.dumps(call.input) if call.json_text is None else call.json_text
        yield {"type": "tool_use", "id": id, "name": call.name, "input": {}}, text


def _block_events(index: int, block: dict[str, Any], text: str) -> Iterator[bytes]:
    kind, key = {
        "thinking": ("thinking_delta", "thinking"),
        "text": ("text_delta", "text"),
        "tool_use": ("input_json_delta", "partial_json"),
    }[block["type"]]
    start = block | ({"thinking": "", "signature": ""} if kind == "thinking_delta" else {})
    yield event("content_block_start", index=index, content_block=start)
    for at in range(0, len(text), PIECE_CHARS):
        yield event("content_block_delta", index=index, delta={"type": kind, key: text[at : at + PIECE_CHARS]})
    if kind == "thinking_delta":
        signature = {"type": "signature_delta", "signature": block["signature"]}
        yield event("content_block_delta", index=index, delta=signature)
    yield event("content_block_stop", index=index)


def _words_of(message: ApiMessage) -> str:
    """What a message says: its text and the answers of tools."""
    return "\n".join(_words(block) for block in message.blocks)


def _words(block: Any) -> str:
    content = getattr(block, "content", getattr(block, "text", ""))
    return content if isinstance(content, str) else "\n".join(part.text for part in content)
