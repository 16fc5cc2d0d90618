"""Reads a history page by page, each bounded by its bytes, and decodes it in steps that are short.

The rows of a page leave the database in one statement; each message is decoded on its own, and the task lets others go
on after every ``STEP_BYTES``. So neither the length of a history nor the form of a message holds up the event loop.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import trio

from chatcluster.errors import ChatNotFound, HistoryTooLarge
from chatcluster.parts import Message
from chatcluster.ports import HistoryPage
from chatcluster.postgres import Connection, Row
from chatcluster.queries import load_queries
from chatcluster.rows import message_of

STEP_BYTES = 256 << 10

SQL = load_queries("chats.sql")


async def fetch_history(
    connection: Connection, chat_id: UUID, after: int, page_bytes: int, message_bytes_max: int
) -> Sequence[Row]:
    """The rows of a page, undecoded, and last of all one for the chat, with no message."""
    return await connection.fetch(SQL["read_history"], chat_id, after, page_bytes, message_bytes_max)


async def decoded_page(rows: Sequence[Row], *, page_bytes: int) -> HistoryPage:
    """Raises ``HistoryTooLarge``, ``Unreadable``, ``ChatNotFound``."""
    history_version = rows[0]["history_version"]
    if history_version is None:
        raise ChatNotFound("there is no such chat")
    messages: list[Message] = []
    size_bytes = undecoded_bytes = 0
    for row in rows[1:]:
        if row["message"] is None:
            raise HistoryTooLarge(f"message {row['id']} has {row['bytes']} bytes, or more parts than can be decoded")
        messages.append(message_of(row["message"]))
        size_bytes += row["bytes"]
        undecoded_bytes += row["bytes"]
        if undecoded_bytes >= STEP_BYTES:
            undecoded_bytes = 0
            await trio.lowlevel.checkpoint()
    return HistoryPage(history_version, tuple(messages), size_bytes, has_more=size_bytes >= page_bytes)
