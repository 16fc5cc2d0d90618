"""``Push`` on a ``MemoryDatabase``."""

from __future__ import annotations

from uuid import UUID

import msgspec

from chatcluster.memory.database import MemoryDatabase
from chatcluster.memory.link import Link
from chatcluster.memory.push_tables import NoticeRow
from chatcluster.ports.push import NOTICE_SECONDS_MAX, SUBSCRIPTIONS_MAX, PushNotice, Subscription


class MemoryPush:
    def __init__(self, database: MemoryDatabase, link: Link | None = None) -> None:
        self._database = database
        self._tables = database.kept.browsers.push
        self._link = link or Link()

    async def subscribe(self, subscription: Subscription) -> Subscription:
        async with self._link.crossing("subscribe"):
            rows = self._tables.subscriptions
            same = next((one for one in rows.values() if one.endpoint == subscription.endpoint), subscription)
            kept = msgspec.structs.replace(subscription, id=same.id, created_at=self._database.now())
            rows.pop(kept.id, None)
            rows[kept.id] = kept
            for old in self._of(kept.user_id)[:-SUBSCRIPTIONS_MAX]:
                del rows[old.id]
            return kept

    async def unsubscribe(self, user_id: UUID, subscription_id: UUID) -> bool:
        async with self._link.crossing("unsubscribe"):
            found = any(one.id == subscription_id for one in self._of(user_id))
            if found:
                self._forget(subscription_id)
            return found

    async def subscriptions(self, user_id: UUID) -> tuple[Subscription, ...]:
        async with self._link.crossing("subscriptions"):
            return tuple(self._of(user_id))

    async def claim(self, *, limit: int, seconds: float) -> tuple[PushNotice, ...]:
        async with self._link.crossing("claim_notices"):
            now = self._database.clock()
            notices = self._tables.notices
            for late in [id for id, one in notices.items() if one.created_at < now - NOTICE_SECONDS_MAX]:
                del notices[late]
            due = self._by_turns(now)[:limit]
            for row in due:
                row.attempts, row.due_at = row.attempts + 1, now + seconds
            return tuple(
                PushNotice(
                    id=row.id,
                    subscription=self._tables.subscriptions[row.subscription_id],
                    chat_id=row.chat_id,
                    title=self._database.chats[row.chat_id].title,
                    outcome=row.outcome,
                    attempts=row.attempts,
                )
                for row in sorted(due, key=lambda one: one.id)
            )

    async def told(self, notice_id: int) -> None:
        async with self._link.crossing("told"):
            self._tables.notices.pop(notice_id, None)

    async def postpone(self, notice_id: int, *, seconds: float) -> None:
        async with self._link.crossing("postpone"):
            if notice_id in self._tables.notices:
                self._tables.notices[notice_id].due_at = self._database.clock() + seconds

    async def forget(self, subscription_id: UUID) -> None:
        async with self._link.crossing("forget"):
            self._forget(subscription_id)

    def _forget(self, subscription_id: UUID) -> None:
        self._tables.subscriptions.pop(subscription_id, None)
        for notice in [one.id for one in self._tables.notices.values() if one.subscription_id == subscription_id]:
            del self._tables.notices[notice]

    def _by_turns(self, now: float) -> list[NoticeRow]:
        """What is due and somebody's to tell: the first of each user, then the second of each."""
        turns: list[tuple[int, float, NoticeRow]] = []
        counts: dict[UUID, int] = {}
        for row in sorted(self._tables.notices.values(), key=lambda one: (one.due_at, one.id)):
            to, chat = self._tables.subscriptions.get(row.subscription_id), self._database.chats.get(row.chat_id)
            if row.due_at <= now and to is not None and chat is not None and chat.owner_id == to.user_id:
                counts[to.user_id] = counts.get(to.user_id, 0) + 1
                turns.append((counts[to.user_id], row.due_at, row))
        return [row for *_, row in sorted(turns, key=lambda one: one[:2])]

    def _of(self, user_id: UUID) -> list[Subscription]:
        """The oldest first."""
        return [one for one in self._tables.subscriptions.values() if one.user_id == user_id]
