"""What administrators see of a cluster, and the log of what they did."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

import msgspec

from chatcluster.ports.accounts import Account
from chatcluster.ports.store import Chat


class Takeover(msgspec.Struct, frozen=True):
    """A chat that lost its owner. ``cause``: takeover (the owner was dead, or taken for dead) or drain.

    ``gap_ms``: from then until another replica took it up; None as long as none has.
    """

    id: int
    chat_id: UUID
    owner_id: UUID
    cause: str
    from_worker: UUID
    from_name: str
    freed_at: datetime
    to_worker: UUID | None = None
    to_name: str | None = None
    claimed_at: datetime | None = None
    gap_ms: int | None = None


class TakeoverFilter(msgspec.Struct, frozen=True):
    """None leaves a choice away. ``worker`` is on either side."""

    chat_id: UUID | None = None
    worker_id: UUID | None = None
    cause: str | None = None


class ChatFilter(msgspec.Struct, frozen=True):
    """None leaves a choice away. ``status`` is the one that is shown: ``pending`` is one."""

    user: str | None = None
    status: str | None = None
    worker_id: UUID | None = None
    archived: bool | None = None
    words: str | None = None


class UsersChat(msgspec.Struct, frozen=True):
    """``user``: the name, where the accounts have it."""

    chat: Chat
    user: str | None


class UserRow(msgspec.Struct, frozen=True):
    user_id: UUID
    name: str
    admin: bool
    created_at: datetime
    chats: int
    tokens: int


class AuditEntry(msgspec.Struct, frozen=True):
    id: int
    at: datetime
    user_id: UUID
    user: str
    action: str
    target: str
    details: dict[str, Any] = {}


class Deed(msgspec.Struct, frozen=True):
    """What an administrator is about to do, for the log: it is written in the transaction that does it, or not at all.

    ``details`` has no secret, and no more than names what changed.
    """

    by: Account
    action: str
    target: str
    details: dict[str, Any] = {}


class Administration(Protocol):
    """Each list is one consistent read. Pages of logs are newest first; ``before`` is the ID of the last one seen."""

    async def takeovers(self, wanted: TakeoverFilter, *, before: int, limit: int) -> tuple[Takeover, ...]: ...

    async def chats(self, wanted: ChatFilter, *, after: UUID | None, limit: int) -> tuple[UsersChat, ...]:
        """The chats of all users, newest first. Raises ``ChatNotFound`` for an unknown ``after``."""
        ...

    async def users(self, *, after: str, limit: int) -> tuple[UserRow, ...]:
        """The users by name, those after this one."""
        ...

    async def audit(self, *, before: int, limit: int) -> tuple[AuditEntry, ...]: ...

    async def request_drain(self, worker_id: UUID, by: Account) -> bool:
        """Ask a replica to drain, which it learns with its next heartbeat, and log that. False if there is none."""
        ...
