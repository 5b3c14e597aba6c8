"""The channel against every kind of toolbox: a real one, and hostile ones on the other end of a socket."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.errors import Cancelled, SandboxError, SandboxLost
from runner.sandbox.channel import Channel
from runner.sandbox.hello import Settings, say_hello
from runner.toolbox import frames
from tests.local_toolbox import SocketTransport, local_channel

Peer = Callable[[socket.socket], object]
NO_ANSWER = frames.encode_json(1, frames.END, {"answer": {}})


@contextlib.contextmanager
def against(peer: Peer) -> Iterator[Channel]:
    """A channel whose other end is played by `peer`, in a thread."""
    ours, theirs = socket.socketpair()

    def play() -> None:
        with theirs, contextlib.suppress(BrokenPipeError, ConnectionResetError):
            peer(theirs)

    thread = threading.Thread(target=play)
    thread.start()
    with ours, contextlib.closing(Channel(SocketTransport(ours))) as channel:
        try:
            yield channel
        finally:
            channel.close()
            thread.join(timeout=20)
            assert not thread.is_alive()


def says(*data: bytes) -> Peer:
    """A toolbox that waits for the first request, says this, and then only listens."""

    def peer(connection: socket.socket) -> None:
        connection.recv(65536)
        for chunk in data:
            connection.sendall(chunk)
        listen(connection)

    return peer


def listen(connection: socket.socket) -> None:
    while connection.recv(65536):
        pass


def ask(channel: Channel, op: str = "ping", **more: Any) -> dict[str, Any]:
    return channel.request(op, seconds=20, **more)


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (frames.HEADER.pack(2**32 - 1, 1, frames.DATA), "bad length"),
        (frames.HEADER.pack(frames.MAX_JSON + 1, 1, frames.END), "bad length"),
        (frames.encode(1, 77, b""), "unknown kind 77"),
        (frames.encode_json(3, frames.END, {"answer": {}}), "stream 3, which is not open"),
        (NO_ANSWER + NO_ANSWER, "stream 1, which is not open"),
        (frames.encode_json(2, frames.OPEN, {"op": "ping", "arguments": {}}), "stream 2, which is not open"),
        (frames.encode_json(1, frames.OPEN, {}), "for the host alone"),
        (frames.encode(1, frames.CANCEL), "for the host alone"),
        (frames.encode(1, frames.END, b"{]"), "bad JSON"),
        (frames.encode(1, frames.END, b"[" * 500_000), "bad JSON"),
        (frames.encode(1, frames.END, b'{"answer":{"a":NaN}}'), "bad JSON"),
        (frames.encode(1, frames.END, b"[1]"), "not an object"),
        (frames.encode_json(1, frames.END, {}), "neither answer nor error"),
        (frames.encode_json(1, frames.END, {"answer": 1}), "neither answer nor error"),
        (frames.encode_json(1, frames.END, {"error": {"kind": 1}}), "neither answer nor error"),
        (frames.encode_json(1, frames.END, {"answer": {}, "error": {}}), "neither answer nor error"),
        (frames.encode(1, frames.DATA, b""), "empty data"),
        (frames.encode_credit(1, 0), "credit that makes no sense"),
        (frames.encode_credit(1, 2**31) * 2, "credit that makes no sense"),
        (frames.encode(1, frames.DATA, b"unasked"), "data in answer to 'ping'"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n", "unknown kind"),
    ],
)
def test_a_toolbox_that_breaks_the_protocol_ends_the_channel(data: bytes, why: str) -> None:
    with against(says(data)) as channel:
        with contextlib.suppress(SandboxLost):
            ask(channel)  # may have its answer before the rest is seen
        for _ in range(2):
            with pytest.raises(SandboxLost, match=f"broke the protocol.*{why}"):
                ask(channel)


def test_data_past_the_credit_ends_the_channel_with_bounded_memory() -> None:
    flood = frames.encode(1, frames.DATA, bytes(frames.MAX_DATA)) * (4 * frames.WINDOW // frames.MAX_DATA)
    slow = threading.Event()
    with against(says(flood)) as channel:
        with pytest.raises(SandboxLost, match="data past the credit"):
            ask(channel, on_data=lambda data: slow.wait(0.5))
        assert not channel._streams


def test_a_flood_of_tiny_data_is_held_in_one_buffer() -> None:
    held: list[int] = []
    ticks = frames.encode(1, frames.DATA, b"x") * 50_000

    def keep(data: bytes) -> None:
        held.append(len(data))
        time.sleep(0.05)

    with against(says(ticks, NO_ANSWER)) as channel:
        assert ask(channel, on_data=keep) == {}
    assert sum(held) == 50_000
    assert len(held) < 5_000


@pytest.mark.parametrize("cut", range(1, len(NO_ANSWER)))
def test_a_truncated_answer_is_a_lost_sandbox(cut: int) -> None:
    def peer(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(NO_ANSWER[:cut])

    with against(peer) as channel, pytest.raises(SandboxLost, match="the container ended"):
        ask(channel)


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.builds(
                frames.encode,
                st.integers(0, 5),
                st.integers(0, 6),
                st.one_of(st.binary(max_size=8), st.just(b'{"answer":{}}'), st.just(b"\0\0\0\1"), st.just(b"{}")),
            ),
            st.builds(
                lambda kind, errno, path: frames.encode_json(
                    1, frames.END, {"error": {"kind": kind, "message": "m", "errno": errno, "path": path}}
                ),
                st.sampled_from(["os", "unknown_task", "bad_request", ""]),
                st.one_of(st.integers(), st.text(), st.none()),
                st.one_of(st.integers(), st.text(), st.none()),
            ),
        ),
        max_size=10,
    ),
    st.integers(1, 30),
)
def test_whatever_comes_a_request_ends_with_an_answer_or_a_known_error(messages: list[bytes], size: int) -> None:
    def peer(connection: socket.socket) -> None:
        connection.recv(65536)
        data = b"".join(messages)
        for start in range(0, len(data), size):
            connection.sendall(data[start : start + size])

    with against(peer) as channel:
        for _ in range(2):
            with contextlib.suppress(SandboxError, OSError, KeyError):
                assert isinstance(ask(channel, on_data=lambda data: None), dict)


def test_a_request_without_an_answer_ends_in_time() -> None:
    with against(listen) as channel:
        started = time.monotonic()
        with pytest.raises(SandboxLost, match="did not answer 'ping' in time"):
            channel.request("ping", seconds=0.2)
        assert time.monotonic() - started < 10


def test_endless_data_does_not_stretch_the_time_of_a_request() -> None:
    def peer(connection: socket.socket) -> None:
        connection.recv(65536)
        while True:
            connection.sendall(frames.encode(1, frames.DATA, bytes(1000)))
            time.sleep(0.001)

    with against(peer) as channel, pytest.raises(SandboxLost, match="in time"):
        channel.request("read", on_data=lambda data: None, seconds=0.5)


def test_a_toolbox_that_takes_a_byte_now_and_then_does_not_hold_a_request() -> None:
    stop = threading.Event()

    def peer(connection: socket.socket) -> None:
        while not stop.wait(0.05):
            connection.recv(1)

    with against(peer) as channel:
        with pytest.raises(SandboxLost, match="in time"):
            channel.request("write", stdin=[bytes(frames.WINDOW)], seconds=0.5)
        stop.set()


def test_closing_wakes_who_waits() -> None:
    with against(listen) as channel, ThreadPoolExecutor() as pool:
        waiting = [pool.submit(ask, channel) for _ in range(4)]
        time.sleep(0.1)
        channel.close()
        channel.close()
        for future in waiting:
            with pytest.raises(SandboxLost, match="closed"):
                future.result(timeout=20)


def test_the_end_of_the_pipe_wakes_who_waits_and_says_why() -> None:
    def peer(connection: socket.socket) -> None:
        for _ in range(4):
            connection.recv(20)
        time.sleep(0.2)

    with against(peer) as channel, ThreadPoolExecutor() as pool:
        for future in [pool.submit(ask, channel) for _ in range(4)]:
            with pytest.raises(SandboxLost, match=r"the container ended|pipe to the container broke"):
                future.result(timeout=20)


def test_errors_arrive_as_what_they_are() -> None:
    def error(**words: object) -> bytes:
        return frames.encode_json(1, frames.END, {"error": words})

    missing = error(kind="os", errno=2, message="No such file or directory", path="/x")
    with against(says(missing)) as channel, pytest.raises(FileNotFoundError, match="/x") as caught:
        ask(channel)
    assert caught.value.filename == "/x"
    with against(says(error(kind="unknown_task", message="no task"))) as channel, pytest.raises(KeyError):
        ask(channel)
    with (
        against(says(error(kind="bad_request", message="what?"))) as channel,
        pytest.raises(SandboxError, match="what"),
    ):
        ask(channel)


def test_a_request_larger_than_a_frame_is_refused_and_the_channel_lives() -> None:
    with local_channel(isolated=False) as channel:
        with pytest.raises(SandboxError, match="at most 1048576"):
            channel.request("ping", {"text": "x" * frames.MAX_JSON})
        assert ask(channel) == {}


@pytest.mark.parametrize("signal_error", [KeyboardInterrupt, Cancelled])
def test_a_signal_interrupts_a_waiting_request_at_once_and_close_still_works(
    signal_error: type[BaseException],
) -> None:
    def interrupt(number: int, frame: object) -> None:
        raise signal_error

    previous = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with against(listen) as channel:
            threading.Timer(0.2, lambda: os.kill(os.getpid(), signal.SIGUSR1)).start()
            started = time.monotonic()
            with pytest.raises(signal_error):
                channel.request("ping", seconds=60)
            assert time.monotonic() - started < 10
    finally:
        signal.signal(signal.SIGUSR1, previous)


def test_a_signal_interrupts_a_send_that_is_stuck() -> None:
    def interrupt(number: int, frame: object) -> None:
        raise KeyboardInterrupt

    stop = threading.Event()
    previous = signal.signal(signal.SIGUSR1, interrupt)
    try:
        with against(lambda connection: stop.wait(20)) as channel:
            threading.Timer(0.3, lambda: os.kill(os.getpid(), signal.SIGUSR1)).start()
            with pytest.raises(KeyboardInterrupt):
                channel.request("write", stdin=[bytes(frames.WINDOW)])
            with pytest.raises(SandboxLost, match="interrupted while sending"):
                ask(channel)
            stop.set()
    finally:
        signal.signal(signal.SIGUSR1, previous)


def test_an_error_of_the_caller_cancels_the_request_and_the_channel_goes_on() -> None:
    def refuse(data: bytes) -> None:
        raise ZeroDivisionError

    with local_channel(isolated=True) as channel:
        say_hello(channel, Settings())
        with pytest.raises(ZeroDivisionError):
            channel.request("exec", _exec("yes"), on_data=refuse, seconds=60)
        assert channel.request("end_processes", seconds=20) == {}
        assert ask(channel) == {}
        assert channel.request("exec", _exec("pgrep -x yes"), seconds=20)["exit_code"] == 1


def test_answers_of_many_threads_are_never_confused() -> None:
    with local_channel(isolated=True) as channel:
        say_hello(channel, Settings())

        def work(worker: int) -> None:
            for turn in range(20):
                word = f"{worker}-{turn}"
                got = bytearray()
                if turn % 4 == 0:
                    arguments = _exec(f"echo {word}; echo {word}", stream_bytes=1000)
                    assert channel.request("exec", arguments, on_data=got.extend, seconds=60)["exit_code"] == 0
                    assert got == f"{word}\n{word}\n".encode()
                else:
                    path = f"/workspace/repo/{worker}/{word}"
                    content = word.encode() * 9_000
                    arguments = {"path": path, "expected_sha256": None}
                    channel.request("write", arguments, stdin=[content], seconds=60)
                    arguments = {"path": path, "offset": 0, "max_bytes": 10**9}
                    channel.request("read", arguments, on_data=got.extend, seconds=60)
                    assert got == content

        with ThreadPoolExecutor(16) as pool:
            list(pool.map(work, range(16)))


def _exec(script: str, **changed: Any) -> dict[str, Any]:
    return {
        "program": "shell",
        "argv": [script],
        "cwd": "/",
        "variables": {},
        "stdin": False,
        "seconds": 60,
        "stream_bytes": None,
        "tail_bytes": 0,
        "separate_stderr": False,
        "stderr_bytes": 0,
        "confined": False,
        **changed,
    }
