"""What a transition has to know besides the chat's row, looked up while the row is locked."""

from __future__ import annotations

from uuid import UUID

from chatcluster.chat import (
    NO_FACTS,
    Answer,
    DeleteMessage,
    Edit,
    Facts,
    Fence,
    OwnerCommand,
    Replaced,
    Send,
    UserCommand,
    event_name,
)
from chatcluster.errors import AgentChat, ChatBusy
from chatcluster.parts import Message, Role
from chatcluster.ports import Chat
from chatcluster.postgres import Connection, Row
from chatcluster.postgres.queries import load_queries
from chatcluster.postgres.rows import messages_of
from chatcluster.room import has_room, new_parts, require_room

SQL = load_queries("chats.sql")
LEDGER, FAMILIES = load_queries("ledger.sql"), load_queries("families.sql")


async def facts_of(connection: Connection, chat_id: UUID, command: UserCommand) -> Facts:
    if isinstance(command, Answer):
        rows = await connection.fetch(LEDGER["select_known_calls"], chat_id, list(command.call_ids))
        return Facts(known_calls=frozenset(row["call_id"] for row in rows))
    if isinstance(command, Send) and command.asker is not None:
        asker = command.asker
        return Facts(is_asker_gone=await connection.fetchval(FAMILIES["is_asker_gone"], asker.chat_id, asker.call_id))
    if not isinstance(command, Edit | DeleteMessage):
        return NO_FACTS
    row = await connection.fetchrow(SQL["select_replaced"], chat_id, command.message_id)
    return Facts(None if row is None else Replaced(Role(row["role"]), row["model"], row["revision"]))


async def make_sure_of_room(connection: Connection, row: Row, command: UserCommand, bytes_max: int) -> int | None:
    """Raise ``ChatFull`` if there is no room for what the command adds. Returns what is held, if that was counted.

    That is where the row does not know, or says that there is no room; and for an edit, which may make room.
    """
    parts = new_parts(command)
    if parts is None:
        return None
    known = row["content_bytes"]
    if isinstance(command, Edit):
        held = await connection.fetchval(SQL["measure_kept"], row["id"], command.message_id, bytes_max)
    elif known is not None and has_room(known, parts, bytes_max=bytes_max):
        return None
    else:
        held = await connection.fetchval(SQL["measure"], row["id"], bytes_max)
    require_room(held, parts, bytes_max=bytes_max)
    return int(held)


def has_known_room(row: Row, command: UserCommand, bytes_max: int) -> bool:
    """Whether the row itself says that there is room for what the command adds."""
    parts, known = new_parts(command), row["content_bytes"]
    return parts is None or (known is not None and has_room(known, parts, bytes_max=bytes_max))


async def recorded_messages(connection: Connection, fence: Fence, command: OwnerCommand) -> tuple[Message, ...]:
    """What an event of this name inserted in this tenure, from this history."""
    text = await connection.fetchval(
        SQL["select_origin"], fence.chat_id, fence.epoch, fence.history_version, event_name(command)
    )
    return messages_of(text)


async def require_family_rest(connection: Connection, chat: Chat) -> None:
    """Raises what keeps a chat from being deleted that is of a family."""
    if chat.parent_id is not None:
        raise AgentChat("an agent is deleted with the chat that it belongs to", chat_id=str(chat.family_id))
    if await connection.fetchval(FAMILIES["is_family_busy"], chat.id):
        raise ChatBusy("an agent of the chat is busy: interrupt it, and delete the chat when it rests")


async def lock_overdue(connection: Connection, chat_id: UUID) -> tuple[Row, tuple[str, ...]] | None:
    """The chat's row, locked, and those of its calls that have waited for too long; None if there is nothing to do."""
    row = await connection.fetchrow(LEDGER["lock_overdue_chat"], chat_id)
    call_ids = () if row is None else tuple(await connection.fetchval(LEDGER["select_overdue"], chat_id))
    return (row, call_ids) if row is not None and call_ids else None
