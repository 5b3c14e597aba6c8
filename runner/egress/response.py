"""A web server's response, as it comes."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import h11

from runner.egress.reach import Unreachable

MAX_HEADER = 64 * 1024
MAX_WORDS = 200
"""Of what a peer said, in a reason."""


def asking() -> h11.Connection:
    """HTTP/1.1 as one who asks speaks it."""
    return h11.Connection(h11.CLIENT, max_incomplete_event_size=MAX_HEADER)


def response(server: h11.Connection, recv: Callable[[], bytes]) -> Iterator[h11.Response | h11.Data]:
    """The head of the response, then its body piece by piece. Raises Unreachable for what is none, or not whole."""
    try:
        while not isinstance(event := _next(server, recv), h11.EndOfMessage):
            if isinstance(event, h11.Response | h11.Data):
                yield event
    except h11.RemoteProtocolError as error:
        raise Unreachable(f"the host's response is not HTTP: {str(error)[:MAX_WORDS]}") from None


def _next(server: h11.Connection, recv: Callable[[], bytes]) -> object:
    while (event := server.next_event()) is h11.NEED_DATA:
        data = recv()
        if not data and server.their_state is h11.SEND_RESPONSE:
            raise Unreachable("the host closed the connection without a response")
        server.receive_data(data)
    return event
