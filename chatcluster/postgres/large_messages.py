"""Large messages, which are read in pieces.

The driver takes in a row in one step of the event loop, several copies at once, so no row of a page is large: a large
message comes without its content (``large_bytes`` in ``fragments.sql`` says from where on), and that in rows of its
own. They are joined, and decoded, in steps between which others are served.

What is in a message never changes, and one that is deleted keeps it for a while, so it is the content of the message
that was found, whatever happened in between.
"""

from __future__ import annotations

import asyncio
from operator import itemgetter
from uuid import UUID

import msgspec

from chatcluster import telemetry
from chatcluster.parts import Message
from chatcluster.ports.histories import SHOWN_BYTES_MAX, TOO_LARGE
from chatcluster.postgres.connecting import Connection, Row
from chatcluster.postgres.queries import load_queries
from chatcluster.postgres.rows import messages_of, shown_parts_of

SQL = load_queries("chats.sql")


async def shown_messages(connection: Connection, chat_id: UUID, row: Row) -> tuple[Message, ...]:
    """The messages of a row that has the columns of the fragment ``page``, for those who look at them."""
    messages, large_id = messages_of(row["messages"]), row["large_id"]
    if large_id is None:
        return messages
    content = await read_content(connection, chat_id, large_id, bytes_max=SHOWN_BYTES_MAX)
    if content:
        parts = shown_parts_of(content)
    else:
        telemetry.event("message.too_large", chat_id=str(chat_id), message_id=large_id)
        parts = TOO_LARGE
    return tuple(
        msgspec.structs.replace(message, parts=parts) if message.id == large_id else message for message in messages
    )


async def read_content(connection: Connection, chat_id: UUID, message_id: int, *, bytes_max: int) -> bytearray:
    """The content of a message as JSON; empty if it has more bytes, or so many parts that to decode it took long."""
    rows = await connection.fetch(SQL["read_content"], chat_id, message_id, bytes_max)
    content = bytearray()
    for row in sorted(rows, key=itemgetter("place")):
        content += row["piece"]
        await asyncio.sleep(0)
    return content
