"""``Administration`` on a ``MemoryDatabase``."""

from __future__ import annotations

import re
from uuid import UUID

from chatcluster.memory.database import MemoryDatabase
from chatcluster.memory.link import Link
from chatcluster.memory.tables import ChatRow
from chatcluster.ports import Account
from chatcluster.ports.administration import AuditEntry, ChatFilter, Takeover, TakeoverFilter, UserRow, UsersChat
from chatcluster.texts import in_any_case


class MemoryAdministration:
    def __init__(self, database: MemoryDatabase, link: Link | None = None) -> None:
        self._database = database
        self._link = link or Link()

    async def takeovers(self, wanted: TakeoverFilter, *, before: int, limit: int) -> tuple[Takeover, ...]:
        async with self._link.crossing("takeovers"):
            newest = [one for one in reversed(self._database.kept.takeovers) if one.id < before]
            return tuple(one for one in newest if _is_wanted(one, wanted))[:limit]

    async def chats(self, wanted: ChatFilter, *, after: UUID | None, limit: int) -> tuple[UsersChat, ...]:
        async with self._link.crossing("chats"):
            newest = list(reversed(self._database.chats.values()))
            if after is not None:
                newest = newest[newest.index(self._database.row(after)) + 1 :]
            found = [self._of_user(row) for row in newest]
            return tuple(one for one in found if _is_wanted_chat(one, wanted))[:limit]

    async def users(self, *, after: str, limit: int) -> tuple[UserRow, ...]:
        async with self._link.crossing("users"):
            accounts = sorted(self._database.accounts.values(), key=lambda account: account.name)
            return tuple(self._user(account) for account in accounts if account.name > after)[:limit]

    async def audit(self, *, before: int, limit: int) -> tuple[AuditEntry, ...]:
        async with self._link.crossing("audit"):
            return tuple(entry for entry in reversed(self._database.kept.audit) if entry.id < before)[:limit]

    async def request_drain(self, worker_id: UUID, by: Account) -> bool:
        async with self._link.crossing("request_drain"):
            row = self._database.replicas.get(worker_id)
            if row is None:
                return False
            row.drain_requested = True
            self._database.record(by, "replica.drain", str(worker_id), {})
            return True

    def _of_user(self, row: ChatRow) -> UsersChat:
        account = self._database.accounts.get(row.owner_id)
        return UsersChat(self._database.view(row), None if account is None else account.name)

    def _user(self, account: Account) -> UserRow:
        chats = sum(row.owner_id == account.user_id for row in self._database.chats.values())
        tokens = sum(row.token.user_id == account.user_id for row in self._database.tokens.values())
        return UserRow(account.user_id, account.name, account.admin, self._database.date(0), chats, tokens)


def _is_wanted(one: Takeover, wanted: TakeoverFilter) -> bool:
    return (
        wanted.chat_id in (None, one.chat_id)
        and wanted.worker_id in (None, one.from_worker, one.to_worker)
        and wanted.cause in (None, one.cause)
    )


def _is_wanted_chat(one: UsersChat, wanted: ChatFilter) -> bool:
    chat = one.chat
    return (
        wanted.user in (None, one.user)
        and wanted.status in (None, chat.shown_status)
        and wanted.worker_id in (None, chat.worker_id)
        and wanted.archived in (None, chat.archived)
        and (wanted.words is None or re.search(in_any_case(wanted.words), chat.title) is not None)
    )
