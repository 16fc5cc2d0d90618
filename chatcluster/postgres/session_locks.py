"""Session locks: how a death is known at once.

``hold`` keeps an advisory lock on a key made from the worker's ID, on a connection of its own; when
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

Behind a transaction pooler without a direct URL there are no sessions: ``hold`` does nothing, ``watch`` never returns.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import NamedTuple
from uuid import UUID

import trio

from chatcluster import telemetry
from chatcluster.errors import StoreUnavailable
from chatcluster.ports import SESSION_LOCKS, Death, SessionLock
from chatcluster.postgres import Connection, Database, Row, Session
from chatcluster.postgres.queries import load_queries

AWAIT_LOCK_SECONDS_MAX = 45.0
"""Above the half minute that ``await_session_lock_shared`` waits at most."""
OTHER_LOCKS_PAUSES_SECONDS = (0.002, 0.008, 0.03, 0.06, 0.1)
"""The connections of a process that dies end together; this is for a server that is busy."""
RETAKE_SECONDS = 1.0
"""Well above the time that a watch takes to see whether another lock follows the first."""
SQL = load_queries("session_locks.sql")


class SessionLocks:
    def __init__(self, database: Database) -> None:
        self._database = database
        self._retaken_at = float("-inf")

    def hold(self, worker_id: UUID, lock: int) -> AbstractAsyncContextManager[SessionLock]:
        """As in ``Registry``."""
        keys = lock_keys(worker_id)
        return self._hold(keys[lock], keys)

    @asynccontextmanager
    async def _hold(self, key: int, keys: tuple[int, ...]) -> AsyncIterator[SessionLock]:
        url = self._database.settings.servers.direct_url
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
        """As in ``Registry``."""
        url = self._database.settings.servers.direct_url
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
                session.drop()  # no chat waits for the end of this session
                return Death(held.server)
            telemetry.event("session.watch_lost", worker_id=str(worker_id))
            return None
        finally:
            await session.aclose()


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


_WORD = (1 << 64) - 1
_SPREAD = 0x9E3779B97F4A7C15


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
