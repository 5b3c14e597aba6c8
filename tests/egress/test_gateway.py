"""The gateway through a real toolbox: who is reached, who is not, what ends a connection, and what is written down."""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import threading
import urllib.error
import urllib.request
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from runner.egress import Gateway, Meter
from runner.policy.schema import Egress
from tests.egress.servers import SECONDS, dial, echo, free_port, proxy_port, read_all, tcp_server, web_server
from tests.egress.ways import Open, Way, Written

NOT_LISTED = "host is not in the policy's egress list (claw-runner)"


def listed(port: int) -> tuple[str, str]:
    """What lets web.test be reached at a port of this machine."""
    return f"web.test:{port}", f"127.0.0.1:{port}"


# -- who is reached


def test_a_listed_host_is_reached_and_every_byte_is_counted(way: Open) -> None:
    with tcp_server(echo) as port:
        out = way(*listed(port))
        status, _, connection = out.open("web.test", port)
        with connection:
            connection.sendall(b"hello")
            connection.shutdown(socket.SHUT_WR)
            assert (status, read_all(connection)) == (200, b"hello")
        event = out.event()
    assert (event.phase, event.host, event.port, event.address) == ("agent", "web.test", port, "127.0.0.1")
    assert (event.allowed, event.rule, event.reason) == (True, f"web.test:{port}", "listed")
    assert (event.bytes_sent, event.bytes_received) == (5, 5)
    assert out.gateway.refusals_since() == ()


def test_what_a_program_sends_right_after_connect_is_not_lost(way: Open) -> None:
    with tcp_server(echo) as port:
        out = way(*listed(port))
        request = f"CONNECT web.test:{port} HTTP/1.0\r\n\r\nhello".encode()
        assert out.say(request).partition(b"\r\n\r\n")[2] == b"hello"


def test_a_host_that_is_not_listed_is_refused_in_words_and_never_looked_up(way: Open) -> None:
    out = way("web.test")
    status, phrase, connection = out.open("pypi.org", 443)
    with connection:
        body = read_all(connection).decode()
    assert (status, phrase) == (403, NOT_LISTED)
    assert body.endswith("; the policy would need, in egress.agent: pypi.org\n")
    assert out.looked_up == []
    assert out.gateway.refusals_since() == (
        "pypi.org:443: host is not in the policy's egress list; the policy would need, in egress.agent: pypi.org",
    )
    assert out.gateway.refusals_since() == ()
    event = out.event()
    assert (event.host, event.port, event.address, event.allowed, event.rule) == ("pypi.org", 443, None, False, None)


def test_a_port_that_is_not_listed_is_refused(way: Open) -> None:
    out = way("web.test")
    assert out.ask("web.test", 22) == (403, "port 22 of the host is not in the policy's egress list (claw-runner)")
    assert "egress.agent: web.test:22" in out.gateway.refusals_since()[0]


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("127.0.0.1", "the runner's own machine"),
        ("10.1.2.3", "a private address"),
        ("169.254.169.254", "the metadata service of a cloud"),
        ("::1", "the runner's own machine"),
        ("::ffff:127.0.0.1", "the runner's own machine"),
        ("64:ff9b::7f00:1", "the runner's own machine"),
    ],
)
def test_a_listed_name_that_leads_to_such_an_address_is_refused(way: Open, address: str, kind: str) -> None:
    out = way("web.test", names={"web.test": [address]})
    assert out.ask("web.test", 443) == (403, f"{address} is {kind} (claw-runner)")
    event = out.event()
    assert (event.allowed, event.rule, event.address) == (False, "web.test", None)


def test_only_those_addresses_of_a_name_are_tried_that_are_allowed(way: Open) -> None:
    with tcp_server(echo) as port:
        out = way(*listed(port), names={"web.test": ["169.254.169.254", "10.0.0.1", "127.0.0.1"]})
        assert out.ask("web.test", port)[0] == 200
    assert out.event().address == "127.0.0.1"


def test_the_next_address_is_tried_when_one_does_not_answer(way: Open) -> None:
    with tcp_server(echo) as port:
        out = way(f"web.test:{port}", f"127.0.0.0/8:{port}", names={"web.test": ["127.0.0.9", "127.0.0.1"]})
        assert out.ask("web.test", port)[0] == 200
    assert out.event().address == "127.0.0.1"


