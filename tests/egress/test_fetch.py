"""Pages for the agent: whose, through which redirects, and how much of them."""

from __future__ import annotations

import gzip
import socket
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from runner.egress import Fetcher
from runner.egress.fetch import MAX_BYTES, NotFetched, upgraded
from runner.policy import Policy
from runner.transcript import EgressTried
from tests.egress.servers import free_port, make_certificate, read_until, says, tcp_server, web_server
from tests.egress.ways import Names

HERE: dict[str, Sequence[str]] = {"web.test": ["127.0.0.1"], "other.test": ["127.0.0.1"], "evil.test": ["127.0.0.1"]}


def fetcher(port: int, *, names: dict[str, Sequence[str]] = HERE, **rules: object) -> tuple[Fetcher, list[EgressTried]]:
    """One whose policy lets pages of web.test and other.test at a port of this machine be fetched."""
    allow = [f"WebFetch(domain:web.test:{port})", f"WebFetch(domain:other.test:{port})"]
    policy = {"version": 1, "mode": "whitelist", "allow": allow, "egress": {"agent": [f"127.0.0.1:{port}"]}, **rules}
    events: list[EgressTried] = []
    return Fetcher(Policy.model_validate(policy), events.append, resolver=Names(names)), events  # type: ignore[arg-type]


def test_a_page_comes_with_its_type_and_is_written_down() -> None:
    with web_server({"/page?q=%C3%A4": (200, {"Content-Type": "text/plain"}, b"hello")}) as (port, seen):
        fetch, events = fetcher(port)
        page = fetch(f"http://web.test:{port}/page?q=ä#part")
    assert (page.body, page.content_type, page.truncated) == (b"hello", "text/plain", False)
    assert seen == [f"GET /page?q=%C3%A4 web.test:{port}"]
    [event] = events
    assert (event.phase, event.host, event.port, event.address) == ("agent", "web.test", port, "127.0.0.1")
    assert (event.allowed, event.rule) == (True, f"WebFetch(domain:web.test:{port})")
    assert event.bytes_received > 5


def test_a_page_over_tls_is_fetched_when_its_certificate_is_trusted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tls, certificate = make_certificate(tmp_path, "web.test")
    with web_server({"/": (200, {}, b"hello")}, tls=tls) as (port, _):
        with pytest.raises(NotFetched, match=r"The certificate of web.test is not trusted: self-signed certificate"):
            fetcher(port)[0](f"https://web.test:{port}/")
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        fetch, _ = fetcher(port)
        assert fetch(f"https://web.test:{port}/").body == b"hello"
        with pytest.raises(NotFetched, match=r"other.test is not trusted: Hostname mismatch"):
            fetch(f"https://other.test:{port}/")


def test_redirects_are_followed_where_the_policy_lets_them() -> None:
    pages = {
        "/one": (302, {"Location": "/two"}, b""),
        "/two": (301, {"Location": "http://other.test:PORT/three"}, b""),
        "/three": (200, {}, b"here"),
    }
    with web_server(pages) as (port, seen):
        pages["/two"] = (301, {"Location": f"http://other.test:{port}/three"}, b"")
        fetch, events = fetcher(port)
        page = fetch(f"http://web.test:{port}/one")
    assert (page.url, page.body) == (f"http://other.test:{port}/three", b"here")
    assert seen == [f"GET /one web.test:{port}", f"GET /two web.test:{port}", f"GET /three other.test:{port}"]
    assert len(events) == 3


@pytest.mark.parametrize("how", ["not allowed", "asked about", "denied"])
def test_a_redirect_to_a_host_that_is_not_allowed_outright_is_told_and_not_followed(how: str) -> None:
    with web_server({"/": (302, {"Location": "http://evil.test/secret"}, b"")}) as (port, seen):
        rules = {"not allowed": {}, "asked about": {"ask": ["WebFetch(domain:evil.test)"]}}
        fetch, events = fetcher(port, **rules.get(how, {"deny": ["WebFetch(domain:evil.test)"]}))
        with pytest.raises(NotFetched, match=r"redirects to https://evil.test/secret, which is a matter of its own: "):
            fetch(f"http://web.test:{port}/")
    assert len(seen) == 1
    assert [event.host for event in events] == ["web.test"]


def test_a_ring_of_redirects_has_an_end() -> None:
    ring = {"/": (302, {"Location": "/"}, b"")}
    with web_server(ring) as (port, seen), pytest.raises(NotFetched, match="More than 5 redirects"):
        fetcher(port)[0](f"http://web.test:{port}/")
    assert len(seen) == 6


