"""``Registry`` on Postgres: the rows of the replicas, their leases, and the session locks that tell a death at once.

Who is authoritative: the row in ``replicas``. Without a row a worker cannot claim, and the transaction that
deletes a row frees the worker's chats. Claim and burial meet at the row: a claim holds it against deletion.

**Leases.** ``renew`` has a connection of its own, and each renewal is one statement. How long a renewal stays the last
one is for the observer's clock to say (``failure_detector.py``); here it is only told apart from the next.

**Session locks.** ``hold`` keeps an advisory lock on a key made from the worker's ID, on a connection of its own; when
that process dies, the server lets go of the lock. A worker holds ``SESSION_LOCKS`` of them, so that a connection that
breaks is no death. ``watch`` is another connection that asks for them, in shared mode: so watchers are in nobody's
way, not even one that was granted a lock and froze. Only a holder is:

1. One is free at once: that proves nothing (the worker may be about to take it), so None.
2. All are held: wait for the first. Granted: this session outlived the holder's. It then lets go of the lock again, in
   a second statement, and only the answer to that counts: a server that shuts down ends all sessions, and one that
   was granted the lock in passing does not get that far.
3. The others follow at once, as when a process dies, and the first is free still: ``Death``. One is held 0.2 s later,
   or the first is held again: the worker lives, and has lost connections. None.
4. The own session breaks: ``StoreUnavailable``. So a restart of Postgres buries nobody.

A replica of the previous version holds one lock, as its row says, and that one decides.

A lock in the hands of someone else when ``hold`` wants it is ``StoreUnavailable`` as well: a holder never waits, so
there is no circle of waiters. It is held by an old connection of ours that the server has not missed yet. That one is
ended, one in ``RETAKE_SECONDS`` and only while all locks are held: the server would drop those that were lost together
at the same moment, which looks like a death.

**Failover.** A server is known by the moment at which it was started, which every session can ask for. An old primary
that still answers reads has old sessions, and its locks are let go of when their holders move on. So a ``Death`` names
the server that it was seen on, and counts only if the burial is written there.

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

Behind a transaction pooler without a direct URL there are no sessions: ``hold`` does nothing, ``watch`` never returns.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import NamedTuple
from uuid import UUID

import msgspec
import trio

from chatcluster import telemetry
from chatcluster.chat import DRAINED, TAKEN_OVER
from chatcluster.errors import LeaseLost, StoreUnavailable, Unreadable
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
from chatcluster.postgres import Connection, Database, Lane, Row, Session
from chatcluster.postgres.queries import load_queries
from chatcluster.postgres.rows import chat_of

FROZEN_SECONDS = 3.0
"""A client that lets its transaction wait for it in mid-statement for so long is frozen; below the lease."""
AWAIT_LOCK_SECONDS_MAX = 45.0
"""Above the half minute that ``await_session_lock_shared`` waits at most."""
OTHER_LOCKS_PAUSES_SECONDS = (0.002, 0.008, 0.03, 0.06, 0.1)
"""The connections of a process that dies end together; this is for a server that is busy."""
RETAKE_SECONDS = 1.0
"""Well above the time that a watch takes to see whether another lock follows the first."""
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
        self._stalled_since: dict[Stalled, float] = {}
        self._retaken_at = float("-inf")

    async def register(self, replica: Replica) -> None:
        session_locks = 0 if self._database.settings.direct_url is None else SESSION_LOCKS
        await self._database.transaction(_register, replica, session_locks, lane=Lane.CLUSTER)

    async def renew(self, worker_id: UUID, *, draining: bool) -> Renewal:
        settings = self._database.settings
        # Half of what is left of the lease when a renewal begins: the other half is for a new connection.
        deadline_seconds = (settings.self_fence_seconds - settings.heartbeat_seconds) / 2
        renewal = await self._heartbeats.run(_renew, worker_id, draining, deadline_seconds=deadline_seconds)
        if renewal is None:
            raise LeaseLost(f"worker {worker_id} has no row any more: it was buried")
        self._database.share.divide(len(renewal.ring))
        return renewal

    async def retire(self, worker_id: UUID) -> tuple[Chat, ...]:
        return await self._database.transaction(_retire, worker_id, lane=Lane.CLUSTER)

    def hold(self, worker_id: UUID, lock: int) -> AbstractAsyncContextManager[SessionLock]:
        keys = lock_keys(worker_id)
        return self._hold(keys[lock], keys)

    @asynccontextmanager
    async def _hold(self, key: int, keys: tuple[int, ...]) -> AsyncIterator[SessionLock]:
        url = self._database.settings.direct_url
        if url is None:
            yield _NoLock()
            return
        session = self._database.session("session lock", url=url, lasting=True)
        try:
            server = await session.run(_try_lock, key)
            if server is None:
                await self._end_lost_holder(session, key, keys)
                raise StoreUnavailable("another session holds the lock of this worker still")
            yield _HeldLock(session, server)
        finally:
            await session.aclose()

    async def _end_lost_holder(self, session: Session, key: int, keys: tuple[int, ...]) -> None:
        now = trio.current_time()
        if now - self._retaken_at < RETAKE_SECONDS:
            return
        self._retaken_at = now
        if await session.run(_end_lost, key, keys):
            telemetry.event("session.retaken")

    async def watch(self, worker_id: UUID) -> Death | None:
        url = self._database.settings.direct_url
        if url is None:
            await trio.sleep_forever()
        session = self._database.session("session watch", url=url, lasting=True)
        try:
            held = await session.run(_see_held, worker_id)
            if held is None:
                return None
            let_go = None
            while let_go is None:
                let_go = await session.run(_await_lock, held.keys, deadline_seconds=AWAIT_LOCK_SECONDS_MAX)
            if let_go["pid"] != held.pid:  # a session connects anew where it breaks, which must not be mistaken
                raise StoreUnavailable("the session that saw the lock held is gone")
            is_all = let_go["is_last_free"] and len(held.keys) <= 2
            if is_all or await session.run(_are_let_go, held):
                return Death(held.server)
            telemetry.event("session.watch_lost", worker_id=str(worker_id))
            return None
        finally:
            await session.aclose()

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


class _NoLock:
    server = ""

    async def wait_lost(self) -> None:
        await trio.sleep_forever()


class _HeldLock:
    def __init__(self, session: Session, server: str) -> None:
        self.server = server
        self._session = session

    async def wait_lost(self) -> None:
        await self._session.wait_lost()


def lock_keys(worker_id: UUID) -> tuple[int, ...]:
    """The keys of a worker's session locks: 64 bits each, of which a random ID leaves 61 to chance.

    Replicas of the previous version hold and watch the first.
    """
    folded = (worker_id.int >> 64) ^ (worker_id.int & _WORD)
    return tuple((folded ^ (lock * _SPREAD & _WORD)) - (1 << 63) for lock in range(SESSION_LOCKS))


_WORD, _SPREAD = (1 << 64) - 1, 0x9E3779B97F4A7C15


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


# --- session locks ----------------------------------------------------------------------------


class _Held(NamedTuple):
    """What a watch saw when it began."""

    pid: int
    """The watch's own session, on the server."""
    server: str
    keys: tuple[int, ...]


