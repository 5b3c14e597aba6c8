"""Domains that may be reached: `example.org`, `*.example.org` (whatever lies below it), `example.org:8443`.

For egress also addresses and networks: `192.0.2.7`, `10.0.0.0/8`, `[2001:db8::1]:8443`. Pure: nothing is looked up.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from functools import cache

import idna
from publicsuffixlist import PublicSuffixList

from runner.document.words import shown

Address = ipaddress.IPv4Address | ipaddress.IPv6Address
Network = ipaddress.IPv4Network | ipaddress.IPv6Network

USUAL_PORTS = (80, 443)
_WIDEST_NETWORK = 8
"""Bits of the prefix; 10.0.0.0/8 and fd00::/8 are the widest networks that one organisation has."""


@dataclass(frozen=True, slots=True)
class DomainPattern:
    """One entry of a list of domains."""

    text: str
    """As written."""
    host: str
    """Lower case, in the form that DNS knows (`xn--…`), without a dot at the end; an address in its usual form; the
    network, of several addresses."""
    subdomains_only: bool = False
    """`*.host`: all names below the host, not the host itself."""
    ports: tuple[int, ...] = ()
    """Empty: 80 and 443."""
    network: Network | None = None
    """For an address or a network."""

    def __str__(self) -> str:
        return self.text

    def covers(self, host: str, port: int | None) -> bool:
        """Whether it names the host (a name or an address) and the port; None for the port: whatever it is."""
        if port is not None and port not in (self.ports or USUAL_PORTS):
            return False
        if self.network is not None:
            address = parse_address(host)
            return address is not None and address.version == self.network.version and address in self.network
        name = canonical_host(host)
        return name is not None and (name.endswith(f".{self.host}") if self.subdomains_only else name == self.host)


def parse_domain(text: str, *, addresses: bool = False) -> DomainPattern:
    """Raises ValueError for what names no host, or nearly all of them; `addresses`: IP addresses are welcome."""
    host, ports = _split_port(text)
    if network := _network(host):
        return _address_pattern(text, network, ports, addresses=addresses)
    if "/" in host or "@" in host:
        meant = re.sub(r"^[a-z]+://", "", host, flags=re.IGNORECASE).split("/")[0].rpartition("@")[2]
        raise ValueError(f"{shown(text)} is not a domain; write the host alone{f': {meant}' if meant else ''}")
    subdomains_only = host.startswith("*.")
    bare = host.removeprefix("*.")
    if "*" in bare:
        raise ValueError(_star_hint(text, bare))
    name = canonical_host(bare)
    if name is None:
        raise ValueError(f"{shown(text)} is not a domain such as example.org or *.example.org")
    if subdomains_only and _public_suffixes().is_public(name):
        raise ValueError(f"{text} is too broad: anybody can have a name below {bare}; name the domains that you mean")
    return DomainPattern(text, name, subdomains_only, ports)


def canonical_host(host: str) -> str | None:
    """The one form of a host name that is compared; None for what is none (an address, say)."""
    try:
        name = host if host.isascii() else idna.encode(host, uts46=True).decode()
    except (idna.IDNAError, UnicodeError):
        return None
    name = name.lower().removesuffix(".")
    labels = name.split(".")
    # To many programs 127.1 and 0x7f000001 are addresses.
    if len(name) > 253 or re.fullmatch(r"\d+|0x[0-9a-f]*", labels[-1]):
        return None
    return name if all(_LABEL.fullmatch(label) for label in labels) else None


_LABEL = re.compile(r"(?!-)[a-z0-9_-]{1,63}(?<!-)")


def parse_address(host: str) -> Address | None:
    """The IP address that a host is, with or without brackets; an IPv4 one in IPv6's clothes is the IPv4 one."""
    try:
        address = ipaddress.ip_address(host[1:-1] if host.startswith("[") and host.endswith("]") else host)
    except ValueError:
        return None
    return (isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped) or address


def _split_port(text: str) -> tuple[str, tuple[int, ...]]:
    """What stands before `:port`, and the port. An IPv6 address takes one only behind brackets."""
    found = re.fullmatch(r"(\[[^\]]*\](?:/\d+)?|[^:]*):(\d{1,5})", text, re.ASCII)
    if not found:
        return text, ()
    if not 1 <= int(found[2]) <= 65535:
        raise ValueError(f"{shown(text)}: a port is a number from 1 to 65535")
    return found[1], (int(found[2]),)


def _network(host: str) -> Network | None:
    """Raises ValueError for what is meant as a network and is none."""
    address, slash, bits = host.partition("/")
    found = parse_address(address)
    if found is None:
        return None
    try:
        return ipaddress.ip_network(f"{found}{slash}{bits}", strict=True)
    except ValueError:
        pass
    try:
        meant = ipaddress.ip_network(f"{found}{slash}{bits}", strict=False)
    except ValueError:
        raise ValueError(f"{shown(host)} is not a network such as 10.0.0.0/8") from None
    raise ValueError(f"{host} is an address within a network; write {meant} for the network, {found} for the address")


def _address_pattern(text: str, network: Network, ports: tuple[int, ...], *, addresses: bool) -> DomainPattern:
    if not addresses:
        raise ValueError(f"{text} is an address; only domains can be named here")
    if network.prefixlen < _WIDEST_NETWORK:
        raise ValueError(f"{text} is too broad: a network wider than /{_WIDEST_NETWORK}; name the networks you mean")
    single = network.num_addresses == 1
    return DomainPattern(text, str(network.network_address if single else network), ports=ports, network=network)


def _star_hint(text: str, bare: str) -> str:
    if bare in ("*", "**"):
        return f"{text} is too broad: it names every host there is; name the domains that you mean"
    return f"{shown(text)}: '*' can only stand for the whole beginning, as in *.example.org"


@cache
def _public_suffixes() -> PublicSuffixList:
    # Reading the list takes 40 ms, and most policies need none of it.
    return PublicSuffixList()
