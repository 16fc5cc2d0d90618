"""Rows of chats in any state, put into Postgres without a store."""

from __future__ import annotations

from uuid import UUID, uuid4

from chat_states import state_of

from chatcluster.chat import ChatState, Status
from chatcluster.postgres import Connection
from chatcluster.postgres.columns import column_values

NOW = "statement_timestamp()"


async def insert_chat(connection: Connection, state: ChatState | None = None) -> UUID:
    """A row in ``state``, or one that waits at version 10."""
    state = state or state_of(Status.WAITING)
    chat_id = uuid4()
    row = {
        **column_values(state),
        "id": chat_id,
        "owner_id": uuid4(),
        "title": "",
        "queue_length": len(state.queue),
        "open_calls": len(state.open_calls),
    }
    times = {
        "claimable_since": state.claimable,
        "action_deadline": state.status is Status.REQUIRES_ACTION,
        "retry_at": state.retry is not None,
    }
    values = [f"${number}" for number in range(1, len(row) + 1)] + [
        NOW if is_set else "null" for is_set in times.values()
    ]
    await connection.execute(
        f"INSERT INTO chats ({', '.join([*row, *times])}) VALUES ({', '.join(values)})", *row.values()
    )
    return chat_id