async def _try_lock(connection: Connection, key: int) -> str | None:
    server: str | None = await connection.fetchval(SQL["try_lock"], key)
    return server


async def _end_lost(connection: Connection, key: int, keys: tuple[int, ...]) -> int:
    count: int = await connection.fetchval(SQL["end_lost_holder"], key, list(keys))
    return count


async def _see_held(connection: Connection, worker_id: UUID) -> _Held | None:
    row = await connection.fetchrow(SQL["select_session"], worker_id, SESSION_LOCKS)
    assert row is not None, "a query without a table has a row"
    keys = lock_keys(worker_id)[: row["session_locks"]]
    for key in keys:
        if await _is_free(connection, key):
            return None
    return _Held(row["pid"], row["server"], keys) if keys else None


async def _is_free(connection: Connection, key: int) -> bool:
    return bool(await connection.fetchval(SQL["is_free"], key))


async def _await_lock(connection: Connection, keys: Sequence[int]) -> Row | None:
    """Whether the last lock was free when the first was granted, in time, by a server that goes on; else None."""
    granted = await connection.fetchval(SQL["await_lock"], keys[0])
    row = await connection.fetchrow(SQL["unlock"], keys[0], keys[-1]) if granted else None
    return row if row is not None and row["is_unlocked"] else None


async def _are_let_go(connection: Connection, held: _Held) -> bool:
    """Whether the other locks follow the first."""
    if await connection.fetchval(SQL["select_pid"]) != held.pid:
        raise StoreUnavailable("the session that saw the lock held is gone")
    for key in held.keys[1:]:
        if not await _becomes_free(connection, key):
            return False
    return await _is_free(connection, held.keys[0])  # a holder that lives takes it anew


async def _becomes_free(connection: Connection, key: int) -> bool:
    for seconds in OTHER_LOCKS_PAUSES_SECONDS:
        if await _is_free(connection, key):
            return True
        await connection.execute(SQL["pause"], seconds)
    return await _is_free(connection, key)
