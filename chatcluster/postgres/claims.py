"""The claim on Postgres: one statement, which takes rows and reads no history.

Where all that wait have a place it is a simple one. Where it is crowded that one claims nothing, and another follows,
which deals out turns.

A row that cannot be read (a damaged column, say) fails the statement, and with it the claim of all others. So then the
chats are claimed one by one; the one that fails ends in an error, written without reading it, and if not even that is
possible it is passed over. Either way the others are claimed.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

from chatcluster import telemetry
from chatcluster.chat import ErrorInfo
from chatcluster.errors import StoreFailed, UnavailableError
from chatcluster.ports import Claimed
from chatcluster.postgres import Connection, Database, Lane, Row
from chatcluster.postgres.prompts import told_of
from chatcluster.postgres.queries import load_queries
from chatcluster.postgres.rows import chat_of, json_of

FIRST_OWNER = UUID(int=0)
UNREADABLE = ErrorInfo("unreadable", "this chat cannot be read by this version of chatcluster; start a new one")

SQL = load_queries("claims.sql")


async def claim(
    database: Database, worker_id: UUID, free_slots: int, batch: int, *, after_owner: UUID
) -> tuple[tuple[Claimed, ...], UUID]:
    """What was claimed, and the owner whose turn it was last. ``after_owner`` is the one of the claim before."""
    user_chats_max = database.settings.user_chats_max
    try:
        rows = await database.autocommit(
            _claim, worker_id, free_slots, batch, after_owner, user_chats_max, lane=Lane.CHATS
        )
    except Exception as error:
        if _is_of_the_server(error):
            raise
        telemetry.event("claim.unreadable", error=repr(error))
        return await _claim_one_by_one(database, worker_id, free_slots, batch), after_owner
    turns = [row for row in rows if row["round"] > 0]
    return tuple(map(_claimed, rows)), turns[-1]["owner_id"] if turns else after_owner


def _is_of_the_server(error: Exception) -> bool:
    """Whether it says nothing of any row: the server cannot be reached, or does not take part."""
    return isinstance(error, UnavailableError) and not isinstance(error, StoreFailed)


def _claimed(row: Row) -> Claimed:
    return Claimed(chat_of(row), row["retry_seconds"], told_of(row), row["waited_seconds"])


async def _claim_one_by_one(database: Database, worker_id: UUID, free_slots: int, batch: int) -> tuple[Claimed, ...]:
    claimed: list[Claimed] = []
    for chat_id in await database.autocommit(_claimable, free_slots, batch, lane=Lane.CHATS):
        try:
            claimed.extend(map(_claimed, await database.autocommit(_claim_one, worker_id, chat_id, lane=Lane.CHATS)))
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
    connection: Connection, worker_id: UUID, free_slots: int, batch: int, after_owner: UUID, user_chats_max: int
) -> Sequence[Row]:
    if not user_chats_max:
        few = await connection.fetch(SQL["claim_few"], worker_id, min(free_slots, batch))
        if not few[0]["crowded"]:
            return [row for row in few if row["id"] is not None]
    return await connection.fetch(SQL["claim"], worker_id, free_slots, batch, after_owner, user_chats_max)


async def _claim_one(connection: Connection, worker_id: UUID, chat_id: UUID) -> Sequence[Row]:
    return await connection.fetch(SQL["claim_one"], worker_id, chat_id)


async def _claimable(connection: Connection, free_slots: int, batch: int) -> list[UUID]:
    return [row["id"] for row in await connection.fetch(SQL["select_claimable"], free_slots, batch)]


async def _end_unreadable(connection: Connection, chat_id: UUID, error: str | None) -> None:
    await connection.execute(SQL["end_unreadable"], chat_id, error)
