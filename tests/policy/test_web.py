"""Decisions about pages: what a URL leads to, and which rules speak of it."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.policy import Call, Decision, Policy, can_ever_allow, decide
from runner.policy.schema import Mode
from runner.policy.web import parse_url


def policy(mode: Mode = "whitelist", **rules: list[str]) -> Policy:
    return Policy.model_validate({"version": 1, "mode": mode, **rules})


def judge(judged: Policy, url: str) -> Decision:
    return decide(judged, Call(tool="WebFetch", subject=url))


@pytest.mark.parametrize(
    ("url", "host", "port"),
    [
        ("https://example.org", "example.org", 443),
        ("http://example.org/a?b#c", "example.org", 80),
        ("HTTPS://EXAMPLE.org:8443/", "example.org", 8443),
        ("https://müller.example/", "xn--mller-kva.example", 443),
        ("https://[2001:DB8::1]:8443/x", "2001:db8::1", 8443),
        ("http://192.0.2.7?x", "192.0.2.7", 80),
        ("https://example.org./", "example.org", 443),
    ],
)
def test_a_url_leads_to_a_host_and_a_port(url: str, host: str, port: int) -> None:
    assert parse_url(url)[1:] == (host, port)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.org",
        "ftp://example.org/",
        "file:///etc/passwd",
        "https:example.org",
        "https:///x",
        "https://good.example@evil.example/",
        "https://good.example\\@evil.example/",
        "https://good.example\t.evil.example/",
        "https://good.example/ x",
        "https://example.org:99999/",
        "https://example.org:/",
        "https://127.1/",
        "https://0x7f000001/",
        "https://[::1",
        "https://a..b/",
        "https://example.org/" + "a" * 9_000,
    ],
)
@pytest.mark.parametrize("mode", ["whitelist", "blacklist", "interactive"])
def test_what_programs_may_read_differently_is_denied_in_every_mode(mode: Mode, url: str) -> None:
    assert judge(policy(mode, allow=["WebFetch"]), url).verdict == "deny"


@pytest.mark.parametrize(
    ("url", "verdict"),
    [
        ("https://docs.example.org/a", "allow"),
        ("http://docs.example.org/a", "allow"),
        ("https://docs.example.org:8443/", "deny"),
        ("https://example.org/", "deny"),
        ("https://evil.example.org/", "deny"),
        ("https://evil.example.org:8080/", "deny"),
        ("https://maybe.example.org/", "ask"),
        ("https://maybe.example.org:1/", "ask"),
        ("https://10.0.0.1/", "deny"),
    ],
)
def test_rules_speak_of_hosts(url: str, verdict: str) -> None:
    judged = policy(
        allow=["WebFetch(domain:*.example.org)"],
        ask=["WebFetch(domain:maybe.example.org)"],
        deny=["WebFetch(domain:evil.example.org)"],
    )
    assert judge(judged, url).verdict == verdict


def test_a_rule_with_a_port_speaks_of_that_port_alone() -> None:
    judged = policy("blacklist", allow=["WebFetch"], deny=["WebFetch(domain:example.org:8443)"])
    assert judge(judged, "https://example.org:8443/").verdict == "deny"
    assert judge(judged, "https://example.org/").verdict == "allow"


def test_a_blacklist_does_not_open_the_web() -> None:
    judged = policy("blacklist")
    assert judge(judged, "https://example.org/").verdict == "deny"
    assert not can_ever_allow(judged, "WebFetch")


@pytest.mark.parametrize(
    ("url", "suggestion"),
    [
        ("https://docs.example.org/a", "WebFetch(domain:docs.example.org)"),
        ("https://docs.example.org:8443/", "WebFetch(domain:docs.example.org:8443)"),
        ("https://10.0.0.1/", "WebFetch"),
    ],
)
def test_the_rule_that_would_allow_it_is_suggested(url: str, suggestion: str) -> None:
    decision = judge(policy(allow=["WebFetch(domain:example.org)"]), url)
    assert decision.suggestion == suggestion
    assert "allowed are: WebFetch(domain:example.org)" in decision.reason
    assert judge(policy(allow=[suggestion]), url).allowed


@settings(max_examples=300)
@given(st.one_of(st.text(max_size=40), st.text("htps:/@.[]\\ ?#a1", max_size=30)).map("https://{}".format))
def test_any_text_is_a_target_or_a_value_error(url: str) -> None:
    try:
        target = parse_url(url)
    except ValueError as error:
        assert str(error)  # noqa: PT017
    else:
        assert target.host
        assert 0 < target.port <= 65535
