"""Tunnels as the host has them: against hostile toolboxes, with a real one, and out of real containers."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from queue import Queue

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.errors import SandboxError, SandboxLost
from runner.sandbox.base import Tunnel
from runner.sandbox.channel import Channel
from runner.sandbox.container import ContainerEngine
from runner.sandbox.image import ImageRef
from runner.toolbox import frames
from tests.conftest import sandbox_config
from tests.egress.servers import SECONDS, dial, echo, listen, proxy_port, read_all, tcp_server
from tests.local_toolbox import SocketTransport, local_process

OPEN = frames.encode_json(2, frames.OPEN, {"op": "tunnel", "arguments": {}})
END = {"answer": {}}


def opening(stream: int) -> bytes:
    return frames.encode_json(stream, frames.OPEN, {"op": "tunnel", "arguments": {}})


def echo_back(tunnel: Tunnel) -> None:
    while data := tunnel.recv():
        tunnel.send(data)


class Peer:
    """A toolbox played by hand, on the other end of a channel's pipe."""

    def __init__(self, pipe: socket.socket) -> None:
        pipe.settimeout(SECONDS)
        self._pipe = pipe
        self._parser = frames.Parser()
        self._frames: list[tuple[int, int, bytes]] = []

    def send(self, *data: bytes) -> None:
        for chunk in data:
            self._pipe.sendall(chunk)

    def next(self) -> tuple[int, int, bytes]:
        while not self._frames:
            data = self._pipe.recv(65536)
            if not data:
                raise EOFError
            self._frames += self._parser.feed(data)
        return self._frames.pop(0)


@contextlib.contextmanager
def against(on_tunnel: Callable[[Tunnel], None]) -> Iterator[tuple[Channel, Peer]]:
    ours, theirs = socket.socketpair()
    with (
        ours,
        theirs,
        contextlib.closing(Channel(SocketTransport(ours), on_tunnel=on_tunnel)) as channel,
    ):
        yield channel, Peer(theirs)


def lost(channel: Channel) -> str:
    """Why a channel ended, once it has."""
    with pytest.raises(SandboxLost) as caught:
        channel.request("ping", seconds=SECONDS)
    return str(caught.value)


def test_a_tunnel_is_served_in_a_thread_of_its_own_and_ended_when_that_returns() -> None:
    names: list[str] = []

    def serve(tunnel: Tunnel) -> None:
        names.append(threading.current_thread().name)
        tunnel.send(tunnel.recv().upper())

    with against(serve) as (_, peer):
        for stream in (2, 4):
            peer.send(opening(stream), frames.encode(stream, frames.DATA, b"hello"))
            assert peer.next() == (stream, frames.DATA, b"HELLO")
            assert peer.next() == (stream, frames.END, b'{"answer":{}}')
    assert names == ["egress-1", "egress-2"]


def test_an_empty_frame_is_the_end_of_a_direction() -> None:
    def serve(tunnel: Tunnel) -> None:
        assert tunnel.recv() == b"question"
        assert tunnel.recv() == b""
        tunnel.send(b"answer")
        tunnel.send(b"")

    with against(serve) as (_, peer):
        peer.send(OPEN, frames.encode(2, frames.DATA, b"question"), frames.encode(2, frames.DATA))
        assert [peer.next()[1:] for _ in range(3)] == [
            (frames.DATA, b"answer"),
            (frames.DATA, b""),
            (frames.END, b'{"answer":{}}'),
        ]


def test_a_process_that_has_gone_is_a_broken_pipe_to_who_sends_and_an_end_to_who_receives() -> None:
    said: Queue[object] = Queue()

    def serve(tunnel: Tunnel) -> None:
        said.put(tunnel.recv())
        said.put(tunnel.recv())
        with pytest.raises(BrokenPipeError):
            tunnel.send(b"x")
        said.put("broken")

    with against(serve) as (_, peer):
        peer.send(OPEN, frames.encode(2, frames.DATA, b"last words"), frames.encode(2, frames.CANCEL))
        assert [said.get(timeout=SECONDS) for _ in range(3)] == [b"last words", b"", "broken"]


