"""``Registry`` on Postgres: the rows of the replicas, their leases, and the session locks that tell a death at once.

Who is authoritative: the row in ``replicas``, by the database's clock. Without a row a worker cannot claim, and
whoever deletes a row frees the worker's chats in the same transaction. Claim and burial meet at the row: a claim
holds it against deletion, so a burial frees what was claimed before it, and a claim after it finds no row.

**Leases.** ``renew`` has a connection of its own, and each renewal is one statement.

**Session locks.** ``hold`` keeps an advisory lock on a key made from the worker's ID, on a connection of its own; when
that process dies, the server lets go of the lock. ``watch`` is another connection that asks for it, in shared mode: so
watchers are in nobody's way, not even one that was granted the lock and froze. Only a holder is:

1. Free at once: that proves nothing (the worker may be about to take it), so False.
2. Held: wait. Granted: this session outlived the holder's. It then lets go of the lock again, in a second statement,
   and only the answer to that makes it True: a server that shuts down ends all sessions, and one that was granted the
   lock in passing does not get that far.
3. The own session breaks: ``StoreUnavailable``. So a restart of Postgres or a failover buries nobody.

A lock in the hands of someone else when ``hold`` wants it (an old connection of ours that the server has not missed
yet) is ``StoreUnavailable`` as well: a holder never waits, so there is no circle of waiters.

**Frozen sessions.** A process that freezes, or is cut off, in a transaction keeps its locks: on its chats, and in a
claim on its own row, so that it could not even be buried. The server ends such a session when it is idle in its
transaction (see ``postgres/``), but not between the halves of a statement that is being prepared, nor with half of an
answer sent: there no timeout of the server's applies. So whoever looks for the dead ends those.

Behind a transaction pooler without a direct URL there are no sessions: ``hold`` does nothing, ``watch`` never returns.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from uuid import UUID

import msgspec
import trio

from chatcluster import telemetry
from chatcluster.errors import LeaseLost, StoreUnavailable
from chatcluster.ports import Chat, OwnedChat, Renewal, Replica, SessionLock
from chatcluster.postgres import Connection, Database, Lane
from chatcluster.queries import load_queries
from chatcluster.rows import chats_of

FROZEN_SECONDS = 3.0
"""A client that lets its transaction wait for it in mid-statement for so long is frozen; below the lease."""
AWAIT_LOCK_SECONDS_MAX = 45.0
"""Above the half minute that ``await_session_lock_shared`` waits at most."""

SQL = load_queries("registry.sql")

_owned: msgspec.json.Decoder[tuple[OwnedChat, ...]] = msgspec.json.Decoder(tuple[OwnedChat, ...])


class PostgresRegistry:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._heartbeats = database.session("heartbeat")

    async def register(self, replica: Replica) -> None:
        await self._database.transaction(_register, replica, lane=Lane.CLUSTER)

    async def renew(self, worker_id: UUID, *, draining: bool) -> Renewal:
        settings = self._database.settings
        # Half of what is left of the lease when a renewal begins: the other half is for a new connection.
        deadline_seconds = (settings.self_fence_seconds - settings.heartbeat_seconds) / 2
        renewal = await self._heartbeats.run(_renew, worker_id, draining, deadline_seconds=deadline_seconds)
        if renewal is None:
            raise LeaseLost(f"worker {worker_id} has no row any more: it was buried")
        return renewal

    async def retire(self, worker_id: UUID) -> tuple[Chat, ...]:
        return await self._database.transaction(_retire, worker_id, lane=Lane.CLUSTER)

    def hold(self, worker_id: UUID) -> AbstractAsyncContextManager[SessionLock]:
        return self._hold(worker_id)

    @asynccontextmanager
    async def _hold(self, worker_id: UUID) -> AsyncIterator[SessionLock]:
        url = self._database.settings.direct_url
        if url is None:
            yield _NoLock()
            return
        session = self._database.session("session lock", url=url, lasting=True)
        try:
            if not await session.run(_try_lock, lock_key(worker_id)):
                raise StoreUnavailable(f"another session holds the lock of worker {worker_id} still")
            yield session
        finally:
            await session.aclose()

    async def watch(self, worker_id: UUID) -> bool:
        url = self._database.settings.direct_url
        if url is None:
            await trio.sleep_forever()
        key = lock_key(worker_id)
        session = self._database.session("session watch", url=url, lasting=True)
        try:
            if await session.run(_is_free, key):
                return False
            while not await session.run(_await_lock, key, deadline_seconds=AWAIT_LOCK_SECONDS_MAX):
                pass
            return True
        finally:
            await session.aclose()

    async def bury(self, worker_id: UUID, *, lease_ttl_seconds: float | None) -> tuple[Chat, ...] | None:
        return await self._database.transaction(_bury, worker_id, lease_ttl_seconds, lane=Lane.CLUSTER)

    async def dead(self, lease_ttl_seconds: float) -> tuple[UUID, ...]:
        frozen, dead = await self._database.autocommit(_dead, lease_ttl_seconds, lane=Lane.CLUSTER)
        if frozen:
            telemetry.event("session.frozen", count=frozen)
        return dead

    async def replicas(self) -> tuple[Replica, ...]:
        return await self._database.autocommit(_replicas)


class _NoLock:
    async def wait_lost(self) -> None:
        await trio.sleep_forever()


def lock_key(worker_id: UUID) -> int:
    """The key of a worker's session lock: 64 bits, of which a random ID leaves 61 to chance."""
    folded = (worker_id.int >> 64) ^ (worker_id.int & (1 << 64) - 1)
    return folded - (1 << 63)


