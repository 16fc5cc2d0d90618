"""What is booked of the attempts at the model, as it is read: by user, by time. One chat's comes with its details."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Protocol
from uuid import UUID

import msgspec

from chatcluster.usage import Bill


class GroupBy(StrEnum):
    DAY = "day"
    """A day of UTC."""
    MODEL = "model"
    CHAT = "chat"
    FAMILY = "family"
    """A chat with all its agents."""
    USER = "user"


class UsageQuery(msgspec.Struct, frozen=True):
    """What was booked from ``since`` on and before ``until``. ``owner_id``: of this user alone; None: of all."""

    since: datetime
    until: datetime
    group_by: GroupBy
    owner_id: UUID | None = None


class UsageGroup(msgspec.Struct, frozen=True):
    """``key``: a date, a model, the ID of a chat (of a family, that of the chat at its top), or of a user; None where a
    model is not known. ``name``: of the user, or the title of the chat, as long as there is one."""

    key: str | None
    bill: Bill
    name: str | None = None


class UsageSums(msgspec.Struct, frozen=True):
    """``groups``: days and users in order, models by name, chats and families by cost. ``has_more``: there were
    too many."""

    total: Bill
    groups: tuple[UsageGroup, ...]
    has_more: bool


class UsageBook(Protocol):
    """The book of what was used. The store writes it, in the transactions that end attempts."""

    async def sums(self, query: UsageQuery, *, limit: int) -> UsageSums:
        """The sums of at most ``limit`` groups; the total is of all."""
        ...
