"""The replicas: their rows, leases and session locks."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from datetime import datetime
from typing import Protocol
from uuid import UUID

import msgspec

from chatcluster.chat import Status
from chatcluster.ports.store import Chat


class Replica(msgspec.Struct, frozen=True):
    worker_id: UUID
    name: str
    address: str
    version: str
    slots: int
    draining: bool = False
    chats: int = 0
    started_at: datetime | None = None
    heartbeat_age_seconds: float = 0.0


class OwnedChat(msgspec.Struct, frozen=True):
    """What the database believes that a worker owns."""

    chat_id: UUID
    epoch: int
    snapshot_version: int
    history_version: int
    status: Status


class Renewal(msgspec.Struct, frozen=True):
    owned: tuple[OwnedChat, ...]
    ring: tuple[UUID, ...]
    """All registered workers, ordered."""


class Registry(Protocol):
    """The rows of the replicas, their leases and session locks. Time is the database's.

    ``renew`` has a connection of its own, so that a busy pool never delays a heartbeat; ``hold`` and
    ``watch`` use one each, and the holder never waits for another lock.
    """

    async def register(self, replica: Replica) -> None: ...

    async def renew(self, worker_id: UUID, *, draining: bool) -> Renewal:
        """Raises ``LeaseLost`` when the row is gone: somebody buried this worker."""
        ...

    async def retire(self, worker_id: UUID) -> tuple[Chat, ...]:
        """Delete the own row; chats that it still owns become unowned and are returned."""
        ...

    def hold(self, worker_id: UUID) -> AbstractAsyncContextManager[SessionLock]:
        """Hold the session lock of ``worker_id`` on a connection of its own for the length of the block."""
        ...

    async def watch(self, worker_id: UUID) -> bool:
        """Wait until the session lock of ``worker_id`` is let go, on a connection of its own.

        True is proof of death: this very session saw the lock held and was then granted it. False means
        that the lock was free from the start, which proves nothing. Raises ``StoreUnavailable`` when the
        own connection breaks.
        """
        ...

    async def bury(self, worker_id: UUID, *, lease_ttl_seconds: float | None) -> tuple[Chat, ...] | None:
        """Delete a dead worker's row and clear it from its chats, in one transaction.

        With ``lease_ttl_seconds`` the row's heartbeat is checked again under the lock: None is returned, and
        nothing done, if it is younger. None as well if there is no such row and no chat of it.
        """
        ...

    async def dead(self, lease_ttl_seconds: float) -> tuple[UUID, ...]:
        """Workers whose heartbeat is older than the lease, and owners of chats that have no row at all."""
        ...

    async def replicas(self) -> tuple[Replica, ...]: ...


class SessionLock(Protocol):
    async def wait_lost(self) -> None:
        """Return when the connection that holds the lock is gone."""
        ...