# --- rows and leases --------------------------------------------------------------------------


async def _register(connection: Connection, replica: Replica) -> None:
    await connection.execute(
        SQL["register"],
        replica.worker_id,
        replica.name,
        replica.address,
        replica.version,
        replica.slots,
        replica.draining,
    )


async def _renew(connection: Connection, worker_id: UUID, draining: bool) -> Renewal | None:
    row = await connection.fetchrow(SQL["renew"], worker_id, draining)
    if row is None or not row["alive"]:
        return None
    return Renewal(_owned.decode(row["owned"]), tuple(row["ring"]))


async def _retire(connection: Connection, worker_id: UUID) -> tuple[Chat, ...]:
    await connection.execute(SQL["delete_replica"], worker_id)
    return chats_of(await connection.fetch(SQL["disown"], worker_id))


async def _bury(connection: Connection, worker_id: UUID, lease_ttl_seconds: float | None) -> tuple[Chat, ...] | None:
    age_seconds = await connection.fetchval(SQL["lock_replica"], worker_id)
    if age_seconds is not None and lease_ttl_seconds is not None and age_seconds < lease_ttl_seconds:
        return None
    freed = await _retire(connection, worker_id)
    return None if age_seconds is None and not freed else freed


async def _dead(connection: Connection, lease_ttl_seconds: float) -> tuple[int, tuple[UUID, ...]]:
    frozen = await connection.fetchval(SQL["end_frozen"], FROZEN_SECONDS)
    return frozen, tuple(row["worker_id"] for row in await connection.fetch(SQL["select_dead"], lease_ttl_seconds))


async def _replicas(connection: Connection) -> tuple[Replica, ...]:
    return tuple(
        Replica(
            worker_id=row["worker_id"],
            name=row["name"],
            address=row["address"],
            version=row["version"],
            slots=row["slots"],
            draining=row["draining"],
            chats=row["chats"],
            started_at=row["started_at"],
            heartbeat_age_seconds=row["heartbeat_age_seconds"],
        )
        for row in await connection.fetch(SQL["list_replicas"])
    )


# --- session locks ----------------------------------------------------------------------------


async def _try_lock(connection: Connection, key: int) -> bool:
    return bool(await connection.fetchval(SQL["try_lock"], key))


async def _is_free(connection: Connection, key: int) -> bool:
    return bool(await connection.fetchval(SQL["is_free"], key))


async def _await_lock(connection: Connection, key: int) -> bool:
    """Whether the lock was granted in time, by a server that goes on."""
    return bool(await connection.fetchval(SQL["await_lock"], key) and await connection.fetchval(SQL["unlock"], key))
