"""``Responses`` on a ``MemoryDatabase``."""

from __future__ import annotations

from uuid import UUID
from weakref import WeakKeyDictionary

from chatcluster.memory.database import MemoryDatabase
from chatcluster.memory.link import Link
from chatcluster.parts import Role
from chatcluster.ports.responses import AskedMessage, StoredResponse

Table = dict[tuple[UUID, int], StoredResponse]
"""Responses by chat, and the message that begins them."""
_tables: WeakKeyDictionary[MemoryDatabase, Table] = WeakKeyDictionary()
"""The table of each database. Nothing else looks at it."""


class MemoryResponses:
    def __init__(self, database: MemoryDatabase, link: Link | None = None) -> None:
        self._database = database
        self._rows = _tables.setdefault(database, {})
        self._link = link or Link()

    async def add(self, response: StoredResponse) -> None:
        async with self._link.crossing("add_response"):
            if response.chat_id in self._database.chats:
                self._rows.setdefault((response.chat_id, response.message_id), response)

    async def get(self, chat_id: UUID, message_id: int, *, owner_id: UUID) -> StoredResponse | None:
        async with self._link.crossing("get_response"):
            return self._owned(chat_id, message_id, owner_id)

    async def replace(self, response: StoredResponse) -> None:
        async with self._link.crossing("replace_response"):
            if response.chat_id in self._database.chats:
                self._rows[response.chat_id, response.message_id] = response

    async def remove(self, chat_id: UUID, message_id: int, *, owner_id: UUID) -> bool:
        async with self._link.crossing("remove_response"):
            return self._owned(chat_id, message_id, owner_id) is not None and bool(
                self._rows.pop((chat_id, message_id), None)
            )

    async def asked_after(self, chat_id: UUID, message_id: int) -> int | None:
        async with self._link.crossing("asked_after"):
            row = self._database.chats.get(chat_id)
            messages = [] if row is None else row.messages
            return next((one.id for one in messages if one.id > message_id and one.role is Role.USER), None)

    async def asked(self, chat_id: UUID, number: int | None = None, *, since: int = 0) -> AskedMessage | None:
        async with self._link.crossing("asked"):
            row = self._database.chats.get(chat_id)
            messages = [] if row is None else [one for one in row.messages if one.id >= since]
            asked = [AskedMessage(one.id, one.revision) for one in messages if one.role is Role.USER]
            return next(iter(asked[-1:] if number is None else asked[number : number + 1]), None)

    def _owned(self, chat_id: UUID, message_id: int, owner_id: UUID) -> StoredResponse | None:
        """What belongs to a chat goes with it."""
        row = self._database.chats.get(chat_id)
        is_owned = row is not None and row.owner_id == owner_id
        return self._rows.get((chat_id, message_id)) if is_owned else None
