"""``Registry`` on Postgres: the rows of the replicas, their leases, and burial.

Who is authoritative: the row in ``replicas``. Without a row a worker cannot claim, and the transaction that
deletes a row frees the worker's chats. Claim and burial meet at the row: a claim holds it against deletion.

**Leases.** ``renew`` has a connection of its own, and each renewal is one statement. How long a renewal stays the last
one is for the observer's clock to say (``failure_detector.py``); here it is only told apart from the next.

**Session locks** tell a death at once, and the server that it was seen on (``session_locks.py``). A ``Death`` counts
only if its burial is written on that one.

**Burial** waits for no row. The worker's chats that somebody has locked stay its own, and are freed by a later burial;
the same with its row. A row that cannot be locked is judged by its token alone. That suffices: an observer
that still sees the same token after a lease knows that no later renewal was answered, so that its worker has stopped
(``heartbeat.py``).

**Frozen sessions.** A process that freezes, or is cut off, in a transaction keeps its locks: on its chats, and in a
claim on its own row. The server ends such a session when it is idle in its transaction (see ``postgres/``), but not
between the halves of a statement that is being prepared, nor with half of an answer sent: there no timeout of the
server's applies. So a replica that looks for the dead ends the sessions that have not moved for
``FROZEN_SECONDS`` of the replica's own time.

**Rows that cannot be read** (a status of a newer version) are told of and passed over: they keep nobody's lease from
being renewed, and nobody's chats from being freed.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import NamedTuple
from uuid import UUID

import msgspec
import trio

from chatcluster import telemetry
from chatcluster.chat import DRAINED, TAKEN_OVER
from chatcluster.errors import LeaseLost, Unreadable
from chatcluster.parts import UNDECODABLE
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
from chatcluster.postgres import Connection, Database, Lane, Row
from chatcluster.postgres.queries import load_queries
from chatcluster.postgres.rows import chat_of
from chatcluster.postgres.session_locks import SessionLocks, lock_keys

FROZEN_SECONDS = 3.0
"""A client that lets its transaction wait for it in mid-statement for so long is frozen; below the lease."""
LOCK_TIMEOUT = "500ms"
"""Longest wait for a lock, except by a renewal: that waits for as long as it may."""
SQL = load_queries("registry.sql")

_owned: msgspec.json.Decoder[tuple[OwnedChat, ...]] = msgspec.json.Decoder(tuple[OwnedChat, ...])
_rows: msgspec.json.Decoder[list[msgspec.Raw]] = msgspec.json.Decoder(list[msgspec.Raw])

Stalled = tuple[int, str]
"""A session that waits for its client in mid-statement: its process, and since when by its clock."""


class PostgresRegistry:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._heartbeats = database.session("heartbeat")
        self._locks = SessionLocks(database)
        self._stalled_since: dict[Stalled, float] = {}

    async def register(self, replica: Replica) -> None:
        session_locks = 0 if self._database.settings.servers.direct_url is None else SESSION_LOCKS
        await self._database.transaction(_register, replica, session_locks, lane=Lane.CLUSTER)

    async def renew(self, worker_id: UUID, *, draining: bool) -> Renewal:
        settings = self._database.settings
        # Half of what is left of the lease when a renewal begins: the other half is for a new connection.
        deadline_seconds = (settings.ownership.self_fence_seconds - settings.ownership.heartbeat_seconds) / 2
        renewal = await self._heartbeats.run(_renew, worker_id, draining, deadline_seconds=deadline_seconds)
        if renewal is None:
            raise LeaseLost(f"worker {worker_id} has no row any more: it was buried")
        self._database.share.divide(len(renewal.ring))
        return renewal

    async def retire(self, worker_id: UUID) -> tuple[Chat, ...]:
        return await self._database.transaction(_retire, worker_id, lane=Lane.CLUSTER)

    def hold(self, worker_id: UUID, lock: int) -> AbstractAsyncContextManager[SessionLock]:
        return self._locks.hold(worker_id, lock)

    async def watch(self, worker_id: UUID) -> Death | None:
        return await self._locks.watch(worker_id)

    async def bury(self, worker_id: UUID, proof: Proof) -> Burial | None:
        return await self._database.transaction(_bury, worker_id, proof, lane=Lane.CLUSTER)

    async def heartbeats(self) -> dict[UUID, Heartbeat]:
        now = trio.current_time()
        frozen = [stalled for stalled, since in self._stalled_since.items() if now - since >= FROZEN_SECONDS]
        look = await self._database.autocommit(_heartbeats, frozen, lane=Lane.CLUSTER)
        self._stalled_since = {stalled: self._stalled_since.get(stalled, now) for stalled in look.stalled}
        if look.ended:
            telemetry.event("session.frozen", count=look.ended)
        return look.heartbeats

    async def replicas(self) -> tuple[Replica, ...]:
        return await self._database.autocommit(_replicas)


# --- rows and leases --------------------------------------------------------------------------


async def _register(connection: Connection, replica: Replica, session_locks: int) -> None:
    await connection.execute(SQL["wait_briefly"], LOCK_TIMEOUT)
    await connection.execute(
        SQL["register"],
        replica.worker_id,
        replica.name,
        replica.address,
        replica.version,
        replica.slots,
        replica.draining,
        session_locks,
    )


async def _renew(connection: Connection, worker_id: UUID, draining: bool) -> Renewal | None:
    row = await connection.fetchrow(SQL["renew"], worker_id, draining)
    if row is None or not row["alive"]:
        return None
    return Renewal(_owned_of(row["owned"]), tuple(row["ring"]), row["server"], drain=row["drain"])


def _owned_of(text: str) -> tuple[OwnedChat, ...]:
    try:
        return _owned.decode(text)
    except UNDECODABLE:
        return tuple(chat for raw in _rows.decode(text) if (chat := _readable_owned(raw)) is not None)


def _readable_owned(raw: msgspec.Raw) -> OwnedChat | None:
    try:
        return msgspec.json.decode(raw, type=OwnedChat)
    except UNDECODABLE as error:
        telemetry.event("registry.row_unreadable", row=bytes(raw).decode(), error=str(error))
        return None


async def _retire(connection: Connection, worker_id: UUID) -> tuple[Chat, ...]:
    await connection.execute(SQL["wait_briefly"], LOCK_TIMEOUT)
    name = await connection.fetchval(SQL["delete_replica"], worker_id)
    return await _disown(connection, worker_id, DRAINED, name or "")


async def _disown(connection: Connection, worker_id: UUID, cause: str, name: str) -> tuple[Chat, ...]:
    rows = await connection.fetch(SQL["disown"], worker_id, cause, name)
    return tuple(chat for row in rows if (chat := _readable_chat(row)) is not None)


def _readable_chat(row: Row) -> Chat | None:
    try:
        return chat_of(row)
    except Unreadable as error:
        telemetry.event("registry.row_unreadable", chat_id=str(row["id"]), error=str(error))
        return None


async def _bury(connection: Connection, worker_id: UUID, proof: Proof) -> Burial | None:
    await connection.execute(SQL["wait_briefly"], LOCK_TIMEOUT)
    row = await connection.fetchrow(SQL["lock_replica"], worker_id)
    locked = row is not None
    if row is None:
        row = await connection.fetchrow(SQL["select_replica"], worker_id)
    assert row is not None, "without a row of the worker there is one of the server"
    if not await _holds(connection, worker_id, proof, row):
        return None
    if locked:
        await connection.execute(SQL["delete_replica"], worker_id)
    freed = await _disown(connection, worker_id, TAKEN_OVER, row["name"])
    left = await connection.fetchval(SQL["count_owned"], worker_id)
    if row["token"] is None and not freed and not left:
        return None
    return Burial(freed, gone=locked, left=left + (row["token"] is not None and not locked))


async def _holds(connection: Connection, worker_id: UUID, proof: Proof, row: Row) -> bool:
    match proof:
        case Silence(token=seen, unlocked=unlocked):
            keys = lock_keys(worker_id)
            is_seen = (row["token"] or "") == seen
            return is_seen and not (unlocked and not await connection.fetchval(SQL["are_unlocked"], keys))
        case Death(server=server):
            return bool(row["server"] == server)
    return True


class _Look(NamedTuple):
    ended: int
    stalled: tuple[Stalled, ...]
    heartbeats: dict[UUID, Heartbeat]


async def _heartbeats(connection: Connection, frozen: list[Stalled]) -> _Look:
    ended = 0
    if frozen:
        pids, tokens = zip(*frozen, strict=True)
        ended = await connection.fetchval(SQL["end_stalled"], pids, tokens)
    stalled = tuple((row["pid"], row["token"]) for row in await connection.fetch(SQL["select_stalled"]))
    rows = await connection.fetch(SQL["select_heartbeats"])
    return _Look(ended, stalled, {row["worker_id"]: _heartbeat_of(row) for row in rows})


def _heartbeat_of(row: Row) -> Heartbeat:
    return Heartbeat(row["token"], row["age_seconds"] or 0.0, row["session_locks"], row["timeline"])


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
            heartbeat_age_seconds=max(0.0, row["heartbeat_age_seconds"] or 0.0),
        )
        for row in await connection.fetch(SQL["list_replicas"])
    )
