"""A sandbox without an engine: the toolbox as a process of this machine, for tests that need no container.

    with local_sandbox(tmp_path) as sandbox:
        sandbox.exec("echo hello")

It has namespaces of its own: it is their first process, /workspace is a tmpfs, nothing of it outlives the block, and
commands really run as uid 1000. That needs root; for other users the tests are skipped.
"""

from __future__ import annotations

import contextlib
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from runner.sandbox.base import WORKSPACE, SandboxReport
from runner.sandbox.channel import Channel, limit_send_time
from runner.sandbox.client import Client
from runner.sandbox.hello import Settings, say_hello

TOOLBOX = Path(__file__).parent.parent / "runner" / "toolbox"
START = [sys.executable, "-s", "-S", "-B", str(TOOLBOX)]
ISOLATED = ["unshare", "--pid", "--mount", "--fork", "--kill-child", "--mount-proc", "--"]
MOUNT = f'mount -t tmpfs -o mode=1777,nosuid,nodev,size=1g tmpfs {WORKSPACE} && exec "$0" "$@"'


class SocketTransport:
    """A transport over a connected socket that carries nothing but frames."""

    def __init__(self, connection: socket.socket) -> None:
        limit_send_time(connection)
        self._connection = connection

    def send(self, data: bytes) -> None:
        self._connection.sendall(data)

    def recv(self) -> bytes:
        return self._connection.recv(1 << 16)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)


@contextlib.contextmanager
def local_process(*, isolated: bool) -> Iterator[tuple[subprocess.Popen[bytes], socket.socket]]:
    """The toolbox as a process, with the socket that is its standard input and output.

    Isolated as said above, or an ordinary process.
    """
    command = START
    if isolated:
        needs_root()
        Path(WORKSPACE).mkdir(exist_ok=True)  # only the mount point; what is mounted there shows in the namespace alone
        command = [*ISOLATED, "sh", "-c", MOUNT, *START]
    ours, theirs = socket.socketpair()
    with ours:
        with theirs:
            process = subprocess.Popen(command, stdin=theirs, stdout=theirs, start_new_session=True)
        try:
            yield process, ours
        finally:
            with contextlib.suppress(OSError):
                ours.shutdown(socket.SHUT_RDWR)
            process.wait(timeout=30)


@contextlib.contextmanager
def local_channel(*, isolated: bool) -> Iterator[Channel]:
    """A channel to a toolbox to which nothing was said yet."""
    with (
        local_process(isolated=isolated) as (_, connection),
        contextlib.closing(Channel(SocketTransport(connection))) as channel,
    ):
        yield channel


@contextlib.contextmanager
def local_sandbox(folder: Path, settings: Settings | None = None) -> Iterator[Client]:
    """An open sandbox; its logs go to `folder`/logs."""
    logs = folder / "logs"
    logs.mkdir(exist_ok=True)
    with local_channel(isolated=True) as channel:
        hello = say_hello(channel, settings or Settings())
        report = replace(REPORT, toolbox_version=hello.version)
        with Client(channel, report=report, log_folder=logs, on_close=lambda: None) as sandbox:
            yield sandbox


def needs_root() -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, for namespaces and to run commands as another user")


REPORT = SandboxReport(engine="local", engine_version="", container_id="", image="", image_digest="")
