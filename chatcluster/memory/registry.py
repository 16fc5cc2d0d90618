"""``Registry`` on a ``MemoryDatabase``: rows of replicas, leases by the database's clock, session locks.

A session lock here is an entry of ``MemoryDatabase.locks``. The end of the block that holds it lets it go, and
so does ``drop_session``; a watcher that saw it held has its proof in both cases. ``restart_sessions`` breaks
the watchers' own sessions too, so it proves nothing to anybody.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from uuid import UUID

import msgspec
import trio

from chatcluster.errors import LeaseLost, StoreUnavailable
from chatcluster.memory.database import HeldLock, MemoryDatabase, ReplicaRow
from chatcluster.memory.link import Link
from chatcluster.ports import Chat, OwnedChat, Renewal, Replica, SessionLock


class MemoryRegistry:
    def __init__(self, database: MemoryDatabase, link: Link | None = None) -> None:
        self._database = database
        self._link = link or Link()

    async def register(self, replica: Replica) -> None:
        async with self._link.crossing("register"):
            started = msgspec.structs.replace(replica, started_at=self._database.now())
            self._database.replicas[replica.worker_id] = ReplicaRow(started, self._database.clock())

    async def renew(self, worker_id: UUID, *, draining: bool) -> Renewal:
        async with self._link.crossing("renew"):
            row = self._database.replicas.get(worker_id)
            if row is None:
                raise LeaseLost(f"worker {worker_id} has no row any more: it was buried")
            row.replica = msgspec.structs.replace(row.replica, draining=draining)
            row.heartbeat_at = self._database.clock()
            return Renewal(self._owned(worker_id), tuple(sorted(self._database.replicas)))

    async def retire(self, worker_id: UUID) -> tuple[Chat, ...]:
        async with self._link.crossing("retire"):
            self._database.replicas.pop(worker_id, None)
            return self._database.disown(self._database.owned_by(worker_id))

    def hold(self, worker_id: UUID) -> AbstractAsyncContextManager[SessionLock]:
        return self._hold(worker_id)

    @asynccontextmanager
    async def _hold(self, worker_id: UUID) -> AsyncIterator[SessionLock]:
        lock = HeldLock()
        try:
            async with self._link.crossing("hold"):
                if worker_id in self._database.locks:
                    raise StoreUnavailable(f"another session holds the lock of worker {worker_id} still")
                self._database.locks[worker_id] = lock
            yield lock
        finally:
            if self._database.locks.get(worker_id) is lock:
                del self._database.locks[worker_id]
                lock.released.set()

    async def watch(self, worker_id: UUID) -> bool:
        async with self._link.crossing("watch"):
            lock = self._database.locks.get(worker_id)
            restarted = self._database.sessions_restarted
        if lock is None:
            return False
        async with trio.open_nursery() as nursery:
            for event in (lock.released, restarted):
                nursery.start_soon(_wait_then_cancel, event, nursery.cancel_scope)
        if not lock.released.is_set():
            raise StoreUnavailable("the session that waited for the lock is gone")
        return True

    async def bury(self, worker_id: UUID, *, lease_ttl_seconds: float | None) -> tuple[Chat, ...] | None:
        async with self._link.crossing("bury"):
            return self._bury(worker_id, lease_ttl_seconds)

    async def dead(self, lease_ttl_seconds: float) -> tuple[UUID, ...]:
        async with self._link.crossing("dead"):
            replicas = self._database.replicas
            expired = {worker for worker, row in replicas.items() if self._age_seconds(row) >= lease_ttl_seconds}
            owners = {row.state.worker_id for row in self._database.chats.values()}
            orphaned = {owner for owner in owners if owner is not None and owner not in replicas}
            return tuple(sorted(expired | orphaned))

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

    def _bury(self, worker_id: UUID, lease_ttl_seconds: float | None) -> tuple[Chat, ...] | None:
        row = self._database.replicas.get(worker_id)
        owned = self._database.owned_by(worker_id)
        if row is None and not owned:
            return None
        if row is not None and lease_ttl_seconds is not None and self._age_seconds(row) < lease_ttl_seconds:
            return None
        self._database.replicas.pop(worker_id, None)
        return self._database.disown(owned)

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
