"""What a chat of the memory store has no room for, in bytes and in files: asked before anything is written."""

from __future__ import annotations

from collections.abc import Collection, Set
from uuid import UUID

from chatcluster.chat import Edit, EditQueued, UserCommand
from chatcluster.content import files_in
from chatcluster.memory.database import MemoryDatabase
from chatcluster.memory.pages import counted
from chatcluster.memory.tables import ChatRow
from chatcluster.parts import Message, QueuedMessage
from chatcluster.ports import NewChat
from chatcluster.ports.files import require_files
from chatcluster.room import bytes_of, new_parts, require_room


def make_sure_of_room(row: ChatRow, command: UserCommand, bytes_max: int) -> None:
    """Raises ``ChatFull``."""
    parts = new_parts(command)
    if parts is None:
        return
    if isinstance(command, Edit):
        held = bytes_of(counted(message for message in row.messages if message.id < command.message_id))
    else:
        held = bytes_of(counted(row.messages)) + bytes_of(row.queue)
    require_room(held, parts, bytes_max=bytes_max)


def require_files_of(database: MemoryDatabase, row: ChatRow, command: UserCommand) -> None:
    """Raises ``FileNotFound`` and ``TooManyFiles`` for a command that brings files with it."""
    wanted = files_in(new_parts(command) or ())
    if not wanted:
        return
    said: list[Message | QueuedMessage] = [*row.messages, *row.queue]
    if isinstance(command, Edit):
        said = [message for message in row.messages if message.id < command.message_id]
    elif isinstance(command, EditQueued):
        said = [*row.messages, *(queued for queued in row.queue if queued.id != command.queued_id)]
    _require(database, row.owner_id, wanted, {file_id for one in said for file_id in files_in(one.parts)})


def require_files_of_new(database: MemoryDatabase, chat: NewChat) -> None:
    """Raise as above for a chat that is made."""
    _require(database, chat.owner_id, {file_id for one in chat.messages for file_id in files_in(one.parts)})


def _require(database: MemoryDatabase, owner_id: UUID, wanted: Collection[UUID], kept: Set[UUID] = frozenset()) -> None:
    found = [one for one in map(database.kept.files.get, wanted) if one is not None and one.owner_id == owner_id]
    require_files(len(wanted), sum(one.file is not None for one in found), len(kept | set(wanted)))
