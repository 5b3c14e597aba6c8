"""Domain patterns: what they cover, and what is too much for one."""

from __future__ import annotations

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.policy.domains import canonical_host, parse_address, parse_domain


@pytest.mark.parametrize(
    ("pattern", "host", "port", "covered"),
    [
        ("example.org", "example.org", 443, True),
        ("example.org", "example.org", 80, True),
        ("example.org", "example.org", 8443, False),
        ("example.org", "example.org", None, True),
        ("example.org", "EXAMPLE.org.", 443, True),
        ("Example.ORG.", "example.org", 443, True),
        ("example.org", "www.example.org", 443, False),
        ("example.org", "badexample.org", 443, False),
        ("*.example.org", "www.example.org", 443, True),
        ("*.example.org", "a.b.example.org", 443, True),
        ("*.example.org", "example.org", 443, False),
        ("*.example.org", "badexample.org", 443, False),
        ("*.example.org", ".example.org", 443, False),
        ("*.example.org", "example.org.evil.net", 443, False),
        ("example.org:8443", "example.org", 8443, True),
        ("example.org:8443", "example.org", 443, False),
        ("*.example.org:8443", "a.example.org", 8443, True),
        ("müller.example", "xn--mller-kva.example", 443, True),
        ("xn--mller-kva.example", "MÜLLER.example", 443, True),
        ("localhost:3000", "localhost", 3000, True),
        ("192.0.2.7", "192.0.2.7", 443, True),
        ("192.0.2.7", "::ffff:192.0.2.7", 443, True),
        ("192.0.2.7", "192.0.2.8", 443, False),
        ("10.0.0.0/8", "10.255.0.1", 80, True),
        ("10.0.0.0/8", "11.0.0.1", 80, False),
        ("10.0.0.0/8:8080", "10.0.0.1", 8080, True),
        ("10.0.0.0/8", "ten.example.org", 80, False),
        ("[2001:db8::1]:8443", "2001:db8:0::1", 8443, True),
        ("2001:db8::1", "[2001:DB8::1]", 443, True),
        ("fd00::/8", "fd12::1", 443, True),
        ("fd00::/8", "10.0.0.1", 443, False),
        ("example.org", "10.0.0.1", 443, False),
    ],
)
def test_a_pattern_covers(pattern: str, host: str, port: int | None, covered: bool) -> None:
    assert parse_domain(pattern, addresses=True).covers(host, port) is covered


@pytest.mark.parametrize("text", ["*", "*.*", "*.com", "*.org.", "*.internal", "*.co.uk", "*.com.au", "*.рф", "*.COM"])
def test_a_pattern_for_whatever_anybody_registers_is_too_broad(text: str) -> None:
    with pytest.raises(ValueError, match="too broad"):
        parse_domain(text)


@pytest.mark.parametrize("text", ["*.github.io", "*.githubusercontent.com", "*.s3.amazonaws.com", "*.pages.dev"])
def test_so_is_one_for_names_that_a_host_lets_to_anybody(text: str) -> None:
    with pytest.raises(ValueError, match="anybody can have a name below"):
        parse_domain(text)
    assert parse_domain(text.replace("*", "mine")).covers(text.replace("*", "mine"), 443)


@pytest.mark.parametrize("text", ["0.0.0.0/0", "128.0.0.0/1", "::/0", "2000::/3"])
def test_so_is_a_network_wider_than_any_organisation_has(text: str) -> None:
    with pytest.raises(ValueError, match="wider than /8"):
        parse_domain(text, addresses=True)


@pytest.mark.parametrize(
    ("text", "what"),
    [
        ("", "is not a domain such as example.org"),
        ("a b", "is not a domain"),
        (".example.org", "is not a domain"),
        ("example..org", "is not a domain"),
        ("-a.example.org", "is not a domain"),
        ("a" * 64 + ".org", "is not a domain"),
        ("a." * 127 + "org", "is not a domain"),
        ("127.1", "is not a domain"),
        ("0x7f000001", "is not a domain"),
        ("2130706433", "is not a domain"),
        ("example.org:", "is not a domain"),
        ("example.org:0", "a port is a number from 1 to 65535"),
        ("example.org:99999", "a port is a number"),
        ("https://example.org/a", "write the host alone: example.org"),
        ("me@example.org", "write the host alone: example.org"),
        ("*example.org", "'*' can only stand for the whole beginning, as in *.example.org"),
        ("a.*.org", "'*' can only stand for the whole beginning"),
        ("10.0.0.1/8", "write 10.0.0.0/8 for the network, 10.0.0.1 for the address"),
        ("10.0.0.0/33", "is not a network such as 10.0.0.0/8"),
        ("*.10.0.0.1", "is not a domain"),
    ],
)
def test_what_names_no_host_is_refused_with_what_to_write(text: str, what: str) -> None:
    with pytest.raises(ValueError, match=re.escape(what)):
        parse_domain(text, addresses=True)


@pytest.mark.parametrize("text", ["10.0.0.1", "10.0.0.0/8", "::1", "[::1]:8080", "10.0.0.1:8080"])
def test_addresses_are_refused_where_only_domains_are_meant(text: str) -> None:
    with pytest.raises(ValueError, match="is an address; only domains can be named here"):
        parse_domain(text)


@settings(max_examples=500)
@given(st.one_of(st.text(max_size=30), st.text("ab.*:/0189[]@-%x", max_size=20)))
def test_any_text_is_a_pattern_or_a_value_error_and_any_host_can_be_asked_about(text: str) -> None:
    parse_domain("*.example.org").covers(text, 443)
    try:
        pattern = parse_domain(text, addresses=True)
    except ValueError as error:
        assert str(error)  # noqa: PT017
        return
    assert pattern.text == text
    assert pattern.network is not None or pattern.host == canonical_host(pattern.host)
    assert not pattern.covers("unlisted.example", None) or pattern.host == "unlisted.example"


@given(st.ip_addresses())
def test_an_address_is_never_taken_for_a_name(address: object) -> None:
    assert canonical_host(str(address)) is None
    assert parse_address(str(address)) is not None
