"""Names of hosts become addresses in threads, of which each host, or each user, has a few.

A name server that says nothing keeps such a thread until the resolver gives up: for half a minute, and so also where
nobody waits for it any more. trio has forty threads for all that a process does. So a host whose name is not told, a
model's server, say, would keep every other host's from being looked up, Redis among them (P10). Hosts that users name
are looked up for each user (``LookUps``), as one may name many.

``each_host_for_itself`` is called once in each run of trio of a replica, and of its process for MCP.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, TypeVar
from weakref import WeakValueDictionary

import trio

LOOK_UPS_MAX = 4
"""At a time, for each."""

T = TypeVar("T")


class LookUps:
    """Look-ups in threads, of which each host, or each user, has a few at a time."""

    def __init__(self) -> None:
        self._places: WeakValueDictionary[Hashable, trio.CapacityLimiter] = WeakValueDictionary()
        """Of those for whom something is looked up: each look-up holds them, to the end of its thread."""

    def __repr__(self) -> str:
        return f"<LookUps for {len(self._places)}>"

    async def make(self, whose: Hashable, look_up: Callable[[], T]) -> T:
        places = self._places.setdefault(whose, trio.CapacityLimiter(LOOK_UPS_MAX))
        return await trio.to_thread.run_sync(look_up, limiter=places, abandon_on_cancel=True)


class HostNames(trio.abc.HostnameResolver):
    """What trio asks for addresses, and for names. ``get`` is the system's ``getaddrinfo``, which blocks."""

    def __init__(self, get: Callable[..., Any] = socket.getaddrinfo) -> None:
        self._get = get
        self._look_ups = LookUps()

    async def getaddrinfo(
        self,
        host: bytes | None,
        port: bytes | str | int | None,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> Any:
        return await self._look_ups.make(host, partial(self._get, host, port, family, type, proto, flags))

    async def getnameinfo(self, sockaddr: tuple[Any, ...], flags: int) -> Any:
        return await self._look_ups.make(sockaddr[0], partial(socket.getnameinfo, sockaddr, flags))


def each_host_for_itself() -> None:
    trio.socket.set_custom_hostname_resolver(HostNames())
