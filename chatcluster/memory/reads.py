"""The reads of ``Store`` on a ``MemoryDatabase``: each is one consistent look."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from uuid import UUID

from chatcluster.errors import ChatNotFound
from chatcluster.memory.forks import turn_ends
from chatcluster.memory.ledger import MemoryLedger
from chatcluster.memory.pages import history_page_of, page_of, turns_of, wanted_of
from chatcluster.memory.tables import ChatRow
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
from chatcluster.ports.forks import TurnEnds
from chatcluster.ports.histories import HistoryPlace


class MemoryReads(MemoryLedger):
    async def read(self, chat_id: UUID, *, after_version: int = 0) -> ChatRead:
        async with self._link.crossing("read"):
            row = self._database.row(chat_id)
            messages = tuple(message for message in row.shown if message.revision > after_version)
            return ChatRead(self._database.view(row), messages, row.queue, actions=self._actions(row))

    async def read_history(
        self, chat_id: UUID, *, after: int, page_bytes: int, message_bytes_max: int, since: int = 0, before: int = 0
    ) -> HistoryPage:
        async with self._link.crossing("read_history"):
            row = self._database.row(chat_id)
            return history_page_of(row, HistoryPlace(after, before, since, page_bytes, message_bytes_max))

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
        async with self._link.crossing("read"):
            row = self._database.row(chat_id)
            newer = [message for message in row.shown if message.revision > after_version and message.id > after_id]
            messages, next_revision = page_of(newer, limit, bytes_max)
            queue = row.queue if row.state.queue_version > queue_version else ()
            turns = turns_of(row, turns_after, VERSION_MAX, TURNS_MAX)
            if if_whole and (next_revision is not None or len(turns) > limit):
                messages, turns, next_revision = (), (), 0
            return ChatRead(self._database.view(row), messages, queue, next_revision, turns, self._actions(row))

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
        async with self._link.crossing("read_messages"):
            row = self._database.chats.get(chat_id)
            wanted = [
                message
                for message in (row.shown if row is not None else ())
                if after_version < message.revision <= up_to_version and message.id > after_id
            ]
            turns = () if row is None else turns_of(row, turns_after, up_to_version, turns_max)
            return NewerMessages(*page_of(wanted, limit, bytes_max), turns)

    async def get(self, chat_id: UUID) -> Chat:
        async with self._link.crossing("get"):
            return self._database.view(self._database.row(chat_id))

    async def turn_ends(self, chat_id: UUID, message_id: int) -> TurnEnds:
        async with self._link.crossing("turn_ends"):
            return turn_ends(self._database.row(chat_id), message_id)

    async def versions(self, chat_ids: Sequence[UUID]) -> dict[UUID, Version]:
        async with self._link.crossing("versions"):
            chats = self._database.chats
            return {chat_id: Version.of(chats[chat_id].state) for chat_id in chat_ids if chat_id in chats}

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
        async with self._link.crossing("list_chats"):
            kin = self._database.kept.families.kin
            newest = [row for row in reversed(self._database.chats.values()) if row.owner_id == owner_id]
            newest = [row for row in newest if row.id not in kin]
            if after is not None:
                newest = newest[newest.index(self._owned(after, owner_id)) + 1 :]
            return tuple(map(self._database.view, wanted_of(newest, archived, pinned, words)[:limit]))

    async def list_changed(
        self, owner_ids: Sequence[UUID], *, seconds: float, as_of: datetime | None, after: Chat | None, limit: int
    ) -> Changes:
        async with self._link.crossing("list_changed"):
            now = self._database.now()
            since = min(now, as_of or now) - timedelta(seconds=seconds)
            kin = self._database.kept.families.kin
            changed = [row for row in self._database.chats.values() if row.owner_id in owner_ids and row.id not in kin]
            changed = [row for row in changed if row.updated_at > since]
            changed.sort(key=lambda row: (row.updated_at, row.id))
            if after is not None:
                changed = [row for row in changed if (row.updated_at, row.id) > (after.updated_at, after.id)]
            gone = [one for at, one in self._database.kept.deleted if at > since and one.owner_id in owner_ids]
            gone = [one for one in gone if one.chat_id not in self._database.chats]
            deleted = tuple(gone) if after is None else ()
            return Changes(tuple(map(self._database.view, changed[:limit])), now, deleted, self._database.timeline)

    async def list_messages(
        self, chat_id: UUID, *, owner_id: UUID, after: int, limit: int, bytes_max: int
    ) -> MessagePage:
        async with self._link.crossing("list_messages"):
            row = self._owned(chat_id, owner_id)
            later = [message for message in row.shown if message.id > after]
            messages, next_revision = page_of(later, limit, bytes_max)
            has_more = next_revision is not None
            return MessagePage(messages, row.queue, has_more=has_more, actions=self._actions(row))

    async def list_newest(
        self, chat_id: UUID, *, owner_id: UUID, before: int, limit: int, bytes_max: int
    ) -> NewestMessages:
        async with self._link.crossing("list_newest"):
            row = self._owned(chat_id, owner_id)
            earlier = [message for message in reversed(row.shown) if message.id < before]
            messages, next_revision = page_of(earlier, limit, bytes_max)
            return NewestMessages(self._database.view(row), messages, row.queue, has_more=next_revision is not None)

    def _owned(self, chat_id: UUID, owner_id: UUID) -> ChatRow:
        row = self._database.row(chat_id)
        if row.owner_id != owner_id:
            raise ChatNotFound("there is no such chat", chat_id=str(chat_id))
        return row
