"""Anthropic's Messages API as a Model."""

from __future__ import annotations

import gc
import json
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from runner.errors import ConfigError
from runner.messages import Block, Message, Opaque, Price, Reply, Request, Retried, Text, ToolResult, ToolUse, Usage
from runner.models.base import Pay, Payment, request_hash
from runner.models.governor import Governors
from runner.models.prices import known_models, price_of
from runner.models.retry import CLOSED, Fault, RetryBudget, persist
from runner.models.secret import Secret
from runner.models.spool import Spool, SpoolHeader
from runner.models.stream import Assembly, ErrorEvent, StreamBroken, stream_events

if TYPE_CHECKING:
    from runner.models.sdk import Client

BASE_URL = "https://api.anthropic.com"
SILENCE_SECONDS = 180.0
"""The API sends pings every few seconds; so long without a byte means that the connection is dead."""
_FINAL_ERRORS = frozenset(
    ("invalid_request_error", "authentication_error", "permission_error", "not_found_error", "request_too_large")
    + ("billing_error",)
)
"""Error events that will come again when the same is asked again."""
_OVERLOADED_ERRORS = frozenset(("overloaded_error", "rate_limit_error"))
"""Error events that say what the statuses 529 and 429 say."""
_CACHE_POINT = {"type": "ephemeral"}
_CACHED_USER_MESSAGES = 2
"""With the ones after tools and system, the four cache points that the API allows."""


def open_anthropic(
    model: str,
    *,
    variables: Mapping[str, str],
    budget: RetryBudget,
    spool: Spool | None = None,
    governors: Governors | None = None,
) -> AnthropicModel:
    """`anthropic:MODEL`, with key, address and proxy from the host's variables. Raises ConfigError."""
    name = f"anthropic:{model}"
    key = variables.get("ANTHROPIC_API_KEY", "").strip()
    if not key:
        raise ConfigError(f"{name}: ANTHROPIC_API_KEY is not set; export it, or use a model `scripted:FILE`")
    if not re.fullmatch(r"[!-~]+", key):
        raise ConfigError(f"{name}: ANTHROPIC_API_KEY holds blanks or characters that no key has; copy it again")
    base_url = _base_url(variables.get("ANTHROPIC_BASE_URL", "") or BASE_URL)
    proxy = _proxy(base_url, variables)
    return AnthropicModel(
        name,
        model,
        base_url=base_url,
        key=Secret(key),
        proxy=proxy,
        budget=budget,
        spool=spool,
        governors=governors,
    )


def warm_sdk() -> None:
    """Start importing the SDK in the background, to hide it behind something slow that is not Python."""
    threading.Thread(target=_warm, name="import-anthropic", daemon=True).start()


