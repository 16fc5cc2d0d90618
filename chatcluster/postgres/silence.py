"""Connections that are dead though nobody says so: a firewall forgot them, or a proxy takes bytes and delivers none.

While a connection is in use it is watched. If nothing came in ``SILENCE_SECONDS``, either the server works, or the
statement or its answer was lost on the way, and only the server can tell which. So it is asked, on a new connection:

1. A session that is at rest there, or gone, and still is after ``GRACE_SECONDS`` without having done anything in
   between, owes us no answer that is not lost: its connection is ended, which fails the statement at once.
2. A session that works is left to work, up to the statement timeout, and asked for again.
3. No answer to the question proves nothing: the deadlines of the callers end the wait.

One question at a time is asked, for all connections that are silent; the next one at once if others have become so
meanwhile, as their callers may have come from a lost connection to another. Behind a transaction
pooler the server does not know our connections, so nothing is asked there.

One task watches all of them. A use that begins while it sleeps is silent only after it has slept, so nobody has to wake
it, and a use costs two changes of a dictionary.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable
from typing import NoReturn

import trio

from chatcluster import telemetry
from chatcluster.postgres.queries import load_queries
from chatcluster.postgres.statements import AsyncpgConnection

SILENCE_SECONDS = 0.75
GRACE_SECONDS = 0.25
QUESTION_SECONDS_MAX = 2.0

SQL = load_queries("connections.sql")


class SilenceWatch:
    """Begin when a statement is sent on a connection, end when there is an answer."""

    def __init__(self, connect: Callable[[], Awaitable[AsyncpgConnection]], on_lost: Callable[[float], None]) -> None:
        """``on_lost`` is told since when a connection that was found lost had been silent."""
        self._connect = connect
        self._on_lost = on_lost
        self._silent_at: dict[AsyncpgConnection, float] = {}
        """When each that is in use will have been silent for too long."""

    def begin(self, connection: AsyncpgConnection) -> None:
        self._silent_at[connection] = trio.current_time() + SILENCE_SECONDS

    def end(self, connection: AsyncpgConnection) -> None:
        del self._silent_at[connection]

    async def watch(self) -> NoReturn:
        """Ask after the silent ones, until cancelled."""
        asked: set[tuple[AsyncpgConnection, float]] = set()
        again_at = 0.0
        while True:
            now = trio.current_time()
            silent = {use for use in self._silent_at.items() if use[1] <= now}
            if silent - asked or (silent and again_at <= now):
                asked = silent
                await self._ask(dict(silent))
                again_at = trio.current_time() + SILENCE_SECONDS
            else:
                times = [now + SILENCE_SECONDS, *(at for at in self._silent_at.values() if at > now)]
                await trio.sleep_until(min([*times, again_at] if silent else times))

    async def _ask(self, silent: dict[AsyncpgConnection, float]) -> None:
        try:
            with trio.fail_after(QUESTION_SECONDS_MAX):
                await self._end_the_lost(silent)
        except Exception as error:  # noqa: BLE001 - whatever it is, it proves nothing of those that are asked after
            telemetry.event("postgres.not_asked", error=type(error).__name__)

    async def _end_the_lost(self, silent: dict[AsyncpgConnection, float]) -> None:
        pids = {connection.pid: connection for connection in silent}
        observer = await self._connect()
        try:
            before = await self._rest(observer, pids)
            await trio.sleep(GRACE_SECONDS)
            after = await self._rest(observer, pids)
        finally:
            await observer.close()
        for pid, connection in pids.items():
            if self._silent_at.get(connection) == silent[connection] and _is_lost(pid, before, after):
                telemetry.event("postgres.connection_lost", pid=pid)
                self._on_lost(silent[connection] - SILENCE_SECONDS)
                connection.terminate()

    async def _rest(self, observer: AsyncpgConnection, pids: Iterable[int]) -> dict[int, object]:
        """The sessions among these that the server has, and since when they rest; None for those that work."""
        rows = await observer.fetch(SQL["rest_of_sessions"], list(pids))
        return {row["pid"]: row["rests_since"] for row in rows}


def _is_lost(pid: int, before: dict[int, object], after: dict[int, object]) -> bool:
    return pid not in after or (after[pid] is not None and after[pid] == before.get(pid))