@pytest.mark.parametrize("location", ["file:///etc/passwd", "http://[", "ftp://web.test/", "http://user@web.test/", ""])
def test_a_redirect_to_what_is_no_page_is_refused(location: str) -> None:
    with web_server({"/": (302, {"Location": location}, b"")}) as (port, seen), pytest.raises(NotFetched):
        fetcher(port)[0](f"http://web.test:{port}/")
    assert len(seen) in (1, 6)  # an empty one leads to the page itself


def test_an_address_that_is_not_public_is_refused_unless_the_egress_list_names_it() -> None:
    with web_server({"/": (200, {}, b"hello")}) as (port, seen):
        fetch, events = fetcher(port, egress={})
        with pytest.raises(NotFetched, match=r"web.test was not reached: 127.0.0.1 is the runner's own machine"):
            fetch(f"http://web.test:{port}/")
    assert seen == []
    assert not events[0].allowed


@pytest.mark.parametrize(
    ("status", "words"), [(404, "answered 404 Not Found"), (500, "answered 500"), (304, "answered 304")]
)
def test_what_is_no_page_is_told_by_its_status(status: int, words: str) -> None:
    with web_server({"/": (status, {}, b"")}) as (port, _), pytest.raises(NotFetched, match=words):
        fetcher(port)[0](f"http://web.test:{port}/")


@pytest.mark.parametrize(
    ("response", "words"),
    [
        (b"", "closed the connection without a response"),
        (b"nonsense\r\n\r\n", "response is not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello", "response is not HTTP: peer closed connection"),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000, "response is not HTTP"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: br\r\nContent-Length: 5\r\n\r\nhello", "compressed as 'br'"),
        (b"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello", "not compressed as it says"),
    ],
)
def test_an_answer_that_makes_no_sense_is_told(response: bytes, words: str) -> None:
    with tcp_server(says(response)) as port, pytest.raises(NotFetched, match=words):
        fetcher(port)[0](f"http://web.test:{port}/")


def test_hosts_that_are_not_there_are_told() -> None:
    port = free_port()
    with pytest.raises(NotFetched, match=r"web.test was not reached: .* does not answer: Connection refused"):
        fetcher(port)[0](f"http://web.test:{port}/")
    with pytest.raises(NotFetched, match=r"web.test was not reached: web.test does not resolve"):
        fetcher(port, names={})[0](f"http://web.test:{port}/")


def test_an_endless_page_is_cut_at_its_limit() -> None:
    def endless(connection: socket.socket) -> None:
        read_until(connection, b"\r\n\r\n")
        connection.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            connection.sendall(bytes(100_000))

    with tcp_server(endless) as port:
        page = fetcher(port)[0](f"http://web.test:{port}/")
    assert (len(page.body), page.truncated) == (MAX_BYTES, True)


def test_a_small_page_that_grows_when_it_is_unpacked_is_cut_at_its_limit() -> None:
    bomb = gzip.compress(bytes(100_000_000))
    with web_server({"/": (200, {"Content-Encoding": "gzip"}, bomb)}) as (port, _):
        page = fetcher(port)[0](f"http://web.test:{port}/")
    assert (len(page.body), page.truncated) == (MAX_BYTES, True)


@pytest.mark.parametrize(
    ("scheme", "begins"),
    [
        ("http", b"HTTP/1.1 200 OK\r\n"),
        ("http", b"HTTP/1.1 200 OK\r\n\r\n"),
        ("https", b"\x16\x03\x03\x40\x00\x02\x00\x3f\xfc\x03\x03"),  # a ServerHello of 16 KiB, which takes its time
    ],
)
def test_a_page_that_drips_is_given_up(scheme: str, begins: bytes) -> None:
    stop = threading.Event()

    def drip(connection: socket.socket) -> None:
        connection.recv(1)
        connection.sendall(begins)
        while not stop.wait(0.05):
            connection.sendall(b"x")

    with tcp_server(drip) as port:
        fetch, events = fetcher(port)
        with pytest.raises(NotFetched, match="took too long"):
            fetch(f"{scheme}://web.test:{port}/", 2)
        stop.set()
    assert "took too long" in events[0].reason


@pytest.mark.parametrize(
    ("url", "better"),
    [
        ("http://example.org", "https://example.org"),
        ("HTTP://example.org/a?b#c", "https://example.org/a?b#c"),
        ("http://[2001:db8::1]/", "https://[2001:db8::1]/"),
        ("http://example.org:80/", "http://example.org:80/"),
        ("https://example.org/http://x", "https://example.org/http://x"),
        ("ftp://example.org/", "ftp://example.org/"),
        ("http://[", "http://["),
        ("nonsense", "nonsense"),
    ],
)
def test_http_becomes_https_unless_a_port_is_named(url: str, better: str) -> None:
    assert upgraded(url) == better