def test_a_name_is_looked_up_once_and_what_was_judged_is_what_is_connected_to(way: Open) -> None:
    answers = iter([["127.0.0.1"], ["169.254.169.254"]])

    def rebinding(host: str, port: int) -> Sequence[str]:
        return next(answers)

    with tcp_server(echo) as port:
        out = way(*listed(port), resolver=rebinding)
        assert out.ask("web.test", port)[0] == 200
        assert out.ask("web.test", port) == (403, "169.254.169.254 is the metadata service of a cloud (claw-runner)")


@pytest.mark.parametrize(
    "host", ["2130706433", "0x7f000001", "0177.0.0.1", "127.1", "127.0.0.1.", "[::ffff:7f00:1%lo]"]
)
def test_an_address_in_a_strange_spelling_is_refused(way: Open, host: str) -> None:
    with tcp_server(echo) as port:
        out = way(f"web.test:{port}", f"127.0.0.2:{port}")
        assert out.ask(host, port)[0] == 403
    assert out.looked_up == []


def test_an_address_is_reached_when_it_is_listed_as_such(way: Open) -> None:
    with tcp_server(echo) as port:
        out = way(f"127.0.0.1:{port}")
        assert out.ask("127.0.0.1", port)[0] == 200
        assert out.ask("127.0.0.2", port)[0] == 403


def test_a_host_that_does_not_exist_is_a_bad_gateway(way: Open) -> None:
    out = way("missing.test")
    assert out.ask("missing.test", 443) == (
        502,
        "missing.test does not resolve: Name or service not known (claw-runner)",
    )
    assert out.looked_up == ["missing.test"]
    event = out.event()
    assert (event.allowed, event.address) == (True, None)


def test_a_host_that_does_not_answer_is_tried_again_and_then_a_bad_gateway(way: Open) -> None:
    port = free_port()
    out = way(*listed(port))
    assert out.ask("web.test", port) == (502, f"web.test:{port} does not answer: Connection refused (claw-runner)")
    assert out.looked_up == ["web.test"] * 3


def test_a_redirect_is_a_request_of_its_own_and_judged_as_such(way: Open) -> None:
    with web_server({"/old": (302, {"Location": "http://elsewhere.test/new"}, b"")}) as (port, seen):
        out = way(*listed(port))
        proxy = urllib.request.ProxyHandler({"http": f"http://127.0.0.1:{out.port}"})
        with pytest.raises(urllib.error.HTTPError) as refused:
            urllib.request.build_opener(proxy).open(f"http://web.test:{port}/old", timeout=SECONDS)
        with refused.value as error:
            assert (error.code, error.reason) == (403, NOT_LISTED)
    assert seen == [f"GET /old web.test:{port}"]
    events = out.written.wait(2)
    assert [(event.host, event.allowed) for event in events] == [("web.test", True), ("elsewhere.test", False)]


# -- what ends a connection


def test_the_jobs_bytes_are_bounded_over_all_connections_and_gateways(way: Open) -> None:
    meter = Meter(1_000_000)
    with tcp_server(lambda connection: connection.sendall(bytes(3_000_000))) as port:
        out = way(*listed(port), meter=meter)
        _, _, connection = out.open("web.test", port)
        with connection:
            assert len(read_all(connection)) <= 1_000_000
        other = way(*listed(port), meter=meter)
        assert other.ask("web.test", port) == (413, "the job has used up its egress.bytes (1000000) (claw-runner)")
    event = out.event()
    assert event.allowed
    assert event.reason == "the job has used up its egress.bytes (1000000)"
    assert event.bytes_received <= 1_000_000
    assert not other.event().allowed


def test_a_connection_ends_when_its_time_is_over_whatever_goes_over_it(way: Open) -> None:
    def drip(connection: socket.socket) -> None:
        while not stop.wait(0.01):
            connection.sendall(b".")

    stop = threading.Event()
    with tcp_server(drip) as port:
        out = way(*listed(port), seconds=3)
        assert out.say(f"CONNECT web.test:{port} HTTP/1.0\r\n\r\n".encode())
        stop.set()
    assert out.event().reason == "cut after 3 s (egress.seconds)"


def test_a_program_that_says_nothing_is_cut_too(way: Open) -> None:
    out = way(seconds=0.2)
    with dial(out.port) as connection:
        assert read_all(connection) == b""


