"""Where a URL that somebody configured, or that a server named, may lead to. Pure.

An administrator's URL may lead into the own network, where servers of tools live: loopback and private addresses are
let through. Never let through are the addresses that cloud machines hand out credentials at (link-local ones, among
them 169.254.169.254), and those that are no address of one machine. What is compared is the address that is connected
to, after the name was looked up, so a name that answers otherwise the second time gains nothing.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address

METADATA = frozenset(map(ip_address, ("fd00:ec2::254", "100.100.100.200", "192.0.0.192")))
"""Addresses at which clouds answer besides the link-local ones."""


def is_forbidden(address: str) -> bool:
    """Whether nobody may be sent to this IP address."""
    ip = ip_address(address.partition("%")[0])
    return any(map(_is_forbidden, _meant_by(ip)))


def _is_forbidden(ip: IPv4Address | IPv6Address) -> bool:
    return ip.is_link_local or ip.is_multicast or ip.is_unspecified or ip in METADATA or ip == IPv4Address(2**32 - 1)


def _meant_by(ip: IPv4Address | IPv6Address) -> tuple[IPv4Address | IPv6Address, ...]:
    """The address, and the one of IPv4 that is written in it."""
    if isinstance(ip, IPv4Address):
        return (ip,)
    embedded = ip.ipv4_mapped or ip.sixtofour
    nat64 = IPv4Address(int(ip) & 0xFFFFFFFF) if ip.packed.startswith(b"\x00\x64\xff\x9b") else None
    return tuple(found for found in (ip, embedded, nat64) if found is not None)
