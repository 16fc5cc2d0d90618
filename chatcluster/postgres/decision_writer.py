"""Writes what a ``Decision`` says, inside the transaction that holds the lock of the chat's row.

The order matters: the turn that ends is written first, while the message that it answers is the newest; deleting
history comes before inserting, leaving the queue before entering it, and the messages before the calls that point to
them. The chat's row is written last, with everything that the decision changed on it.

A **plain** decision changes the row and adds messages, no more. If the chat is known, it can be written without having
been locked and loaded: one statement does it all, on condition that the chat is still as it was known. So an owner's
commit is one statement, and a user's command two, the first of which looks at the row. What is refused, queued or raced
for goes the long way: only a row that is locked refuses.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from chatcluster.chat import DRAINED, ChatState, Decision, Fence, Interrupt, Send, UserCommand, decide
from chatcluster.errors import CallerError, Fenced, Unreadable
from chatcluster.parts import EndedTurn, Message, NewMessage, QueuedMessage
from chatcluster.ports import Booking, Chat, NewChat, Outcome
from chatcluster.postgres import Connection, Row
from chatcluster.postgres.call_writer import give_orders, permit, write_calls
from chatcluster.postgres.columns import column_values, made_values, setup_values
from chatcluster.postgres.file_references import have_files, refer, refer_queued
from chatcluster.postgres.looked_up import has_known_room
from chatcluster.postgres.queries import NamedQuery, load_queries
from chatcluster.postgres.rows import chat_of, json_of, messages_of, state_of, turn_of
from chatcluster.room import bytes_of, change_bytes
from chatcluster.room import kept_bytes as kept_bytes_of

SQL = load_queries("chats.sql")
UPDATE_CHAT, UPDATE_OWNED, UPDATE_KNOWN, UPDATE_SEEN = (
    NamedQuery(SQL[name]) for name in ("update_chat", "update_owned", "update_known", "update_seen")
)

SEEN_COMMANDS = (Send, Interrupt)
"""Commands that may be decided on the row alone, and are often: no facts besides it are looked up for them."""


class Applied(NamedTuple):
    """What a user's command did, and the version of the history that it found; 0 for an answer that is repeated.
    ``history``: as it is now, where it was read as well."""

    before: int
    outcome: Outcome
    history: tuple[Message, ...] | None = None


class Origin(NamedTuple):
    """Where an owner's messages come from: its tenure, the history that it worked from, and the event."""

    epoch: int
    history_version: int
    event: str


NO_ORIGIN = (None, None, None)


class Seen(NamedTuple):
    """A chat that was looked at without its lock, and what a user's command makes of it if it is that still."""

    chat: Chat
    before: ChatState
    decision: Decision


async def write_decision(
    connection: Connection,
    chat_id: UUID,
    before: ChatState,
    decision: Decision,
    fence: Fence | None,
    kept_bytes: int | None = None,
    spent: Booking = (),
) -> Outcome:
    """``kept_bytes``: what the chat holds without the change, where that was counted just now."""
    origin = None if fence is None else Origin(fence.epoch, fence.history_version, decision.event)
    version = decision.state.snapshot_version
    ended = await _end_turn(connection, chat_id, decision, spent)
    if decision.delete is not None:
        await connection.execute(SQL["delete_messages"], chat_id, *decision.delete, version)
    messages = await insert_messages(connection, chat_id, version, decision.messages, origin)
    queued = await _write_queue(connection, chat_id, decision)
    await refer(connection, chat_id, messages, by_user=fence is None)
    await refer_queued(connection, chat_id, before, queued)
    await write_calls(connection, chat_id, decision, messages)
    if fence is not None and _hands_over(decision):
        await connection.execute(SQL["log_handover"], chat_id, fence.worker_id)
    values = _row_values(chat_id, before, decision, kept_bytes)
    chat = chat_of(await _update_chat(connection, values, before, fence))
    if decision.grant is not None:
        await permit(connection, chat, decision.grant)
    if chat.has_agents or chat.root_id is not None:
        await give_orders(connection, chat, before, decision)
    return Outcome(chat, messages, queued, ended=ended)


def _hands_over(decision: Decision) -> bool:
    """Whether the owner gives the chat back because it leaves, which is logged."""
    return decision.event == "Release" and decision.state.cause == DRAINED


def is_plain(decision: Decision) -> bool:
    """Whether ``write_known`` can write it: neither queue nor open calls play a part, no history is deleted, and no
    file comes with it."""
    state = decision.state
    return not (_hands_over(decision) or have_files(decision.messages)) and not (
        decision.delete is not None or decision.enqueue or decision.dequeue or state.queue or state.open_calls
    )


def is_plain_of_user(decision: Decision) -> bool:
    """Whether ``write_seen`` can write it: it is plain, and ends no turn."""
    return is_plain(decision) and decision.ended is None


async def write_known(
    connection: Connection,
    known: Chat,
    decision: Decision,
    before: ChatState,
    fence: Fence,
    spent: Booking = (),
) -> Outcome | None:
    """Write a plain decision that was made for ``known``; None, with nothing written, if the chat has changed since."""
    values = {
        **_row_values(known.id, before, decision, None),
        **_owned_values(before, fence),
        "version_before": known.snapshot_version,
        "event": decision.event,
        "ended": decision.ended,
        "spent": json_of(spent),
        **message_values(decision.messages),
    }
    row = await connection.fetchrow(UPDATE_KNOWN.text, *UPDATE_KNOWN.values(values))
    return None if row is None else Outcome(chat_of(row), messages_of(row["messages"]), ended=turn_of(row["ended"]))


