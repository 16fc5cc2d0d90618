"""Where routes of event streams subscribe: the readers of a replica, as they see them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from chatcluster.family_stream import FamilyCursor
from chatcluster.parts import Cursor
from chatcluster.tab_stream import FamilyTabCursor, TabCursor
from chatcluster.turn_log import TurnLogs


class Subscriber(Protocol):
    """One reader of a feed."""

    sink: Callable[[], None] | None
    """Told of every event that comes, in place of the task that waits in ``receive``. Must not fail."""

    @property
    def has_pending(self) -> bool:
        """Whether ``receive_nowait`` left something."""
        ...

    async def receive(self) -> bytes:
        """Some of what is pending, as whole SSE events; waits while there is nothing.

        Being cancelled loses nothing. Raises ``subscribe.Cut`` when the reader must be cut off abruptly.
        """
        ...

    def receive_nowait(self) -> bytes:
        """Some of what is pending, ``b""`` if nothing is that could be had without waiting. Raises as above, and
        ``trio.WouldBlock`` for what should be left to ``receive``."""
        ...


class Feeds(Protocol):
    def require_place(self, owner_id: UUID) -> None:
        """Raises ``TooMany`` where ``subscribe`` would, before anything is done for the reader."""
        ...

    def subscribe(
        self, chat_id: UUID, cursor: Cursor, *, owner_id: UUID
    ) -> AbstractAsyncContextManager[Subscriber]: ...


class Watches(Protocol):
    def subscribe(self, owner_id: UUID) -> AbstractAsyncContextManager[Subscriber]: ...


class Tabs(Protocol):
    def subscribe(
        self, owner_id: UUID, chat_id: UUID, cursor: TabCursor
    ) -> AbstractAsyncContextManager[Subscriber]: ...

    def subscribe_family(
        self, owner_id: UUID, chat_id: UUID, cursor: FamilyTabCursor
    ) -> AbstractAsyncContextManager[Subscriber]: ...


class FamilyStreams(Protocol):
    def subscribe(
        self, owner_id: UUID, chat_id: UUID, cursor: FamilyCursor
    ) -> AbstractAsyncContextManager[Subscriber]: ...


@dataclass(frozen=True, kw_only=True)
class Readers:
    """Where readers of event streams subscribe: to a chat, to a list, to both; to a chat and its agents; to a turn as
    values."""

    feeds: Feeds
    logs: TurnLogs
    watches: Watches
    tabs: Tabs
    families: FamilyStreams
