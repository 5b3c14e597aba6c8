"""What is said on the proxy port: requests for whole URLs, responses of every form, and all that is no request."""

from __future__ import annotations

import contextlib
import re
import socket

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.egress.servers import Serve, dial, read_all, read_until, says, tcp_server, web_server
from tests.egress.ways import Open

OK = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"


def listed(port: int) -> tuple[str, str, str]:
    return f"web.test:{port}", f"other.test:{port}", f"127.0.0.1:{port}"


def get(port: int, *headers: str, path: str = "/page", host: str = "web.test") -> bytes:
    lines = [f"GET http://{host}:{port}{path} HTTP/1.1", "Host: whatever", *headers, "", ""]
    return "\r\n".join(lines).encode()


def status(response: bytes) -> int:
    return int(response.split(b" ", 2)[1])


def heard(requests: list[bytes]) -> Serve:
    """A web server that keeps what it is asked and answers OK."""

    def serve(connection: socket.socket) -> None:
        requests.append(read_until(connection, b"\r\n\r\n"))
        connection.sendall(OK)

    return serve


def test_a_request_is_written_anew_for_the_host_of_its_url(way: Open) -> None:
    requests: list[bytes] = []
    with tcp_server(heard(requests)) as port:
        out = way(*listed(port))
        said = out.say(
            get(
                port,
                "Accept: */*",
                "Proxy-Authorization: Basic c2VjcmV0",
                "Proxy-Connection: keep-alive",
                "Connection: close, X-Private",
                "X-Private: of this connection",
                "Upgrade: websocket",
                "TE: trailers",
                path="/page?a=b",
            )
        )
    assert said.endswith(b"\r\n\r\nhello")
    assert requests == [
        f"GET /page?a=b HTTP/1.1\r\nHost: web.test:{port}\r\nAccept: */*\r\nConnection: close\r\n\r\n".encode()
    ]
    event = out.event()
    assert (event.host, event.port, event.reason, event.bytes_sent) == ("web.test", port, "listed", len(requests[0]))
    assert event.bytes_received == len(OK)


def test_each_request_of_a_connection_is_judged_by_itself(way: Open) -> None:
    with web_server({"/page": (200, {}, b"hello")}) as (port, seen):
        out = way(*listed(port))
        said = out.say(get(port) + get(port, host="other.test") + get(port, host="evil.test") + get(port))
    assert said.count(b"HTTP/1.1 200") == 2
    assert said.count(b"HTTP/1.1 403 host is not in the policy's egress list") == 1
    assert seen == [f"GET /page web.test:{port}", f"GET /page other.test:{port}"]
    assert [event.host for event in out.written.wait(3)] == ["web.test", "other.test", "evil.test"]


@pytest.mark.parametrize(
    ("headers", "body"),
    [
        ("Content-Length: 11", "hello world"),
        ("Transfer-Encoding: chunked", "6\r\nhello \r\n5\r\nworld\r\n0\r\nA: b\r\n\r\n"),
    ],
)
def test_a_body_arrives_by_its_length_or_in_chunks(way: Open, headers: str, body: str) -> None:
    bodies: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        header = read_until(connection, b"\r\n\r\n")
        end = b"0\r\n\r\n" if b"chunked" in header else b"hello world"
        bodies.append(read_until(connection, end))
        connection.sendall(OK)

    with tcp_server(serve) as port:
        out = way(*listed(port))
        head = f"POST http://web.test:{port}/ HTTP/1.1\r\nHost: x\r\n{headers}\r\n\r\n{body}"
        assert out.say(head.encode()).endswith(b"hello")
    [body_there] = bodies
    assert body_there in (b"hello world", b"6\r\nhello \r\n5\r\nworld\r\n0\r\n\r\n")


def test_a_program_that_waits_for_leave_to_send_its_body_is_given_it(way: Open) -> None:
    with web_server({}) as (port, _):
        out = way(*listed(port))
        with dial(out.port) as connection:
            head = f"POST http://web.test:{port}/ HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n"
            connection.sendall(f"{head}Expect: 100-continue\r\n\r\n".encode())
            assert read_until(connection, b"\r\n\r\n").startswith(b"HTTP/1.1 100 ")
            connection.sendall(b"hi")
            assert read_until(connection, b"\r\n\r\n").startswith(b"HTTP/1.1 404 ")


