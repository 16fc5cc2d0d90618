"""What the routes stand on: the ports, the feeds, and what they are told by the rest of the replica.

``cluster.py`` builds one ``Services`` and hands it to ``create_app``. The protocols here are those parts of
the loops that a route uses, so that a test can stand in for them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol
from uuid import UUID

from chatcluster.config import Settings
from chatcluster.family_stream import FamilyCursor
from chatcluster.metrics import Metrics
from chatcluster.model_admin import ModelAdministration
from chatcluster.models import Catalogue
from chatcluster.parts import Cursor
from chatcluster.ports import Accounts, PubSub, Registry, Sessions, Store
from chatcluster.ports.administration import Administration
from chatcluster.ports.prompts import Prompts
from chatcluster.ports.series import Series
from chatcluster.spending_limits import Spending
from chatcluster.tab_stream import TabCursor
from chatcluster.transitions import Transitions
from chatcluster.uploads import Uploads
from chatcluster.web.tool_servers import Mcp


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


class FamilyStreams(Protocol):
    def subscribe(
        self, owner_id: UUID, chat_id: UUID, cursor: FamilyCursor
    ) -> AbstractAsyncContextManager[Subscriber]: ...


class Health(Protocol):
    """How the replica is doing, as far as a load balancer has to know."""

    @property
    def draining(self) -> bool: ...

    async def check(self) -> dict[str, str]:
        """What this replica depends on, each ``ok`` or a few words: ``postgres``, ``schema``, ``redis``."""
        ...


@dataclass(frozen=True, kw_only=True)
class Readers:
    """Where readers of event streams subscribe: to a chat, to a list, to both; to a chat and its agents."""

    feeds: Feeds
    watches: Watches
    tabs: Tabs
    families: FamilyStreams


@dataclass(frozen=True)
class Monitoring:
    """What tells how the replica is doing."""

    health: Health
    metrics: Metrics


@dataclass(frozen=True, kw_only=True)
class Overview:
    """What administrators see of the whole cluster: lists and logs, and how much it did."""

    administration: Administration
    series: Series


@dataclass(frozen=True, kw_only=True)
class Services:
    settings: Settings
    store: Store
    accounts: Accounts
    sessions: Sessions
    overview: Overview
    registry: Registry
    pubsub: PubSub
    readers: Readers
    transitions: Transitions
    catalogue: Callable[[], Awaitable[Catalogue]]
    """Which models there are. Raises ``StoreUnavailable`` while that is not known."""
    model_admin: ModelAdministration
    monitoring: Monitoring
    uploads: Uploads
    mcp: Mcp
    prompts: Prompts
    spending: Spending
