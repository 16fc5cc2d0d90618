"""``Titles`` on Postgres: a chat that wants one has a row of its own for that, written with the chat.

A person's own title removes the row in the transaction that writes it (``store.py``), so the first one wins.
"""

from __future__ import annotations

from uuid import UUID

from chatcluster.parts import UNDECODABLE, decode_parts, text_of
from chatcluster.ports import Chat
from chatcluster.ports.titles import TitleTask
from chatcluster.postgres import Connection, Database, Row
from chatcluster.postgres.queries import load_queries
from chatcluster.postgres.rows import chat_of, json_of
from chatcluster.usage import Spent

SQL = load_queries("titles.sql")


class PostgresTitles:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def take(self, limit: int, *, seconds: float) -> tuple[TitleTask, ...]:
        return await self._database.autocommit(_take, limit, seconds)

    async def entitle(self, task: TitleTask, title: str | None, spent: tuple[Spent, ...]) -> Chat | None:
        return await self._database.autocommit(_entitle, task.chat_id, title, spent, chat_id=task.chat_id)

    async def book(self, task: TitleTask, spent: tuple[Spent, ...]) -> None:
        await self._database.autocommit(_book, task.chat_id, spent)


async def _take(connection: Connection, limit: int, seconds: float) -> tuple[TitleTask, ...]:
    return tuple(map(_task, await connection.fetch(SQL["take"], limit, seconds)))


def _task(row: Row) -> TitleTask:
    return TitleTask(row["id"], row["owner_id"], row["message_model"] or row["model"], _text(row), row["tries"])


def _text(row: Row) -> str:
    try:
        return "" if row["content"] is None else text_of(decode_parts(row["content"]))
    except UNDECODABLE:
        return ""


async def _entitle(connection: Connection, chat_id: UUID, title: str | None, spent: tuple[Spent, ...]) -> Chat | None:
    row = await connection.fetchrow(SQL["entitle"], chat_id, json_of(spent), title)
    return None if row is None else chat_of(row)


async def _book(connection: Connection, chat_id: UUID, spent: tuple[Spent, ...]) -> None:
    await connection.execute(SQL["book"], chat_id, json_of(spent))
