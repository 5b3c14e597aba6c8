"""The relay: a proxy port on the container's loopback, each connection to it a stream to the host.

What is said on the connections is none of the toolbox's business: the host parses, judges and answers.
"""

from __future__ import annotations

import os
import resource
import socket

from . import frames
from .stream import Stream

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

    from .loop import Loop

ADDRESS = "127.0.0.1"
BACKLOG = 128
FDS_SHARE = 8
"""One in so many of the toolbox's descriptors may be a tunnel; each needs two, and commands need some as well."""


def proxy_variables(port: int) -> dict[str, str]:
    """What commands are told, so that they use the proxy, and end at once, with its words, when it refuses them.

    The other end tries again by itself. pip shows why a connection failed only when it tries once more.
    """
    proxy = f"http://{ADDRESS}:{port}"
    direct = f"localhost,127.0.0.1,::1,0.0.0.0,{os.uname().nodename}"
    return {
        "HTTP_PROXY": proxy,
        "http_proxy": proxy,
        "HTTPS_PROXY": proxy,
        "https_proxy": proxy,
        "NO_PROXY": direct,
        "no_proxy": direct,
        "PIP_DISABLE_PIP_VERSION_CHECK": "1",
        "PIP_RETRIES": "1",
        "npm_config_fetch_retries": "0",
        "npm_config_update_notifier": "false",
    }


class Relay:
    """The listening socket and its tunnels. Does nothing before `listen`."""

    def __init__(self, loop: Loop, output: int) -> None:
        """Frames go to `output`."""
        self._loop, self._output = loop, output
        self._listener: socket.socket | None = None
        self._most = min(frames.MAX_TUNNELS, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // FDS_SHARE)
        self._streams: dict[int, Tunnel] = {}
        """Tunnels that the host has not ended."""
        self._open: set[Tunnel] = set()
        """Tunnels whose connection is open: the host may have ended one, and the process not have read all of it."""
        self._next = 2

    def listen(self, port: int) -> None:
        """Take connections from now on. Raises OSError when the port cannot be had."""
        self._listener = socket.create_server((ADDRESS, port), backlog=BACKLOG)
        self._listener.setblocking(False)
        self._loop.watch(self._listener.fileno(), self._accept)

    def receive(self, id: int, kind: int, payload: bytes) -> None:
        """A frame of the host for a tunnel. Raises ProtocolError."""
        tunnel = self._streams.get(id)
        if tunnel is None:
            raise frames.ProtocolError(f"tunnel {id} is not open")
        if kind == frames.DATA:
            tunnel.stream.take(payload)
        elif kind == frames.CREDIT:
            tunnel.stream.granted(frames.decode_credit(payload))
        elif kind == frames.END and frames.decode_json(payload) == {"answer": {}}:
            del self._streams[id]
            tunnel.finish()
        else:
            raise frames.ProtocolError("a tunnel is opened and cancelled by the toolbox alone")

    def _accept(self) -> None:
        assert self._listener is not None
        try:
            connection, _ = self._listener.accept()
        except OSError:
            return  # gone again, or there is no descriptor to be had: then it stays in the queue
        try:
            stream = Stream(self._next, self._output, window=frames.TUNNEL_WINDOW)
            tunnel = Tunnel(self._loop, connection, stream, on_close=self._closed)
        except OSError:
            connection.close()
            return
        self._streams[self._next] = tunnel
        self._open.add(tunnel)
        self._next += 2
        if len(self._open) >= self._most:
            self._loop.unwatch(self._listener.fileno())  # more wait in the queue

    def _closed(self, tunnel: Tunnel) -> None:
        assert self._listener is not None
        self._open.remove(tunnel)
        if not self._loop.watches(self._listener.fileno()):
            self._loop.watch(self._listener.fileno(), self._accept)


class Tunnel:
    """One connection, from its start to the host's END. Raises OSError when there is no descriptor for it."""

    def __init__(
        self, loop: Loop, connection: socket.socket, stream: Stream, *, on_close: Callable[[Tunnel], None]
    ) -> None:
        self.stream = stream
        self._loop, self._on_close = loop, on_close
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        # The loop watches a descriptor for one direction; this way there is one for each.
        self._source, self._drain = connection, connection.dup()
        self._buffer = bytearray()
        """What came from the host and the process has not taken yet; never more than the window."""
        self._reading = True
        self._host_wrote_all = False
        self._finished = False
        stream.receiver, stream.on_credit = self, self._watch_source
        stream.open({"op": "tunnel", "arguments": {}})
        self._watch_source()

    def data(self, payload: bytes) -> None:
        if not self.stream.closed:
            self._buffer += payload
            self._write()

    def end(self) -> None:
        """The host sends no more."""
        self._host_wrote_all = True
        if not self.stream.closed:
            self._write()

    def finish(self) -> None:
        """The host has ended the tunnel: what it sent before is still delivered."""
        self._finished = True
        self._stop_reading()
        if self.stream.closed:
            self._close()
        else:
            self.stream.closed = True
            self._write()

    def _watch_source(self) -> None:
        if self._reading and not self._loop.watches(self._source.fileno()):
            self._loop.watch(self._source.fileno(), self._read)

    def _read(self) -> None:
        """Pass one piece on. One only: a process that always writes must not keep the others waiting."""
        room = min(self.stream.credit, frames.MAX_DATA)
        if room == 0:
            self._loop.unwatch(self._source.fileno())
            return
        try:
            data = self._source.recv(room)
        except BlockingIOError:
            return
        except OSError:
            self._lose()
            return
        if not data:
            self._stop_reading()
        self.stream.send(data)

    def _write(self) -> None:
        """Hand over as much as the process takes now."""
        try:
            sent = self._drain.send(self._buffer) if self._buffer else 0
        except BlockingIOError:
            sent = 0
        except OSError:
            self._lose()
            return
        del self._buffer[:sent]
        self.stream.consumed(sent)
        if self._buffer:
            if not self._loop.watches(self._drain.fileno()):
                self._loop.watch(self._drain.fileno(), self._write, writable=True)
            return
        self._loop.unwatch(self._drain.fileno())
        if self._finished:
            self._close()
        elif self._host_wrote_all:
            self._shut()

    def _shut(self) -> None:
        try:
            self._drain.shutdown(socket.SHUT_WR)
        except OSError:
            self._lose()  # reset by the process meanwhile

    def _lose(self) -> None:
        """The process has closed its end, or is gone: nothing can be delivered any more."""
        if self._finished:
            self._close()
            return
        self._stop_reading()
        self._loop.unwatch(self._drain.fileno())
        self._buffer.clear()
        self.stream.closed = True
        self.stream.cancel()

    def _stop_reading(self) -> None:
        self._reading = False
        self._loop.unwatch(self._source.fileno())

    def _close(self) -> None:
        self._loop.unwatch(self._source.fileno())
        self._loop.unwatch(self._drain.fileno())
        self._source.close()
        self._drain.close()
        self._on_close(self)
