"""The proxy port of the toolbox, at the raw pipe: connections become streams; nothing said on either side breaks it."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
from collections.abc import Iterator
from dataclasses import asdict
from errno import EADDRINUSE
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.sandbox.hello import Settings
from runner.toolbox import frames
from runner.toolbox.server import BROKEN_PROTOCOL
from tests.local_toolbox import local_process

SECONDS = 60
OPENED = {"op": "tunnel", "arguments": {}}
END = {"answer": {}}
RESET = struct.pack("ii", 1, 0)
"""SO_LINGER of a connection that ends by a reset (socket(7))."""


class Host:
    """The host's side of the pipe, by hand."""

    def __init__(self, process: subprocess.Popen[bytes], pipe: socket.socket, folder: Path) -> None:
        self.process, self._pipe = process, pipe
        self._parser = frames.Parser()
        self._frames: list[tuple[int, int, bytes]] = []
        self._asked = -1
        self.port = self._hello(folder)

    def _hello(self, folder: Path) -> int:
        folders = {"workspace": str(folder), "repo": str(folder / "repo"), "home": str(folder / "home")}
        while True:
            with socket.create_server(("127.0.0.1", 0)) as server:
                port = int(server.getsockname()[1])
            me = Settings(**folders, uid=os.getuid(), gid=os.getgid(), proxy_port=port)
            answer = self.ask("hello", asdict(me))
            if "answer" in answer:
                return port
            assert answer["error"]["errno"] == EADDRINUSE

    def ask(self, op: str, arguments: dict[str, object]) -> dict[str, object]:
        """A request's answer; what comes for tunnels meanwhile is kept."""
        self._asked += 2
        self.send(frames.encode_json(self._asked, frames.OPEN, {"op": op, "arguments": arguments}))
        return frames.decode_json(self.expect(self._asked, frames.END))

    def send(self, data: bytes) -> None:
        self._pipe.sendall(data)

    def expect(self, stream: int, kind: int) -> bytes:
        """The payload of the next frame of a stream, which must be of this kind."""
        found, payload = self.next(stream)
        assert found == kind
        return payload

    def next(self, stream: int) -> tuple[int, bytes]:
        """Kind and payload of the next frame of a stream."""
        while True:
            for index, (id, kind, payload) in enumerate(self._frames):
                if id == stream:
                    del self._frames[index]
                    return kind, payload
            self._take()

    def data(self, stream: int, size: int) -> bytes:
        """So many bytes of DATA."""
        got = b""
        while len(got) < size:
            got += self.expect(stream, frames.DATA)
        return got

    def waiting(self, stream: int) -> list[tuple[int, bytes]]:
        """What has come of a stream, once the toolbox has dealt with all that was sent before."""
        self.ask("ping", {})
        return [(kind, payload) for id, kind, payload in self._frames if id == stream]

    def _take(self) -> None:
        data = self._pipe.recv(65536)
        if not data:
            raise EOFError
        self._frames += self._parser.feed(data)

    def dial(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=SECONDS)

    def opened(self, stream: int) -> socket.socket:
        """A connection that has become this stream."""
        connection = self.dial()
        assert frames.decode_json(self.expect(stream, frames.OPEN)) == OPENED
        return connection

    def put(self, stream: int, data: bytes) -> None:
        for start in range(0, len(data), frames.MAX_DATA):
            self.send(frames.encode(stream, frames.DATA, data[start : start + frames.MAX_DATA]))

    def finish(self, stream: int) -> None:
        """No more data, as the host says it on a tunnel."""
        self.send(frames.encode(stream, frames.DATA))

    def end(self, stream: int) -> None:
        self.send(frames.encode_json(stream, frames.END, END))


@pytest.fixture
def host(tmp_path: Path) -> Iterator[Host]:
    with local_process(isolated=False) as (process, pipe):
        pipe.settimeout(SECONDS)
        yield Host(process, pipe, tmp_path)


def read_all(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65536), b""))


def test_each_connection_is_a_tunnel_of_its_own_with_the_next_even_number(host: Host) -> None:
    for stream in (2, 4, 6):
        with host.opened(stream) as connection:
            connection.sendall(b"hello")
            assert host.expect(stream, frames.DATA) == b"hello"
            host.put(stream, b"and back")
            assert connection.recv(100) == b"and back"


