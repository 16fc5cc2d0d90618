"""``Limits`` on Postgres. What is spent is summed up when it is asked for: no row counts it, so none is waited for.

So that this costs the same however much is spent in a month, attempts that are some minutes old are added up behind
their users' backs, into a row for each user and hour (``add_up``). One replica at a time does it; one that dies, or
does nothing, leaves more to be summed up at each question, and the same sums. A clock of the database that is set back
by more than those minutes hides what is booked until it has caught up: limits are overrun by it, bills are whole.
"""

from __future__ import annotations

from uuid import UUID

from chatcluster.errors import NotFound
from chatcluster.ports import Account
from chatcluster.ports.limits import Allowance, Limit, LimitPlace, Member, Period, Subject
from chatcluster.postgres import Connection, Database
from chatcluster.postgres.administration import record
from chatcluster.postgres.queries import load_queries

SQL = load_queries("limits.sql")


class PostgresLimits:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def limits(self) -> tuple[Limit, ...]:
        return await self._database.autocommit(_limits)

    async def put(self, limit: Limit, by: Account) -> None:
        await self._database.transaction(_put, limit, by)

    async def remove(self, place: LimitPlace, by: Account) -> bool:
        return await self._database.transaction(_remove, place, by)

    async def members(self) -> tuple[Member, ...]:
        return await self._database.autocommit(_members)

    async def add_member(self, member: Member, by: Account) -> None:
        await self._database.transaction(_add_member, member, by)

    async def remove_member(self, member: Member, by: Account) -> bool:
        return await self._database.transaction(_remove_member, member, by)

    async def any(self) -> bool:
        return await self._database.autocommit(_any)

    async def add_up(self) -> bool:
        return await self._database.transaction(_add_up)

    async def allowances(self, owner_id: UUID) -> tuple[Allowance, ...]:
        return await self._database.autocommit(_allowances, owner_id)


async def _limits(connection: Connection) -> tuple[Limit, ...]:
    rows = await connection.fetch(SQL["list_limits"])
    return tuple(
        Limit(Subject(row["subject"]), row["name"], Period(row["period"]), row["cost_micros"], row["tokens"])
        for row in rows
    )


async def _put(connection: Connection, limit: Limit, by: Account) -> None:
    if limit.subject is Subject.USER:
        await _user_id(connection, limit.name)
    await connection.execute(
        SQL["put_limit"], str(limit.subject), limit.name, str(limit.period), limit.cost_micros, limit.tokens
    )
    details = {"period": limit.period, "cost_micros": limit.cost_micros, "tokens": limit.tokens}
    await record(connection, by, "limit.set", f"{limit.subject} {limit.name}".strip(), details)


async def _remove(connection: Connection, place: LimitPlace, by: Account) -> bool:
    is_removed = await connection.fetchval(SQL["remove_limit"], *map(str, place)) is not None
    if is_removed:
        await record(connection, by, "limit.remove", f"{place.subject} {place.name}".strip(), {"period": place.period})
    return is_removed


async def _members(connection: Connection) -> tuple[Member, ...]:
    return tuple(Member(row["group"], row["user"]) for row in await connection.fetch(SQL["list_members"]))


async def _add_member(connection: Connection, member: Member, by: Account) -> None:
    await connection.execute(SQL["add_member"], await _user_id(connection, member.user), member.group)
    await record(connection, by, "group.add", member.group, {"user": member.user})


async def _remove_member(connection: Connection, member: Member, by: Account) -> bool:
    is_removed = await connection.fetchval(SQL["remove_member"], member.user, member.group) is not None
    if is_removed:
        await record(connection, by, "group.remove", member.group, {"user": member.user})
    return is_removed


async def _user_id(connection: Connection, name: str) -> UUID:
    user_id: UUID | None = await connection.fetchval(SQL["select_user"], name)
    if user_id is None:
        raise NotFound(f"there is no user {name}", user=name)
    return user_id


async def _any(connection: Connection) -> bool:
    return bool(await connection.fetchval(SQL["any_limit"]))


async def _add_up(connection: Connection) -> bool:
    moved = await connection.fetchrow(SQL["move_on"])
    if moved is None:
        return False
    await connection.execute(SQL["add_up"], moved["since"], moved["until"])
    if not moved["has_more"]:
        await connection.execute(SQL["forget_hours"])
    return bool(moved["has_more"])


async def _allowances(connection: Connection, owner_id: UUID) -> tuple[Allowance, ...]:
    rows = await connection.fetch(SQL["allowances"], owner_id)
    return tuple(
        Allowance(
            Period(row["period"]),
            row["resets_at"],
            row["cost_micros"],
            row["tokens"],
            row["spent_micros"],
            row["spent_tokens"],
        )
        for row in rows
    )
