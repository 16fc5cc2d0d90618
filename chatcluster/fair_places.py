"""Places for work that all share, and each user gets by turns.

So many are taken at a time as there are, and of one user no more than ``each``. Of the work that waits, the next is
that of the user whose turn it is, the longest wait of that user first. So however much one user has to be done, another
user's work begins after one piece of it, and not after all. Work may need several places at once: it waits until there
are so many, and does not hold up work that needs fewer.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Hashable
from contextlib import AbstractAsyncContextManager
from typing import NamedTuple

import trio


class _Waiting(NamedTuple):
    admitted: trio.Event
    size: int


class FairPlaces:
    """``total`` places. Not for more than one event loop at a time."""

    def __init__(self, total: int, *, each: int | None = None) -> None:
        self._total = total
        self._each = total if each is None else each
        self._taken: Counter[Hashable] = Counter()
        self._waiting: OrderedDict[Hashable, deque[_Waiting]] = OrderedDict()
        """By user, the one whose turn it is first."""

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self._taken.total()} of {self._total} taken, {len(self._waiting)} users wait>"

    def taken(self, user: Hashable) -> AbstractAsyncContextManager[None]:
        """A place of this user's, for the length of the block. It is waited for without end."""
        return _Place(self, user)

    async def take(self, user: Hashable, size: int = 1) -> None:
        """Until ``give_back``. At once, without a checkpoint, where nothing is to be waited for."""
        if user not in self._waiting and self._allows(user, size):
            self._taken[user] += size
            return
        waiting = _Waiting(trio.Event(), size)
        self._waiting.setdefault(user, deque()).append(waiting)
        try:
            await waiting.admitted.wait()
        except trio.Cancelled:
            if waiting.admitted.is_set():
                self.give_back(user, size)
            else:
                self._leave(user, waiting)
                self._admit_all()  # behind it may be one that needs fewer
            raise

    def give_back(self, user: Hashable, size: int = 1) -> None:
        self._taken[user] -= size
        if not self._taken[user]:
            del self._taken[user]
        self._admit_all()

    def _allows(self, user: Hashable, size: int) -> bool:
        return self._taken.total() + size <= self._total and self._taken[user] + size <= self._each

    def _admit_all(self) -> None:
        while self._admit_one():
            pass

    def _admit_one(self) -> bool:
        """Admit the one whose turn it is; whether there was one."""
        for user in self._waiting:
            if self._is_next(user):
                self._admit(user)
                return True
        return False

    def _is_next(self, user: Hashable) -> bool:
        return self._allows(user, self._waiting[user][0].size)

    def _admit(self, user: Hashable) -> None:
        waiting = self._waiting[user][0]
        self._taken[user] += waiting.size
        self._waiting.move_to_end(user)
        self._leave(user, waiting)
        waiting.admitted.set()

    def _leave(self, user: Hashable, waiting: _Waiting) -> None:
        self._waiting[user].remove(waiting)
        if not self._waiting[user]:
            del self._waiting[user]


class _Place(AbstractAsyncContextManager[None]):
    __slots__ = ("_places", "_user")

    def __init__(self, places: FairPlaces, user: Hashable) -> None:
        self._places, self._user = places, user

    async def __aenter__(self) -> None:
        await self._places.take(self._user)

    async def __aexit__(self, *_: object) -> None:
        self._places.give_back(self._user)
