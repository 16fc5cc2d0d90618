"""``Administration`` on Postgres: lists over all users, and the log of what administrators did.

Who is authoritative: the rows that others write. What is read here is read once in a while, by few, in the lane of
requests; the list of chats goes through the table by its age and so costs what the page is away from the newest.
"""

from __future__ import annotations

from typing import Any
from uuid import UUID

import msgspec

from chatcluster import telemetry
from chatcluster.json_bounds import bounded
from chatcluster.parts import UNDECODABLE
from chatcluster.ports import Account
from chatcluster.ports.administration import AuditEntry, ChatFilter, Deed, Takeover, TakeoverFilter, UserRow, UsersChat
from chatcluster.postgres import Connection, Database, Row
from chatcluster.postgres.queries import load_queries
from chatcluster.postgres.rows import existing, json_of, shown_chat_of
from chatcluster.texts import in_any_case

SQL = load_queries("administration.sql")


class PostgresAdministration:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def takeovers(self, wanted: TakeoverFilter, *, before: int, limit: int) -> tuple[Takeover, ...]:
        return await self._database.autocommit(_takeovers, wanted, before, limit)

    async def chats(self, wanted: ChatFilter, *, after: UUID | None, limit: int) -> tuple[UsersChat, ...]:
        return await self._database.autocommit(_chats, wanted, after, limit)

    async def users(self, *, after: str, limit: int) -> tuple[UserRow, ...]:
        return await self._database.autocommit(_users, after, limit)

    async def audit(self, *, before: int, limit: int) -> tuple[AuditEntry, ...]:
        return await self._database.autocommit(_audit, before, limit)

    async def request_drain(self, worker_id: UUID, by: Account) -> bool:
        return await self._database.transaction(_request_drain, worker_id, by)


async def _takeovers(connection: Connection, wanted: TakeoverFilter, before: int, limit: int) -> tuple[Takeover, ...]:
    rows = await connection.fetch(SQL["list_takeovers"], before, wanted.chat_id, wanted.worker_id, wanted.cause, limit)
    return tuple(Takeover(**{name: row[name] for name in Takeover.__struct_fields__}) for row in rows)


async def _chats(connection: Connection, wanted: ChatFilter, after: UUID | None, limit: int) -> tuple[UsersChat, ...]:
    created_at = None
    if after is not None:
        created_at = existing(await connection.fetchrow(SQL["select_creation"], after), after)["created_at"]
    pattern = None if wanted.words is None else in_any_case(wanted.words)
    choices = (wanted.user, wanted.status, wanted.worker_id, wanted.archived, pattern)
    rows = await connection.fetch(SQL["list_chats"], created_at, after, *choices, limit)
    return tuple(UsersChat(shown_chat_of(row), row["user_name"]) for row in rows)


async def _users(connection: Connection, after: str, limit: int) -> tuple[UserRow, ...]:
    rows = await connection.fetch(SQL["list_users"], after, limit)
    return tuple(
        UserRow(row["id"], row["name"], row["admin"], row["created_at"], row["chats"], row["tokens"]) for row in rows
    )


async def _audit(connection: Connection, before: int, limit: int) -> tuple[AuditEntry, ...]:
    rows = await connection.fetch(SQL["list_audit"], before, limit)
    return tuple(map(_entry, rows))


def _entry(row: Row) -> AuditEntry:
    return AuditEntry(
        row["id"], row["at"], row["user_id"], row["user_name"], row["action"], row["target"], _details(row)
    )


def _details(row: Row) -> dict[str, Any]:
    """None of what cannot be read: the entry itself has its place in the log."""
    try:
        return msgspec.json.decode(bounded(row["details"].encode()), type=dict[str, Any])
    except UNDECODABLE as error:
        telemetry.event("audit.unreadable", entry=row["id"], error=str(error))
        return {}


async def record(connection: Connection, by: Account, action: str, target: str, details: dict[str, Any]) -> None:
    """Log what an administrator does, in the transaction that does it."""
    await connection.execute(SQL["record"], by.user_id, by.name, action, target, json_of(details))


async def record_deed(connection: Connection, deed: Deed | None) -> None:
    """``record`` for a deed; None is one that nobody signed in for, as a command at the database."""
    if deed is not None:
        await record(connection, deed.by, deed.action, deed.target, deed.details)


async def _request_drain(connection: Connection, worker_id: UUID, by: Account) -> bool:
    if await connection.fetchval(SQL["request_drain"], worker_id) is None:
        return False
    await record(connection, by, "replica.drain", str(worker_id), {})
    return True
