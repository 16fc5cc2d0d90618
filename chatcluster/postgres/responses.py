"""``Responses`` on Postgres: rows beside their chats, which take them along when they go.

Each call is one statement. A row is written right after the transaction that began its turn: if the replica dies in
between, nobody was told the response's ID, and a repeat with the same idempotency key writes the row that is missing.
"""

from __future__ import annotations

from uuid import UUID

import msgspec

from chatcluster.ports.responses import AskedMessage, StoredResponse
from chatcluster.postgres import Connection, Database
from chatcluster.postgres.queries import load_queries

SQL = load_queries("responses.sql")


class PostgresResponses:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def add(self, response: StoredResponse) -> None:
        await self._database.autocommit(_add, response)

    async def get(self, chat_id: UUID, message_id: int, *, owner_id: UUID) -> StoredResponse | None:
        return await self._database.autocommit(_get, chat_id, message_id, owner_id)

    async def replace(self, response: StoredResponse) -> None:
        await self._database.autocommit(_replace, response)

    async def remove(self, chat_id: UUID, message_id: int, *, owner_id: UUID) -> bool:
        return await self._database.autocommit(_remove, chat_id, message_id, owner_id)

    async def asked_after(self, chat_id: UUID, message_id: int) -> int | None:
        return await self._database.autocommit(_asked_after, chat_id, message_id)

    async def asked(self, chat_id: UUID, number: int | None = None, *, since: int = 0) -> AskedMessage | None:
        return await self._database.autocommit(_asked, chat_id, number, since)


async def _add(connection: Connection, response: StoredResponse) -> None:
    await connection.execute(SQL["add"], *msgspec.structs.astuple(response))


async def _replace(connection: Connection, response: StoredResponse) -> None:
    await connection.execute(SQL["replace"], *msgspec.structs.astuple(response))


async def _get(connection: Connection, chat_id: UUID, message_id: int, owner_id: UUID) -> StoredResponse | None:
    row = await connection.fetchrow(SQL["get"], chat_id, message_id, owner_id)
    if row is None:
        return None
    return StoredResponse(chat_id, message_id, row["revision"], row["parameters"], row["transient"])


async def _remove(connection: Connection, chat_id: UUID, message_id: int, owner_id: UUID) -> bool:
    return await connection.fetchval(SQL["remove"], chat_id, message_id, owner_id) is not None


async def _asked_after(connection: Connection, chat_id: UUID, message_id: int) -> int | None:
    found: int | None = await connection.fetchval(SQL["asked_after"], chat_id, message_id)
    return found


async def _asked(connection: Connection, chat_id: UUID, number: int | None, since: int) -> AskedMessage | None:
    row = await connection.fetchrow(SQL["newest_asked" if number is None else "asked"], chat_id, number or 0, since)
    return None if row is None else AskedMessage(row["id"], row["revision"])
