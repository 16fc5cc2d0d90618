"""Bytes that the tasks of one moment share: each takes what it needs, waits where that is not free, and gives it back.

They are places (``fair_places.py``) that users get by turns, with one rule more: a user who holds some bytes leaves
room for the largest piece of work that another user may have. So whatever one user holds, and for however long its
models take, another user's first piece of work need not wait for that. Work that finds all bytes free begins, however
much it wants. A task that waits holds nothing, so no two wait for each other, as long as no task takes twice.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager

import trio

from chatcluster.errors import NoPlace
from chatcluster.fair_places import FairPlaces


class BytePlaces(FairPlaces):
    """``total`` bytes for all, of which ``largest`` are left to others by those who have some."""

    def __init__(self, total: int, *, largest: int) -> None:
        super().__init__(total)
        self._largest = largest

    @asynccontextmanager
    async def taken_soon(self, user: Hashable, size: int, *, seconds_max: float) -> AsyncIterator[None]:
        """Take for the length of the block. Raises ``NoPlace``."""
        if not size:
            yield
            return
        try:
            with trio.fail_after(seconds_max):
                await self.take(user, size)
        except trio.TooSlowError:
            raise NoPlace(f"there was no room for {size} bytes within {seconds_max:g} s") from None
        try:
            yield
        finally:
            self.give_back(user, size)

    def _allows(self, user: Hashable, size: int) -> bool:
        taken = self._taken.total()
        left_to_others = self._largest if self._taken[user] else 0
        return not taken or taken + size + left_to_others <= self._total
