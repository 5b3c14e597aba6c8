"""Anthropic's Messages API as a Model."""

from __future__ import annotations

import gc
import json
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import closing, contextmanager
from decimal import Decimal
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from runner.errors import ConfigError
from runner.messages import Block, Message, Opaque, Price, Reply, Request, Retried, Text, ToolResult, ToolUse, Usage
from runner.models.prices import known_models, price_of
from runner.models.retry import Fault, RetryBudget, persist
from runner.models.secret import Secret
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
_CACHE_POINT = {"type": "ephemeral"}
_CACHED_USER_MESSAGES = 2
"""With the ones after tools and system, the four cache points that the API allows."""


def open_anthropic(model: str, *, variables: Mapping[str, str], budget: RetryBudget) -> AnthropicModel:
    """`anthropic:MODEL`, with key, address and proxy from the host's variables. Raises ConfigError."""
    name = f"anthropic:{model}"
    key = variables.get("ANTHROPIC_API_KEY", "").strip()
    if not key:
        raise ConfigError(f"{name}: ANTHROPIC_API_KEY is not set; export it, or use a model `scripted:FILE`")
    if not re.fullmatch(r"[!-~]+", key):
        raise ConfigError(f"{name}: ANTHROPIC_API_KEY holds blanks or characters that no key has; copy it again")
    base_url = _base_url(variables.get("ANTHROPIC_BASE_URL", "") or BASE_URL)
    proxy = _proxy(base_url, variables)
    return AnthropicModel(name, model, base_url=base_url, key=Secret(key), proxy=proxy, budget=budget)


def warm_sdk() -> None:
    """Start importing the SDK in the background, to hide it behind something slow that is not Python."""
    threading.Thread(target=_warm, name="import-anthropic", daemon=True).start()


class AnthropicModel:
    """One model for one job; see `runner.models.base.Model`."""

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
        on_close: Callable[[], None] = lambda: None,
    ) -> None:
        self.name = name
        self._model = model
        self._base_url = base_url
        self._key = key
        self._proxy = proxy
        self._budget = budget
        self._silence_seconds = silence_seconds
        self._on_close = on_close
        self._client: Client | None = None

    @property
    def price(self) -> Price | None:
        return price_of(self._model)

    def reply(
        self,
        request: Request,
        *,
        on_text: Callable[[str], None] | None = None,
        on_retry: Callable[[Retried], None] | None = None,
    ) -> Reply:
        deadline = time.monotonic() + request.seconds
        body = json.dumps(request_body(request, self._model), ensure_ascii=False).encode(errors="replace")
        taken_ids = {b.id for m in request.messages for b in m.content if isinstance(b, ToolUse)}
        return persist(
            lambda: self._attempt(body, taken_ids, request.max_tokens, deadline, on_text),
            name=self.name,
            budget=self._budget,
            deadline=deadline,
            cost_usd=self._cost_usd,
            on_retry=on_retry,
        )

    def close(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None
        self._on_close()

    def _connect(self) -> Client:
        # A client of its own for each job takes half a millisecond; what is dear, the SDK and the system's
        # certificates, all clients of the process share.
        if self._client is None:
            self._client = import_client()(self._base_url, self._key, proxy=self._proxy)
        return self._client

    def _cost_usd(self, usage: Usage) -> Decimal | None:
        return self.price.cost_usd(usage) if usage.total_tokens and self.price else None

    def _attempt(
        self,
        body: bytes,
        taken_ids: Iterable[str],
        max_tokens: int,
        deadline: float,
        on_text: Callable[[str], None] | None,
    ) -> Reply:
        """One try. Raises Fault, which knows what the provider will bill for it."""
        client = self._connect()
        assembly = Assembly(frozenset(taken_ids))
        try:
            with closing(client.post(body, deadline=deadline, silence=self._silence_seconds)) as chunks:
                for event in stream_events(chunks):
                    text = assembly.add(event)
                    if text and on_text is not None:
                        on_text(client.scrub(text))
                    if assembly.finished:
                        break
                client.settle(chunks)
            return _scrubbed(assembly.reply(), client.scrub)
        except (Fault, StreamBroken, ErrorEvent) as error:
            fault = _fault(error, client.scrub)
        fault.usage = assembly.usage
        if assembly.started:
            fault.worst_usage = assembly.usage.model_copy(update={"output_tokens": max_tokens})
        raise fault


def _fault(error: Fault | StreamBroken | ErrorEvent, scrub: Callable[[str], str]) -> Fault:
    match error:
        case Fault():
            return error
        case ErrorEvent(kind=kind):
            return Fault(scrub(f"the provider broke off: {error}"), retryable=kind not in _FINAL_ERRORS)
        case StreamBroken():
            return Fault(scrub(f"broken stream: {error}"), retryable=True)


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
