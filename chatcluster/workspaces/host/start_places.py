"""Places for starts: as many at a time as the machine has use for, and a few for each owner.

A hundred starts at once take a hundred times as long each, and then all of them take too long. So they take turns: in
order, two of an owner at a time, twice as many as there are processors in all. A start that is slow gives its place
back after ``HELD_SECONDS`` and goes on without: so none that hangs keeps others waiting.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from uuid import UUID

import trio

HELD_SECONDS = 3.0
PER_OWNER = 2


class StartPlaces:
    def __init__(self, total: int | None = None) -> None:
        self._all = trio.CapacityLimiter(total or max(4, 2 * (os.cpu_count() or 1)))
        self._owners: dict[UUID, trio.CapacityLimiter] = {}

    @asynccontextmanager
    async def take(self, owner_id: UUID) -> AsyncIterator[None]:
        """A place, for the block or the first ``HELD_SECONDS`` of it."""
        place = object()
        of_owner = self._owners.setdefault(owner_id, trio.CapacityLimiter(PER_OWNER))
        await of_owner.acquire_on_behalf_of(place)
        try:
            await self._all.acquire_on_behalf_of(place)
        except BaseException:
            self._release(of_owner, place)
            raise
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._give_back_later, of_owner, place)
            try:
                yield
            finally:
                nursery.cancel_scope.cancel()

    async def _give_back_later(self, of_owner: trio.CapacityLimiter, place: object) -> None:
        try:
            await trio.sleep(HELD_SECONDS)
        finally:
            self._all.release_on_behalf_of(place)
            self._release(of_owner, place)

    def _release(self, of_owner: trio.CapacityLimiter, place: object) -> None:
        of_owner.release_on_behalf_of(place)
        if not of_owner.borrowed_tokens and not of_owner.statistics().tasks_waiting:
            self._owners = {owner_id: other for owner_id, other in self._owners.items() if other is not of_owner}
