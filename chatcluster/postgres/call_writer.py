"""Writes what a ``Decision`` says of tool calls, behind the messages that ask for them and before the chat's row; and
what it means for other chats of a family, last of all."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from chatcluster.agents import asks_people
from chatcluster.chat import WAIT_SECONDS, ChatState, Decision, Grant, OpenCall, Remember, Status
from chatcluster.chat.family import Order, order_after
from chatcluster.chat.questions import encoded
from chatcluster.parts import Message, ToolCallPart
from chatcluster.ports import PERMISSION_SECONDS, Chat
from chatcluster.postgres import Connection
from chatcluster.postgres.queries import load_queries

SQL, FAMILIES = load_queries("ledger.sql"), load_queries("families.sql")


async def write_calls(connection: Connection, chat_id: UUID, decision: Decision, messages: Sequence[Message]) -> None:
    edits = decision.calls
    for call_id, data in edits.kept:
        await connection.execute(SQL["keep_given"], chat_id, call_id, data)
    if edits.closed:
        await connection.execute(SQL["close_calls"], chat_id, list(edits.closed))
    if edits.changed:
        await connection.execute(SQL["change_calls"], chat_id, *_changed_columns(edits.changed))
    if edits.opened:
        await connection.execute(SQL["open_calls"], chat_id, *_opened_columns(edits.opened, messages))
    if decision.state.status is Status.REQUIRES_ACTION and (edits.opened or edits.changed or edits.closed):
        await connection.execute(SQL["set_deadlines"], chat_id, WAIT_SECONDS)


def _opened_columns(calls: Sequence[OpenCall], messages: Sequence[Message]) -> list[list[object]]:
    asked_in = {part.id: message.id for message in messages for part in message.parts if isinstance(part, ToolCallPart)}
    return [
        [asked_in[call.call_id] for call in calls],
        [call.call_id for call in calls],
        [call.name for call in calls],
        [str(call.state) for call in calls],
        [call.effect for call in calls],
        [call.run_by for call in calls],
        *_state_columns(calls),
        [None if call.agent_id is None else str(call.agent_id) for call in calls],
    ]


def _changed_columns(calls: Sequence[OpenCall]) -> list[list[object]]:
    inquiries = [call.inquiry for call in calls]
    return [
        [call.call_id for call in calls],
        [str(call.state) for call in calls],
        *_state_columns(calls),
        [None if one is None else encoded(one.questions) for one in inquiries],
        [None if one is None else one.answers for one in inquiries],
        [None if one is None else one.resume for one in inquiries],
    ]


def _state_columns(calls: Sequence[OpenCall]) -> list[list[object]]:
    return [
        [call.started_epoch for call in calls],
        [call.deaths for call in calls],
        [call.digest for call in calls],
        [call.arguments for call in calls],
        [call.approved for call in calls],
        [call.seconds for call in calls],
    ]


async def give_orders(connection: Connection, chat: Chat, before: ChatState, decision: Decision) -> None:
    """What a transition of ``chat`` means for its agents, and for those who look at the family."""
    order = order_after(decision.event)
    if chat.has_agents and order is not None:
        await connection.execute(FAMILIES["order_agents"], chat.id, chat.family_id, str(order))
    if chat.root_id is not None and (asks_people(before) or asks_people(decision.state)):
        await connection.execute(FAMILIES["order_look"], chat.root_id, str(Order.LOOK))


async def permit(connection: Connection, chat: Chat, grant: Grant) -> None:
    chat_id = chat.family_id if grant.remember is Remember.CHAT else None
    await connection.execute(SQL["permit"], chat.owner_id, chat_id, grant.tool, PERMISSION_SECONDS)
