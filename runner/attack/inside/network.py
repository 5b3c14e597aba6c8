"""Ways out: addresses, names, the host's own services, and what the proxy lets through."""

from __future__ import annotations

import errno
import os
import socket
import subprocess
from contextlib import suppress

from runner.attack.inside.trying import (
    ORDERS,
    REFUSED,
    SECONDS,
    DoesNotApply,
    Got,
    Stopped,
    attempt,
    read,
    read_something,
)

NO_WAY = REFUSED | {errno.ENETUNREACH, errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT}
"""There is no route at all. Any other answer, or none, came from a network."""


def connect(host: str, port: int) -> Got:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as connection:
        connection.settimeout(SECONDS / 2)
        try:
            connection.connect((host, port))
        except OSError as error:
            if error.errno in NO_WAY:
                raise
            return f"something was sent to {host} port {port} ({error})"
    return f"connected to {host} port {port}"


def send(host: str, port: int) -> Got:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as datagrams:
        datagrams.sendto(QUESTION, (host, port))
    return f"a datagram was sent to {host} port {port}"


QUESTION = b"\x12\x34\x01\0\0\x01\0\0\0\0\0\0\x07example\x03com\0\0\x01\0\x01"
"""DNS (RFC 1035): the address of example.com."""

for what, host, port in (
    ("IPv4", "1.1.1.1", 443), ("IPv4", "8.8.8.8", 53), ("a private address", "10.0.0.1", 80),
    ("a private address", "192.168.0.1", 80), ("docker's host", "172.17.0.1", 22), ("podman's host", "10.88.0.1", 22),
    ("IPv6", "2606:4700:4700::1111", 443), ("a private IPv6 address", "fd00::1", 80),
    ("metadata", "169.254.169.254", 80), ("metadata", "fd00:ec2::254", 80), ("metadata", "100.100.100.200", 80),
    ("metadata", "168.63.129.16", 80),
):  # fmt: skip
    attempt("egress", f"connect to {host} ({what})", host, port)(connect)
for what, host, port in (
    ("DNS by IPv4", "8.8.8.8", 53), ("DNS by IPv6", "2001:4860:4860::8888", 53), ("broadcast", "255.255.255.255", 9),
    ("multicast DNS", "224.0.0.251", 5353), ("QUIC", "1.1.1.1", 443),
):  # fmt: skip
    attempt("egress", f"send a datagram to {host} ({what})", host, port)(send)


for name in ("example.com", "metadata.google.internal", "host.docker.internal", "host.containers.internal"):

    @attempt("egress", f"resolve {name}", name)
    def resolve(name: str) -> Got:
        found = socket.getaddrinfo(name, 443)
        return f"it is {found[0][4][0]}"


attempt("egress", "learn the host's name servers", "/etc/resolv.conf")(read_something)


@attempt("egress", "ask a name server on the loopback")
def local_dns() -> Got:
    for host in ("127.0.0.1", "127.0.0.11", "127.0.0.53"):
        with suppress(OSError), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagrams:
            datagrams.settimeout(0.5)
            datagrams.connect((host, 53))
            datagrams.send(QUESTION)
            if datagrams.recv(512):
                return f"{host} answered"
    return Stopped("none answers")


for host in ("127.0.0.1", "::1"):

    @attempt("egress", f"reach a service on the host's {host}", host)
    def host_loopback(host: str) -> Got:
        with socket.create_connection((host, ORDERS["port"]), timeout=2) as connection:
            return f"read {connection.recv(100)!r}"


@attempt("egress", "find a network")
def interfaces() -> Got:
    names = [line.partition(":")[0].strip() for line in read("/proc/net/dev", 8192).splitlines()[2:]]
    others = [name for name in names if name != "lo"]
    return f"there are {', '.join(others)}" if others else Stopped("there is none but the loopback")


@attempt("egress", "connect by the shell")
def shell() -> Got:
    if not os.path.exists("/bin/bash"):
        raise DoesNotApply("the image has no bash")
    done = subprocess.run(
        ["/bin/bash", "-c", "exec 3<>/dev/tcp/1.1.1.1/443"], capture_output=True, timeout=SECONDS / 2, check=False
    )
    return "connected" if done.returncode == 0 else Stopped(done.stderr.decode("utf-8", "replace").strip()[-60:])


# --- the proxy: every name that it is asked for resolves to the host's own addresses


def answer_to(request: str) -> Got:
    """What is answered. The proxy signs its refusals, or hangs up; all else means that it set out to connect."""
    said = b""
    with socket.create_connection(("127.0.0.1", ORDERS["proxy"]), timeout=SECONDS / 2) as connection:
        connection.sendall(request.encode("utf-8", "surrogateescape"))
        with suppress(OSError):
            while len(said) < 8192 and (data := connection.recv(4096)):
                said += data
    line = said.partition(b"\r\n")[0].decode("utf-8", "replace")
    if ORDERS["token"].encode() in said:
        return f"it reached a service of the host: {line}"
    refused = line.startswith("HTTP/1.1 4") and ORDERS["signature"] in line
    return Stopped(line or "it hung up") if refused or not said else f"it answered {line!r}"


