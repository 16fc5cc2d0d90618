"""Looks at chats' rows, by those who only look: one chat, a user's list, what changed lately.

What happens on failure: a row that the server cannot read fails the statement, and with it the list of all chats. So
then the chats are read one by one, and of the damaged one what has its place in the row itself. Nobody's list ends at
such a chat, and its number is the same, so that pages follow one another.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from datetime import datetime
from typing import NamedTuple
from uuid import UUID

import msgspec

from chatcluster import telemetry
from chatcluster.errors import ChatNotFound, StoreFailed
from chatcluster.parts import text_of
from chatcluster.ports import Changes, Chat, DeletedChat
from chatcluster.ports.details import ChatDetails, ChatWorkspace
from chatcluster.postgres import Connection, Database, Lane, Row
from chatcluster.postgres.queries import load_queries
from chatcluster.postgres.rows import actions_of, existing, parts_of, shown_chat_of
from chatcluster.postgres.usage import bill_from
from chatcluster.texts import in_any_case

SQL = load_queries("chats.sql")


class _Found(NamedTuple):
    rows: Sequence[Row]
    clock: Row
    deleted: tuple[DeletedChat, ...]


class _Changed(NamedTuple):
    """What ``list_changed`` is asked for."""

    owner_ids: Sequence[UUID]
    seconds: float
    as_of: datetime | None
    after: Chat | None
    limit: int


class Wanted(NamedTuple):
    """What ``list_chats`` is asked for."""

    owner_id: UUID
    archived: bool | None
    limit: int
    after: UUID | None
    pinned: bool | None
    words: str | None


class ChatReader:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def get(self, chat_id: UUID) -> Chat:
        try:
            return await self._database.autocommit(get_chat, chat_id, lane=Lane.CHATS)
        except StoreFailed as error:
            telemetry.event("chat.damaged", chat_id=str(chat_id), error=str(error))
            return await self._database.autocommit(_get_frame, chat_id, lane=Lane.CHATS)

    async def find(self, chat_ids: Sequence[UUID], owner_id: UUID) -> Chat | None:
        try:
            return await self._database.autocommit(_find, chat_ids, owner_id)
        except StoreFailed:
            found = [await self._if_there(chat_id) for chat_id in chat_ids]
            return next((chat for chat in found if chat is not None and chat.owner_id == owner_id), None)

    async def _if_there(self, chat_id: UUID) -> Chat | None:
        with suppress(ChatNotFound):
            return await self.get(chat_id)
        return None

    async def details(self, chat_id: UUID) -> ChatDetails:
        try:
            return await self._database.autocommit(_get_details, chat_id, lane=Lane.CHATS)
        except StoreFailed:
            return ChatDetails(await self.get(chat_id))

    async def listed(self, wanted: Wanted) -> tuple[Chat, ...]:
        try:
            return tuple(map(shown_chat_of, await self._database.autocommit(_list, "list_chats", wanted)))
        except StoreFailed:
            return await self._one_by_one(await self._database.autocommit(_list, "list_chat_ids", wanted))

    async def changed(
        self, owner_ids: Sequence[UUID], seconds: float, as_of: datetime | None, after: Chat | None, limit: int
    ) -> Changes:
        asked = _Changed(owner_ids, seconds, as_of, after, limit)
        try:
            found = await self._database.autocommit(_list_changed, "list_changed", asked, lane=Lane.CHATS)
            chats = tuple(map(shown_chat_of, found.rows))
        except StoreFailed:
            found = await self._database.autocommit(_list_changed, "list_changed_ids", asked, lane=Lane.CHATS)
            chats = await self._one_by_one(found.rows)
        return Changes(chats, found.clock["now"], found.deleted, found.clock["timeline"])

    async def _one_by_one(self, rows: Sequence[Row]) -> tuple[Chat, ...]:
        return tuple([await self.get(row["id"]) for row in rows])


async def get_chat(connection: Connection, chat_id: UUID) -> Chat:
    return shown_chat_of(existing(await connection.fetchrow(SQL["select_chat"], chat_id), chat_id))


async def _find(connection: Connection, chat_ids: Sequence[UUID], owner_id: UUID) -> Chat | None:
    row = await connection.fetchrow(SQL["find_chat"], chat_ids, owner_id)
    return None if row is None else shown_chat_of(row)


async def _get_details(connection: Connection, chat_id: UUID) -> ChatDetails:
    plain = await connection.fetchrow(SQL["select_plain_details"], chat_id)
    row = plain or existing(await connection.fetchrow(SQL["select_details"], chat_id), chat_id)
    family = None if row["family_bill"] is None else bill_from(row["family_bill"])
    bill = bill_from(row["bill"])
    place = None if row["workspace"] is None else msgspec.json.decode(row["workspace"], type=ChatWorkspace)
    return ChatDetails(shown_chat_of(row), actions_of(row["actions"]), bill, _own_prompt_of(row), family, place)


def _own_prompt_of(row: Row) -> str | None:
    if row["own_prompt"] is not None or row["first_prompt"] is None:
        text: str | None = row["own_prompt"]
        return text
    return text_of(parts_of(row["first_prompt"]))


async def _get_frame(connection: Connection, chat_id: UUID) -> Chat:
    return shown_chat_of(existing(await connection.fetchrow(SQL["select_frame"], chat_id), chat_id))


async def _list(connection: Connection, query: str, wanted: Wanted) -> Sequence[Row]:
    created_at, after = None, wanted.after
    if after is not None:
        row = await connection.fetchrow(SQL["select_creation"], after, wanted.owner_id)
        created_at = existing(row, after)["created_at"]
    pattern = None if wanted.words is None else in_any_case(wanted.words)
    return await connection.fetch(
        SQL[query], wanted.owner_id, wanted.archived, created_at, after, wanted.limit, wanted.pinned, pattern
    )


async def _list_changed(connection: Connection, query: str, asked: _Changed) -> _Found:
    clock = await connection.fetchrow(SQL["clock"])
    assert clock is not None, "a select without a table has one row"
    place = (None, None) if asked.after is None else (asked.after.updated_at, asked.after.id)
    since = (list(map(str, asked.owner_ids)), asked.seconds, asked.as_of)
    rows = await connection.fetch(SQL[query], *since, *place, asked.limit)
    gone = await connection.fetch(SQL["list_deleted"], *since) if asked.after is None else []
    return _Found(rows, clock, tuple(DeletedChat(row["chat_id"], row["owner_id"]) for row in gone))