@pytest.mark.parametrize(
    "response",
    [
        OK,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 999\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n\r\nhello",
        b"HTTP/1.0 200 OK\r\n\r\nhello",
        b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK,
        b"HTTP/1.1 200 OK\r\nConnection: X-Private\r\nX-Private: 1\r\nContent-Length: 5\r\n\r\nhello",
    ],
)
def test_a_response_of_any_form_comes_out_whole(way: Open, response: bytes) -> None:
    with tcp_server(says(response)) as port:
        out = way(*listed(port))
        head, _, body = out.say(get(port)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200 OK")
    assert b"private" not in head.lower()
    assert body in (b"hello", b"5\r\nhello\r\n0\r\n\r\n", b"2\r\nhe\r\n3\r\nllo\r\n0\r\n\r\n")


@pytest.mark.parametrize(
    "response", [b"", b"SSH-2.0-OpenSSH_9.2\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n", b"\x00" * 100]
)
def test_what_is_no_response_is_a_bad_gateway(way: Open, response: bytes) -> None:
    with tcp_server(says(response)) as port:
        out = way(*listed(port))
        assert status(out.say(get(port))) == 502
    assert out.event().allowed


def test_a_response_that_breaks_off_is_not_made_whole(way: Open) -> None:
    with tcp_server(says(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello")) as port:
        out = way(*listed(port))
        said = out.say(get(port))
    assert b"content-length: 10" in said.lower()
    assert said.endswith(b"\r\n\r\nhello")


@pytest.mark.parametrize("method", ["HEAD", "OPTIONS"])
def test_a_response_without_a_body_ends_where_it_ends(way: Open, method: str) -> None:
    response = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n" if method == "HEAD" else b"HTTP/1.1 204 None\r\n\r\n"
    with tcp_server(says(response)) as port:
        out = way(*listed(port))
        said = out.say(get(port).replace(b"GET", method.encode()))
    assert said.endswith(b"\r\n\r\n")


BAD = {
    "origin form": b"GET / HTTP/1.1\r\nHost: web.test\r\n\r\n",
    "https": b"GET https://web.test/ HTTP/1.1\r\nHost: web.test\r\n\r\n",
    "another scheme": b"GET ftp://web.test/ HTTP/1.1\r\nHost: web.test\r\n\r\n",
    "a user": b"GET http://web.test@10.0.0.1/ HTTP/1.1\r\nHost: web.test\r\n\r\n",
    "a port that is none": b"GET http://web.test:99999/ HTTP/1.1\r\nHost: web.test\r\n\r\n",
    "a fragment": b"GET http://web.test/#x HTTP/1.1\r\nHost: web.test\r\n\r\n",
    "no host": b"GET http://web.test/ HTTP/1.1\r\n\r\n",
    "two hosts": b"GET http://web.test/ HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    "two lengths": b"POST http://web.test/ HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
    "length and chunks": b"POST http://web.test/ HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n"
    b"Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    "a length that is none": b"POST http://web.test/ HTTP/1.1\r\nHost: a\r\nContent-Length: +5\r\n\r\nhello",
    "another coding": b"POST http://web.test/ HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n",
    "a space before the colon": b"GET http://web.test/ HTTP/1.1\r\nHost: a\r\nX : b\r\n\r\n",
    "NUL": b"GET http://web.test/ HTTP/1.1\r\nHost: a\r\nX: a\0b\r\n\r\n",
    "a bare carriage return": b"GET http://web.test/ HTTP/1.1\r\nHost: a\r\nX: a\rY: b\r\n\r\n",
    "a header without an end": b"GET http://web.test/ HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 70_000,
    "HTTP/2": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "SOCKS": b"\x05\x01\x00\r\n\r\n",
    "CONNECT without a port": b"CONNECT web.test HTTP/1.1\r\nHost: web.test\r\n\r\n",
    "CONNECT to a URL": b"CONNECT http://web.test:80/ HTTP/1.1\r\nHost: web.test\r\n\r\n",
    "CONNECT with a body": b"CONNECT web.test:80 HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello",
    "CONNECT to what is not ASCII": "CONNECT bücher.example:443 HTTP/1.1\r\nHost: a\r\n\r\n".encode(),
    "a URL that is not ASCII": "GET http://web.test/ä HTTP/1.1\r\nHost: a\r\n\r\n".encode(),
    "CONNECT to port 0": b"CONNECT web.test:0 HTTP/1.1\r\nHost: web.test\r\n\r\n",
    "CONNECT to a host of any length": b"CONNECT " + b"a" * 300 + b":443 HTTP/1.1\r\nHost: web.test\r\n\r\n",
}


@pytest.mark.parametrize("request_bytes", BAD.values(), ids=BAD.keys())
def test_what_is_no_request_for_a_proxy_is_refused_and_reaches_nobody(way: Open, request_bytes: bytes) -> None:
    out = way("web.test", "10.0.0.0/8")
    said = out.say(request_bytes)
    assert status(said) in (400, 431, 501)
    assert b"(claw-runner)" in said
    assert out.looked_up == []
    event = out.event()
    assert (event.host, event.allowed) == ("", False)
    assert len(event.reason) < 400


def test_a_header_over_several_lines_becomes_one(way: Open) -> None:
    requests: list[bytes] = []
    with tcp_server(heard(requests)) as port:
        out = way(*listed(port))
        assert status(out.say(get(port, "X: a", " Content-Length: 5"))) == 200
    assert b"X: a Content-Length: 5\r\n" in requests[0]


def test_a_program_that_still_sends_can_read_why_it_was_refused(way: Open) -> None:
    out = way("web.test")
    with dial(out.port) as connection:
        connection.sendall(b"POST http://evil.test/ HTTP/1.1\r\nHost: a\r\nContent-Length: 200000\r\n\r\n")
        connection.sendall(bytes(200_000))
        assert read_all(connection).startswith(b"HTTP/1.1 403 host is not in")


PIECES = st.sampled_from(
    [
        b"GET http://web.test/ HTTP/1.1\r\n",
        b"POST http://web.test:PORT/ HTTP/1.1\r\n",
        b"GET http://web.test:PORT/ HTTP/1.1\r\nHost: a\r\n\r\n",
        b"CONNECT web.test:PORT HTTP/1.1\r\nHost: a\r\n\r\n",
        b"CONNECT evil.test:443 HTTP/1.1\r\n",
        b"Host: a\r\n",
        b"Content-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Expect: 100-continue\r\n",
        b"Connection: upgrade, content-length\r\n",
        b"\r\n",
        b"5\r\nhello\r\n",
        b"0\r\n\r\n",
        b"\x00",
        b"\n",
        b"hello",
    ]
)


def test_whatever_a_program_says_it_has_an_end_and_hosts_hear_whole_requests_alone(way: Open) -> None:
    requests: list[bytes] = []

    def serve(connection: socket.socket) -> None:
        requests.append(read_until(connection, b"\r\n\r\n"))
        connection.sendall(OK)

    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.one_of(PIECES, st.binary(max_size=20)), max_size=12))
    def check(pieces: list[bytes]) -> None:
        requests.clear()
        said = b"".join(pieces).replace(b"PORT", str(port).encode())
        with contextlib.suppress(ConnectionError):
            out.say(said)
        if b"CONNECT" not in said:
            assert all(re.match(rb"\S+ / HTTP/1.1\r\nHost: web.test:\d+\r\n", request) for request in requests)

    with tcp_server(serve) as port:
        out = way(*listed(port))
        check()
        assert out.ask("web.test", port)[0] == 200


ANSWERS = st.sampled_from(
    [
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 204 No Content\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n",
        b"HTTP/1.0 999 \xff\r\n",
        b"Content-Length: 5\r\n",
        b"Transfer-Encoding: chunked\r\n",
        b"Transfer-Encoding: gzip\r\n",
        b"Connection: close, x\r\n",
        b"X: \xfc\r\n",
        b"\r\n",
        b"5\r\nhello\r\n",
        b"0\r\n\r\n",
        b"\x00",
    ]
)


def test_whatever_a_host_answers_a_program_hears_a_response_or_an_end(way: Open) -> None:
    answer = b""

    def serve(connection: socket.socket) -> None:
        read_until(connection, b"\r\n\r\n")
        connection.sendall(answer)

    @settings(max_examples=100, deadline=None)
    @given(st.lists(st.one_of(ANSWERS, st.binary(max_size=20)), max_size=8))
    def check(pieces: list[bytes]) -> None:
        nonlocal answer
        answer = b"".join(pieces)
        assert re.match(rb"HTTP/1\.1 \d\d\d ", out.say(get(port)))

    with tcp_server(serve) as port:
        out = way(*listed(port))
        check()