def test_no_more_is_sent_than_there_is_credit_for() -> None:
    def serve(tunnel: Tunnel) -> None:
        tunnel.send(bytes(frames.TUNNEL_WINDOW + 1000))

    with against(serve) as (channel, peer):
        peer.send(OPEN)
        got = 0
        while got < frames.TUNNEL_WINDOW:
            got += len(peer.next()[2])
        assert got == frames.TUNNEL_WINDOW
        # Nothing more comes: what the channel says next is the answer to this, that it asked for itself.
        with ThreadPoolExecutor() as pool:
            asked = pool.submit(channel.request, "ping", seconds=SECONDS)
            assert peer.next()[:2] == (1, frames.OPEN)
            peer.send(frames.encode_json(1, frames.END, END))
            assert asked.result() == {}
        for size in (400, 600):
            peer.send(frames.encode_credit(2, size))
            assert len(peer.next()[2]) == size
        assert peer.next()[1] == frames.END


def test_credit_is_given_for_what_was_received() -> None:
    with against(echo_back) as (_, peer):
        peer.send(OPEN)
        granted = 0
        for _ in range(40):  # ten windows
            peer.send(frames.encode(2, frames.DATA, bytes(frames.MAX_DATA)))
            size = frames.MAX_DATA
            while size:
                _, kind, payload = peer.next()
                if kind == frames.DATA:
                    size -= len(payload)
                    peer.send(frames.encode_credit(2, len(payload)))
                else:
                    granted += frames.decode_credit(payload)
        assert granted >= 40 * frames.MAX_DATA - frames.TUNNEL_WINDOW // 4


def test_a_tunnel_that_nobody_reads_holds_a_window_and_not_more() -> None:
    stop = threading.Event()
    flood = frames.encode(2, frames.DATA, bytes(frames.MAX_DATA)) * 5
    with against(lambda tunnel: stop.wait(SECONDS)) as (channel, peer):  # type: ignore[arg-type, return-value]
        peer.send(OPEN, flood)
        assert "data past the credit" in lost(channel)
        stop.set()


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (OPEN + OPEN, "tunnel 2 cannot be opened"),
        (opening(4) + opening(2), "tunnel 2 cannot be opened"),
        (opening(0), "tunnel 0"),
        (frames.encode_json(2, frames.OPEN, {"op": "exec", "arguments": {}}), "tunnel 2 cannot be opened"),
        (frames.encode_json(2, frames.OPEN, {"op": "tunnel", "arguments": {"host": "x"}}), "tunnel 2 cannot be opened"),
        (frames.encode(2, frames.OPEN, b"{]"), "bad JSON"),
        (frames.encode(2, frames.DATA, b"x"), "for tunnel 2"),
        (OPEN + frames.encode(4, frames.CANCEL), "for tunnel 4"),
        (frames.encode(0, frames.DATA, b"x"), "for tunnel 0"),
        (OPEN + frames.encode_json(2, frames.END, END), "kind 4 for tunnel 2"),
        (OPEN + frames.encode_credit(2, 0), "credit that makes no sense"),
        (OPEN + frames.encode_credit(2, 2**31) * 2, "credit that makes no sense"),
        (OPEN + frames.encode(2, frames.DATA) + frames.encode(2, frames.DATA, b"x"), "past its end"),
        (OPEN + frames.encode(2, frames.DATA) * 2, "past its end"),
        (OPEN + frames.encode(2, frames.CANCEL) * 2 + frames.encode(2, frames.DATA, b"x"), "past its end"),
        (b"".join(opening(2 + 2 * n) for n in range(frames.MAX_TUNNELS + 1)), "more than 64 tunnels"),
    ],
)
def test_a_toolbox_that_breaks_the_protocol_ends_the_channel(data: bytes, why: str) -> None:
    stop = threading.Event()
    with against(lambda tunnel: stop.wait(SECONDS)) as (channel, peer):  # type: ignore[arg-type, return-value]
        peer.send(data)
        assert why in lost(channel)
        stop.set()


