"""Reads histories page by page, each bounded by its bytes, and decodes them in steps that are short.

The rows of a page leave the database in one statement, and what is in a large message after it (``large_messages.py``).
Each message is decoded on its own, and the task lets others go on after every ``STEP_BYTES``. So neither the length of
a history nor the form of a message holds up the event loop.

**Together.** Chats that were claimed together begin to read at the same moment, and most histories are short. Their
first pages are read by one statement, up to ``SHORT_BYTES`` each. That is a help and no more: where it fails, takes too
long, or a history is longer, each is read on its own, so no chat depends on what another one has.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import msgspec
import trio

from chatcluster import telemetry
from chatcluster.errors import ChatNotFound, HistoryTooLarge, StoreFailed, Unreadable
from chatcluster.parts import Message
from chatcluster.ports import HistoryPage
from chatcluster.ports.histories import HistoryPlace
from chatcluster.postgres import Connection, Database, Lane, Row
from chatcluster.postgres.known_histories import HISTORY_BYTES_MAX, KnownHistories
from chatcluster.postgres.large_messages import read_content
from chatcluster.postgres.queries import load_queries
from chatcluster.postgres.rows import message_of, readable_parts_of

STEP_BYTES = 256 << 10
SHORT_BYTES = 64 << 10
TOGETHER_SECONDS_MAX = 1.0

SQL = load_queries("chats.sql")

Rows = dict[UUID, list[Row]]
"""Rows by chat: first a row for the chat, then one for each message."""
Contents = dict[int, bytearray]
"""What messages that are large have in them, by their IDs; nothing for one that is too large."""


SHORT = HistoryPlace(0, 0, 0, SHORT_BYTES, SHORT_BYTES)


class _Together:
    """A read of several histories that is being gathered, or is under way."""

    def __init__(self) -> None:
        self.chat_ids: list[UUID] = []
        self.rows: Rows = {}
        self.done = trio.Event()


class HistoryReader:
    def __init__(self, database: Database) -> None:
        self.known = KnownHistories()
        """Short histories that need no read. What is read is left there."""
        self._database = database
        self._gathering: _Together | None = None

    async def page(self, chat_id: UUID, place: HistoryPlace) -> HistoryPage:
        """Raises ``HistoryTooLarge``, ``Unreadable``, ``ChatNotFound``."""
        if not place.is_first or place.bytes_min < HISTORY_BYTES_MAX:
            return await self._read_page(chat_id, place)
        generation = self._database.generation
        page = self.known.take(chat_id, generation)
        if page is None:
            page = await self._read_page(chat_id, place)
            self.known.keep(chat_id, page, generation)
        return page

    async def _read_page(self, chat_id: UUID, place: HistoryPlace) -> HistoryPage:
        if place.is_first and not place.since and place.bytes_min >= SHORT_BYTES:
            rows = await self._short(chat_id)
            if rows:
                return await _decoded(rows, SHORT_BYTES, {})
        try:
            rows, contents = await self._database.autocommit(
                _read_history, chat_id, place, lane=Lane.CHATS, chat_id=chat_id
            )
        except StoreFailed as error:  # a damaged value, or one that is too large for the server
            raise Unreadable(str(error)) from error
        return await _decoded(rows, place.page_bytes, contents)

    async def _short(self, chat_id: UUID) -> list[Row]:
        """The rows of a whole history that was read together with others; none if it has to be read on its own."""
        together = self._gathering
        if together is None:
            together = self._gathering = _Together()
            together.chat_ids.append(chat_id)
            await self._read_together(together)
        else:
            together.chat_ids.append(chat_id)
            await together.done.wait()
        rows = together.rows.get(chat_id, [])
        whole = all(row["message"] is not None for row in rows[1:]) and sum(row["bytes"] for row in rows) < SHORT_BYTES
        return rows if whole else []

    async def _read_together(self, together: _Together) -> None:
        try:
            try:
                await trio.lowlevel.checkpoint()  # whoever begins at the same moment joins
            finally:
                self._gathering = None
            if len(together.chat_ids) > 1:
                with trio.move_on_after(TOGETHER_SECONDS_MAX):
                    together.rows = await self._database.autocommit(
                        _read_histories, together.chat_ids, SHORT, lane=Lane.CHATS
                    )
        except Exception as error:  # noqa: BLE001 - whichever it is that cannot be read: it meets that on its own
            telemetry.event("histories.unreadable", chats=len(together.chat_ids), error=repr(error))
        finally:
            together.done.set()


async def _read_histories(connection: Connection, chat_ids: list[UUID], place: HistoryPlace) -> Rows:
    rows: Rows = {}
    backwards = place.before > 0
    query = SQL["read_histories_before" if backwards else "read_histories"]
    begin = (place.before,) if backwards else (place.after, place.since)
    for row in await connection.fetch(
        query, list(map(str, chat_ids)), place.page_bytes, place.message_bytes_max, *begin
    ):
        rows.setdefault(row["chat_id"], []).append(row)
    if backwards:
        for page in rows.values():
            page[1:] = page[:0:-1]
    return rows


async def _read_history(connection: Connection, chat_id: UUID, place: HistoryPlace) -> tuple[list[Row], Contents]:
    rows = (await _read_histories(connection, [chat_id], place))[chat_id]
    contents = {}
    for row in rows:
        if row["is_large"] and row["message"] is not None:
            content = await read_content(connection, chat_id, row["id"], bytes_max=row["bytes"])
            if content is not None:
                contents[row["id"]] = content
    return rows, contents


async def _decoded(rows: Sequence[Row], page_bytes: int, contents: Contents) -> HistoryPage:
    history_version = rows[0]["history_version"]
    if history_version is None:
        raise ChatNotFound("there is no such chat")
    messages: list[Message] = []
    size_bytes = undecoded_bytes = 0
    for row in rows[1:]:
        if row["message"] is None or (row["is_large"] and row["id"] not in contents):
            raise HistoryTooLarge(f"message {row['id']} has {row['bytes']} bytes or more, or too many parts or escapes")
        message = message_of(row["message"])
        if row["is_large"]:
            await trio.lowlevel.checkpoint()
            message = msgspec.structs.replace(message, parts=readable_parts_of(contents.pop(row["id"])))
        messages.append(message)
        size_bytes += row["bytes"]
        undecoded_bytes += row["bytes"]
        if undecoded_bytes >= STEP_BYTES:
            undecoded_bytes = 0
            await trio.lowlevel.checkpoint()
    return HistoryPage(history_version, tuple(messages), size_bytes, has_more=size_bytes >= page_bytes)
