"""``UsageBook`` on Postgres. The store writes it: see ``decision_writer.py``, and ``disown`` in ``registry.sql``."""

from __future__ import annotations

import msgspec

from chatcluster.ports.usage import UsageGroup, UsageQuery, UsageSums
from chatcluster.postgres import Connection, Database
from chatcluster.postgres.queries import load_queries
from chatcluster.usage import Bill

SQL = load_queries("usage.sql")

_bill = msgspec.json.Decoder(Bill)


class PostgresUsage:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def sums(self, query: UsageQuery, *, limit: int) -> UsageSums:
        return await self._database.transaction(_sums, query, limit)


async def _sums(connection: Connection, query: UsageQuery, limit: int) -> UsageSums:
    wanted = (query.since, query.until, query.owner_id)
    total = bill_from(await connection.fetchval(SQL["total"], *wanted))
    rows = await connection.fetch(SQL[f"by_{query.group_by}"], *wanted, limit + 1)
    groups = tuple(UsageGroup(row["key"], bill_from(row["bill"]), row["name"]) for row in rows[:limit])
    return UsageSums(total, groups, has_more=len(rows) > limit)


def bill_from(text: str | None) -> Bill:
    """The sum that the fragment ``bill`` is."""
    return Bill() if text is None else _bill.decode(text)
