"""Forks on Postgres: a history is copied by one statement of the transaction that makes the chat.

That takes no lock of the chat that is copied, and waits for nobody. Where its history was rewritten since somebody
looked at it, the transaction is undone.
"""

from __future__ import annotations

from typing import NamedTuple
from uuid import UUID

from chatcluster.errors import Conflict
from chatcluster.ports import Chat, NewChat
from chatcluster.ports.forks import HistoryCopy, TurnEnds
from chatcluster.postgres import Connection
from chatcluster.postgres.queries import load_queries
from chatcluster.postgres.rows import existing
from chatcluster.room import bytes_of, require_room_of_copy

SQL = load_queries("forks.sql")
REWRITTEN = "the history of the chat was rewritten meanwhile; look at it, and fork again"


class Source(NamedTuple):
    """What is copied: the version of its newest content, and what it counts for."""

    content_version: int
    size_bytes: int


async def look_at_source(connection: Connection, chat: NewChat, copied: HistoryCopy, bytes_max: int) -> Source:
    """Raises ``ChatNotFound``, ``ChatFull``, and ``Conflict`` where it was rewritten."""
    asked = (copied.chat_id, chat.owner_id, copied.up_to, bytes_max)
    row = existing(await connection.fetchrow(SQL["look_at_source"], *asked), copied.chat_id)
    if row["reset_version"] != copied.reset_version:
        raise Conflict(REWRITTEN)
    require_room_of_copy(row["bytes"] + bytes_of(chat.messages), bytes_max=bytes_max)
    return Source(row["content_version"], row["bytes"])


async def copy_history(connection: Connection, made: Chat, copied: HistoryCopy) -> None:
    """Raises ``Conflict``."""
    asked = (copied.chat_id, copied.reset_version, copied.up_to, made.id, made.snapshot_version)
    if not await connection.fetchval(SQL["copy_history"], *asked):
        raise Conflict(REWRITTEN)


async def turn_ends(connection: Connection, chat_id: UUID, message_id: int) -> TurnEnds:
    row = existing(await connection.fetchrow(SQL["turn_ends"], chat_id, message_id), chat_id)
    return TurnEnds(row["is_there"], row["before"], row["ends"])
