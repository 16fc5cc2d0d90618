"""``Series`` on Postgres: a row for each minute, to which every replica adds.

What it costs: one statement of one or two rows every ten seconds from each replica that did something, and 10,080 rows
for the week that is kept. A chart of a week reads all of them, in some tens of milliseconds.
"""

from __future__ import annotations

from chatcluster.ports.series import FIRST_TOKEN_MS, Minute, Point
from chatcluster.postgres import Connection, Database
from chatcluster.postgres.queries import load_queries

SQL = load_queries("series.sql")


class PostgresSeries:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, minutes: tuple[Minute, ...]) -> None:
        await self._database.autocommit(_add, minutes)

    async def read(self, *, steps: int, step_minutes: int) -> tuple[Point, ...]:
        return await self._database.autocommit(_read, steps, step_minutes)


async def _add(connection: Connection, minutes: tuple[Minute, ...]) -> None:
    columns = [
        [getattr(minute, name) for minute in minutes]
        for name in ("at", "turns", "failed", "interrupted", "output_tokens")
    ]
    waits = [",".join(map(str, minute.first_tokens)) for minute in minutes]
    await connection.execute(SQL["add_minutes"], *columns, waits)


async def _read(connection: Connection, steps: int, step_minutes: int) -> tuple[Point, ...]:
    rows = await connection.fetch(SQL["read_series"], steps, step_minutes)
    nothing = [0] * (len(FIRST_TOKEN_MS) + 1)
    return tuple(
        Point(
            at=row["at"],
            turns=row["turns"],
            failed=row["failed"],
            interrupted=row["interrupted"],
            output_tokens=row["output_tokens"],
            first_tokens=row["first_tokens"] or nothing,
            takeovers=row["takeovers"],
        )
        for row in rows
    )
