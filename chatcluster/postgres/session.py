"""A connection outside of the pool: for what must not wait for it (heartbeats), or lasts (session locks).

It is used by one task at a time. After any failure, whatever it was, the connection is closed, and the next use
connects anew. A session that holds something and is not used is asked for a sign of life every ``PROBE_SECONDS``, so
its loss is known within ``PROBE_SECONDS + PROBE_SECONDS_MAX`` though the network may tell nobody.

If the server has no connection left for a session, the pool closes one of its own, as sessions are more important, and
the session tries again until its deadline.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any, TypeVar, TypeVarTuple

import asyncpg
import trio

from chatcluster.errors import StoreUnavailable
from chatcluster.postgres.connecting import Connection, close, close_after, is_pooled
from chatcluster.postgres.translation import ReportingClosed

if TYPE_CHECKING:
    from chatcluster.postgres.database import Database

CLOSE_SECONDS = 1.0
PROBE_SECONDS = 1.0
"""A session that lasts is asked for a sign of life this often: a cut network does not close a connection."""

T = TypeVar("T")
Args = TypeVarTuple("Args")


class Session:
    """Made by ``Database.session``."""

    def __init__(self, database: Database, purpose: str, url: str, *, lasting: bool) -> None:
        self._database = database
        self._purpose = purpose
        self._url = url
        self._lasting = lasting
        self._connection: asyncpg.Connection | None = None
        self._lost = trio.Event()
        self._turn = trio.Lock()

    def __repr__(self) -> str:
        state = "lost" if self._lost.is_set() else "connected" if self._connection else "not connected"
        return f"<Session {self._purpose}, {state}>"

    async def run(
        self,
        body: Callable[[Connection, *Args], Coroutine[Any, Any, T]],
        *args: *Args,
        deadline_seconds: float | None = None,
    ) -> T:
        """Run ``body(connection, *args)``, of which each statement is a transaction of its own.

        The deadline is the database's where none is given. Raises ``StoreUnavailable``, then the connection is closed.
        """
        seconds = self._database.deadline_seconds if deadline_seconds is None else deadline_seconds
        pooled = is_pooled(self._database.settings.servers, self._url)
        is_watched = seconds <= self._database.deadline_seconds and not pooled
        async with self._turn:
            with trio.move_on_after(seconds):
                return await self._database.cross(self._run(body, args, is_watched=is_watched))
        raise StoreUnavailable(f"Postgres did not answer the {self._purpose} session within {seconds:g} s")

    async def wait_lost(self) -> None:
        """Return when the connection of the last ``run`` is gone."""
        lost = self._lost
        while not lost.is_set():
            with trio.move_on_after(PROBE_SECONDS):
                await lost.wait()
                return
            try:
                await self.run(_probe)
            except StoreUnavailable:
                return

    async def aclose(self) -> None:
        """Close the connection; what it held is let go."""
        self._database.forget(self)
        connection, self._connection = self._connection, None
        if connection is not None:
            with trio.move_on_after(CLOSE_SECONDS, shield=True):
                await self._database.cross(close(connection))

    def drop(self) -> None:
        """Close the connection, on which nothing is held, without waiting for the server to see that, nor for anything:
        a caller that is cancelled goes on."""
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.terminate()

    async def _run(self, body: Callable[..., Awaitable[T]], args: tuple[Any, ...], *, is_watched: bool) -> T:
        if self._connection is None or self._connection.is_closed():
            self._lost = lost = trio.Event()
            self._connection = await self._database.connect_outside(self._purpose, self._url, lasting=self._lasting)
            self._connection.add_termination_listener(lambda _: lost.set())
        connection = self._connection
        try:
            with ReportingClosed(connection), self._database.watching(connection) if is_watched else nullcontext():
                return await body(connection, *args)
        except BaseException as error:
            self._connection = None
            await close_after(connection, error)
            raise


async def _probe(connection: Connection) -> None:
    await connection.execute("SELECT")
