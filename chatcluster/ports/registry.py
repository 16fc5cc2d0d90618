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
    server: str
    """The database server that took the renewal: this start of this server, and no other."""
    drain: bool = False
    """Whether an administrator wants this worker to drain."""


class Heartbeat(msgspec.Struct, frozen=True):
    """The last sign of life of a worker, as the database has it."""

    token: str
    """Changes with each renewal, and tells nothing else. Empty for a worker without a row that still owns chats."""
    age_seconds: float = 0.0
    """The age by the wall clock of the database, which may have stepped since: never a proof on its own."""
    session_locks: int = 0
    """How many the worker held when it registered: none where the session watch is off."""
    timeline: int | None = None
    """The WAL timeline of the server that was asked, if it tells."""


class Silence(msgspec.Struct, frozen=True):
    """Proof by lease: the observer saw this token for too long. It has to be the row's still at the burial."""

    token: str
    unlocked: bool = False
    """The session locks have to be free as well."""


class Death(msgspec.Struct, frozen=True):
    """Proof by session: this server let go of all locks of a worker that was seen to hold them there.

    It is none where the burial is written to another server: then the sessions have only moved.
    """

    server: str


NO_ROW = Silence("")
"""The silence of a worker that still owns chats, and whose row is gone: no renewal will come under its ID any more."""

Proof = Silence | Death | None
"""Why a worker is taken for dead; None: its process was seen to end."""


class Burial(msgspec.Struct, frozen=True):
    freed: tuple[Chat, ...] = ()
    """The chats whose state is known, as far as notices tell of it: a title, say, need not be there. Other chats are
    free as well, and their next owner finds out what is wrong."""
    gone: bool = False
    """Whether this burial deleted the worker's row."""
    left: int = 0
    """Rows that another transaction has locked: chats of the worker, or its own. They are left to a later burial."""


SESSION_LOCKS = 2
"""Each on a connection of its own, so that one connection that breaks is no death."""


class Registry(Protocol):
    """The rows of the replicas, their leases and session locks.

    ``renew`` has a connection of its own, so that a busy pool never delays a heartbeat; ``hold`` and
    ``watch`` use one each, and the holder never waits for another lock. Nothing here waits long for a row or a
    table that somebody has locked: it is ``StoreUnavailable``, or passed over.
    """

    async def register(self, replica: Replica) -> None: ...

    async def renew(self, worker_id: UUID, *, draining: bool) -> Renewal:
        """Raises ``LeaseLost`` when the row is gone: this worker was buried."""
        ...

    async def retire(self, worker_id: UUID) -> tuple[Chat, ...]:
        """Delete the own row; chats that it still owns become unowned and are returned."""
        ...

    def hold(self, worker_id: UUID, lock: int) -> AbstractAsyncContextManager[SessionLock]:
        """Hold one of the ``SESSION_LOCKS`` of ``worker_id`` on a connection of its own for the length of the block."""
        ...

    async def watch(self, worker_id: UUID) -> Death | None:
        """Wait until the session locks of ``worker_id`` are let go, on a connection of its own.

        ``Death``: this very session saw all of them held, and then all of them free. None: one was free from the
        start, or another one is still held; that proves nothing. Raises ``StoreUnavailable`` when the own
        connection breaks.
        """
        ...

    async def bury(self, worker_id: UUID, proof: Proof) -> Burial | None:
        """Delete a dead worker's row and clear it from its chats, in one transaction that waits for nobody.

        The proof is checked again in it: None is returned, and nothing done, if it does not hold. None as well
        if there is no such row and no chat of it.
        """
        ...

    async def heartbeats(self) -> dict[UUID, Heartbeat]:
        """The last heartbeat of each worker that has a row or owns a chat."""
        ...

    async def replicas(self) -> tuple[Replica, ...]: ...


class SessionLock(Protocol):
    @property
    def server(self) -> str:
        """Where the lock is held, in the words of ``Renewal.server``; empty where the session watch is off."""
        ...

    async def wait_lost(self) -> None:
        """Return when the connection that holds the lock is gone."""
        ...
