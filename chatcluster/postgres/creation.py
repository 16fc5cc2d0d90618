"""A chat is made, in one transaction: its row, what is copied for it, its first messages, and its claim where that goes
with it. There is nothing to lock: nobody knows it yet.

Most chats are plain: some messages, and a place for them here. All of that is one statement (``create_at_once``), and
so a transaction by itself; where it does not go together, nothing was done, and the long way follows.

The key of the request, with its answer, is written by the statement that inserts the messages, so that it costs none;
see ``idempotency.py``.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from chatcluster.chat import ChatState, Create, claimed_with, create, may_be_claimed_with
from chatcluster.parts import Message, NewMessage
from chatcluster.ports import Chat, Idempotency, NewChat, Outcome
from chatcluster.postgres import Connection, Row
from chatcluster.postgres.claims import Place, claimed_outcome, may_claim, with_claim
from chatcluster.postgres.decision_writer import NO_ORIGIN, insert_messages, message_values, new_row_values
from chatcluster.postgres.file_references import have_files, refer
from chatcluster.postgres.forks import copy_history, look_at_source
from chatcluster.postgres.idempotency import KeyAnswered
from chatcluster.postgres.queries import NamedQuery, load_queries
from chatcluster.postgres.rows import chat_of, existing, json_of, messages_of

SQL = load_queries("chats.sql")
INSERT_CHAT, CREATE_CLAIMED = NamedQuery(SQL["insert_chat"]), NamedQuery(SQL["create_claimed"])


async def create_at_once(
    connection: Connection, chat: NewChat, place: Place, tries: list[Connection]
) -> Outcome | None:
    """A plain chat with its claim; None, with nothing written, if they do not go together. ``tries`` gets the
    connection: a second one says that the first broke, and nobody knows whether the chat was made by then."""
    tries.append(connection)
    decision = create(Create(chat.messages))
    if not may_be_claimed_with(None, decision.state):
        return None
    state = claimed_with(decision.state, place.worker_id)
    values = new_row_values(chat, state) | message_values(chat.messages)
    row = await connection.fetchrow(CREATE_CLAIMED.text, *CREATE_CLAIMED.values(values))
    return None if row is None else claimed_outcome(row)


def is_plain_chat(chat: NewChat) -> bool:
    """Whether ``create_at_once`` can make it: nothing is copied for it, and only its row and messages are written."""
    return chat.copied is None and not (chat.at_rest or chat.system_prompt or have_files(chat.messages))


async def create_chat(
    connection: Connection, chat: NewChat, idempotency: Idempotency | None, bytes_max: int, place: Place | None = None
) -> Outcome:
    """Raises ``KeyAnswered``, and what ``refer``, ``look_at_source`` and ``copy_history`` raise."""
    source = None if chat.copied is None else await look_at_source(connection, chat, chat.copied, bytes_max)
    decision = create(Create(chat.messages, chat.at_rest, None if source is None else source.content_version))
    taken = None if place is None else await may_claim(connection, chat.id, chat.owner_id, None, decision, place)
    state = (decision if taken is None else taken[0]).state
    row = await _insert_chat(connection, chat, state, 0 if source is None else source.size_bytes)
    made = chat_of(existing(row, chat.id))
    if chat.copied is not None:
        await copy_history(connection, made, chat.copied)
    outcome = Outcome(made, await _insert_first_messages(connection, made, chat.messages, idempotency))
    if taken is None:
        return outcome
    return with_claim(outcome, msgspec.structs.replace(taken[1], own=chat.system_prompt or None))


async def _insert_chat(connection: Connection, chat: NewChat, state: ChatState, copied_bytes: int) -> Row | None:
    """The row of a new chat, and its own prompt."""
    row = await connection.fetchrow(INSERT_CHAT.text, *INSERT_CHAT.values(new_row_values(chat, state, copied_bytes)))
    if chat.system_prompt:
        await connection.execute(SQL["insert_own_prompt"], chat.id, chat.system_prompt)
    return row


async def _insert_first_messages(
    connection: Connection, made: Chat, new: Sequence[NewMessage], idempotency: Idempotency | None
) -> tuple[Message, ...]:
    """What a new chat begins with; with the key of the request that made it, and its answer, in the same statement.
    Raises ``KeyAnswered``."""
    if idempotency is None:
        messages = await insert_messages(connection, made.id, made.snapshot_version, new, None)
    else:
        messages = await _insert_answered(connection, made, new, idempotency)
    await refer(connection, made.id, messages, by_user=True)
    return messages


async def _insert_answered(
    connection: Connection, made: Chat, new: Sequence[NewMessage], idempotency: Idempotency
) -> tuple[Message, ...]:
    row = await connection.fetchrow(
        SQL["insert_answered_messages"],
        made.id,
        made.snapshot_version,
        *NO_ORIGIN,
        *message_values(new).values(),
        made.owner_id,
        idempotency.key,
        idempotency.request_digest,
        json_of(made),
    )
    assert row is not None, "a select of an aggregate has one row"
    if not row["is_new"]:
        raise KeyAnswered("another request with this Idempotency-Key came first; repeat it")
    return messages_of(row["messages"])
