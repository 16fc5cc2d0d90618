"""Who has left, of the clients that are only written to: one task for all event streams, and not one for each.

The kernel says of a watched socket that its other side is closed, or broken, whether or not there is something to read;
nothing is read. Where it cannot say that (it is Linux's to do so), each stream has a task that reads (``exchange.py``).
"""

from __future__ import annotations

import select
from collections.abc import Callable
from contextlib import suppress

import trio

AVAILABLE = hasattr(select, "EPOLLRDHUP")
TURN_SOCKETS = 100
"""So many sockets are told of before others get their turn."""


class Departures:
    """Sockets are named by their descriptors: forget one before it is closed. ``run`` has to run meanwhile."""

    def __init__(self) -> None:
        self._watched: dict[int, Callable[[], None]] = {}
        self._epoll = select.epoll() if AVAILABLE else None

    def __repr__(self) -> str:
        return f"<Departures of {len(self._watched)}>"

    def watch(self, descriptor: int, left: Callable[[], None]) -> bool:
        """Call ``left``, which must not fail, once the other side is gone. False: that cannot be noticed here."""
        if self._epoll is None or self._epoll.closed:
            return False
        self._epoll.register(descriptor, select.EPOLLRDHUP | select.EPOLLONESHOT)
        self._watched[descriptor] = left
        return True

    def forget(self, descriptor: int) -> None:
        if self._watched.pop(descriptor, None) is not None and self._epoll is not None and not self._epoll.closed:
            with suppress(OSError):
                self._epoll.unregister(descriptor)

    async def run(self) -> None:
        """Runs until cancelled; nobody is watched any more then."""
        if self._epoll is None:
            return
        with self._epoll:
            while True:
                await trio.lowlevel.wait_readable(self._epoll.fileno())
                for descriptor, _ in self._epoll.poll(0, TURN_SOCKETS):
                    if left := self._watched.get(descriptor):
                        left()
