"""Where a browser's subscription may have the cluster send to. Pure.

The address is the browser's word, so it is a stranger's: it must be ``https`` and lead to a public address. That is
judged when it is connected to, after the name was looked up; here only what the address itself says.
"""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, ip_address
from urllib.parse import urlsplit

from chatcluster.errors import InvalidRequest

ENDPOINT_CHARS_MAX = 2000


def checked_endpoint(url: str, *, private_allowed: bool) -> str:
    """Raises ``InvalidRequest``."""
    try:
        parts = urlsplit(url)
        schemes = ("https", "http") if private_allowed else ("https",)
        usable = parts.scheme in schemes and parts.hostname and parts.port != 0 and "@" not in parts.netloc
        usable = usable and url.isascii() and url.isprintable() and " " not in url and len(url) <= ENDPOINT_CHARS_MAX
    except ValueError:
        usable = False
    if not usable:
        raise InvalidRequest("endpoint must be the https address that the browser's PushSubscription has")
    if not private_allowed and _is_private_literal(parts.hostname or ""):
        raise InvalidRequest("endpoint must lead to a public address")
    return url


def _is_private_literal(host: str) -> bool:
    try:
        return not is_public(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def is_public(address: str) -> bool:
    """Whether anybody may be sent to this IP address. Raises ``ValueError`` for what is none."""
    ip = ip_address(address.partition("%")[0])
    return all(one.is_global and not one.is_multicast for one in _meant_by(ip))


def _meant_by(ip: IPv4Address | IPv6Address) -> list[IPv4Address | IPv6Address]:
    """The address, and the one of IPv4 that is written in it."""
    if isinstance(ip, IPv4Address):
        return [ip]
    nat64 = IPv4Address(int(ip) & 0xFFFFFFFF) if ip.packed.startswith(b"\x00\x64\xff\x9b") else None
    inner = [one for one in (ip.ipv4_mapped, ip.sixtofour, nat64) if one is not None]
    return [*inner] if ip.ipv4_mapped else [ip, *inner]
