"""Who reads on this replica: one count for the streams of chats and of lists together, and each user's share of it.

A reader has a place for as long as it reads. Three bounds, each answered by ``TooMany`` (429 with ``Retry-After``;
another replica may have a place):

* the replica's places, ``subscribers_max``;
* a user's own limit, ``subscribers_per_user``, where that is set;
* a user who has as many places as are still free gets no more. So whatever one user opens, half of the places are left
  for others, and a user who has none yet gets one as long as there is any.
"""

from __future__ import annotations

from collections import Counter
from contextlib import AbstractContextManager
from uuid import UUID

from chatcluster.errors import TooMany
from chatcluster.setting_sections import Streaming

RETRY_SECONDS = 5


class Audience:
    def __init__(self, streaming: Streaming) -> None:
        self._places = streaming.subscribers_max
        self._places_per_user = streaming.subscribers_per_user or streaming.subscribers_max
        self._held: Counter[UUID] = Counter()
        self.size = 0

    def __repr__(self) -> str:
        return f"<Audience {self.size} of {self._places}>"

    def require_place(self, user_id: UUID) -> None:
        """Raises ``TooMany`` if there is none for this user now."""
        self._check(self._held.get(user_id, 0), self._places - self.size)

    def place(self, user_id: UUID) -> AbstractContextManager[None]:
        """A place for one reader, for the length of the block. Raises ``TooMany`` on entry."""
        return _Place(self, user_id)

    def take(self, user_id: UUID) -> None:
        """A place, until it is given back. Raises ``TooMany``."""
        self.require_place(user_id)
        self._held[user_id] += 1
        self.size += 1

    def give_back(self, user_id: UUID) -> None:
        self.size -= 1
        self._held[user_id] -= 1
        if not self._held[user_id]:
            del self._held[user_id]

    def _check(self, held: int, free: int) -> None:
        if free <= 0:
            raise TooMany(
                f"this replica serves {self._places} event streams already", retry_after_seconds=RETRY_SECONDS
            )
        if held >= min(self._places_per_user, free):
            raise TooMany(
                f"you have {held} event streams on this replica, as many as it can give to one user now",
                retry_after_seconds=RETRY_SECONDS,
                streams=held,
            )


class _Place(AbstractContextManager[None]):
    """No generator: each reader at rest has one."""

    __slots__ = ("_audience", "_user_id")

    def __init__(self, audience: Audience, user_id: UUID) -> None:
        self._audience, self._user_id = audience, user_id

    def __enter__(self) -> None:
        self._audience.take(self._user_id)

    def __exit__(self, *_: object) -> None:
        self._audience.give_back(self._user_id)
