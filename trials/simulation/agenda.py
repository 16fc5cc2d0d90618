"""What a world does later: deliver what is on its way, start a process in the place of a dead one."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from math import inf

import trio


class Agenda:
    """``run`` does each thing when its time has come, until it is cancelled."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._serial = count()
        self._changed = trio.Event()

    @property
    def is_empty(self) -> bool:
        return not self._due

    def later(self, seconds: float, act: Callable[[], None]) -> None:
        """Do it then. What is due at the same time is done in the order in which it was asked for."""
        heappush(self._due, (self._clock() + seconds, next(self._serial), act))
        self._changed.set()

    async def run(self) -> None:
        while True:
            self._changed = trio.Event()
            with trio.move_on_at(self._due[0][0] if self._due else inf):
                await self._changed.wait()
            while self._due and self._due[0][0] <= self._clock():
                heappop(self._due)[2]()
