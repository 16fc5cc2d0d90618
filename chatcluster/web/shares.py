"""Each user's share of a replica's requests, so that nobody waits long behind somebody else's.

A user's requests are served ``requests_per_user`` at a time, in the order that they came. Those above wait for their
turn, up to ``WAITING_MAX`` of them and ``WAIT_SECONDS_MAX`` each. So a user who sends as fast as possible gets what the
replica can do, while a request of another user meets a handful of theirs and not the whole crowd. And a user has a
rate, ``requests_per_second_per_user``, counted here, in this process alone: a bucket that fills by the rate, and holds
``BURST_SECONDS`` of it.

Over a limit the request is refused with ``TooMany`` (429, with ``Retry-After``) before its body is read.
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from uuid import UUID

import trio

from chatcluster.errors import TooMany
from chatcluster.setting_sections import Http

WAITING_MAX = 100
WAIT_SECONDS_MAX = 10.0
BURST_SECONDS = 2.0
BUCKETS_MAX = 10_000
"""The one that was used longest ago is forgotten, and would be full again soon."""


class Buckets:
    """A rate for each key: ``per_second``, and ``burst`` at once. A rate of 0 lets everything through."""

    def __init__(self, *, per_second: float, burst: float) -> None:
        self._per_second = per_second
        self._burst = max(1.0, burst)
        self._levels: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()
        """How full it was, and when."""

    def is_empty(self, key: Hashable) -> bool:
        return bool(self._per_second) and self._level(key) < 1.0

    def take(self, key: Hashable) -> None:
        """Take one out. Raises ``TooMany`` if there is none."""
        if not self._per_second:
            return
        level = self._level(key)
        if level < 1.0:
            seconds = math.ceil((1.0 - level) / self._per_second)
            raise TooMany(f"more than {self._per_second:g} a second", retry_after_seconds=max(1, seconds))
        self._levels[key] = (level - 1.0, trio.current_time())
        self._levels.move_to_end(key)
        if len(self._levels) > BUCKETS_MAX:
            self._levels.popitem(last=False)

    def _level(self, key: Hashable) -> float:
        level, since = self._levels.get(key, (self._burst, 0.0))
        return min(self._burst, level + (trio.current_time() - since) * self._per_second)


class Shares:
    def __init__(self, http: Http) -> None:
        self._at_a_time = http.requests_per_user
        rate = http.requests_per_second_per_user
        self._rates = Buckets(per_second=rate, burst=rate * BURST_SECONDS)
        self._turns: dict[UUID, trio.Semaphore] = {}

    @asynccontextmanager
    async def share(self, user_id: UUID) -> AsyncIterator[None]:
        """Hold this user's turn for the length of the block. Raises ``TooMany``."""
        await self.enter(user_id)
        try:
            yield
        finally:
            self.leave(user_id)

    async def enter(self, user_id: UUID) -> None:
        """Wait for this user's turn; ``leave`` ends it. Raises ``TooMany``."""
        self._rates.take(user_id)
        if not self._at_a_time:
            return
        turns = self._turns.get(user_id)
        if turns is None:
            turns = self._turns[user_id] = trio.Semaphore(self._at_a_time, max_value=self._at_a_time)
        try:
            turns.acquire_nowait()  # unlike ``acquire`` no switch of tasks
        except trio.WouldBlock:
            await self._wait(turns)

    async def _wait(self, turns: trio.Semaphore) -> None:
        if turns.statistics().tasks_waiting < WAITING_MAX:
            with trio.move_on_after(WAIT_SECONDS_MAX):
                await turns.acquire()
                return
        raise TooMany(f"{self._at_a_time} of your requests are being served, and too many wait for them")

    def leave(self, user_id: UUID) -> None:
        if not self._at_a_time:
            return
        turns = self._turns[user_id]
        turns.release()
        if turns.value == self._at_a_time:
            del self._turns[user_id]
