"""Forks on a ``MemoryDatabase``."""

from __future__ import annotations

from chatcluster.content import SummaryPart, ToolCallPart
from chatcluster.context import SUMMARY_CALL
from chatcluster.errors import ChatNotFound, Conflict
from chatcluster.memory.database import MemoryDatabase
from chatcluster.memory.tables import ChatRow
from chatcluster.parts import Message, NewMessage, Role
from chatcluster.ports import NewChat
from chatcluster.ports.forks import TurnEnds
from chatcluster.room import bytes_of, require_room_of_copy

AT_REST = ("waiting", "error")


def copied_of(database: MemoryDatabase, chat: NewChat, bytes_max: int) -> tuple[tuple[NewMessage, ...], int | None]:
    """What a new chat begins with, and the version of its content; None where nothing is copied.

    Raises ``ChatNotFound``, ``ChatFull``, and ``Conflict`` where it was rewritten."""
    copied = chat.copied
    if copied is None:
        return (), None
    row = database.row(copied.chat_id)
    if row.owner_id != chat.owner_id:
        raise ChatNotFound("there is no such chat", chat_id=str(copied.chat_id))
    if row.state.reset_version != copied.reset_version:
        raise Conflict("the history of the chat was rewritten meanwhile; look at it, and fork again")
    messages = [one for one in row.messages if one.id <= copied.up_to and _is_copied(one)]
    require_room_of_copy(bytes_of(messages) + bytes_of(chat.messages), bytes_max=bytes_max)
    copies = tuple(NewMessage(one.role, one.parts, one.finish_reason, one.model, one.usage) for one in messages)
    return copies, row.state.content_version


def _is_copied(message: Message) -> bool:
    if message.role is Role.SYSTEM or not message.parts:
        return False
    return not any(
        isinstance(part, SummaryPart) or (isinstance(part, ToolCallPart) and part.name == SUMMARY_CALL)
        for part in message.parts
    )


def turn_ends(row: ChatRow, message_id: int) -> TurnEnds:
    ids, users = [one.id for one in row.messages], [one.id for one in row.messages if one.role is Role.USER]
    behind = min((one for one in users if one > message_id), default=None)
    begun = max((one for one in users if one <= message_id), default=0)
    before = max((one for one in ids if one < begun), default=None)
    rests = str(row.state.status) in AT_REST
    end = max((one for one in ids if (rests if behind is None else one < behind)), default=None)
    return TurnEnds(message_id in ids, before, end)
