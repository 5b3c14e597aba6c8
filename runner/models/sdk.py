"""The anthropic SDK's client, the way we use it: one request, no retries, no redirects, the reply's bytes as they come.

Imported only when a request is made, or by `warm` in the background, because of the SDK's own import (`bench/sdk.py`
says what it takes). The SDK's stream classes are passed by: a request, put together and judged by us, costs half of
what its accumulating helper takes, and it is we who must judge every event (`runner.models.stream`).
"""

from __future__ import annotations

import ssl
import time
from collections.abc import Generator, Iterator
from contextlib import closing, suppress
from itertools import islice
from typing import cast

import anthropic
import httpcore2
import httpx2

from runner.models.retry import IN_DOUBT_STATUSES, OVERLOADED_STATUSES, Fault, is_retryable, retry_after_seconds
from runner.models.secret import Secret
from runner.models.wire import KEY_STAND_IN, Wire

SETTLE_SECONDS = 1.0
_SETTLE_CHUNKS = 16
_HEADERS = {"accept-encoding": "identity", "content-type": "application/json"}
_TRANSIENT = (OSError, httpcore2.NetworkError, httpcore2.RemoteProtocolError)
_HINTS = {
    401: "check ANTHROPIC_API_KEY",
    402: "check the account's credit",
    403: "check what ANTHROPIC_API_KEY may use",
    404: "check the model id, and ANTHROPIC_BASE_URL if it is set",
    413: "the conversation is too long for one request",
}


class Client:
    """Messages API requests to one address with one key. Safe to share between threads."""

    def __init__(self, base_url: str, key: Secret, *, proxy: str | None = None) -> None:
        self._key = key
        address = httpx2.URL(base_url)
        self._host = f"{address.host}:{address.port}" if address.port else address.host
        self._wire = Wire(key, tls=address.scheme == "https", proxy=proxy)
        self._sdk = anthropic.Anthropic(
            api_key=KEY_STAND_IN,
            base_url=base_url,
            max_retries=0,
            open_telemetry=False,
            # trust_env=False: no proxy of the environment that would go around our transport, no .netrc.
            http_client=httpx2.Client(transport=self._wire, follow_redirects=False, trust_env=False),
        )

    def post(self, body: bytes, *, deadline: float, silence: float) -> Generator[bytes]:
        """The bytes of the stream that answers a /v1/messages request. Raises Fault and nothing else.

        `deadline` is on time.monotonic(); `silence` is how many seconds may pass without a byte.
        """
        clock = self._wire.clock
        clock.deadline, clock.silence, clock.has_sent = deadline, silence, False
        try:
            with closing(self._send(body)) as response:
                self._require_events(response)
                yield from response.iter_raw()
            return
        except Exception as error:
            fault = self._fault(error)
        # Out of the except block, so that the fault holds no reference to the SDK's error and its request.
        raise fault

    def settle(self, chunks: Iterator[bytes]) -> None:
        """Read the little that may follow a finished reply: then the connection serves the next request too."""
        clock = self._wire.clock
        clock.deadline = min(clock.deadline, time.monotonic() + SETTLE_SECONDS)
        with suppress(Fault):
            for _ in islice(chunks, _SETTLE_CHUNKS):
                pass

    def scrub(self, text: str) -> str:
        """`text` without the key, should the other side have sent it back."""
        return self._key.scrub(text)

    def abort(self) -> None:
        """Have the request under way fail at once, and every later one. From any thread."""
        self._wire.abort()

    def close(self) -> None:
        self._sdk.close()

    def _send(self, body: bytes) -> httpx2.Response:
        response = self._sdk.post(
            "/v1/messages",
            content=body,
            cast_to=httpx2.Response,
            options={"headers": _HEADERS},
            stream=True,
            stream_cls=anthropic.Stream[object],
        )
        return cast(httpx2.Response, response)  # asked for by cast_to, which the SDK's types do not see

    def _require_events(self, response: httpx2.Response) -> None:
        kind = response.headers.get("content-type", "")
        if not kind.lower().startswith("text/event-stream"):
            raise Fault(
                self.scrub(
                    f"HTTP {response.status_code} with {kind or 'no content type'!r} instead of an event stream"
                ),
                status=response.status_code,
                hint="is ANTHROPIC_BASE_URL a Messages API?",
            )

    def _fault(self, error: Exception) -> Fault:
        """The fault behind whatever was raised on the way."""
        if isinstance(error, anthropic.APIStatusError):
            fault = self._status_fault(error)
        else:
            fault = next((e for e in _chain(error) if isinstance(e, Fault)), None) or self._connection_fault(error)
            fault.in_doubt = self._wire.clock.has_sent
        # What led to it has seen the request, key included: the frames of its traceback still hold it.
        fault.__cause__ = fault.__context__ = None
        return fault.with_traceback(None)

    def _status_fault(self, error: anthropic.APIStatusError) -> Fault:
        status, headers = error.status_code, error.response.headers
        if 300 <= status < 400:
            cause = f"HTTP {status}: redirected to {headers.get('location')!r}, which is not followed"
            return Fault(self.scrub(cause), status=status)
        return Fault(
            self.scrub(f"HTTP {status} {_explanation(error.body)}").strip(),
            status=status,
            retryable=is_retryable(status, headers),
            retry_after=retry_after_seconds(headers, time.time()),
            hint=_HINTS.get(status, ""),
            overloaded=status in OVERLOADED_STATUSES,
            in_doubt=status in IN_DOUBT_STATUSES,
        )

    def _connection_fault(self, error: Exception) -> Fault:
        chain = _chain(error)
        what = self.scrub(f"{self._host}: {str(chain[-1]) or type(chain[-1]).__name__}")
        if any(isinstance(e, ssl.SSLCertVerificationError) for e in chain):
            return Fault(what, hint="is a CA bundle missing? SSL_CERT_FILE names one")
        return Fault(what, retryable=any(isinstance(e, _TRANSIENT) for e in chain))


def _explanation(body: object) -> str:
    """`type: message` of an error body, or the text of whatever else came."""
    match body:
        case {"error": {"type": str(kind), "message": str(message)}}:
            return f"{kind}: {message}"
        case str(text):
            return text
        case _:
            return ""


def _chain(error: BaseException) -> list[BaseException]:
    chain = [error]
    while (cause := chain[-1].__cause__ or chain[-1].__context__) is not None and cause not in chain:
        chain.append(cause)
    return chain
