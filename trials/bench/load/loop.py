"""A loop over epoll, for a load generator that must cost less than what it measures.

Single-threaded; a connection is an object whose ``received`` and ``closed`` are called, and timers are
functions. Nothing here is general: one machine, IPv4, no TLS, peers that read what they are sent.
"""

from __future__ import annotations

import errno
import heapq
import itertools
import select
import socket
import time
from collections.abc import Callable

RECEIVE_BYTES = 256 << 10
EVENTS_MAX = 1024
POLL_SECONDS_MAX = 0.05

Address = tuple[str, int]


class Loop:
    """Connections and timers. ``run`` returns when its condition holds or its time is over."""

    def __init__(self) -> None:
        self._epoll = select.epoll()
        self._connections: dict[int, Connection] = {}
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = itertools.count()

    def call_later(self, seconds: float, function: Callable[[], None]) -> None:
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._serial), function))

    def run(self, until: Callable[[], bool], seconds: float) -> bool:
        """Serve until the condition holds; False if ``seconds`` ended first."""
        deadline = time.monotonic() + seconds
        while not until():
            now = time.monotonic()
            if now >= deadline:
                return False
            while self._timers and self._timers[0][0] <= now:
                heapq.heappop(self._timers)[2]()
            due = self._timers[0][0] if self._timers else deadline
            wait_seconds = max(0.0, min(due - now, deadline - now, POLL_SECONDS_MAX))
            for descriptor, mask in self._epoll.poll(wait_seconds, EVENTS_MAX):
                connection = self._connections.get(descriptor)
                if connection is not None:
                    connection.ready(mask)
        return True

    def close(self) -> None:
        for connection in tuple(self._connections.values()):
            connection.close()
        self._timers.clear()
        self._epoll.close()

    def watch(self, connection: Connection, *, writing: bool) -> None:
        mask = select.EPOLLIN | (select.EPOLLOUT if writing else 0)
        if connection.descriptor in self._connections:
            self._epoll.modify(connection.descriptor, mask)
        else:
            self._connections[connection.descriptor] = connection
            self._epoll.register(connection.descriptor, mask)

    def forget(self, connection: Connection) -> None:
        del self._connections[connection.descriptor]
        self._epoll.unregister(connection.descriptor)


class Connection:
    """A TCP connection to ``address``, made in the background. What is sent meanwhile waits."""

    def __init__(self, loop: Loop, address: Address) -> None:
        self.loop = loop
        self.is_open = True
        self._unsent = b""
        self._connecting = True
        self._socket = socket.socket()
        self._socket.setblocking(False)
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.descriptor = self._socket.fileno()
        status = self._socket.connect_ex(address)
        if status not in (0, errno.EINPROGRESS):
            raise ConnectionError(f"cannot connect to {address}: {errno.errorcode[status]}")
        loop.watch(self, writing=True)

    def received(self, data: bytes) -> None:
        """Some bytes have come."""

    def closed(self) -> None:
        """The peer has ended the connection, or it broke."""

    def send(self, data: bytes) -> None:
        self._unsent += data
        if not self._connecting:
            self._flush()

    def close(self) -> None:
        """End it from our side; ``closed`` is not called."""
        if self.is_open:
            self.is_open = False
            self.loop.forget(self)
            self._socket.close()

    def ready(self, mask: int) -> None:
        if mask & select.EPOLLOUT:
            self._connecting = False
            self._flush()
        if mask & ~select.EPOLLOUT and self.is_open:
            self._receive()

    def _receive(self) -> None:
        try:
            data = self._socket.recv(RECEIVE_BYTES)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self.received(data)
        else:
            self.close()
            self.closed()

    def _flush(self) -> None:
        try:
            sent = self._socket.send(self._unsent) if self._unsent else 0
        except BlockingIOError:
            sent = 0
        except OSError:
            return  # the end comes with the next look at what can be read
        self._unsent = self._unsent[sent:]
        self.loop.watch(self, writing=bool(self._unsent))
