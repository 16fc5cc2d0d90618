"""Bytes that the tasks of one moment share: each takes what it needs, waits where that is not free, and gives
it back. One alone is never kept waiting, however much it wants. Who waits has nothing in hand, so there is no circle of
waiters, as long as nobody takes twice."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from chatcluster.errors import NoPlace


class Places:
    """``total_bytes`` for all."""

    def __init__(self, total_bytes: int) -> None:
        self._total_bytes = total_bytes
        self._taken_bytes = 0
        self._freed = trio.Event()

    def __repr__(self) -> str:
        return f"<Places {self._taken_bytes} of {self._total_bytes} bytes taken>"

    async def take(self, size_bytes: int) -> None:
        while self._taken_bytes and self._taken_bytes + size_bytes > self._total_bytes:
            await self._freed.wait()
        self._taken_bytes += size_bytes

    def give_back(self, size_bytes: int) -> None:
        self._taken_bytes -= size_bytes
        self._freed.set()
        self._freed = trio.Event()

    @asynccontextmanager
    async def taken(self, size_bytes: int, *, seconds_max: float) -> AsyncIterator[None]:
        """Take for the length of the block. Raises ``NoPlace``."""
        try:
            with trio.fail_after(seconds_max):
                await self.take(size_bytes)
        except trio.TooSlowError:
            raise NoPlace(f"there was no room for {size_bytes} bytes within {seconds_max:g} s") from None
        try:
            yield
        finally:
            self.give_back(size_bytes)