def test_the_port_is_on_the_loopback_alone(host: Host) -> None:
    # proc(5), /proc/net/tcp: local address and port in hexadecimal, state 0A is LISTEN.
    lines = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    listening = [local for _, local, _, state, *_ in lines if state == "0A" and local.endswith(f":{host.port:04X}")]
    assert listening == [f"0100007F:{host.port:04X}"]


def test_an_empty_frame_ends_one_direction_and_the_other_goes_on(host: Host) -> None:
    with host.opened(2) as connection:
        connection.sendall(b"question")
        connection.shutdown(socket.SHUT_WR)
        assert host.expect(2, frames.DATA) == b"question"
        assert host.expect(2, frames.DATA) == b""
        host.put(2, b"answer")
        host.finish(2)
        assert read_all(connection) == b"answer"


def test_the_host_may_end_its_direction_first(host: Host) -> None:
    with host.opened(2) as connection:
        host.finish(2)
        assert connection.recv(1) == b""
        connection.sendall(b"still here")
        assert host.expect(2, frames.DATA) == b"still here"


def test_what_was_sent_before_the_end_still_arrives(host: Host) -> None:
    data = os.urandom(frames.TUNNEL_WINDOW)
    with host.opened(2) as connection:
        host.put(2, data)
        host.end(2)
        host.ask("ping", {})
        assert read_all(connection) == data


def test_a_process_that_resets_its_connection_cancels_the_tunnel(host: Host) -> None:
    connection = host.opened(2)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    connection.close()
    host.expect(2, frames.CANCEL)
    host.put(2, b"that nobody reads any more")
    host.finish(2)
    host.end(2)
    assert host.waiting(2) == []


def test_a_process_that_goes_before_it_has_read_all_cancels_the_tunnel(host: Host) -> None:
    connection = host.opened(2)
    host.put(2, bytes(frames.TUNNEL_WINDOW))
    assert connection.recv(1)
    connection.close()
    while host.next(2)[0] != frames.CANCEL:
        pass
    host.put(2, b"that nobody reads any more")
    host.end(2)
    assert host.waiting(2) == []


def test_no_more_than_the_credit_comes_until_there_is_more(host: Host) -> None:
    with host.opened(2) as connection:
        connection.settimeout(0.5)
        with contextlib.suppress(TimeoutError):
            connection.sendall(bytes(64 << 20))
        assert sum(len(payload) for _, payload in host.waiting(2)) == frames.TUNNEL_WINDOW
        host.data(2, frames.TUNNEL_WINDOW)
        host.send(frames.encode_credit(2, 1000))
        assert len(host.data(2, 1000)) == 1000
        assert host.waiting(2) == []


def test_credit_comes_as_the_process_reads(host: Host) -> None:
    data = os.urandom(frames.TUNNEL_WINDOW)
    with host.opened(2) as connection:
        host.put(2, data)
        got = b""
        while len(got) < len(data):
            got += connection.recv(65536)
        assert got == data
        granted = 0
        while granted < len(data) - frames.TUNNEL_WINDOW // 4:
            granted += frames.decode_credit(host.expect(2, frames.CREDIT))


def test_a_process_that_reads_nothing_stops_nobody_else(host: Host) -> None:
    with host.opened(2), host.opened(4) as quick:
        host.put(2, bytes(frames.TUNNEL_WINDOW))
        for _ in range(3):
            quick.sendall(b"hello")
            assert host.data(4, 5) == b"hello"
        assert host.ask("ping", {}) == {"answer": {}}


def test_sixty_four_at_once_and_the_next_one_waits_its_turn(host: Host) -> None:
    with contextlib.ExitStack() as opened:
        for number in range(frames.MAX_TUNNELS):
            opened.enter_context(host.opened(2 + 2 * number))
        late = opened.enter_context(host.dial())
        late.sendall(b"me too")
        stream = 2 + 2 * frames.MAX_TUNNELS
        assert host.waiting(stream) == []
        host.end(2)
        host.expect(stream, frames.OPEN)
        assert host.data(stream, 6) == b"me too"


