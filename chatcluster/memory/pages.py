"""Pages of what a ``ChatRow`` has, as the queries of Postgres cut them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from itertools import accumulate, islice, takewhile

import msgspec

from chatcluster.content import SummaryPart
from chatcluster.errors import HistoryTooLarge
from chatcluster.memory.tables import ChatRow
from chatcluster.parts import EndedTurn, Message, encode
from chatcluster.ports import HistoryPage
from chatcluster.ports.histories import MESSAGE_BYTES_MAX, TOO_LARGE, HistoryPlace
from chatcluster.room import bytes_of
from chatcluster.texts import in_any_case


def history_page_of(row: ChatRow, place: HistoryPlace) -> HistoryPage:
    messages: list[Message] = []
    size_bytes = 0
    for message in reversed(row.messages) if place.before else row.messages:
        if place.has(message) and size_bytes < place.page_bytes:
            message_bytes = bytes_of([message])
            if message_bytes > place.message_bytes_max:
                raise HistoryTooLarge(f"message {message.id} has {message_bytes} bytes")
            messages.append(message)
            size_bytes += message_bytes
    if place.before:
        messages.reverse()
    return HistoryPage(row.state.history_version, tuple(messages), size_bytes, has_more=size_bytes >= place.page_bytes)


def counted(messages: Iterable[Message]) -> list[Message]:
    """The messages of a history that count for how much a chat holds: those from its newest summary on."""
    counted: list[Message] = []
    for message in messages:
        if any(isinstance(part, SummaryPart) for part in message.parts):
            counted = [one for one in counted if one.revision == message.revision]
        counted.append(message)
    return counted


def turns_of(row: ChatRow, after: int, up_to: int, count_max: int) -> tuple[EndedTurn, ...]:
    return tuple([turn for turn in row.turns if after < turn.revision <= up_to][-count_max:])


def page_of(messages: Sequence[Message], count_max: int, bytes_max: int) -> tuple[tuple[Message, ...], int | None]:
    """The first of ``messages``, within the bounds but one at least; and the revision of the next."""
    sizes = accumulate(len(encode(message.parts)) for message in messages)
    count = max(1, sum(1 for _ in takewhile(lambda size: size <= bytes_max, islice(sizes, count_max))))
    page = tuple(messages[:count])
    if count == 1 and page and len(encode(page[0].parts)) > MESSAGE_BYTES_MAX:
        page = (msgspec.structs.replace(page[0], parts=TOO_LARGE),)
    return page, messages[count].revision if count < len(messages) else None


def wanted_of(rows: Sequence[ChatRow], archived: bool | None, pinned: bool | None, words: str | None) -> list[ChatRow]:
    """The rows that a listing asks for; where it says None, it takes whatever they are."""
    wanted = [row for row in rows if archived is None or row.state.archived == archived]
    wanted = [row for row in wanted if pinned is None or row.state.pinned == pinned]
    return [row for row in wanted if words is None or re.search(in_any_case(words), row.title)]
