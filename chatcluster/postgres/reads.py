"""The reads of ``Store`` on Postgres: each is one statement, and so one consistent look. What is in a large message
is read after it.

What is read together is one row: the chat, a page of its messages, its queue, what it waits for.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from uuid import UUID

import msgspec

from chatcluster.ports import (
    TURNS_MAX,
    VERSION_MAX,
    Changes,
    Chat,
    ChatRead,
    HistoryPage,
    MessagePage,
    NewerMessages,
    NewestMessages,
    Version,
)
from chatcluster.ports.details import ChatDetails
from chatcluster.ports.forks import TurnEnds
from chatcluster.ports.histories import HistoryPlace
from chatcluster.postgres import Connection, Database, Lane
from chatcluster.postgres.chat_reader import ChatReader, Wanted
from chatcluster.postgres.forks import turn_ends
from chatcluster.postgres.history_reader import HistoryReader
from chatcluster.postgres.large_messages import shown_messages
from chatcluster.postgres.ledger import PostgresLedger
from chatcluster.postgres.queries import load_queries
from chatcluster.postgres.rows import actions_of, existing, messages_of, queue_of, shown_chat_of, turns_of

SQL = load_queries("chats.sql")

FEW = 8
"""Messages, or turns, that are read by a statement which is made for few."""

Place = tuple[UUID, int, int, int, int, int]
"""What the fragment ``page`` takes: chat, after which version and ID, up to which version, how many, how many bytes."""


class PostgresReads(PostgresLedger):
    def __init__(self, database: Database) -> None:
        super().__init__(database)
        self._chats = ChatReader(database)
        self._histories = HistoryReader(database)

    async def read(self, chat_id: UUID, *, after_version: int = 0) -> ChatRead:
        return await self._database.autocommit(_read, chat_id, after_version, lane=Lane.CHATS)

    async def read_history(
        self, chat_id: UUID, *, after: int, page_bytes: int, message_bytes_max: int, since: int = 0, before: int = 0
    ) -> HistoryPage:
        place = HistoryPlace(after, before, since, page_bytes, message_bytes_max)
        return await self._histories.page(chat_id, place)

    async def read_newer(
        self,
        chat_id: UUID,
        *,
        after_version: int,
        after_id: int,
        queue_version: int,
        limit: int,
        bytes_max: int,
        turns_after: int = VERSION_MAX,
        if_whole: bool = False,
    ) -> ChatRead:
        place = (chat_id, after_version, after_id, VERSION_MAX, limit, bytes_max)
        read = _read_if_whole if if_whole else _read_newer
        return await self._database.autocommit(read, place, turns_after, queue_version, lane=Lane.CHATS)

    async def read_messages(
        self,
        chat_id: UUID,
        *,
        after_version: int,
        after_id: int,
        up_to_version: int,
        limit: int,
        bytes_max: int,
        turns_after: int = VERSION_MAX,
        turns_max: int = TURNS_MAX,
    ) -> NewerMessages:
        place = (chat_id, after_version, after_id, up_to_version, limit, bytes_max)
        return await self._database.autocommit(_read_messages, place, turns_after, turns_max, lane=Lane.CHATS)

    async def get(self, chat_id: UUID) -> Chat:
        return await self._chats.get(chat_id)

    async def details(self, chat_id: UUID) -> ChatDetails:
        return await self._chats.details(chat_id)

    async def find(self, chat_ids: Sequence[UUID], *, owner_id: UUID) -> Chat | None:
        return await self._chats.find(chat_ids, owner_id)

    async def turn_ends(self, chat_id: UUID, message_id: int) -> TurnEnds:
        return await self._database.autocommit(turn_ends, chat_id, message_id)

    async def versions(self, chat_ids: Sequence[UUID]) -> dict[UUID, Version]:
        return await self._database.autocommit(_versions, chat_ids, lane=Lane.CHATS)

    async def list_chats(
        self,
        owner_id: UUID,
        *,
        archived: bool | None,
        limit: int,
        after: UUID | None,
        pinned: bool | None = None,
        words: str | None = None,
    ) -> tuple[Chat, ...]:
        return await self._chats.listed(Wanted(owner_id, archived, limit, after, pinned, words))

    async def list_changed(
        self, owner_ids: Sequence[UUID], *, seconds: float, as_of: datetime | None, after: Chat | None, limit: int
    ) -> Changes:
        return await self._chats.changed(owner_ids, seconds, as_of, after, limit)

    async def list_messages(
        self, chat_id: UUID, *, owner_id: UUID, after: int, limit: int, bytes_max: int
    ) -> MessagePage:
        place = (chat_id, 0, after, VERSION_MAX, limit, bytes_max)
        return await self._database.autocommit(_list_messages, place, owner_id, chat_id=chat_id)

    async def list_newest(
        self, chat_id: UUID, *, owner_id: UUID, before: int, limit: int, bytes_max: int
    ) -> NewestMessages:
        place = (chat_id, owner_id, before, limit, bytes_max)
        return await self._database.autocommit(_list_newest, place, chat_id=chat_id)


async def _read(connection: Connection, chat_id: UUID, after_version: int) -> ChatRead:
    row = existing(await connection.fetchrow(SQL["read_chat"], chat_id, after_version), chat_id)
    messages, queue, actions = messages_of(row["messages"]), queue_of(row["queue"]), actions_of(row["actions"])
    return ChatRead(shown_chat_of(row), messages, queue, actions=actions)


async def _read_newer(connection: Connection, place: Place, turns_after: int, queue_version: int) -> ChatRead:
    few = await _read_few(connection, place, queue_version) if place[2] == 0 and turns_after == place[1] else None
    if few is not None:
        return few
    values = (*place, turns_after, TURNS_MAX, queue_version)
    row = existing(await connection.fetchrow(SQL["read_chat_page"], *values), place[0])
    messages = await shown_messages(connection, place[0], row)
    queue, turns = queue_of(row["queue"]), turns_of(row["turns"])
    return ChatRead(shown_chat_of(row), messages, queue, row["next_revision"], turns, actions_of(row["actions"]))


async def _read_if_whole(connection: Connection, place: Place, turns_after: int, queue_version: int) -> ChatRead:
    """A few or nothing: a page might have a first message that is larger than all the rest."""
    few = await _read_few(connection, place, queue_version) if turns_after == place[1] else None
    if few is not None:
        return few
    beyond = (place[0], VERSION_MAX, 0, *place[3:])
    read = await _read_newer(connection, beyond, VERSION_MAX, queue_version)
    return msgspec.structs.replace(read, next_revision=0)


async def _read_few(connection: Connection, place: Place, queue_version: int) -> ChatRead | None:
    """What the chat has that is newer, where that is little, the queue is as it is known and no call waits; None if it
    is more."""
    chat_id, after_version, _, _, limit, bytes_max = place
    row = existing(await connection.fetchrow(SQL["read_chat_few"], after_version, chat_id), chat_id)
    has_more = (row["queue_length"] > 0 and row["queue_version"] > queue_version) or row["open_calls"] > 0
    has_more = has_more or row["has_agents"]
    if row["crowded"] or has_more or len(row["messages"] or "") > bytes_max:
        return None
    messages, turns = messages_of(row["messages"]), turns_of(row["turns"])
    if max(len(messages), len(turns)) > min(limit, FEW):
        return None
    return ChatRead(shown_chat_of(row), messages, (), None, turns)


async def _read_messages(connection: Connection, place: Place, turns_after: int, turns_max: int) -> NewerMessages:
    row = await connection.fetchrow(SQL["read_messages"], *place, turns_after, turns_max)
    assert row is not None, "a page has one row, also an empty one"
    messages = await shown_messages(connection, place[0], row)
    return NewerMessages(messages, row["next_revision"], turns_of(row["turns"]))


async def _versions(connection: Connection, chat_ids: Sequence[UUID]) -> dict[UUID, Version]:
    rows = await connection.fetch(SQL["select_versions"], list(map(str, chat_ids)))
    return {row["id"]: Version(*(row[name] for name in Version._fields)) for row in rows}


async def _list_messages(connection: Connection, place: Place, owner_id: UUID) -> MessagePage:
    row = existing(await connection.fetchrow(SQL["list_messages"], *place, owner_id), place[0])
    has_more = row["next_revision"] is not None
    messages = await shown_messages(connection, place[0], row)
    queue, actions = queue_of(row["queue"]), actions_of(row["actions"])
    return MessagePage(messages, queue, has_more=has_more, actions=actions)


async def _list_newest(connection: Connection, place: tuple[UUID, UUID, int, int, int]) -> NewestMessages:
    row = existing(await connection.fetchrow(SQL["list_newest"], *place), place[0])
    messages, queue = await shown_messages(connection, place[0], row), queue_of(row["queue"])
    return NewestMessages(shown_chat_of(row), messages, queue, has_more=row["has_more"])