def test_thousands_of_connections_one_after_the_other_leave_nothing_open(host: Host) -> None:
    for _ in range(2):  # by the second it has made ready for its first command
        host.ask("ping", {})
    descriptors = Path(f"/proc/{host.process.pid}/fd")
    before = len(list(descriptors.iterdir()))
    for number in range(2000):
        stream = 2 + 2 * number
        with host.opened(stream):
            host.end(stream)
    host.ask("ping", {})
    with host.opened(stream + 2):
        assert len(list(descriptors.iterdir())) == before + 2


@pytest.mark.parametrize(
    "data",
    [
        frames.encode(4, frames.DATA, b"for a tunnel that is not open"),
        frames.encode(0, frames.DATA, b"x"),
        frames.encode_json(2, frames.OPEN, OPENED),
        frames.encode(2, frames.CANCEL),
        frames.encode_json(2, frames.END, {"error": {"kind": "os", "message": ""}}),
        frames.encode_json(2, frames.END, END) * 2,
        frames.encode_json(2, frames.END, END) + frames.encode(2, frames.DATA, b"late"),
        frames.encode(2, frames.DATA) + frames.encode(2, frames.DATA, b"late"),
        frames.encode(2, frames.DATA) * 2,
        frames.encode_credit(2, 0),
        frames.encode(2, frames.CREDIT, b"\xff\xff\xff\xff"),
    ],
)
def test_it_exits_when_the_protocol_is_broken(host: Host, data: bytes) -> None:
    with host.opened(2), contextlib.suppress(BrokenPipeError, ConnectionResetError):
        host.send(data)
        assert host.process.wait(timeout=SECONDS) == BROKEN_PROTOCOL


def test_data_past_the_credit_ends_it(host: Host) -> None:
    with host.opened(2), contextlib.suppress(BrokenPipeError, ConnectionResetError):
        host.put(2, bytes(64 << 20))  # more than the kernel holds for a process that does not read
    assert host.process.wait(timeout=SECONDS) == BROKEN_PROTOCOL


STEPS = st.one_of(
    st.tuples(st.just("dial"), st.just(b"")),
    st.tuples(st.sampled_from(["send", "close", "reset", "shut", "read"]), st.binary(max_size=50)),
    st.tuples(
        st.just("frame"),
        st.builds(
            frames.encode,
            st.sampled_from([0, 2, 4, 6, 8]),
            st.sampled_from([frames.OPEN, frames.DATA, frames.DATA, frames.CREDIT, frames.END, frames.CANCEL]),
            st.one_of(st.binary(max_size=5), st.just(b'{"answer":{}}'), st.just(b"\0\0\0\1")),
        ),
    ),
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(STEPS, max_size=15))
def test_whatever_both_sides_do_it_goes_on_or_exits_in_order(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, bytes]]
) -> None:
    with local_process(isolated=False) as (process, pipe), contextlib.ExitStack() as opened:
        pipe.settimeout(SECONDS)
        host = Host(process, pipe, tmp_path_factory.mktemp("job"))
        connections: list[socket.socket] = []
        for step, data in steps:
            with contextlib.suppress(OSError):  # it has gone, or a connection is closed already
                act(step, data, host, connections, opened)
        with contextlib.suppress(OSError):
            pipe.shutdown(socket.SHUT_WR)
        assert process.wait(timeout=SECONDS) in {0, BROKEN_PROTOCOL}


def act(step: str, data: bytes, host: Host, connections: list[socket.socket], opened: contextlib.ExitStack) -> None:
    if step == "dial":
        connections.append(opened.enter_context(host.dial()))
    elif step == "frame":
        host.send(data)
    elif connections:
        connection = connections[len(data) % len(connections)]
        connection.settimeout(0.01)
        match step:
            case "send":
                connection.sendall(data)
            case "close":
                connection.close()
            case "reset":
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
                connection.close()
            case "shut":
                connection.shutdown(socket.SHUT_WR)
            case "read":
                with contextlib.suppress(TimeoutError):
                    connection.recv(10)