THE_HOST = """
127.0.0.1 localhost LOCALHOST localhost. [::1] 0.0.0.0 [::] 127.1 127.0.0.1. 2130706433 0x7f000001 0177.0.0.1 0x7f.1
[::ffff:127.0.0.1] [::ffff:7f00:1] [64:ff9b::7f00:1] user@127.0.0.1 127.0.0.1%00.example.com ①②⑦.0.0.1
localhost.localdomain host.docker.internal host.containers.internal gateway.docker.internal
"""
METADATA = """
169.254.169.254 2852039166 0xa9fea9fe 0251.0376.0251.0376 169.254.43518 [::ffff:169.254.169.254] [::ffff:a9fe:a9fe]
[64:ff9b::a9fe:a9fe] [fd00:ec2::254] metadata.google.internal metadata 100.100.100.200
"""

for name in THE_HOST.split():

    @attempt("proxy", f"ask for {name} (the host itself)", name)
    def ask_for_host(name: str) -> Got:
        return answer_to(f"CONNECT {name}:{ORDERS['port']} HTTP/1.1\r\nHost: {name}\r\n\r\n")


for name in METADATA.split():

    @attempt("proxy", f"ask for {name} (metadata)", name)
    def ask_for_metadata(name: str) -> Got:
        return answer_to(f"GET http://{name}/latest/meta-data/ HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n")


for name in ("10.0.0.1", "172.17.0.1", "192.168.0.1", "100.64.0.1", "[fd00::1]", "[fe80::1]", "224.0.0.1"):

    @attempt("proxy", f"ask for {name} (a private network)", name)
    def ask_for_private(name: str) -> Got:
        return answer_to(f"CONNECT {name}:443 HTTP/1.1\r\nHost: {name}\r\n\r\n")


for scheme in ("CONNECT", "GET"):

    @attempt("proxy", f"ask for a name that is not listed ({scheme})", scheme)
    def ask_for_unlisted(scheme: str) -> Got:
        name = "not-listed.invalid"
        target = f"{name}:443" if scheme == "CONNECT" else f"http://{name}/"
        return answer_to(f"{scheme} {target} HTTP/1.1\r\nHost: {name}\r\nConnection: close\r\n\r\n")


def listed() -> str:
    if ORDERS["listed"] is None:
        raise DoesNotApply("the policy lists no single name")
    return str(ORDERS["listed"])


@attempt("proxy", "have a listed name lead to the host")
def rebound() -> Got:
    return answer_to(f"CONNECT {listed()}:443 HTTP/1.1\r\nHost: {listed()}\r\n\r\n")


@attempt("proxy", "ask for a listed name at a port that is not")
def other_port() -> Got:
    return answer_to(f"CONNECT {listed()}:{ORDERS['port']} HTTP/1.1\r\nHost: {listed()}\r\n\r\n")


for what, request in (
    ("name another host than the URL", "GET http://{listed}/ HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n"),
    ("hide a host in a listed one's name", "CONNECT {listed}@127.0.0.1:{port} HTTP/1.1\r\n\r\n"),
    ("end a listed name early", "CONNECT 127.0.0.1:{port}\x00.{listed}:443 HTTP/1.1\r\n\r\n"),
    ("break a line in the name", "CONNECT {listed}:443\r\nHost: 127.0.0.1:{port} HTTP/1.1\r\n\r\n"),
):

    @attempt("proxy", what, request)
    def disguise(request: str) -> Got:
        return answer_to(request.format(listed=listed(), port=ORDERS["port"]))


for what, request in (
    ("send a request behind a refused one", "CONNECT a.invalid:443 HTTP/1.1\r\n\r\nGET {url} HTTP/1.1\r\n\r\n"),
    ("send two lengths", "POST {url} HTTP/1.1\r\nContent-Length: 0\r\nContent-Length: 9\r\n\r\nGET {url}"),
    ("give the URL a user", "GET http://user:password@127.0.0.1:{port}/ HTTP/1.1\r\nHost: example.com\r\n\r\n"),
    ("use it as a server", "GET / HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n"),
    ("ask for a file", "GET file:///etc/passwd HTTP/1.1\r\nHost: localhost\r\n\r\n"),
    ("speak another protocol", "\x05\x01\x00"),
):

    @attempt("proxy", what, request)
    def misuse(request: str) -> Got:
        url = f"http://127.0.0.1:{ORDERS['port']}/"
        return answer_to(request.replace("{url}", url).replace("{port}", str(ORDERS["port"])))