def decide_seen(row: Row | None, command: UserCommand, bytes_max: int) -> Seen | None:
    """A plain transition of a chat whose row was seen; None where it takes its lock to say more."""
    if (
        row is None
        or row["queue_length"]
        or row["open_calls"]
        or row["has_agents"]
        or not has_known_room(row, command, bytes_max)
    ):
        return None
    try:
        chat = chat_of(row)
        before = state_of(chat, (), ())
        decision = decide(before, command)
    except (CallerError, Unreadable):
        return None
    return Seen(chat, before, decision) if is_plain_of_user(decision) else None


async def write_seen(connection: Connection, seen: Seen) -> Outcome | None:
    """Write a user's plain decision; None, with nothing written, if the chat has changed since it was made."""
    row = await connection.fetchrow(UPDATE_SEEN.text, *UPDATE_SEEN.values(seen_values(seen)))
    return None if row is None else Outcome(chat_of(row), messages_of(row["messages"]))


def seen_values(seen: Seen) -> dict[str, object]:
    return {
        **_row_values(seen.chat.id, seen.before, seen.decision, None),
        "version_before": seen.chat.snapshot_version,
        "updated_before": seen.chat.updated_at,
        **message_values(seen.decision.messages),
    }


async def _end_turn(connection: Connection, chat_id: UUID, decision: Decision, spent: Booking) -> EndedTurn | None:
    """Book what was spent, and write the end of the turn, which includes it."""
    if decision.ended is None:
        if spent:
            await connection.execute(SQL["book"], chat_id, json_of(spent))
        return None
    error = decision.state.last_error
    version, code = decision.state.snapshot_version, None if error is None else error.code
    values = (chat_id, json_of(spent), version, decision.ended, code)
    return turn_of(await connection.fetchval(SQL["end_turn"], *values))


async def insert_messages(
    connection: Connection, chat_id: UUID, version: int, messages: Sequence[NewMessage], origin: Origin | None
) -> tuple[Message, ...]:
    """Insert in this order, which is that of the IDs, and return them as they are now."""
    if not messages:
        return ()
    text = await connection.fetchval(
        SQL["insert_messages"],
        chat_id,
        version,
        *(origin or NO_ORIGIN),
        *message_values(messages).values(),
    )
    return messages_of(text)


def message_values(messages: Sequence[NewMessage]) -> dict[str, list[str | None]]:
    """The values of a message, by the names that statements have for it, in the order of ``insert_messages``."""
    return {
        "roles": [str(message.role) for message in messages],
        "contents": [json_of(message.parts) for message in messages],
        "finish_reasons": [message.finish_reason for message in messages],
        "models": [message.model for message in messages],
        "usages": [json_of(message.usage) for message in messages],
        "positions": [message.position for message in messages],
    }


async def _write_queue(connection: Connection, chat_id: UUID, decision: Decision) -> QueuedMessage | None:
    if decision.dequeue:
        await connection.execute(SQL["dequeue"], chat_id, list(decision.dequeue))
    if decision.requeue is not None:
        queued_id, new = decision.requeue
        row = await connection.fetchrow(SQL["requeue"], chat_id, queued_id, json_of(new.parts), new.model)
        assert row is not None, "the queue was read under the chat's lock"
        return QueuedMessage(queued_id, new.parts, row["created_at"], new.model, row["steered"])
    if decision.queue_head is not None:
        await connection.execute(SQL["move_to_head"], chat_id, decision.queue_head)
    if decision.unsteer:
        await connection.execute(SQL["unsteer"], chat_id)
    return None if decision.enqueue is None else await _enqueue(connection, chat_id, decision.enqueue, decision.steer)


async def _enqueue(connection: Connection, chat_id: UUID, message: NewMessage, steer: bool) -> QueuedMessage:
    row = await connection.fetchrow(SQL["enqueue"], chat_id, json_of(message.parts), message.model, steer)
    assert row is not None, "an insert without a condition returns its row"
    return QueuedMessage(row["id"], message.parts, row["created_at"], message.model, steer)


async def _update_chat(
    connection: Connection, values: dict[str, object], before: ChatState, fence: Fence | None
) -> Row:
    if fence is None:
        row = await connection.fetchrow(UPDATE_CHAT.text, *UPDATE_CHAT.values(values))
        assert row is not None, "the row is locked, so it exists"
        return row
    owned = values | _owned_values(before, fence)
    row = await connection.fetchrow(UPDATE_OWNED.text, *UPDATE_OWNED.values(owned))
    if row is None:
        raise Fenced(f"the tenure {fence.epoch} of worker {fence.worker_id} is over")
    return row


def _owned_values(before: ChatState, fence: Fence) -> dict[str, object]:
    return {
        "owner_worker_id": fence.worker_id,
        "owner_epoch": fence.epoch,
        "owner_history_version": fence.history_version,
        "status_before": str(before.status),
    }


def _row_values(chat_id: UUID, before: ChatState, decision: Decision, kept_bytes: int | None) -> dict[str, object]:
    state = decision.state
    return {
        **column_values(state),
        "id": chat_id,
        "retry_delay_ms": decision.retry_delay_ms,
        "queue_length": len(state.queue) + (decision.enqueue is not None),
        "open_calls": len(state.open_calls),
        **setup_values(decision.setup),
        "claimable": state.claimable,
        "kept_bytes": kept_bytes_of(before, decision) if kept_bytes is None else kept_bytes,
        "change_bytes": change_bytes(before, decision),
    }


def new_row_values(chat: NewChat, state: ChatState, copied_bytes: int = 0) -> dict[str, object]:
    """Those of the row of a chat that is made."""
    return {
        **made_values(chat, state),
        "content_bytes": bytes_of(chat.messages) + copied_bytes,
        "claimable": state.claimable,
        "wants_title": chat.wants_title,
    }
