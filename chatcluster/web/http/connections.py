"""The connections of a server: how many there may be, and which one goes when there are too many.

A connection is *silent* until the head of its first request is complete, *idle* between two requests, and *busy* while
one is served; event streams are busy. A request that anybody may make makes its connection silent again until its body
is there: a client that sends a body slowly gets no more time than one that sends nothing. Bounds, and what happens
at each:

* ``silent_per_address`` and ``silent``: the silent connection that came first is dropped, of that address or of all,
  but none that has been there for less than ``grace_seconds``. When a replica has died all of its readers come at
  once, behind a load balancer from one address, and are connected before the first of them can be listened to.
* ``total``: the silent connection that came first is dropped, or else the one that is idle longest. Where all are
  busy, the new one is closed at once. The replica's own port has ``RESERVED`` more, so that probes are answered.

``total`` is below what the process may open (``descriptors.py``): Postgres, Redis and models have theirs in any case.
How long a connection may stay silent is the server's to bound, by ``head_seconds`` from its first byte or its start.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Protocol

import trio

from chatcluster import telemetry

RESERVED = 32
IPV6_HOST_BITS = 64


@dataclass(frozen=True, kw_only=True)
class Limits:
    total: int = 12_000
    silent: int = 500
    silent_per_address: int = 200
    grace_seconds: float = 1.0
    """An honest client says what it wants within a round trip."""
    head_seconds: float = 10.0


class Connection(Protocol):
    address: str

    def drop(self) -> None:
        """End at once, without an answer. Never fails."""
        ...


class Connections:
    def __init__(self, limits: Limits, clock: Callable[[], float] = trio.current_time) -> None:
        self._limits = limits
        self._clock = clock
        self._all: dict[Connection, None] = {}
        self._silent: dict[Connection, float] = {}
        """Since when, in this order."""
        self._silent_at: defaultdict[str, dict[Connection, None]] = defaultdict(dict)
        self._idle: dict[Connection, None] = {}

    def __len__(self) -> int:
        return len(self._all)

    def admit(self, connection: Connection, *, public: bool) -> bool:
        """Count a new connection in, at the cost of another one if need be. False: there is no place for it."""
        if len(self._all) >= self._limits.total + (0 if public else RESERVED) and not self._make_room():
            telemetry.event("http.connection_dropped", state="new")
            return False
        now = self._clock()
        self._drop_silent(self._silent_at[connection.address], self._limits.silent_per_address, now)
        self._drop_silent(self._silent, self._limits.silent, now)
        self._all[connection] = None
        self._count_silent(connection, now)
        return True

    def silent(self, connection: Connection) -> None:
        """What it asks, anybody may, and what came is not the whole request."""
        if connection in self._all:
            self._idle.pop(connection, None)
            self._count_silent(connection, self._clock())

    def _count_silent(self, connection: Connection, now: float) -> None:
        self._silent[connection] = now
        self._silent_at[connection.address][connection] = None

    def _drop_silent(self, silent: Mapping[Connection, object], limit: int, now: float) -> None:
        """Drop so many that there is a place for one more, as far as they had their time."""
        while len(silent) >= limit and now - self._silent[oldest := next(iter(silent))] >= self._limits.grace_seconds:
            self._drop(oldest, "silent")

    def busy(self, connection: Connection) -> None:
        """A request is being served on it."""
        self._idle.pop(connection, None)
        self._no_longer_silent(connection)

    def idle(self, connection: Connection) -> None:
        """Note that its request was answered, and another one may come."""
        if connection in self._all:
            self._no_longer_silent(connection)  # as it is where its body came, and nobody asked for that
            self._idle[connection] = None

    def remove(self, connection: Connection) -> None:
        self._all.pop(connection, None)
        self._idle.pop(connection, None)
        self._no_longer_silent(connection)

    def _no_longer_silent(self, connection: Connection) -> None:
        if connection not in self._silent:
            return
        del self._silent[connection]
        here = self._silent_at[connection.address]
        del here[connection]
        if not here:
            del self._silent_at[connection.address]

    def _make_room(self) -> bool:
        for state, candidates in (("silent", self._silent), ("idle", self._idle)):
            if candidates:
                self._drop(next(iter(candidates)), state)
                return True
        return False

    def _drop(self, connection: Connection, state: str) -> None:
        telemetry.event("http.connection_dropped", state=state)
        self.remove(connection)
        connection.drop()


def address_of(stream: trio.SocketStream) -> str:
    """What a connection counts for, "" where that cannot be said: it is gone already, or a local socket."""
    try:
        return counted_address(stream.socket.getpeername()[0])
    except (OSError, IndexError):
        return ""


@lru_cache(maxsize=1024)
def counted_address(host: object) -> str:
    """The address itself; of IPv6 the network, as a single machine has very many addresses of its own."""
    try:
        address = ip_address(str(host).partition("%")[0])
    except ValueError:
        return ""
    if isinstance(address, IPv4Address):
        return str(address)
    return str(address.ipv4_mapped or IPv6Address(int(address) >> IPV6_HOST_BITS << IPV6_HOST_BITS))
