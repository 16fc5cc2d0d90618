"""Who may use the pool, and when: places in lanes, and turns of a chat.

A place stands for one connection. There are as many as the pool has connections, and each **lane** leaves some of them
to the more important ones, so that requests of clients, however many, do not keep a claim, the commit of an owner or a
burial waiting: of ten places ``REQUESTS`` fill at most seven, those and ``CHATS`` together at most nine, and one is
always left to ``CLUSTER``. Small pools leave what they can: of lanes that share their places, the most important comes
first. Else the first to come is the first served. There may be more or fewer places from some moment on
(``pool_share.py``).

One **chat** has at most two places, whatever its lanes: if somebody holds its row, its further transactions wait
before they take a place, in order, and other chats do not notice. Both waits together have a bound in time.
"""

from __future__ import annotations

from collections import deque
from enum import IntEnum
from uuid import UUID

import trio

from chatcluster.errors import StoreUnavailable

PLACES_PER_CHAT_MAX = 2
PLACES_KEPT_FROM_REQUESTS = 3
PLACES_KEPT_FOR_CLUSTER = 1


class Lane(IntEnum):
    """What a transaction is for; the more important, the greater."""

    REQUESTS = 0
    """What clients ask for. Also what says nothing else."""
    CHATS = 1
    """Claims, the commits of owners, and what is read to work on a chat or to show it."""
    CLUSTER = 2
    """Membership, burial of the dead, health."""


class Places:
    """``size`` places. Not for more than one event loop."""

    def __init__(self, size: int) -> None:
        self._limits = _limits(size)
        self._taken = [0] * len(Lane)
        self._waiting: tuple[deque[_Waiter], ...] = tuple(deque() for _ in Lane)
        self._arrivals = 0
        self._turns: dict[UUID, trio.Semaphore] = {}

    @property
    def size(self) -> int:
        return self._limits[Lane.CLUSTER]

    @property
    def taken(self) -> int:
        """More than there are for a while, where they have become fewer."""
        return sum(self._taken)

    def resize(self, size: int) -> None:
        """So many from now on. Who has one keeps it until it is given back."""
        self._limits = _limits(size)
        self._admit()

    async def take(self, lane: Lane, chat_id: UUID | None, *, seconds_max: float) -> None:
        """Wait for a turn of the chat, and then for a place. Raises ``StoreUnavailable`` when that takes too long."""
        if self._take_at_once(lane, chat_id):
            return
        with trio.move_on_after(seconds_max) as waiting:
            if chat_id is not None:
                await self._take_turn(chat_id)
            try:
                await self._take_place(lane)
            except BaseException:
                self._end_turn(chat_id)
                raise
        if waiting.cancelled_caught:
            raise StoreUnavailable(f"no connection to Postgres became free within {seconds_max:g} s; nothing was done")

    def give_back(self, lane: Lane, chat_id: UUID | None) -> None:
        self._taken[lane] -= 1
        self._end_turn(chat_id)
        self._admit()

    def _take_at_once(self, lane: Lane, chat_id: UUID | None) -> bool:
        """The usual case: nothing is to be waited for."""
        if self._waiting[lane] or not self._allows(lane):
            return False
        if chat_id is not None and not self._take_turn_at_once(chat_id):
            return False
        self._taken[lane] += 1
        return True

    # turns of a chat

    def _take_turn_at_once(self, chat_id: UUID) -> bool:
        turns = self._turns.get(chat_id)
        if turns is None:
            turns = self._turns[chat_id] = trio.Semaphore(PLACES_PER_CHAT_MAX, max_value=PLACES_PER_CHAT_MAX)
        try:
            turns.acquire_nowait()
        except trio.WouldBlock:
            return False
        return True

    async def _take_turn(self, chat_id: UUID) -> None:
        if not self._take_turn_at_once(chat_id):
            await self._turns[chat_id].acquire()

    def _end_turn(self, chat_id: UUID | None) -> None:
        if chat_id is None:
            return
        turns = self._turns[chat_id]
        turns.release()
        if turns.value == PLACES_PER_CHAT_MAX:
            del self._turns[chat_id]

    # places

    async def _take_place(self, lane: Lane) -> None:
        if not self._waiting[lane] and self._allows(lane):
            self._taken[lane] += 1
            return
        self._arrivals += 1
        waiter = _Waiter(self._arrivals)
        self._waiting[lane].append(waiter)
        try:
            await waiter.admitted.wait()
        except trio.Cancelled:
            if waiter.admitted.is_set():
                self._taken[lane] -= 1
            else:
                self._waiting[lane].remove(waiter)
            self._admit()
            raise

    def _allows(self, lane: Lane) -> bool:
        taken = sum(self._taken[:lane])
        for up_to in range(lane, len(Lane)):
            taken += self._taken[up_to]
            if taken >= self._limits[up_to]:
                return False
        return True

    def _admit(self) -> None:
        """Give what is free to those who wait for it, the longest first; of lanes with the same limit, the greatest."""
        while heads := {self._limits[lane]: lane for lane in Lane if self._waiting[lane] and self._allows(lane)}:
            lane = min(heads.values(), key=lambda lane: self._waiting[lane][0].arrival)
            self._taken[lane] += 1
            self._waiting[lane].popleft().admitted.set()


def _limits(size: int) -> tuple[int, ...]:
    """How many places each lane may fill, together with those that are less important."""
    return max(1, size - PLACES_KEPT_FROM_REQUESTS), max(1, size - PLACES_KEPT_FOR_CLUSTER), size


class _Waiter:
    def __init__(self, arrival: int) -> None:
        self.arrival = arrival
        self.admitted = trio.Event()
