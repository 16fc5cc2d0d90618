"""Large messages, which are read in pieces.

The driver takes in a row in one step of the event loop, several copies at once, so no row of a page is large: a large
message comes without its content (``large_bytes`` in ``fragments.sql`` says from where on), and that in rows of its
own. They are joined, and decoded, in steps between which others are served.

What is in a message never changes, and one that is deleted keeps it until it is purged, so it is the content of the
message that was found. If it is gone all the same, its chat is.
"""

from __future__ import annotations

import asyncio
from operator import itemgetter
from uuid import UUID

import msgspec

from chatcluster import telemetry
from chatcluster.errors import ChatNotFound, Unreadable
from chatcluster.parts import Message, Parts
from chatcluster.ports.histories import MESSAGE_BYTES_MAX, TOO_LARGE
from chatcluster.postgres.connecting import Connection, Row
from chatcluster.postgres.queries import load_queries
from chatcluster.postgres.rows import UNREADABLE, messages_of, readable_parts_of

ESCAPES_MAX = 1_000_000
"""In the JSON of a message, a backslash of its own counting twice. Each takes as long to decode as ten plain bytes."""

SQL = load_queries("chats.sql")


async def shown_messages(connection: Connection, chat_id: UUID, row: Row) -> tuple[Message, ...]:
    """The messages of a row that has the columns ``messages`` and ``large_id``, for those who look at them.

    Raises ``ChatNotFound``.
    """
    messages, large_id = messages_of(row["messages"]), row["large_id"]
    if large_id is None:
        return messages
    content = await read_content(connection, chat_id, large_id, bytes_max=MESSAGE_BYTES_MAX)
    parts = TOO_LARGE if content is None else _shown_parts(content, large_id)
    return tuple(
        msgspec.structs.replace(message, parts=parts) if message.id == large_id else message for message in messages
    )


def _shown_parts(content: bytearray, message_id: int) -> Parts:
    try:
        return readable_parts_of(content)
    except Unreadable as error:
        telemetry.event("message.unreadable", message_id=message_id, error=str(error))
        return UNREADABLE


async def read_content(connection: Connection, chat_id: UUID, message_id: int, *, bytes_max: int) -> bytearray | None:
    """The content of a message as JSON; None if it is too large: has more bytes, or too many parts or escapes.

    Raises ``ChatNotFound`` if the message is gone.
    """
    rows = await connection.fetch(SQL["read_content"], chat_id, message_id, bytes_max)
    if not rows:
        raise ChatNotFound("there is no such chat", chat_id=str(chat_id))
    if rows[0]["piece"] is None:
        return None
    content = bytearray()
    for row in sorted(rows, key=itemgetter("place")):
        content += row["piece"]
        await asyncio.sleep(0)
    return None if content.count(b"\\") > ESCAPES_MAX else content