def test_each_direction_ends_by_itself(way: Open) -> None:
    def answer(connection: socket.socket) -> None:
        connection.sendall(str(len(read_all(connection))).encode())

    with tcp_server(answer) as port:
        out = way(*listed(port))
        _, _, connection = out.open("web.test", port)
        with connection:
            connection.sendall(bytes(1_000_000))
            connection.shutdown(socket.SHUT_WR)
            assert read_all(connection) == b"1000000"


def test_a_program_that_reads_nothing_does_not_keep_another_waiting(way: Open) -> None:
    data = os.urandom(3_000_000)
    with tcp_server(lambda connection: connection.sendall(data)) as port:
        out = way(*listed(port))
        _, _, slow = out.open("web.test", port)
        with slow:
            for _ in range(3):
                _, _, quick = out.open("web.test", port)
                with quick:
                    assert read_all(quick) == data


def test_a_hundred_programs_at_once_all_have_their_turn(way: Open) -> None:
    with tcp_server(echo) as port:
        out = way(*listed(port))

        def talk(number: int) -> bytes:
            _, _, connection = out.open("web.test", port)
            with connection:
                connection.sendall(b"%d" % number)
                connection.shutdown(socket.SHUT_WR)
                return read_all(connection)

        with ThreadPoolExecutor(100) as pool:
            assert list(pool.map(talk, range(100))) == [b"%d" % number for number in range(100)]
    assert len(out.written.wait(100)) == 100


def test_a_host_that_breaks_off_ends_the_connection(way: Open) -> None:
    def reset(connection: socket.socket) -> None:
        connection.recv(1)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    with tcp_server(reset) as port:
        out = way(*listed(port))
        _, _, connection = out.open("web.test", port)
        with connection:
            connection.sendall(b"x")
            assert read_all(connection) == b""
    assert "broken off" in out.event().reason


def test_a_program_that_breaks_off_ends_the_connection(way: Open) -> None:
    ended = threading.Event()

    def flood(connection: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while True:
                connection.sendall(bytes(1000))
        ended.set()

    with tcp_server(flood) as port:
        out = way(*listed(port))
        _, _, connection = out.open("web.test", port)
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        connection.close()
        assert ended.wait(SECONDS)


def test_a_new_phase_ends_what_is_open_and_has_its_own_list(way: Open) -> None:
    with tcp_server(echo) as port:
        web, address = listed(port)
        out = way(f"other.test:{port}", address, setup=[web, address], phase="setup")
        assert out.gateway.phase == "setup"
        _, _, connection = out.open("web.test", port)
        with connection:
            out.gateway.phase = "agent"
            assert read_all(connection) == b""
        out.written.wait(1)
        assert out.ask("web.test", port)[0] == 403
        assert out.ask("other.test", port)[0] == 200
        events = out.written.wait(3)
    assert [(event.phase, event.host, event.reason) for event in events[:2]] == [
        ("setup", "web.test", "cut, because the phase was over"),
        ("agent", "web.test", f"{NOT_LISTED[:39]}; the policy would need, in egress.agent: web.test:{port}"),
    ]


def test_closing_the_gateway_ends_what_is_open_and_nothing_is_recorded_after_it(way: Open) -> None:
    with tcp_server(echo) as port:
        out = way(*listed(port))
        opened = [out.open("web.test", port)[2] for _ in range(5)]
        out.gateway.close()
        assert [event.reason for event in out.written.events] == ["cut, because the container was closed"] * 5
        for connection in opened:
            with connection:
                assert read_all(connection) == b""
        with dial(out.port) as late:
            assert read_all(late) == b""
        out.gateway.close()
    assert len(out.written.events) == 5


def test_the_end_of_the_container_ends_the_connection_to_the_host(tmp_path: Path) -> None:
    ended = threading.Event()

    def until_end(connection: socket.socket) -> None:
        read_all(connection)
        ended.set()

    with tcp_server(until_end) as port:
        written = Written()
        gateway = Gateway(Egress.model_validate({"agent": [f"127.0.0.1:{port}"]}), written, "agent")
        with proxy_port(tmp_path, gateway) as inside:
            _, _, connection = Way(gateway=gateway, port=inside, written=written, looked_up=[]).open("127.0.0.1", port)
        connection.close()
        assert ended.wait(SECONDS)
        assert [event.host for event in written.wait(1)] == ["127.0.0.1"]
        gateway.close()
