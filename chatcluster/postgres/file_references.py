"""Which files a chat has: written by the transition that puts a message into its history or its queue, under its lock.

A reference goes with the message that has it: a queued one when it leaves the queue, one of the history when it is
deleted, as by an edit (``delete_messages``), or with the chat. So what keeps a file from being deleted is what can be
read.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from chatcluster.chat import ChatState
from chatcluster.content import files_in
from chatcluster.parts import Message, NewMessage, QueuedMessage
from chatcluster.ports.files import require_files
from chatcluster.postgres import Connection
from chatcluster.postgres.queries import load_queries

SQL = load_queries("files.sql")


def have_files(messages: Sequence[NewMessage]) -> bool:
    return any(files_in(message.parts) for message in messages)


async def refer(connection: Connection, chat_id: UUID, messages: Sequence[Message], *, by_user: bool) -> None:
    """The files of messages that went into history. Raises ``FileNotFound`` and ``TooManyFiles`` where a user sent
    them; what an owner takes out of the queue was counted when it was put there."""
    for message in messages:
        if file_ids := files_in(message.parts):
            await _refer(connection, chat_id, file_ids, message_id=message.id, by_user=by_user)


async def refer_queued(connection: Connection, chat_id: UUID, before: ChatState, queued: QueuedMessage | None) -> None:
    """The files of a message that was queued, or replaced where it waits. Raises as ``refer``."""
    if queued is None:
        return
    if any(entry.id == queued.id and files_in(entry.parts) for entry in before.queue):
        await connection.execute(SQL["let_go_of_queued"], queued.id)
    if file_ids := files_in(queued.parts):
        await _refer(connection, chat_id, file_ids, queued_id=queued.id, by_user=True)


async def _refer(
    connection: Connection,
    chat_id: UUID,
    file_ids: tuple[UUID, ...],
    *,
    by_user: bool,
    message_id: int | None = None,
    queued_id: int | None = None,
) -> None:
    row = await connection.fetchrow(SQL["refer"], chat_id, list(map(str, file_ids)), message_id, queued_id)
    assert row is not None, "a select without a table has one row"
    if by_user:
        require_files(len(file_ids), row["found"], row["total"])