def test_frames_for_a_tunnel_that_was_just_ended_are_no_error() -> None:
    with against(lambda tunnel: None) as (channel, peer):
        peer.send(OPEN)
        assert peer.next()[1] == frames.END
        late = frames.encode(2, frames.DATA, b"late") + frames.encode_credit(2, 5) + frames.encode(2, frames.CANCEL)
        peer.send(late)
        with ThreadPoolExecutor() as pool:
            asked = pool.submit(channel.request, "ping", seconds=SECONDS)
            assert peer.next()[:2] == (1, frames.OPEN)
            peer.send(frames.encode_json(1, frames.END, END))
            assert asked.result() == {}


def test_without_anybody_to_serve_them_a_tunnel_breaks_the_protocol() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs, contextlib.closing(Channel(SocketTransport(ours))) as channel:
        theirs.sendall(OPEN)
        assert "stream 2, which is not open" in lost(channel)


@pytest.mark.parametrize("waits", ["recv", "send"])
def test_the_end_of_the_channel_wakes_who_serves_a_tunnel(waits: str) -> None:
    ended: Queue[str] = Queue()

    def serve(tunnel: Tunnel) -> None:
        try:
            if waits == "recv":
                tunnel.recv()
            tunnel.send(bytes(2 * frames.TUNNEL_WINDOW))
        except SandboxLost as error:
            ended.put(str(error))
            raise

    with against(serve) as (channel, peer):
        peer.send(OPEN)
        left = frames.TUNNEL_WINDOW if waits == "send" else 0
        while left:
            left -= len(peer.next()[2])
        channel.close()
        assert "closed" in ended.get(timeout=SECONDS)


@pytest.mark.parametrize("waits", ["recv", "send"])
def test_closing_a_tunnel_from_another_thread_wakes_who_serves_it(waits: str) -> None:
    tunnels: Queue[Tunnel] = Queue()
    ended: Queue[object] = Queue()

    def serve(tunnel: Tunnel) -> None:
        tunnels.put(tunnel)
        if waits == "recv":
            ended.put(tunnel.recv())
        else:
            with pytest.raises(BrokenPipeError):
                tunnel.send(bytes(2 * frames.TUNNEL_WINDOW))
            ended.put(b"")

    with against(serve) as (_, peer):
        peer.send(OPEN)
        tunnel = tunnels.get(timeout=SECONDS)
        left = frames.TUNNEL_WINDOW if waits == "send" else 0
        while left:
            left -= len(peer.next()[2])
        tunnel.close()
        tunnel.close()
        assert ended.get(timeout=SECONDS) == b""


MESSAGES = st.one_of(
    st.sampled_from([OPEN, opening(4), opening(6)]),
    st.builds(
        frames.encode,
        st.sampled_from([0, 1, 2, 2, 4, 4, 6]),
        st.sampled_from([1, 2, 2, 2, 3, 4, 5, 6]),
        st.one_of(st.binary(max_size=8), st.just(b'{"answer":{}}'), st.just(b"\0\0\0\1"), st.just(b"")),
    ),
)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.lists(MESSAGES, max_size=12), st.integers(1, 40))
def test_whatever_comes_the_host_goes_on_or_gives_the_sandbox_up(messages: list[bytes], size: int) -> None:
    before = threading.active_count()
    with against(echo_back) as (channel, peer):
        data = b"".join(messages)
        with contextlib.suppress(OSError):
            for start in range(0, len(data), size):
                peer.send(data[start : start + size])
            peer.send(frames.encode_json(1, frames.END, END))
        with contextlib.suppress(SandboxError):
            channel.request("ping", seconds=SECONDS)
    for thread in threading.enumerate():
        if thread.name.startswith("egress-"):
            thread.join(timeout=SECONDS)
    assert threading.active_count() <= before


# -- a real toolbox


def test_bytes_go_both_ways_and_each_direction_ends_by_itself(tmp_path: Path) -> None:
    data = os.urandom(5_000_000)
    with proxy_port(tmp_path, echo_back) as port, dial(port) as connection, ThreadPoolExecutor() as pool:
        got = pool.submit(read_all, connection)
        connection.sendall(data)
        connection.shutdown(socket.SHUT_WR)
        assert got.result() == data


