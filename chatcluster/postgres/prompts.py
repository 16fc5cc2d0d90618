"""``Prompts`` on Postgres."""

from __future__ import annotations

from uuid import UUID

from chatcluster.errors import ChatNotFound
from chatcluster.ports import Account
from chatcluster.ports.prompts import ToldPrompts
from chatcluster.postgres import Connection, Database, Row
from chatcluster.postgres.administration import record
from chatcluster.postgres.queries import load_queries

SQL = load_queries("prompts.sql")


class PostgresPrompts:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, owner_id: UUID) -> str:
        return await self._database.autocommit(_get, owner_id)

    async def put(self, owner_id: UUID, text: str, *, by: Account | None = None) -> None:
        await self._database.transaction(_put, owner_id, text, by)

    async def own(self, chat_id: UUID) -> str | None:
        return await self._database.autocommit(_own, chat_id)

    async def set_own(self, chat_id: UUID, text: str) -> None:
        if not await self._database.autocommit(_put_own, chat_id, text):
            raise ChatNotFound("there is no such chat", chat_id=str(chat_id))


def told_of(row: Row) -> ToldPrompts:
    """What came with a claim."""
    texts = (row["system_prompt"] or "", row["own_prompt"], row["user_prompt"] or "")
    return ToldPrompts(*texts, row["prefix_digest"] or "")


async def _put_own(connection: Connection, chat_id: UUID, text: str) -> bool:
    """False if there is no such chat."""
    return bool(await connection.fetchval(SQL["put_own_prompt"], chat_id, text))


async def _get(connection: Connection, owner_id: UUID) -> str:
    return await connection.fetchval(SQL["select_prompt"], owner_id) or ""


async def _put(connection: Connection, owner_id: UUID, text: str, by: Account | None) -> None:
    await connection.execute(SQL["put_prompt"], owner_id, text)
    if by is not None:
        await record(connection, by, "system_prompt.change", "", {"characters": len(text)})


async def _own(connection: Connection, chat_id: UUID) -> str | None:
    text: str | None = await connection.fetchval(SQL["select_own_prompt"], chat_id)
    return text
