"""Where a workspace may connect to: what its template lists, as long as it leads to the public network. Pure.

A name is judged as it is asked for, and then each address that it stands for: neither this machine, nor a network of
its owner's, nor the places where clouds hand out credentials are reached by a name that somebody made lead there.
Networks of one's own can be let in by the host's settings; link-local addresses cannot.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network

from chatcluster.errors import ConfigError
from chatcluster.push_endpoints import is_public

PORTS = (443, 80)
"""The ports where a template says none."""
METADATA = (
    "169.254.0.0/16",
    "fe80::/10",
    "fd00:ec2::254/128",
    "100.100.100.200/32",
    "192.0.0.0/24",
    "168.63.129.16/32",
)
NEVER = tuple(map(ip_network, METADATA))
"""Link-local addresses, and those at which clouds tell a machine its credentials, of which one looks public."""
_HOST = re.compile(r"[a-z0-9_]([a-z0-9_.-]{0,251}[a-z0-9_])?")

Network = IPv4Network | IPv6Network


class Reach:
    """``hosts`` are as a template lists them: ``name`` or ``*.name``, with ``:port`` or without."""

    def __init__(self, hosts: Iterable[str], private: Iterable[Network] = ()) -> None:
        self._hosts = [_split(host) for host in hosts]
        self._private = tuple(private)

    def names(self, host: str, port: int) -> bool:
        """Whether this is on the list."""
        name = host.lower().removesuffix(".")
        if not _HOST.fullmatch(name):
            return False
        return any(port in ports and _matches(pattern, name) for pattern, ports in self._hosts)

    def leads_to(self, address: str) -> bool:
        """Whether an IP address that a name stands for may be connected to."""
        ip = _ip(address)
        return ip is not None and not _within(ip, NEVER) and (is_public(address) or self.lets_in(address))

    def lets_in(self, address: str) -> bool:
        """Whether it is in one of the networks that are let in, whatever it looks like."""
        ip = _ip(address)
        return ip is not None and _within(ip, self._private)


def networks(text: str) -> tuple[Network, ...]:
    """Networks between commas. Raises ``ConfigError``."""
    try:
        return tuple(ip_network(one.strip()) for one in text.split(",") if one.strip())
    except ValueError as error:
        words = "workspaces-private-networks has networks such as 10.0.0.0/8, with commas between them"
        raise ConfigError(f"{words}: {error}") from None


def _split(host: str) -> tuple[str, tuple[int, ...]]:
    name, _, port = host.lower().partition(":")
    return name, (int(port),) if port else PORTS


def _matches(pattern: str, name: str) -> bool:
    if pattern.startswith("*."):
        return name.endswith(pattern[1:]) and len(name) > len(pattern) - 1
    return name == pattern


def _ip(address: str) -> IPv4Address | IPv6Address | None:
    """The address that is meant; None where it is none."""
    try:
        ip = ip_address(address.partition("%")[0])
    except ValueError:
        return None
    return getattr(ip, "ipv4_mapped", None) or ip


def _within(ip: object, networks: Iterable[Network]) -> bool:
    return any(ip in network for network in networks)