def test_a_hundred_processes_at_once_all_have_their_turn(tmp_path: Path) -> None:
    def talk(number: int) -> bool:
        word = f"process {number}".encode() * 1000
        with dial(port) as connection:
            connection.sendall(word)
            connection.shutdown(socket.SHUT_WR)
            return read_all(connection) == word

    with proxy_port(tmp_path, echo_back) as port, ThreadPoolExecutor(100) as pool:
        assert all(pool.map(talk, range(100)))


def test_a_process_that_reads_nothing_does_not_keep_another_waiting(tmp_path: Path) -> None:
    def flood(tunnel: Tunnel) -> None:
        if tunnel.recv() == b"flood":
            while True:
                tunnel.send(bytes(frames.MAX_DATA))
        tunnel.send(b"hello")

    with proxy_port(tmp_path, flood) as port, dial(port) as slow:
        slow.sendall(b"flood")
        for _ in range(5):
            with dial(port) as quick:
                quick.sendall(b"hello")
                assert read_all(quick) == b"hello"


def test_a_process_that_resets_its_connection_is_noticed(tmp_path: Path) -> None:
    noticed: Queue[str] = Queue()

    def flood(tunnel: Tunnel) -> None:
        try:
            while True:
                tunnel.send(bytes(1000))
        except BrokenPipeError:
            noticed.put("broken pipe")
            raise

    with proxy_port(tmp_path, flood) as port:
        with dial(port) as connection:
            connection.recv(1)
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        assert noticed.get(timeout=SECONDS) == "broken pipe"


def test_a_toolbox_that_is_killed_wakes_who_serves_its_tunnels(tmp_path: Path) -> None:
    ended: Queue[str] = Queue()

    def serve(tunnel: Tunnel) -> None:
        try:
            while True:
                ended.put(tunnel.recv().decode())
        except SandboxLost as error:
            ended.put(str(error))
            raise

    with (
        local_process(isolated=False) as (process, pipe),
        contextlib.closing(Channel(SocketTransport(pipe), on_tunnel=serve)) as channel,
        dial(listen(channel, tmp_path)) as connection,
    ):
        connection.sendall(b"hello")
        assert ended.get(timeout=SECONDS) == "hello"
        process.kill()
        assert "container" in ended.get(timeout=SECONDS)


# -- real containers


@pytest.mark.engine
def test_a_container_without_a_network_reaches_the_host_through_its_loopback(
    engine: ContainerEngine, toolbox_volume: str, base_image: ImageRef
) -> None:
    with tcp_server(echo) as port:

        def serve(tunnel: Tunnel) -> None:
            with dial(port) as server:
                server.sendall(tunnel.recv())
                tunnel.send(server.recv(100))

        config = replace(sandbox_config(base_image, toolbox_volume), on_tunnel=serve)
        with engine.open_sandbox(config) as sandbox:
            asked = sandbox.exec("exec 9<>/dev/tcp/127.0.0.1/3128; echo from inside >&9; cat <&9", seconds=SECONDS)
            assert asked.output == b"from inside\n"
            [network] = [control for control in sandbox.report.controls if control.name == "network"]
            assert (network.effective, network.status) == ("none", "hard")
            assert sandbox.exec("tail -n +2 /proc/net/route").output == b""
            told = sandbox.exec("echo $HTTP_PROXY $http_proxy $HTTPS_PROXY $https_proxy $NO_PROXY").output.decode()
    assert told.split() == ["http://127.0.0.1:3128"] * 4 + ["localhost,127.0.0.1,::1,0.0.0.0,job"]


@pytest.mark.engine
def test_without_anybody_to_serve_it_there_is_no_proxy_port(open_sandbox: Callable[..., object]) -> None:
    sandbox = open_sandbox()
    done = sandbox.exec("echo ${HTTP_PROXY-none}; exec 9<>/dev/tcp/127.0.0.1/3128")  # type: ignore[attr-defined]
    assert done.output.startswith(b"none\n")
    assert b"Connection refused" in done.output
