"""``Registry`` on a ``MemoryDatabase``: rows of replicas, heartbeats, session locks.

A session lock here is an entry of ``MemoryDatabase.locks``. The end of the block that holds it lets it go, and
so does ``drop_session``; a watcher that saw all locks of a worker held, and then none, has its proof in both cases.
``restart_sessions`` breaks the watchers' own sessions too, so it proves nothing to anybody; ``fail_over`` leaves all
sessions on a server whose locks prove nothing any more.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from uuid import UUID

import msgspec
import trio

from chatcluster.chat import DRAINED, TAKEN_OVER
from chatcluster.errors import LeaseLost, StoreUnavailable
from chatcluster.memory.database import HeldLock, LockKey, MemoryDatabase
from chatcluster.memory.link import Link
from chatcluster.memory.tables import ChatRow, ReplicaRow
from chatcluster.ports import (
    SESSION_LOCKS,
    Burial,
    Chat,
    Death,
    Heartbeat,
    OwnedChat,
    Proof,
    Renewal,
    Replica,
    SessionLock,
    Silence,
)

OTHER_LOCKS_SECONDS = 0.2
"""A process that dies lets go of all its locks at once; one that lives has another one still."""


class MemoryRegistry:
    def __init__(self, database: MemoryDatabase, link: Link | None = None) -> None:
        self._database = database
        self._link = link or Link()

    async def register(self, replica: Replica) -> None:
        async with self._link.crossing("register"):
            started = msgspec.structs.replace(replica, started_at=self._database.now())
            self._database.replicas[replica.worker_id] = ReplicaRow(
                started, self._database.clock(), self._database.next_token()
            )

    async def renew(self, worker_id: UUID, *, draining: bool) -> Renewal:
        async with self._link.crossing("renew"):
            row = self._database.replicas.get(worker_id)
            if row is None:
                raise LeaseLost(f"worker {worker_id} has no row any more: it was buried")
            row.replica = msgspec.structs.replace(row.replica, draining=draining)
            row.heartbeat_at, row.token = self._database.clock(), self._database.next_token()
            ring = tuple(sorted(self._database.replicas))
            return Renewal(self._owned(worker_id), ring, self._database.server, drain=row.drain_requested)

    async def retire(self, worker_id: UUID) -> tuple[Chat, ...]:
        async with self._link.crossing("retire"):
            row = self._database.replicas.pop(worker_id, None)
            name = "" if row is None else row.replica.name
            return self._database.disown(self._unlocked(worker_id), DRAINED, name)

    def hold(self, worker_id: UUID, lock: int) -> AbstractAsyncContextManager[SessionLock]:
        return self._hold((worker_id, lock))

    @asynccontextmanager
    async def _hold(self, key: LockKey) -> AsyncIterator[SessionLock]:
        database = self._database
        lock = HeldLock(database.server)
        try:
            async with self._link.crossing("hold"):
                if key in database.locks:
                    raise StoreUnavailable("another session holds the lock of this worker still")
                lock.server = database.server
                database.locks[key] = lock
            yield lock
        finally:
            if database.locks.get(key) is lock:
                del database.locks[key]
                lock.released.set()
            elif lock.server != database.server:
                lock.released.set()

    async def watch(self, worker_id: UUID) -> Death | None:
        async with self._link.crossing("watch"):
            locks = self._locks_of(worker_id)
            restarted = self._database.sessions_restarted
        if locks is None:
            return None
        async with trio.open_nursery() as nursery:
            for event in (locks[0].released, restarted):
                nursery.start_soon(_wait_then_cancel, event, nursery.cancel_scope)
        with trio.move_on_after(OTHER_LOCKS_SECONDS):
            for other in range(1, len(locks)):
                await self._let_go((worker_id, other))
        if restarted.is_set():
            raise StoreUnavailable("the session that waited for the lock is gone")
        is_held = any((worker_id, lock) in self._database.locks for lock in range(len(locks)))  # still, or again
        return None if is_held else Death(locks[0].server)

    async def _let_go(self, key: LockKey) -> None:
        """Wait until the lock is free. A holder that took it again since the watch began holds it as well."""
        if lock := self._database.locks.get(key):
            await lock.released.wait()

    async def bury(self, worker_id: UUID, proof: Proof) -> Burial | None:
        async with self._link.crossing("bury"):
            return self._bury(worker_id, proof)

    async def heartbeats(self) -> dict[UUID, Heartbeat]:
        async with self._link.crossing("heartbeats"):
            owners = {row.state.worker_id for row in self._database.chats.values()} - {None}
            orphaned = {owner: Heartbeat("") for owner in owners if owner is not None}
            rows = self._database.replicas.items()
            return orphaned | {
                worker_id: Heartbeat(row.token, self._age_seconds(row), row.session_locks, self._database.timeline)
                for worker_id, row in rows
            }

    async def replicas(self) -> tuple[Replica, ...]:
        async with self._link.crossing("replicas"):
            return tuple(
                msgspec.structs.replace(
                    row.replica,
                    chats=len(self._database.owned_by(worker_id)),
                    heartbeat_age_seconds=self._age_seconds(row),
                )
                for worker_id, row in sorted(self._database.replicas.items())
            )

    def _bury(self, worker_id: UUID, proof: Proof) -> Burial | None:
        row = self._database.replicas.get(worker_id)
        owned, free = self._database.owned_by(worker_id), self._unlocked(worker_id)
        if (row is None and not owned) or not self._holds(worker_id, proof):
            return None
        gone = row is not None and worker_id not in self._database.locked_rows
        if gone:
            del self._database.replicas[worker_id]
        name = "" if row is None else row.replica.name
        left = len(owned) - len(free) + (row is not None and not gone)
        return Burial(self._database.disown(free, TAKEN_OVER, name), gone, left)

    def _holds(self, worker_id: UUID, proof: Proof) -> bool:
        row = self._database.replicas.get(worker_id)
        match proof:
            case Silence(token=token, unlocked=unlocked):
                locked = any(key[0] == worker_id for key in self._database.locks)
                return token == (row.token if row else "") and not (unlocked and locked)
            case Death(server=server):
                return server == self._database.server
        return True

    def _unlocked(self, worker_id: UUID) -> tuple[ChatRow, ...]:
        return tuple(row for row in self._database.owned_by(worker_id) if row.id not in self._database.locked_rows)

    def _locks_of(self, worker_id: UUID) -> list[HeldLock] | None:
        """None unless all that the worker has are held."""
        row = self._database.replicas.get(worker_id)
        count = SESSION_LOCKS if row is None else row.session_locks
        locks = [self._database.locks.get((worker_id, lock)) for lock in range(count)]
        held = [lock for lock in locks if lock is not None]
        return held if held and len(held) == count else None

    def _age_seconds(self, row: ReplicaRow) -> float:
        return self._database.clock() - row.heartbeat_at

    def _owned(self, worker_id: UUID) -> tuple[OwnedChat, ...]:
        return tuple(
            OwnedChat(
                row.id,
                row.state.epoch,
                row.state.snapshot_version,
                row.state.history_version,
                row.state.status,
            )
            for row in self._database.owned_by(worker_id)
        )


async def _wait_then_cancel(event: trio.Event, scope: trio.CancelScope) -> None:
    await event.wait()
    scope.cancel()
