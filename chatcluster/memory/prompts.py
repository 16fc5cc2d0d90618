"""``Prompts`` on a ``MemoryDatabase``."""

from __future__ import annotations

from uuid import UUID

from chatcluster.memory.database import MemoryDatabase
from chatcluster.memory.link import Link
from chatcluster.ports import Account


class MemoryPrompts:
    def __init__(self, database: MemoryDatabase, link: Link | None = None) -> None:
        self._database = database
        self._link = link or Link()

    async def get(self, owner_id: UUID) -> str:
        async with self._link.crossing("get_prompt"):
            return self._database.kept.prompts.get(owner_id, "")

    async def put(self, owner_id: UUID, text: str, *, by: Account | None = None) -> None:
        async with self._link.crossing("put_prompt"):
            self._database.kept.prompts[owner_id] = text
            if by is not None:
                self._database.record(by, "system_prompt.change", "", {"characters": len(text)})

    async def own(self, chat_id: UUID) -> str | None:
        async with self._link.crossing("own_prompt"):
            return self._database.kept.prompts.get(chat_id) if chat_id in self._database.chats else None

    async def set_own(self, chat_id: UUID, text: str) -> None:
        async with self._link.crossing("set_own_prompt"):
            self._database.kept.prompts[self._database.row(chat_id).id] = text
