"""The tables of web push, as ``MemoryDatabase`` has them."""

from __future__ import annotations

from collections.abc import Container
from dataclasses import dataclass, field
from itertools import count
from uuid import UUID

from chatcluster.ports.push import TOLD_OUTCOMES, Subscription


@dataclass(slots=True)
class NoticeRow:
    id: int
    subscription_id: UUID
    chat_id: UUID
    outcome: str
    created_at: float
    due_at: float
    attempts: int = 0


@dataclass(slots=True)
class PushTables:
    subscriptions: dict[UUID, Subscription] = field(default_factory=dict)
    """The oldest first."""
    notices: dict[int, NoticeRow] = field(default_factory=dict)
    _ids: count[int] = field(default_factory=lambda: count(1))

    def note(self, owner_id: UUID, chat_id: UUID, outcome: str, *, tokens: Container[str], now: float) -> None:
        """A turn of a chat ended: note whom to tell. ``tokens`` are the IDs of those that are valid."""
        if outcome not in TOLD_OUTCOMES:
            return
        for one in self.subscriptions.values():
            if one.user_id == owner_id and one.token_id in tokens:
                notice_id = next(self._ids)
                self.notices[notice_id] = NoticeRow(notice_id, one.id, chat_id, outcome, now, now)