class AnthropicModel:
    """One model for one job; see `runner.models.base.Payable`."""

    def __init__(
        self,
        name: str,
        model: str,
        *,
        base_url: str,
        key: Secret,
        budget: RetryBudget,
        proxy: str | None = None,
        silence_seconds: float = SILENCE_SECONDS,
        spool: Spool | None = None,
        governors: Governors | None = None,
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self._model = model
        self._base_url = base_url
        self._key = key
        self._proxy = proxy
        self._budget = budget
        self._silence_seconds = silence_seconds
        self._spool = spool
        self._governor = None if governors is None else governors.of(base_url, key)
        self._on_close = on_close
        self._client: Client | None = None
        self._closed = threading.Event()
        self._under_way = 0
        """Replies."""
        self._counting = threading.Lock()

    @property
    def price(self) -> Price | None:
        return price_of(self._model)

    def reply(
        self,
        request: Request,
        *,
        on_text: Callable[[str], None] | None = None,
        on_retry: Callable[[Retried], None] | None = None,
        pay: Pay | None = None,
    ) -> Reply:
        deadline = time.monotonic() + request.seconds
        asked = _Asked(
            body=request_body(request, self._model),
            hash=request_hash(request) if self._spool else "",
            taken_ids=frozenset(b.id for m in request.messages for b in m.content if isinstance(b, ToolUse)),
            deadline=deadline,
            on_text=on_text,
        )
        with self._counted():
            return persist(
                lambda payment, tried: self._attempt(asked, payment, tried),
                name=self.name,
                budget=self._budget,
                deadline=deadline,
                pay=pay or (lambda: _free(request)),
                cost_usd=self._cost_usd,
                on_retry=on_retry,
                place=self._governor.line_up(request.input_tokens) if self._governor else None,
                closed=self._closed,
            )

    def close(self) -> None:
        self._closed.set()
        if self._client is not None:
            self._client.abort()
        if self._governor is not None:
            self._governor.look_again()
        with self._counting:
            if self._under_way:
                # It comes to its end now; what it uses is let go of when its own thread closes, too.
                return
            if self._spool is not None:
                self._spool.close()
            if self._client is not None:
                self._client.close()
                self._client = None
        self._on_close()

    @contextmanager
    def _counted(self) -> Iterator[None]:
        with self._counting:
            self._under_way += 1
        try:
            yield
        finally:
            with self._counting:
                self._under_way -= 1

    def _connect(self) -> Client:
        # A client of its own for each job takes half a millisecond; what is dear, the SDK and the system's
        # certificates, all clients of the process share.
        if self._client is None:
            self._client = import_client()(self._base_url, self._key, proxy=self._proxy)
        return self._client

    def _cost_usd(self, usage: Usage) -> Decimal | None:
        return self.price.cost_usd(usage) if usage.total_tokens and self.price else None

    def _attempt(self, asked: _Asked, payment: Payment, tried: int) -> Reply:
        """One try. Raises Fault, which knows what the provider will bill for it."""
        client = self._connect()
        if self._closed.is_set():
            raise Fault(CLOSED)
        assembly = Assembly(asked.taken_ids)
        body = json.dumps(asked.body | {"max_tokens": payment.max_tokens}, ensure_ascii=False)
        self._spool_begins(asked, payment, tried)
        try:
            with closing(
                client.post(body.encode(errors="replace"), deadline=asked.deadline, silence=self._silence_seconds)
            ) as chunks:
                for event in stream_events(self._spool.keep(chunks) if self._spool else chunks):
                    text = assembly.add(event)
                    if text and asked.on_text is not None:
                        asked.on_text(client.scrub(text))
                    if assembly.finished:
                        break
                client.settle(chunks)
            reply = _scrubbed(assembly.reply(), client.scrub)
            if self._spool:
                self._spool.end()
            return reply
        except (Fault, StreamBroken, ErrorEvent) as error:
            fault = _fault(error, client.scrub)
        fault.usage = assembly.usage
        fault.worst_usage = assembly.worst_usage(payment.worst_usage) if assembly.started or fault.in_doubt else Usage()
        if self._spool:
            self._spool.end()
        raise fault

    def _spool_begins(self, asked: _Asked, payment: Payment, tried: int) -> None:
        if self._spool is not None:
            self._spool.begin(
                SpoolHeader(
                    request_hash=asked.hash,
                    attempt=tried,
                    model=self._model,
                    max_tokens=payment.max_tokens,
                    worst_usage=payment.worst_usage,
                    micro_usd=payment.micro_usd,
                )
            )


@dataclass(frozen=True, kw_only=True, slots=True)
class _Asked:
    """What all tries of a request have in common."""

    body: dict[str, Any]
    hash: str
    """Of the request; empty when nobody wants to know."""
    taken_ids: frozenset[str]
    """Of the conversation's tool calls, which no new one may have."""
    deadline: float
    """On time.monotonic()."""
    on_text: Callable[[str], None] | None


def _free(request: Request) -> Payment:
    """What a try may be where nobody counts money."""
    return Payment(
        max_tokens=request.max_tokens,
        worst_usage=Usage(input_tokens=request.input_tokens, output_tokens=request.max_tokens),
    )


def _fault(error: Fault | StreamBroken | ErrorEvent, scrub: Callable[[str], str]) -> Fault:
    match error:
        case Fault():
            return error
        case ErrorEvent(kind=kind):
            return Fault(
                scrub(f"the provider broke off: {error}"),
                retryable=kind not in _FINAL_ERRORS,
                overloaded=kind in _OVERLOADED_ERRORS,
            )
        case StreamBroken():
            return Fault(scrub(f"broken stream: {error}"), retryable=True, in_doubt=True)


def _scrubbed(reply: Reply, scrub: Callable[[str], str]) -> Reply:
    text = reply.model_dump_json()
    clean = scrub(text)
    return reply if clean == text else Reply.model_validate_json(clean)


# --- the request


def request_body(request: Request, model: str) -> dict[str, Any]:
    """The JSON of a /v1/messages request, with its prompt-cache points (https://docs.anthropic.com/en/docs/build-with-claude/prompt-caching)."""
    body: dict[str, Any] = {
        "model": model,
        "max_tokens": request.max_tokens,
        "stream": True,
        "messages": _messages(request.messages),
    }
    if request.system:
        body["system"] = [{"type": "text", "text": request.system, "cache_control": _CACHE_POINT}]
    if request.tools:
        body["tools"] = [tool.model_dump() for tool in request.tools]
        body["tools"][-1]["cache_control"] = _CACHE_POINT
    return body


def _messages(messages: Iterable[Message]) -> list[dict[str, Any]]:
    turns: list[dict[str, Any]] = []
    for message in messages:
        content = [_wire_block(block) for block in message.content if not _is_blank(block)]
        if turns and turns[-1]["role"] == message.role:
            turns[-1]["content"] += content
        elif content:
            turns.append({"role": message.role, "content": content})
    users = [turn for turn in turns if turn["role"] == "user"]
    for turn in users:
        # The API wants the results of tools before anything else that the user says.
        turn["content"].sort(key=lambda block: block["type"] != "tool_result")
    for turn in users[-_CACHED_USER_MESSAGES:]:
        turn["content"][-1]["cache_control"] = _CACHE_POINT
    return turns


def _is_blank(block: Block) -> bool:
    # The API answers 400 to them, even to those that it sent.
    return isinstance(block, Text) and not block.text.strip()


def _wire_block(block: Block) -> dict[str, Any]:
    match block:
        case Text(text=text):
            return {"type": "text", "text": text}
        case ToolUse(id=id, name=name, input=input):
            return {"type": "tool_use", "id": id, "name": name, "input": input}
        case ToolResult(tool_use_id=id, content=content, is_error=is_error):
            return {"type": "tool_result", "tool_use_id": id, "content": content} | (
                {"is_error": True} if is_error else {}
            )
        case Opaque(block=opaque):
            return dict(opaque)


# --- the client


def import_client() -> type[Client]:
    """The class; the first call imports the SDK behind it, which takes most of a second."""
    with _collector_paused():
        from runner.models.sdk import Client  # noqa: PLC0415  see above

        return Client


def _warm() -> None:
    with _collector_paused():
        import_client()
        known_models()


@contextmanager
def _collector_paused() -> Iterator[None]:
    # The SDK makes a hundred thousand objects that stay: looking for garbage among them takes a third of its import.
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _base_url(url: str) -> str:
    problem = ConfigError("ANTHROPIC_BASE_URL: must be an address like https://host[:port][/path]")
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port or 1) > 0
    except ValueError:
        raise problem from None
    if not valid or parts.query or parts.fragment or not url.isprintable() or " " in url:
        raise problem
    return url


def _proxy(base_url: str, variables: Mapping[str, str]) -> str | None:
    """The proxy for an address, by the usual variables (`https_proxy`, `HTTPS_PROXY`, `ALL_PROXY`, `NO_PROXY`)."""
    proxies = {
        name.lower().removesuffix("_proxy"): value
        # In this order the lower-case variable wins, as it does elsewhere.
        for name, value in sorted(variables.items())
        if name.lower().endswith("_proxy") and value
    }
    address = urlsplit(base_url)
    proxy = proxies.get(address.scheme) or proxies.get("all")
    if proxy is None or _is_exempt(address.hostname or "", proxies.get("no", "")):
        return None
    proxy = proxy if "://" in proxy else f"http://{proxy}"
    if urlsplit(proxy).scheme not in ("http", "https", "socks5", "socks5h"):
        raise ConfigError(f"{address.scheme}_proxy: must begin with http://, https:// or socks5://")
    return proxy


def _is_exempt(host: str, no_proxy: str) -> bool:
    names = [entry.strip().partition(":")[0].lstrip("*.").lower() for entry in no_proxy.split(",")]
    return "*" in no_proxy.split(",") or any(name and (host == name or host.endswith(f".{name}")) for name in names)
