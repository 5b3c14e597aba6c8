"""What lies on the host for the attack to find: a file, two services, and a folder that must stay empty."""

from __future__ import annotations

import contextlib
import secrets
import socket
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

NAMESPACES = ("mnt", "net", "pid", "ipc", "uts", "cgroup")


@dataclass(frozen=True, kw_only=True, slots=True)
class Bait:
    token: str
    folder: Path
    """Everybody on the host may read it."""
    port: int
    """On 127.0.0.1 and, where there is IPv6, on ::1."""
    abstract: str

    @property
    def canary(self) -> Path:
        return self.folder / "canary"

    @property
    def sprung(self) -> Path:
        """Git traps leave a file here when they are run on the host."""
        return self.folder / "sprung"

    @property
    def namespaces(self) -> Mapping[str, str]:
        return {name: str(Path(f"/proc/self/ns/{name}").readlink()) for name in NAMESPACES}


@contextmanager
def laid() -> Iterator[Bait]:
    """The bait, for as long as the attack lasts."""
    token = f"claw{secrets.token_hex(8)}"
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="claw-attack-")))
        folder.chmod(0o755)
        listener = stack.enter_context(socket.create_server(("127.0.0.1", 0)))
        port = listener.getsockname()[1]
        unix = stack.enter_context(socket.socket(socket.AF_UNIX))
        unix.bind(f"\0{token}")
        unix.listen()
        bait = Bait(token=token, folder=folder, port=port, abstract=token)
        bait.canary.write_text(token)
        bait.sprung.mkdir()
        services = [listener, unix]
        with contextlib.suppress(OSError):
            services.append(stack.enter_context(socket.create_server(("::1", port), family=socket.AF_INET6)))
        for service in services:
            stack.enter_context(_serving(service, token.encode()))
        yield bait


@contextmanager
def _serving(service: socket.socket, said: bytes) -> Iterator[None]:
    """Says one thing to everybody who comes."""

    def serve() -> None:
        with contextlib.suppress(OSError):  # closed: the attack is over
            while True:
                connection, _ = service.accept()
                with connection, contextlib.suppress(OSError):
                    connection.sendall(b"HTTP/1.1 200 OK\r\nConnection: close\r\n\r\n" + said)

    thread = threading.Thread(target=serve, name="bait", daemon=True)
    thread.start()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            service.shutdown(socket.SHUT_RDWR)
        thread.join()
