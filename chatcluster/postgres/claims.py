"""The claim on Postgres: one statement, which takes rows and reads no history.

Where all that wait have a place it is a simple one. Where it is crowded, or nearly so, that one claims nothing, and
another follows, which deals out turns and knows whose share of the places is used up (``ports/claim_rules.py``).

A row that cannot be read (a damaged column, say) fails the statement, and with it the claim of all others. So then the
chats are claimed one by one; the one that fails ends in an error, written without reading it, and if not even that is
possible it is passed over, as is one of which somebody holds a row. Either way the others are claimed.

A chat may also be claimed by the transaction that lets it run, for a worker that has a place for it, if no other chat
waits. Where that transaction is one statement, another statement does both; else the row that it writes has the claim.
A claim that fails keeps nobody from being heard: then the transition is made without it.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from typing import NamedTuple
from uuid import UUID

import asyncpg
import msgspec

from chatcluster import telemetry
from chatcluster.chat import ChatState, Decision, ErrorInfo, claimed_with, may_be_claimed_with
from chatcluster.errors import StoreFailed, StoreLocked, UnavailableError
from chatcluster.parts import Message
from chatcluster.ports import Chat, Claimed, Outcome
from chatcluster.ports.prompts import ToldPrompts
from chatcluster.postgres import Connection, Database, Lane, Row
from chatcluster.postgres.decision_writer import Applied, Seen, seen_values
from chatcluster.postgres.prompts import told_of
from chatcluster.postgres.queries import NamedQuery, load_queries
from chatcluster.postgres.rows import chat_of, history_of, json_of, messages_of
from chatcluster.postgres.translation import RAISED, translate

FIRST_OWNER = UUID(int=0)
UNREADABLE = ErrorInfo("unreadable", "this chat cannot be read by this version of chatcluster; start a new one")

SQL = load_queries("claims.sql")
CLAIM_SEEN = NamedQuery(load_queries("chats.sql")["claim_seen"])
MAY_CLAIM, READ_IF_FEW = (load_queries("chats.sql")[name] for name in ("may_claim", "read_if_few"))


class Place(NamedTuple):
    """The place that a worker has for one chat; ``known_version`` is that of the history which it knows, 0 if none, and
    None if nothing is kept."""

    worker_id: UUID
    known_version: int | None = None


async def claim(
    database: Database, worker_id: UUID, free_slots: int, batch: int, *, after_owner: UUID
) -> tuple[tuple[Claimed, ...], UUID]:
    """What was claimed, and the owner whose turn it was last. ``after_owner`` is the one of the claim before."""
    limits = database.settings.replica.user_chats_max, database.settings.replica.slots
    try:
        rows = await database.autocommit(_claim, worker_id, free_slots, batch, after_owner, *limits, lane=Lane.CHATS)
    except Exception as error:
        if _is_of_the_server(error):
            raise
        telemetry.event("claim.unreadable", error=repr(error))
        return await _claim_one_by_one(database, worker_id, free_slots, batch), after_owner
    turns = [row for row in rows if row["round"] > 0]
    return tuple(map(_claimed, rows)), turns[-1]["owner_id"] if turns else after_owner


def _is_of_the_server(error: Exception) -> bool:
    """Whether it says nothing of any row: the server cannot be reached, or does not take part."""
    return isinstance(error, UnavailableError) and not isinstance(error, StoreFailed | StoreLocked)


def _claimed(row: Row) -> Claimed:
    return Claimed(chat_of(row), row["retry_seconds"], told_of(row), row["waited_seconds"])


async def _claim_one_by_one(database: Database, worker_id: UUID, free_slots: int, batch: int) -> tuple[Claimed, ...]:
    claimed: list[Claimed] = []
    for chat_id in await database.autocommit(_claimable, free_slots, batch, lane=Lane.CHATS):
        try:
            claimed.extend(map(_claimed, await database.autocommit(_claim_one, worker_id, chat_id, lane=Lane.CHATS)))
        except StoreLocked as error:
            telemetry.event("chat.passed_over", chat_id=str(chat_id), error=repr(error))
        except Exception as error:
            if _is_of_the_server(error):
                raise
            await _end(database, chat_id, error)
    return tuple(claimed)


async def _end(database: Database, chat_id: UUID, why: Exception) -> None:
    telemetry.event("chat.unreadable", chat_id=str(chat_id), error=repr(why))
    try:
        await database.autocommit(_end_unreadable, chat_id, json_of(UNREADABLE), lane=Lane.CHATS)
    except Exception as error:
        if _is_of_the_server(error):
            raise
        telemetry.event("chat.passed_over", chat_id=str(chat_id), error=repr(error))


async def _claim(
    connection: Connection,
    worker_id: UUID,
    free_slots: int,
    batch: int,
    after_owner: UUID,
    user_chats_max: int,
    slots: int,
) -> Sequence[Row]:
    if not user_chats_max:
        few = await connection.fetch(SQL["claim_few"], worker_id, free_slots, batch, slots)
        if not few[0]["crowded"]:
            return [row for row in few if row["id"] is not None]
    return await connection.fetch(SQL["claim"], worker_id, free_slots, batch, after_owner, user_chats_max)


async def _claim_one(connection: Connection, worker_id: UUID, chat_id: UUID) -> Sequence[Row]:
    return await connection.fetch(SQL["claim_one"], worker_id, chat_id)


async def _claimable(connection: Connection, free_slots: int, batch: int) -> list[UUID]:
    return [row["id"] for row in await connection.fetch(SQL["select_claimable"], free_slots, batch)]


async def _end_unreadable(connection: Connection, chat_id: UUID, error: str | None) -> None:
    await connection.execute(SQL["end_unreadable"], chat_id, error)


# --- with the transition that lets a chat run -------------------------------------------------


async def claim_seen(connection: Connection, seen: Seen, place: Place | None) -> Applied | None:
    """What was decided, and the claim; None, with nothing written, if they do not go together."""
    if place is None or not may_be_claimed_with(seen.before, seen.decision.state):
        return None
    chat = seen.chat
    both = seen._replace(decision=_claimed_with(seen.decision, place))
    wanted = place.known_version not in (None, chat.history_version) and not chat.summaries
    try:
        row = await connection.fetchrow(CLAIM_SEEN.text, *CLAIM_SEEN.values(seen_values(both)))
    except asyncpg.PostgresError as error:
        if not isinstance(translate(error), StoreFailed):
            raise
        telemetry.event("claim.unreadable", error=repr(error))
        return None  # the server says that nothing was done; the message is stored by itself
    if row is None:
        return None
    outcome = claimed_outcome(row)
    history = await _read_if_few(connection, outcome.chat) if wanted else None
    return Applied(chat.history_version, outcome, history)


def claimed_outcome(row: Row) -> Outcome:
    """What a statement did that claimed as well."""
    return with_claim(Outcome(chat_of(row), messages_of(row["messages"])), told_of(row))


async def _read_if_few(connection: Connection, chat: Chat) -> tuple[Message, ...] | None:
    """The history, if it is short. What keeps it from being read here is met by the tenure again, and told of there."""
    with suppress(*RAISED):
        return history_of(await connection.fetchval(READ_IF_FEW, chat.id, chat.history_version))
    return None


async def may_claim(
    connection: Connection, chat_id: UUID, owner_id: UUID, before: ChatState | None, decision: Decision, place: Place
) -> tuple[Decision, ToldPrompts] | None:
    """The decision with the claim of its chat, and what its model is told; None if that may not be claimed with it."""
    if not may_be_claimed_with(before, decision.state):
        return None
    row = await connection.fetchrow(MAY_CLAIM, place.worker_id, chat_id, owner_id)
    return None if row is None else (_claimed_with(decision, place), told_of(row))


def with_claim(outcome: Outcome, told: ToldPrompts) -> Outcome:
    """The outcome of a decision that the claim went with."""
    return msgspec.structs.replace(outcome, claimed=Claimed(outcome.chat, prompts=told))


def _claimed_with(decision: Decision, place: Place) -> Decision:
    return msgspec.structs.replace(decision, state=claimed_with(decision.state, place.worker_id))
