"""Writes what a ``Decision`` says, inside the transaction that holds the lock of the chat's row.

The order matters: the turn that ends is written first, while the message that it answers is the newest; deleting
history comes before inserting, leaving the queue before entering it, and the messages before the calls that point to
them. The chat's row is written last, with everything that the decision changed on it.

A **plain** decision changes the row and adds messages, no more. If the chat is known, it can be written without having
been locked and loaded: one statement does it all, on condition that the chat is still as it was known.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

from msgspec import UNSET

from chatcluster.chat import DRAINED, ChatState, Decision, Fence
from chatcluster.errors import Fenced
from chatcluster.parts import EndedTurn, Message, NewMessage, QueuedMessage, ToolCallPart
from chatcluster.ports import Chat, NewChat, Outcome
from chatcluster.postgres import Connection, Row
from chatcluster.postgres.columns import column_values
from chatcluster.postgres.queries import NamedQuery, load_queries
from chatcluster.postgres.rows import chat_of, json_of, messages_of, turn_of
from chatcluster.room import bytes_of, change_bytes

SQL = load_queries("chats.sql")
UPDATE_CHAT, UPDATE_OWNED, UPDATE_KNOWN = (
    NamedQuery(SQL[name]) for name in ("update_chat", "update_owned", "update_known")
)


class Origin(NamedTuple):
    """Where an owner's messages come from: its tenure, the history that it worked from, and the event."""

    epoch: int
    history_version: int
    event: str


NO_ORIGIN = (None, None, None)


async def insert_chat(connection: Connection, chat: NewChat, state: ChatState) -> Row | None:
    """The row of a new chat."""
    return await connection.fetchrow(
        SQL["insert_chat"],
        chat.id,
        chat.owner_id,
        chat.title,
        chat.model,
        str(state.status),
        state.snapshot_version,
        state.history_version,
        bytes_of(chat.messages),
        state.claimable,
        state.cause,
    )


async def write_decision(
    connection: Connection,
    chat_id: UUID,
    before: ChatState,
    decision: Decision,
    fence: Fence | None,
    kept_bytes: int | None = None,
) -> Outcome:
    """``kept_bytes``: what the chat holds without the change, where that was counted just now."""
    origin = None if fence is None else Origin(fence.epoch, fence.history_version, decision.event)
    version = decision.state.snapshot_version
    ended = await _end_turn(connection, chat_id, decision)
    if decision.delete_from is not None:
        await connection.execute(SQL["delete_messages_from"], chat_id, decision.delete_from, version)
    messages = await insert_messages(connection, chat_id, version, decision.messages, origin)
    queued = await _write_queue(connection, chat_id, decision)
    await _write_calls(connection, chat_id, before, decision, messages)
    if decision.model is not UNSET:
        await connection.execute(SQL["choose_model"], chat_id, decision.model)
    if fence is not None and _hands_over(decision):
        await connection.execute(SQL["log_handover"], chat_id, fence.worker_id)
    values = _row_values(chat_id, before, decision, kept_bytes)
    chat = chat_of(await _update_chat(connection, values, before, fence))
    return Outcome(chat, messages, queued, ended=ended)


def _hands_over(decision: Decision) -> bool:
    """Whether the owner gives the chat back because it leaves, which is logged."""
    return decision.event == "Release" and decision.state.cause == DRAINED


def is_plain(decision: Decision) -> bool:
    """Whether ``write_known`` can write it: neither queue nor open calls play a part, and no history is deleted."""
    state = decision.state
    return not _hands_over(decision) and not (
        decision.delete_from is not None or decision.enqueue or decision.dequeue or state.queue or state.open_calls
    )


async def write_known(
    connection: Connection,
    known: Chat,
    decision: Decision,
    before: ChatState,
    fence: Fence,
) -> Outcome | None:
    """Write a plain decision that was made for ``known``; None, with nothing written, if the chat has changed since."""
    values = {
        **_row_values(known.id, before, decision, None),
        **_owned_values(before, fence),
        "version_before": known.snapshot_version,
        "event": decision.event,
        "ended": decision.ended,
        **_message_values(decision.messages),
    }
    row = await connection.fetchrow(UPDATE_KNOWN.text, *UPDATE_KNOWN.values(values))
    return None if row is None else Outcome(chat_of(row), messages_of(row["messages"]), ended=turn_of(row["ended"]))


async def _end_turn(connection: Connection, chat_id: UUID, decision: Decision) -> EndedTurn | None:
    if decision.ended is None:
        return None
    error = decision.state.last_error
    version, code = decision.state.snapshot_version, None if error is None else error.code
    return turn_of(await connection.fetchval(SQL["end_turn"], chat_id, version, decision.ended, code))


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
        *_message_values(messages).values(),
    )
    return messages_of(text)


def _message_values(messages: Sequence[NewMessage]) -> dict[str, list[str | None]]:
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
        return QueuedMessage(queued_id, new.parts, row["created_at"], new.model)
    if decision.queue_head is not None:
        await connection.execute(SQL["move_to_head"], chat_id, decision.queue_head)
    return None if decision.enqueue is None else await _enqueue(connection, chat_id, decision.enqueue)


async def _enqueue(connection: Connection, chat_id: UUID, message: NewMessage) -> QueuedMessage:
    row = await connection.fetchrow(SQL["enqueue"], chat_id, json_of(message.parts), message.model)
    assert row is not None, "an insert without a condition returns its row"
    return QueuedMessage(row["id"], message.parts, row["created_at"], message.model)


async def _write_calls(
    connection: Connection, chat_id: UUID, before: ChatState, decision: Decision, messages: Sequence[Message]
) -> None:
    if decision.closed:
        await connection.execute(SQL["close_calls"], chat_id, list(decision.closed))
    states = {call.call_id: call.state for call in before.open_calls}
    for call in decision.state.open_calls:
        if states.get(call.call_id, call.state) != call.state:
            await connection.execute(SQL["change_call"], chat_id, call.call_id, call.state)
    if decision.opened:
        asked_in = {
            part.id: message.id for message in messages for part in message.parts if isinstance(part, ToolCallPart)
        }
        await connection.execute(
            SQL["open_calls"],
            chat_id,
            [asked_in[call.call_id] for call in decision.opened],
            [call.call_id for call in decision.opened],
            [call.name for call in decision.opened],
            [call.state for call in decision.opened],
        )


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
        "action_seconds": decision.action_seconds,
        "queue_length": len(state.queue) + (decision.enqueue is not None),
        "open_calls": len(state.open_calls),
        "title": decision.title,
        "claimable": state.claimable,
        "kept_bytes": kept_bytes,
        "change_bytes": change_bytes(before, decision),
    }
