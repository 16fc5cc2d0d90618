"""Connections that are dead though nobody says so: a firewall forgot them, or a proxy takes bytes and delivers none.

While a connection is in use it has a timer. If nothing came in ``SILENCE_SECONDS``, either the server works, or the
statement or its answer was lost on the way, and only the server can tell which. So it is asked, on a new connection:

1. A session that is at rest there, or gone, and still is after ``GRACE_SECONDS`` without having done anything in
   between, owes us no answer that is not lost: its connection is ended, which fails the statement at once, and so is
   the session of a transaction: nobody will tell the server that it is over, and the repeat waits for the rows that
   it has locked.
2. A session that works is left to work, up to the statement timeout, and asked for again.
3. No answer to the question proves nothing: the deadlines of the callers end the wait.

One question at a time is asked, for all connections that are silent; the next one at once if others have become so
meanwhile, as their callers may have come from a lost connection to another. Behind a transaction
pooler the server does not know our connections, so nothing is asked there.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from contextlib import suppress

import asyncpg

from chatcluster import telemetry
from chatcluster.errors import ChatclusterError
from chatcluster.postgres.connecting import close
from chatcluster.postgres.queries import load_queries
from chatcluster.postgres.translation import RAISED

SILENCE_SECONDS = 0.75
GRACE_SECONDS = 0.25
QUESTION_SECONDS_MAX = 2.0

SQL = load_queries("connections.sql")


class SilenceWatch:
    """Begin when a statement is sent on a connection, end when there is an answer."""

    def __init__(self, connect: Callable[[], Awaitable[asyncpg.Connection]], on_lost: Callable[[float], None]) -> None:
        """``on_lost`` is told since when a connection that was found lost had been silent."""
        self._connect = connect
        self._on_lost = on_lost
        self._timers: dict[asyncpg.Connection, asyncio.TimerHandle] = {}
        self._suspects: dict[asyncpg.Connection, float] = {}
        self._unasked = asyncio.Event()
        self._asking: asyncio.Task[None] | None = None

    def begin(self, connection: asyncpg.Connection) -> None:
        self._timers[connection] = asyncio.get_running_loop().call_later(SILENCE_SECONDS, self._suspect, connection)

    def end(self, connection: asyncpg.Connection) -> None:
        self._timers.pop(connection).cancel()
        self._suspects.pop(connection, None)

    def _suspect(self, connection: asyncpg.Connection) -> None:
        self._suspects[connection] = asyncio.get_running_loop().time() - SILENCE_SECONDS
        self._unasked.set()
        if self._asking is None or self._asking.done():
            self._asking = asyncio.create_task(self._ask())

    async def _ask(self) -> None:
        while self._suspects:
            self._unasked.clear()
            try:
                async with asyncio.timeout(QUESTION_SECONDS_MAX):
                    await self._end_the_lost()
            except (*RAISED, ChatclusterError) as error:
                telemetry.event("postgres.not_asked", error=type(error).__name__)
            with suppress(TimeoutError):
                await asyncio.wait_for(self._unasked.wait(), SILENCE_SECONDS)

    async def _end_the_lost(self) -> None:
        observer = await self._connect()
        try:
            suspects = {connection.get_server_pid(): connection for connection in self._suspects}
            before = await self._rest(observer, suspects)
            await asyncio.sleep(GRACE_SECONDS)
            after = await self._rest(observer, suspects)
            lost = [pid for pid in suspects if suspects[pid] in self._suspects and _is_lost(pid, before, after)]
            for pid in lost:
                self._end(pid, suspects[pid])
            await observer.execute(SQL["end_lost"], lost, [after.get(pid) for pid in lost])
        finally:
            await close(observer)

    def _end(self, pid: int, connection: asyncpg.Connection) -> None:
        telemetry.event("postgres.connection_lost", pid=pid)
        self._on_lost(self._suspects[connection])
        connection.terminate()

    async def _rest(self, observer: asyncpg.Connection, pids: Iterable[int]) -> dict[int, object]:
        """The sessions among these that the server has, and since when they rest; None for those that work."""
        rows = await observer.fetch(SQL["rest_of_sessions"], list(pids))
        return {row["pid"]: row["rests_since"] for row in rows}


def _is_lost(pid: int, before: dict[int, object], after: dict[int, object]) -> bool:
    return pid not in after or (after[pid] is not None and after[pid] == before.get(pid))
