"""Servers of this machine that connections out of a container lead to, and the way to them through the toolbox."""

from __future__ import annotations

import contextlib
import http.server
import os
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable, Iterator
from errno import EADDRINUSE
from pathlib import Path

from runner.sandbox.base import Tunnel
from runner.sandbox.channel import Channel
from runner.sandbox.hello import Settings, say_hello
from tests.local_toolbox import SocketTransport, local_process

SECONDS = 60.0
"""Patience of every socket of the tests."""

Serve = Callable[[socket.socket], object]
"""What a server does with a connection."""


@contextlib.contextmanager
def proxy_port(folder: Path, on_tunnel: Callable[[Tunnel], None]) -> Iterator[int]:
    """The proxy port of a toolbox that runs as an ordinary process, so that a test can connect to it by itself."""
    with (
        local_process(isolated=False) as (_, connection),
        contextlib.closing(Channel(SocketTransport(connection), on_tunnel=on_tunnel)) as channel,
    ):
        yield listen(channel, folder)


def listen(channel: Channel, folder: Path) -> int:
    """Have a toolbox take connections at some port."""
    folders = {"workspace": str(folder), "repo": str(folder / "repo"), "home": str(folder / "home")}
    while True:
        port = free_port()
        me = Settings(**folders, uid=os.getuid(), gid=os.getgid(), proxy_port=port)
        try:
            say_hello(channel, me)
        except OSError as error:
            if error.errno != EADDRINUSE:  # somebody else was quicker
                raise
        else:
            return port


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def dial(port: int) -> socket.socket:
    """A connection to a port of this machine."""
    return socket.create_connection(("127.0.0.1", port), timeout=SECONDS)


@contextlib.contextmanager
def tcp_server(serve: Serve) -> Iterator[int]:
    """The port of a server that does `serve` with each connection, in a thread of its own."""
    threads: list[threading.Thread] = []

    def play(connection: socket.socket) -> None:
        connection.settimeout(SECONDS)
        with connection, contextlib.suppress(ConnectionError, BrokenPipeError):
            serve(connection)

    def accept() -> None:
        with contextlib.suppress(OSError):  # closed
            while True:
                thread = threading.Thread(target=play, args=(server.accept()[0],))
                thread.start()
                threads.append(thread)

    with socket.create_server(("127.0.0.1", 0), backlog=128) as server:
        accepting = threading.Thread(target=accept)
        accepting.start()
        try:
            yield int(server.getsockname()[1])
        finally:
            server.shutdown(socket.SHUT_RDWR)
            for thread in (accepting, *threads):
                thread.join(timeout=SECONDS)
                assert not thread.is_alive()


def echo(connection: socket.socket) -> None:
    """Say everything back, and end when the other side does."""
    while data := connection.recv(1 << 16):
        connection.sendall(data)


def says(response: bytes) -> Serve:
    """A web server that reads one request's header, and says this."""

    def serve(connection: socket.socket) -> None:
        read_until(connection, b"\r\n\r\n")
        connection.sendall(response)

    return serve


def read_until(connection: socket.socket, end: bytes) -> bytes:
    """What comes, byte by byte, until it ends so; or all of it."""
    got = b""
    while not got.endswith(end) and (byte := connection.recv(1)):
        got += byte
    return got


def read_all(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(1 << 16), b""))


Answers = dict[str, tuple[int, dict[str, str], bytes]]
"""Path -> status, headers, body."""


@contextlib.contextmanager
def web_server(answers: Answers, *, tls: ssl.SSLContext | None = None) -> Iterator[tuple[int, list[str]]]:
    """The port of a web server with these pages, and the requests it has had (`GET /path host`)."""
    seen: list[str] = []

    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        timeout = SECONDS

        def do_GET(self) -> None:
            seen.append(f"{self.command} {self.path} {self.headers['Host']}")
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            known = answers.get(self.path) or answers.get(self.path.partition("?")[0])
            status, headers, content = known or (404, {}, b"no such page")
            content = content or body
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        do_POST = do_HEAD = do_GET

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Server(http.server.ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            pass  # who refuses the certificate, or hangs up

    with Server(("127.0.0.1", 0), Handler) as server:
        if tls is not None:
            server.socket = tls.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield int(server.server_address[1]), seen
        finally:
            server.shutdown()
            thread.join(timeout=SECONDS)


def make_certificate(folder: Path, *hosts: str) -> tuple[ssl.SSLContext, Path]:
    """What a server of these names needs, and the file that makes others trust it."""
    key, certificate = folder / "key.pem", folder / "certificate.pem"
    names = ",".join(f"DNS:{host}" for host in hosts)
    command = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    command += ["-keyout", str(key), "-out", str(certificate), "-days", "2", "-subj", f"/CN={hosts[0]}"]
    subprocess.run([*command, "-addext", f"subjectAltName={names}"], check=True, capture_output=True, timeout=60)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    return context, certificate
