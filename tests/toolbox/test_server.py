"""The toolbox at the raw pipe: it answers, or it exits; nothing that the host sends makes it hang, crash or grow."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import subprocess
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from runner.sandbox.hello import Settings
from runner.toolbox import frames
from runner.toolbox.server import BROKEN_PROTOCOL, MAX_STREAMS
from tests.local_toolbox import local_process

Toolbox = tuple["subprocess.Popen[bytes]", socket.socket]
HELLO = asdict(Settings())
PING = frames.encode_json(1, frames.OPEN, {"op": "ping", "arguments": {}})


@pytest.fixture
def toolbox() -> Iterator[Toolbox]:
    with local_process(isolated=False) as (process, connection):
        connection.settimeout(20)
        yield process, connection


def say_hello(connection: socket.socket, folder: Path) -> None:
    """Configure it for commands as whoever runs the tests, in this folder."""
    folders = {"workspace": str(folder), "repo": str(folder / "repo"), "home": str(folder / "home")}
    me = Settings(**folders, uid=os.getuid(), gid=os.getgid())
    assert "answer" in ask(connection, 1, "hello", asdict(me))


def ask(connection: socket.socket, stream: int, op: object, arguments: object) -> dict[str, Any]:
    connection.sendall(frames.encode_json(stream, frames.OPEN, {"op": op, "arguments": arguments}))
    return answer(connection)


def answer(connection: socket.socket) -> dict[str, Any]:
    parser = frames.Parser()
    while data := connection.recv(65536):
        for _, kind, payload in parser.feed(data):
            if kind == frames.END:
                return frames.decode_json(payload)
    raise EOFError


def test_it_exits_at_the_end_of_its_input(toolbox: Toolbox) -> None:
    process, connection = toolbox
    connection.shutdown(socket.SHUT_WR)
    assert process.wait(timeout=20) == 0


def test_a_frame_that_is_cut_off_is_an_end_like_any_other(toolbox: Toolbox) -> None:
    process, connection = toolbox
    connection.sendall(PING[:-3])
    connection.shutdown(socket.SHUT_WR)
    assert process.wait(timeout=20) == 0


@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\n\r\n",
        frames.HEADER.pack(2**32 - 1, 1, frames.DATA),
        frames.encode(1, frames.OPEN, b"{]"),
        frames.encode(1, frames.OPEN, b"[" * 100_000),
        frames.encode(2, frames.OPEN, PING[frames.HEADER.size :]),
        PING + PING,
        frames.encode_json(1, frames.OPEN, {"op": 1, "arguments": {}}),
        frames.encode_json(1, frames.OPEN, {"op": "ping", "arguments": []}),
        frames.encode(1, frames.DATA, b"data"),
        frames.encode(3, frames.CANCEL),
        PING + frames.encode(4, frames.CREDIT, b"\0\0\0\1"),
        frames.encode(1, frames.END, b"{}"),
    ],
)
def test_it_exits_when_the_protocol_is_broken(toolbox: Toolbox, data: bytes) -> None:
    process, connection = toolbox
    connection.sendall(data)
    assert process.wait(timeout=20) == BROKEN_PROTOCOL


def test_frames_for_a_request_that_was_just_answered_are_no_error(toolbox: Toolbox) -> None:
    _, connection = toolbox
    late = frames.encode(1, frames.DATA, b"late") + frames.encode(1, frames.CANCEL)
    connection.sendall(PING + late + frames.encode_credit(1, 5))
    assert answer(connection) == {"answer": {}}
    assert ask(connection, 3, "ping", {}) == {"answer": {}}


@pytest.mark.parametrize("op", ["nothing", "", "__init__", "exec"])
def test_a_request_that_makes_no_sense_is_answered_so(toolbox: Toolbox, op: str) -> None:
    assert ask(toolbox[1], 1, op, {})["error"]["kind"] == "bad_request"
    assert ask(toolbox[1], 3, "ping", {}) == {"answer": {}}


def test_nothing_works_before_hello(toolbox: Toolbox) -> None:
    error = ask(toolbox[1], 1, "stat", {"path": "/"})["error"]
    assert error == {"kind": "bad_request", "message": "the first request must be hello"}


def test_hello_is_said_once(toolbox: Toolbox, tmp_path: Path) -> None:
    say_hello(toolbox[1], tmp_path)
    assert ask(toolbox[1], 3, "hello", HELLO)["error"]["message"] == "hello was said already"


def test_data_past_the_credit_ends_it(toolbox: Toolbox, tmp_path: Path) -> None:
    process, connection = toolbox
    say_hello(connection, tmp_path)
    arguments = {
        "program": "argv",
        "argv": ["sleep", "100"],
        "cwd": "/",
        "variables": {},
        "stdin": True,
        "seconds": 100,
        "stream_bytes": 0,
        "tail_bytes": 0,
        "separate_stderr": False,
        "stderr_bytes": 0,
        "confined": False,
    }
    connection.sendall(frames.encode_json(3, frames.OPEN, {"op": "exec", "arguments": arguments}))
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it leaves before it has taken all
        connection.sendall(
            frames.encode(3, frames.DATA, bytes(frames.MAX_DATA)) * (2 * frames.WINDOW // frames.MAX_DATA)
        )
    assert process.wait(timeout=20) == BROKEN_PROTOCOL


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=60),
            st.just(PING),
            st.builds(
                frames.encode,
                st.integers(0, 9),
                st.integers(1, 5),
                st.one_of(st.binary(max_size=8), st.just(b'{"op":"ping","arguments":{}}'), st.just(b"\0\0\0\1")),
            ),
            st.builds(
                lambda id, op, arguments: frames.encode_json(id, frames.OPEN, {"op": op, "arguments": arguments}),
                st.integers(0, 9),
                st.sampled_from(
                    ["exec", "read", "write", "hello", "glob", "stop_task", "end_processes", "confine", "keep"]
                ),
                st.dictionaries(
                    st.sampled_from(["path", "uid", "argv", "id", "grants", "unwritable"]),
                    st.one_of(st.integers(), st.text()),
                ),
            ),
        ),
        max_size=12,
    ),
    st.integers(1, 40),
)
def test_whatever_is_sent_it_answers_or_exits_in_order(messages: list[bytes], size: int) -> None:
    with local_process(isolated=False) as (process, connection):
        connection.settimeout(20)
        try:
            for message in messages:
                for start in range(0, len(message), size):
                    connection.sendall(message[start : start + size])
            connection.shutdown(socket.SHUT_WR)
            parser = frames.Parser()
            while data := connection.recv(65536):
                for _, kind, payload in parser.feed(data):
                    assert kind == frames.END
                    json.loads(payload)
        except (BrokenPipeError, ConnectionResetError):
            pass  # it has gone already
        assert process.wait(timeout=20) in {0, BROKEN_PROTOCOL}


def test_an_endless_frame_does_not_make_it_grow(toolbox: Toolbox) -> None:
    process, connection = toolbox
    ask(connection, 1, "ping", {})
    before = memory_of(process.pid)
    connection.sendall(frames.HEADER.pack(frames.MAX_JSON, 3, frames.OPEN) + bytes(frames.MAX_JSON - 1))
    time.sleep(0.2)
    assert process.poll() is None
    assert memory_of(process.pid) < before + 8_000_000


def test_more_requests_at_once_than_it_holds_end_it(toolbox: Toolbox, tmp_path: Path) -> None:
    process, connection = toolbox
    say_hello(connection, tmp_path)
    for number in range(MAX_STREAMS + 1):
        arguments = {"path": str(tmp_path / f"file{number}"), "expected_sha256": None}
        connection.sendall(frames.encode_json(3 + 2 * number, frames.OPEN, {"op": "write", "arguments": arguments}))
    assert process.wait(timeout=20) == BROKEN_PROTOCOL


def memory_of(pid: int) -> int:
    """Resident bytes. Format: proc(5), /proc/pid/statm."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * 4096
