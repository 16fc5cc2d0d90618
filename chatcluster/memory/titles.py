"""``Titles`` on a ``MemoryDatabase``."""

from __future__ import annotations

from collections import Counter
from uuid import UUID

import msgspec

from chatcluster.memory.database import MemoryDatabase
from chatcluster.memory.link import Link
from chatcluster.memory.tables import ChatRow, TitleWish
from chatcluster.parts import Role, text_of
from chatcluster.ports import Chat
from chatcluster.ports.titles import TitleTask
from chatcluster.usage import TITLE_VERSION, Spent, SpentOutcome


class MemoryTitles:
    def __init__(self, database: MemoryDatabase, link: Link | None = None) -> None:
        self._database = database
        self._wishes = database.kept.titles_wanted
        self._link = link or Link()

    async def take(self, limit: int, *, seconds: float) -> tuple[TitleTask, ...]:
        async with self._link.crossing("take_titles"):
            now = self._database.clock()
            return tuple(self._take(row, now + seconds) for row in self._by_turns(now)[:limit])

    def _by_turns(self, now: float) -> list[ChatRow]:
        """The chats whose titles are due: the first of each user, then the second of each. What is under way counts as
        well."""
        wishes = sorted((wish.due, chat_id) for chat_id, wish in self._wishes.items())
        counts: Counter[UUID] = Counter()
        for _, row in ((due, self._database.row(chat_id)) for due, chat_id in wishes if due > now):
            counts[row.owner_id] += self._wishes[row.id].under_way
        turns: list[tuple[int, float, UUID, ChatRow]] = []
        for due, chat_id in wishes:
            row = self._database.row(chat_id)
            if due <= now:
                counts[row.owner_id] += 1
                turns.append((counts[row.owner_id], due, chat_id, row))
        return [row for *_, row in sorted(turns, key=lambda turn: turn[:3])]

    def _take(self, row: ChatRow, until: float) -> TitleTask:
        _, tries, was_under_way = self._wishes[row.id]
        if was_under_way:
            self._database.book(row, (Spent(TITLE_VERSION, tries, row.state.epoch, SpentOutcome.LOST),))
        self._wishes[row.id] = TitleWish(until, tries + 1, under_way=True)
        asked = next((message for message in row.messages if message.role is Role.USER), None)
        text, model = ("", None) if asked is None else (text_of(asked.parts), asked.model)
        return TitleTask(row.id, row.owner_id, model or row.model, text, tries + 1)

    async def entitle(self, task: TitleTask, title: str | None, spent: tuple[Spent, ...]) -> Chat | None:
        async with self._link.crossing("entitle"):
            row = self._database.chats.get(task.chat_id)
            if row is None:
                return None
            self._database.book(row, spent)
            if self._wishes.pop(row.id, None) is None:
                return None
            row.setup = msgspec.structs.replace(row.setup, title=title or row.title)
            found = self._database.found(row)
            self._database.change(row, msgspec.structs.replace(found, snapshot_version=found.snapshot_version + 1))
            return self._database.view(row)

    async def book(self, task: TitleTask, spent: tuple[Spent, ...]) -> None:
        async with self._link.crossing("book_title"):
            row = self._database.chats.get(task.chat_id)
            if row is not None:
                self._database.book(row, spent)
            if task.chat_id in self._wishes:
                self._wishes[task.chat_id] = self._wishes[task.chat_id]._replace(under_way=False)
