"""Idempotency keys: what was answered to a request is what its repeats are answered.

A key is reserved before the chat is locked, by inserting its row: a request with the same key waits there for
the outcome of the first, and then returns its answer. Key, effect and answer are committed together or not at all.

Where there is no chat to lock, as it is made with this, the key is written with its answer at the end, together with
the first messages: no statement more. A repeat finds the chat, or else the key, when it has done all again; that is
undone (``KeyAnswered``), and it returns the first answer.
"""

from __future__ import annotations

from uuid import UUID

import msgspec

from chatcluster.errors import IdempotencyKeyReused, StoreUnavailable, Unreadable
from chatcluster.parts import UNDECODABLE
from chatcluster.ports import Idempotency, Outcome
from chatcluster.postgres import Connection
from chatcluster.postgres.queries import load_queries
from chatcluster.postgres.rows import json_of

SQL = load_queries("chats.sql")


class KeyAnswered(StoreUnavailable):
    """Another request with this key has been answered: to be undone, and to be answered as that one was."""


async def reserve(connection: Connection, owner_id: UUID, idempotency: Idempotency | None) -> Outcome | None:
    """The answer that an earlier request with this key was given; None if there is a new one to give."""
    if idempotency is None:
        return None
    key, digest = idempotency.key, idempotency.request_digest
    if await connection.fetchval(SQL["reserve_key"], owner_id, key, digest):
        return None
    earlier = await answered(connection, owner_id, idempotency)
    assert earlier is not None, "a key in conflict is committed, and stays until it is a day old"
    return earlier


async def answered(connection: Connection, owner_id: UUID, idempotency: Idempotency) -> Outcome | None:
    """The answer that an earlier request with this key was given; None if there is none yet."""
    row = await connection.fetchrow(SQL["select_key"], owner_id, idempotency.key)
    if row is None:
        return None
    if row["request_digest"] != idempotency.request_digest:
        raise IdempotencyKeyReused("this Idempotency-Key was used with another request", key=idempotency.key)
    return msgspec.structs.replace(_answer_of(row["response"]), replayed=True)


def _answer_of(text: str | None) -> Outcome:
    try:
        return msgspec.json.decode(text or "", type=Outcome)
    except UNDECODABLE:
        raise Unreadable("the answer to this Idempotency-Key was given by another version of chatcluster") from None


async def answer(connection: Connection, owner_id: UUID, idempotency: Idempotency | None, outcome: Outcome) -> None:
    if idempotency is not None:
        await connection.execute(SQL["answer_key"], owner_id, idempotency.key, json_of(outcome))
