"""Which connections out of a container are allowed: by name, then by address."""

from __future__ import annotations

import pytest

from runner.policy.domains import DomainPattern, parse_domain
from runner.policy.egress import judge_address, judge_name, needed, rules_for
from runner.policy.schema import Egress


def rules(*entries: str) -> tuple[DomainPattern, ...]:
    return tuple(parse_domain(entry, addresses=True) for entry in entries)


@pytest.mark.parametrize(
    ("entry", "host", "port"),
    [
        ("example.org", "example.org", 443),
        ("example.org", "EXAMPLE.org.", 80),
        ("*.example.org", "a.b.example.org", 443),
        ("example.org:8443", "example.org", 8443),
        ("192.0.2.7", "192.0.2.7", 443),
        ("10.0.0.0/8", "10.1.2.3", 80),
        ("[2001:db8::1]:8443", "[2001:db8::1]", 8443),
        ("[2001:db8::1]:8443", "[2001:0db8:0::0001]", 8443),
    ],
)
def test_what_is_listed_may_be_asked_for(entry: str, host: str, port: int) -> None:
    assert judge_name(rules("other.example", entry), host, port) == (True, entry, "listed")


@pytest.mark.parametrize(
    ("host", "port", "reason"),
    [
        ("example.com", 443, "host is not in the policy's egress list"),
        ("notexample.org", 443, "host is not in the policy's egress list"),
        ("example.org.evil.example", 443, "host is not in the policy's egress list"),
        ("a.example.org", 443, "host is not in the policy's egress list"),
        ("example.org", 22, "port 22 of the host is not in the policy's egress list"),
        ("93.184.216.34", 443, "address is not in the policy's egress list"),
        ("[::1]", 443, "address is not in the policy's egress list"),
    ],
)
def test_what_is_not_listed_is_refused_with_the_reason(host: str, port: int, reason: str) -> None:
    assert judge_name(rules("example.org", "10.0.0.0/8"), host, port) == (False, None, reason)


@pytest.mark.parametrize(
    "host",
    [
        "2130706433",
        "0x7f000001",
        "0177.0.0.1",
        "127.1",
        "127.0.0.1.",
        "0x7f.0.0.1",
        "fe80::1%eth0",
        "",
        ".",
        "a..b",
        "exa mple.org",
        "example.org\r\nHost: other",
        "\x00",
        "x" * 300,
    ],
)
def test_a_strange_spelling_names_no_host_at_all(host: str) -> None:
    assert not judge_name(rules("127.0.0.1", "example.org", "169.254.0.0/16"), host, 443).allowed


@pytest.mark.parametrize("address", ["93.184.216.34", "2606:2800:220:1::1", "64:ff9b::5db8:d822"])
def test_a_public_address_of_an_allowed_name_is_allowed(address: str) -> None:
    assert judge_address((), address, 443).allowed


@pytest.mark.parametrize(
    ("address", "kind"),
    [
        ("127.0.0.1", "own machine"),
        ("127.9.9.9", "own machine"),
        ("::1", "own machine"),
        ("0.0.0.0", "own machine"),
        ("::", "own machine"),
        ("10.0.0.1", "private"),
        ("172.16.0.1", "private"),
        ("192.168.1.1", "private"),
        ("fd12::1", "private"),
        ("100.64.0.1", "not a public"),
        ("203.0.113.80", "private"),
        ("169.254.1.1", "link-local"),
        ("fe80::1", "link-local"),
        ("169.254.169.254", "metadata"),
        ("100.100.100.200", "metadata"),
        ("168.63.129.16", "metadata"),
        ("fd00:ec2::254", "metadata"),
        ("224.0.0.1", "multicast"),
        ("ff02::1", "multicast"),
        ("255.255.255.255", "private"),
        ("::ffff:127.0.0.1", "own machine"),
        ("::ffff:169.254.169.254", "metadata"),
        ("64:ff9b::7f00:1", "own machine"),
        ("64:ff9b::a9fe:a9fe", "metadata"),
        ("2002:7f00:1::", "own machine"),
        ("2002:a00:1::1", "private"),
        ("::7f00:1", "not a public"),
        ("fec0::1", "address"),
        ("2001:db8::1", "private"),
        ("3fff::1", "address"),
    ],
)
def test_an_address_that_is_not_public_is_refused_and_named(address: str, kind: str) -> None:
    allowed, rule, reason = judge_address(rules("example.org"), address, 443)
    assert (allowed, rule) == (False, None)
    assert kind in reason


@pytest.mark.parametrize(
    ("entry", "address", "port"),
    [
        ("10.0.0.0/8", "10.1.2.3", 443),
        ("127.0.0.1:8080", "127.0.0.1", 8080),
        ("127.0.0.1:8080", "::ffff:127.0.0.1", 8080),
        ("[fd12::1]:443", "fd12::1", 443),
        ("169.254.169.254", "169.254.169.254", 80),
    ],
)
def test_a_listed_address_is_allowed_though_it_is_not_public(entry: str, address: str, port: int) -> None:
    assert judge_address(rules(entry), address, port) == (True, entry, "listed")


@pytest.mark.parametrize(
    ("entry", "address", "port"),
    [("127.0.0.1:8080", "127.0.0.1", 443), ("10.0.0.0/8", "10.0.0.1", 22), ("10.0.0.0/8", "11.0.0.1", 80)],
)
def test_a_listed_address_is_allowed_at_its_ports_only(entry: str, address: str, port: int) -> None:
    allowed = judge_address(rules(entry), address, port).allowed
    assert allowed == (address == "11.0.0.1")  # which is public


@pytest.mark.parametrize(
    ("network", "address"), [("169.254.0.0/16", "169.254.169.254"), ("100.64.0.0/10", "100.100.100.200")]
)
def test_a_network_does_not_open_a_metadata_service(network: str, address: str) -> None:
    assert not judge_address(rules(network), address, 80).allowed


def test_a_name_does_not_open_an_address() -> None:
    assert not judge_address(rules("localhost", "*.example.org"), "127.0.0.1", 443).allowed


@pytest.mark.parametrize(
    ("host", "port", "entry"),
    [
        ("Example.ORG", 443, "example.org"),
        ("example.org", 8443, "example.org:8443"),
        ("[::1]", 443, "::1"),
        ("[::1]", 8443, "[::1]:8443"),
        ("10.0.0.1", 22, "10.0.0.1:22"),
    ],
)
def test_the_entry_that_would_be_needed_does_allow_it(host: str, port: int, entry: str) -> None:
    assert needed(host, port) == entry
    assert judge_name(rules(entry), host, port).allowed


def test_each_phase_has_its_own_list() -> None:
    egress = Egress.model_validate({"setup": ["a.example"], "agent": ["b.example"], "checks": ["c.example"]})
    listed = [str(rule) for phase in ("setup", "agent", "checks") for rule in rules_for(egress, phase)]
    assert listed == ["a.example", "b.example", "c.example"]
