"""Judge a connection out of the container: by the name that is asked for, then by each address that the name has.

A name that is listed may turn out to be an address of the runner's own network, by mistake or on purpose: such
addresses are refused unless an address or network in the list says that they are meant. Pure: nothing is looked up.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable
from typing import Literal, NamedTuple

from runner.document.words import shown
from runner.policy.domains import Address, DomainPattern, canonical_host, parse_address
from runner.policy.schema import Egress

Phase = Literal["setup", "agent", "checks"]


class Judgement(NamedTuple):
    """What the list says; `rule` is the entry that allows it, as written, and `reason` a phrase."""

    allowed: bool
    rule: str | None
    reason: str


def rules_for(egress: Egress, phase: Phase) -> tuple[DomainPattern, ...]:
    """The list of a phase."""
    match phase:
        case "setup":
            return egress.setup
        case "agent":
            return egress.agent
        case "checks":
            return egress.checks


def judge_name(rules: Iterable[DomainPattern], host: str, port: int) -> Judgement:
    """Whether a host, as a program names it, may be asked for. One that is an address must be listed as one."""
    address = parse_address(host)
    if address is None and canonical_host(host) is None:
        return Judgement(False, None, f"{shown(host)} is not the name of a host")
    if rule := _covering(rules, host, port):
        return Judgement(True, rule.text, "listed")
    if address is not None:
        return Judgement(False, None, "address is not in the policy's egress list")
    if any(rule.covers(host, None) for rule in rules):
        return Judgement(False, None, f"port {port} of the host is not in the policy's egress list")
    return Judgement(False, None, "host is not in the policy's egress list")


def judge_address(rules: Iterable[DomainPattern], address: str, port: int) -> Judgement:
    """Whether an address of a host that may be asked for may be connected to. Raises ValueError for what is none."""
    found = ipaddress.ip_address(address)
    kind = _kind(found)
    if kind is None:
        return Judgement(True, None, "a public address")
    listed = _covering((rule for rule in rules if rule.network), address, port)
    if listed and (kind != METADATA or _is_single(listed)):
        return Judgement(True, listed.text, "listed")
    return Judgement(False, None, f"{address} is {kind}")


def needed(host: str, port: int) -> str:
    """The entry of the list that would let a host be reached at that port."""
    address = parse_address(host)
    name = str(address) if address else canonical_host(host) or host
    if port in (80, 443):
        return name
    return f"[{name}]:{port}" if ":" in name else f"{name}:{port}"


METADATA = "the metadata service of a cloud"
_METADATA_ADDRESSES = frozenset(
    ipaddress.ip_address(address)
    # AWS, Azure, Google and others; AWS and Google by IPv6; Oracle; Alibaba; Azure's host agent, an address like any.
    for address in (
        "169.254.169.254",
        "fd00:ec2::254",
        "fd20:ce::254",
        "192.0.0.192",
        "100.100.100.200",
        "168.63.129.16",
    )
)
# What Python's own list of addresses that are not global lacks, in some or all of its versions.
_NOT_GLOBAL = tuple(
    ipaddress.ip_network(network)
    for network in ("192.88.99.0/24", "::/96", "64:ff9b:1::/48", "3fff::/20", "5f00::/16", "fec0::/10")
)
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")


def _kind(address: Address) -> str | None:
    """What an address is that no list of names is meant to lead to; None for one of the public network."""
    address = _within(address)
    if address in _METADATA_ADDRESSES:
        return METADATA
    if address.is_loopback or address.is_unspecified:
        return "the runner's own machine"
    if address.is_link_local:
        return "a link-local address"
    if address.is_multicast:
        return "a multicast address"
    if address.is_global and not any(address.version == net.version and address in net for net in _NOT_GLOBAL):
        return None
    return "a private address" if address.is_private else "not a public address"


def _within(address: Address) -> Address:
    """The IPv4 address that an IPv6 one leads to: mapped, by NAT64 or 6to4; else itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def _covering(rules: Iterable[DomainPattern], host: str, port: int) -> DomainPattern | None:
    return next((rule for rule in rules if rule.covers(host, port)), None)


def _is_single(rule: DomainPattern) -> bool:
    return rule.network is not None and rule.network.num_addresses == 1
