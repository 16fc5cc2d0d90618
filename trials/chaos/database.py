"""The run's own sessions on Postgres, past the replicas: one statement, or one that holds a lock for a while.

asyncpg speaks asyncio, so each session has a thread of its own; a run that is ended does not wait for it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

import asyncpg
import trio

from chatcluster.local.embedded.postgres_server import USER

CONNECT_SECONDS_MAX = 10.0
STATEMENT_SECONDS_MAX = 120.0

Row = tuple[Any, ...]
T = TypeVar("T")


class DatabaseError(RuntimeError):
    """What was to be done to the database could not be."""


async def query(url: str, statement: str, *arguments: object, seconds_max: float = STATEMENT_SECONDS_MAX) -> list[Row]:
    """The rows of one statement. Raises ``DatabaseError``."""

    async def fetch(connection: Any) -> list[Row]:
        rows = await connection.fetch(statement, *arguments, timeout=seconds_max)
        return [tuple(row) for row in rows]

    return await _in_session(url, fetch)


async def hold(url: str, statement: str, *arguments: object, seconds: float, held: Callable[[], None]) -> int:
    """Keep for ``seconds`` what ``statement`` locks; how many rows that were. ``held`` is called once it has them."""

    async def lock(connection: Any) -> int:
        async with connection.transaction():
            rows = await connection.fetch(statement, *arguments, timeout=STATEMENT_SECONDS_MAX)
            trio.from_thread.run_sync(held)
            await connection.fetch("select pg_sleep($1)", seconds)
        return len(rows)

    return await _in_session(url, lock)


async def _in_session(url: str, use: Callable[[Any], Awaitable[T]]) -> T:
    async def session() -> T:
        connection = await asyncpg.connect(url, timeout=CONNECT_SECONDS_MAX, user=USER, statement_cache_size=0)
        try:
            return await use(connection)
        finally:
            connection.terminate()

    try:
        return await trio.to_thread.run_sync(lambda: asyncio.run(session()), abandon_on_cancel=True)
    except (asyncpg.PostgresError, asyncpg.InterfaceError, OSError, TimeoutError) as error:
        raise DatabaseError(f"the run's own session on Postgres: {error!r}") from error
