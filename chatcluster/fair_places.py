"""Places for work that all share, and each user gets by turns.

So many are taken at a time as there are, and of one user no more than ``each``. Of those who wait, the next is one of
the user whose turn it is, the longest wait of that user first. So whatever one has to be done, another one's is done
after one of theirs, and not after all.
"""

from __future__ import annotations

from collections import Counter, OrderedDict, deque
from collections.abc import Hashable
from contextlib import AbstractAsyncContextManager

import trio


class FairPlaces:
    """``total`` places. Not for more than one event loop at a time."""

    def __init__(self, total: int, *, each: int | None = None) -> None:
        self._total = total
        self._each = total if each is None else each
        self._taken: Counter[Hashable] = Counter()
        self._waiting: OrderedDict[Hashable, deque[trio.Event]] = OrderedDict()
        """By user, the one whose turn it is first."""

    def __repr__(self) -> str:
        return f"<FairPlaces {self._taken.total()} of {self._total} taken, {len(self._waiting)} users wait>"

    def taken(self, user: Hashable) -> AbstractAsyncContextManager[None]:
        """A place of this user's, for the length of the block. It is waited for without end."""
        return _Place(self, user)

    async def take(self, user: Hashable) -> None:
        """Until ``give_back``. At once, without a checkpoint, where nothing is to be waited for."""
        if user not in self._waiting and self._allows(user):
            self._taken[user] += 1
            return
        admitted = trio.Event()
        self._waiting.setdefault(user, deque()).append(admitted)
        try:
            await admitted.wait()
        except trio.Cancelled:
            if admitted.is_set():
                self.give_back(user)
            else:
                self._leave(user, admitted)
            raise

    def give_back(self, user: Hashable) -> None:
        self._taken[user] -= 1
        if not self._taken[user]:
            del self._taken[user]
        while (next_user := next(filter(self._allows, self._waiting), None)) is not None:
            self._admit(next_user)

    def _allows(self, user: Hashable) -> bool:
        return self._taken.total() < self._total and self._taken[user] < self._each

    def _admit(self, user: Hashable) -> None:
        self._taken[user] += 1
        self._waiting.move_to_end(user)
        admitted = self._waiting[user][0]
        self._leave(user, admitted)
        admitted.set()

    def _leave(self, user: Hashable, admitted: trio.Event) -> None:
        self._waiting[user].remove(admitted)
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
