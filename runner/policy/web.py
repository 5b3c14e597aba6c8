"""Judge which pages may be fetched."""

from __future__ import annotations

import re
from typing import NamedTuple

from runner.document.words import shown
from runner.policy.domains import DomainPattern, canonical_host, parse_address
from runner.policy.order import by_mode, by_rules
from runner.policy.rules import Rule
from runner.policy.schema import Policy
from runner.policy.verdicts import Call, Decision, no

ONLY_BY_NAME = "the web is open only where a rule allows it, in a blacklist too"
_DEFAULT_PORTS = {"http": 80, "https": 443}


class Target(NamedTuple):
    """What a URL leads to."""

    scheme: str
    host: str
    """A canonical name, or an address in its usual form."""
    port: int


def parse_url(text: str) -> Target:
    """Raises ValueError for what is no `http://` or `https://` address that every program reads in the same way."""
    if len(text) > 8_192 or not text.isprintable() or re.search(r"[\s\\]", text):
        raise ValueError("is not a URL: it is too long, or has spaces, backslashes or control characters")
    found = re.match(r"(https?)://(\[[0-9a-f:.]+\]|[^\[\]/?#@:]+)(?::(\d{1,5}))?(?=[/?#]|\Z)", text, re.ASCII | re.I)
    if not found:
        raise ValueError("is not a URL such as https://example.org/page, without a user name")
    scheme, port = found[1].lower(), int(found[3] or 0)
    host = str(address) if (address := parse_address(found[2])) else canonical_host(found[2])
    if not host or port > 65535:
        raise ValueError("has no host and port that could be reached")
    return Target(scheme, host, port or _DEFAULT_PORTS[scheme])


def decide_fetch(policy: Policy, call: Call) -> Decision:
    """Whether the page at the URL that is the call's subject may be fetched."""
    try:
        target = parse_url(call.subject)
    except ValueError as error:
        return no(f"{shown(call.subject)} {error}")
    decision = by_rules(
        policy,
        call.tool,
        catches=lambda rule: _names(rule, target, whatever_port=True),
        allows=lambda rule: _names(rule, target),
    )
    if decision is None and policy.mode == "blacklist":
        return no(f"no rule allows fetching from {_place(target)}; {ONLY_BY_NAME}", _suggestion(target))
    return decision or by_mode(policy, call.tool, f"fetching from {_place(target)}", _suggestion(target))


def _names(rule: Rule, target: Target, *, whatever_port: bool = False) -> bool:
    """Whether the rule speaks of the target; `whatever_port`: a rule without a port speaks of all of them."""
    if not isinstance(rule.pattern, DomainPattern):
        return True
    port = None if whatever_port and not rule.pattern.ports else target.port
    return rule.pattern.covers(target.host, port)


def _place(target: Target) -> str:
    return target.host if target.port == _DEFAULT_PORTS[target.scheme] else f"{target.host}:{target.port}"


def _suggestion(target: Target) -> str:
    """Rules name no addresses: for one only the whole tool can be allowed."""
    return "WebFetch" if parse_address(target.host) else f"WebFetch(domain:{_place(target)})"
