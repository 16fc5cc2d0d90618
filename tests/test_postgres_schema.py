"""The schema: rows that must never be cannot be, every row that ``decide`` leads to can, and the plans stay small."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, get_args
from uuid import UUID

import asyncpg
import pytest
from chat_rows import NOW, insert_chat
from chat_states import A_USERS_MESSAGE, EVENTS, WORKER, assistant, every_state, fence_of, state_of

from chatcluster.chat import STORED_FIELDS, ChatState, CommitStep, Decision, OwnerCommand, Status, decide
from chatcluster.errors import ChatclusterError, StoreFailed
from chatcluster.ports import Chat
from chatcluster.postgres import Connection, Database
from chatcluster.postgres.claims import FIRST_OWNER
from chatcluster.postgres.decision_writer import write_decision
from chatcluster.postgres.queries import load_queries

pytestmark = pytest.mark.postgres

CHATS = load_queries("chats.sql")
LEDGER = load_queries("ledger.sql")
CLAIMS = load_queries("claims.sql")
REGISTRY = load_queries("registry.sql")
OWNED = f"worker_id = '{WORKER}', epoch = 3, claimable_since = null"


# --- what can be and what cannot --------------------------------------------------------------


def every_decision() -> Iterator[tuple[ChatState, Decision]]:
    for state in every_state():
        for command in EVENTS.values():
            fence = fence_of(state) if isinstance(command, get_args(OwnerCommand)) else None
            try:
                yield state, decide(state, command, fence, A_USERS_MESSAGE)
            except ChatclusterError:
                continue


async def test_every_decision_can_be_written_and_reads_back_as_it_was_made(database: Database) -> None:
    """The CHECKs and the state machine agree: whatever is allowed there is allowed here."""

    async def write_all(connection: Connection) -> int:
        count = 0
        for before, decision in every_decision():
            if decision.requeue is not None:
                continue  # which replaces a row that is not there
            chat_id = await insert_chat(connection, before)
            outcome = await write_decision(connection, chat_id, before, decision, None)
            assert comparable(outcome.chat) == comparable(decision.state)
            count += 1
        return count

    assert await database.transaction(write_all) > 700


def comparable(chat: Chat | ChatState) -> dict[str, object]:
    return {name: getattr(chat, name) for name in STORED_FIELDS}


def constraint_of(error: StoreFailed) -> str | None:
    assert isinstance(error.__cause__, asyncpg.IntegrityConstraintViolationError)
    name: str | None = error.__cause__.constraint_name
    return name


@pytest.mark.parametrize(
    ("constraint", "changes"),
    [
        ("owner_has_work", f"worker_id = '{WORKER}', epoch = 3"),
        ("owner_has_work", f"status = 'running', worker_id = '{WORKER}', epoch = 0"),
        ("owner_has_work", f"status = 'error', last_error = '{{}}', worker_id = '{WORKER}', epoch = 3"),
        ("claimable_is_runnable_and_unowned", "status = 'running', claimable_since = null"),
        ("claimable_is_runnable_and_unowned", f"claimable_since = {NOW}"),
        ("claimable_is_runnable_and_unowned", f"status = 'running', {OWNED.replace('null', NOW)}"),
        ("archived_is_at_rest", f"status = 'running', {OWNED.replace('worker_id', 'archived = true, worker_id')}"),
        ("archived_is_at_rest", f"status = 'requires_action', archived = true, action_deadline = {NOW}"),
        ("archiving_is_interrupting", f"archiving = true, status = 'running', {OWNED}"),
        ("compacting_is_work", "compacting = true"),
        ("error_says_why", "status = 'error'"),
        ("error_says_why", "last_error = '{}'"),
        ("retry_has_time", f"status = 'running', retry = '{{}}', {OWNED}"),
        ("retry_has_time", f"status = 'running', retry_at = {NOW}, {OWNED}"),
        ("retry_is_work", f"retry = '{{}}', retry_at = {NOW}"),
        ("action_has_deadline", "status = 'requires_action'"),
        ("action_has_deadline", f"action_deadline = {NOW}"),
        ("open_calls_are_work", "open_calls = 1"),
        ("chats_attempt_check", "attempt = -1"),
        ("chats_epoch_check", "epoch = -1"),
        ("chats_open_calls_check", "open_calls = -1"),
        ("chats_queue_length_check", "queue_length = 21"),
        ("versions_are_of_the_past", "history_version = snapshot_version + 1"),
        ("versions_are_of_the_past", "queue_version = snapshot_version + 1"),
        ("versions_are_of_the_past", "reset_version = snapshot_version + 1"),
        ("chats_status_check", "status = 'archived'"),
    ],
)
async def test_a_row_that_must_never_be_cannot_be(database: Database, constraint: str, changes: str) -> None:
    async def change(connection: Connection) -> None:
        await insert_chat(connection)
        await connection.execute(f"UPDATE chats SET {changes}")

    with pytest.raises(StoreFailed) as caught:
        await database.transaction(change)
    assert constraint_of(caught.value) == constraint


@pytest.mark.parametrize(
    ("constraint", "statement"),
    [
        ("queue_is_ordered", "INSERT INTO queued_messages (chat_id, position, content) SELECT id, 1, '[]' FROM chats"),
        (
            "messages_origin",
            "INSERT INTO messages (chat_id, revision, role, content, origin_epoch, origin_history_version,"
            " origin_event, origin_ordinal) SELECT id, 1, 'user', '[]', 3, 8, 'CommitStep', 1 FROM chats",
        ),
        (
            "tool_calls_open",
            "WITH message AS (INSERT INTO messages (chat_id, revision, role, content)"
            " SELECT id, 1, 'assistant', '[]' FROM chats RETURNING *)"
            " INSERT INTO tool_calls (chat_id, message_id, call_id, name, state)"
            " SELECT chat_id, id, 'call', 'tool', 'pending' FROM message",
        ),
    ],
)
async def test_what_is_unique_cannot_be_twice(database: Database, constraint: str, statement: str) -> None:
    """One place in the queue, one commit of a tenure on a history, one open call of an ID."""

    async def insert_twice(connection: Connection) -> None:
        await insert_chat(connection)
        await connection.execute(statement)
        await connection.execute(statement)

    with pytest.raises(StoreFailed) as caught:
        await database.transaction(insert_twice)
    assert constraint_of(caught.value) == constraint


async def test_an_id_of_a_call_can_be_used_again_once_the_first_has_its_result(database: Database) -> None:
    async def call_twice(connection: Connection) -> int:
        chat_id = await insert_chat(connection)
        for _ in range(2):
            message_id = await connection.fetchval(
                "INSERT INTO messages (chat_id, revision, role, content)"
                " VALUES ($1, 1, 'assistant', '[]') RETURNING id",
                chat_id,
            )
            await connection.execute(
                "INSERT INTO tool_calls (chat_id, message_id, call_id, name, state)"
                " VALUES ($1, $2, 'call', 'tool', 'pending')",
                chat_id,
                message_id,
            )
            await connection.execute(LEDGER["close_calls"], chat_id, ["call"])
        count: int = await connection.fetchval("SELECT count(*) FROM tool_calls WHERE state = 'done'")
        return count

    assert await database.transaction(call_twice) == 2


# --- the cost of the hot path -----------------------------------------------------------------


async def insert_crowd(connection: Connection) -> None:
    """20 000 chats at rest, 2 000 busy ones, and 30 that wait for an owner."""
    await connection.execute(
        "INSERT INTO chats (id, owner_id, title, status, snapshot_version, history_version, worker_id, epoch,"
        " claimable_since) SELECT gen_random_uuid(), gen_random_uuid(), '',"
        " CASE WHEN n <= 20000 THEN 'waiting' WHEN n <= 22015 THEN 'running' ELSE 'interrupting' END, 1, 1,"
        " CASE WHEN n > 20000 AND n <= 22000 THEN gen_random_uuid() END, 1,"
        " CASE WHEN n > 22000 THEN now() - n * interval '1 second' END FROM generate_series(1, 22030) AS n"
    )
    await connection.execute(
        "INSERT INTO replicas (worker_id, name, address, version, slots) VALUES ($1, '', '', '', 4)", WORKER
    )
    await connection.execute("ANALYZE chats, replicas")


async def explain(connection: Connection, query: str, *arguments: object) -> Any:
    plan = await connection.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT json) {query}", *arguments)
    return json.loads(plan)[0]["Plan"]


def scans(plan: Any) -> Iterator[tuple[str, str]]:
    """What the plan reads of tables: the kind of the scan, and the index or the table."""
    if "Scan" in plan["Node Type"] and ("Index Name" in plan or "Relation Name" in plan):
        yield plan["Node Type"], plan.get("Index Name") or plan["Relation Name"]
    for child in plan.get("Plans", ()):
        yield from scans(child)


INSERT_CHATS = """
    INSERT INTO chats (id, owner_id, title, status, snapshot_version, history_version)
    SELECT gen_random_uuid(), gen_random_uuid(), '', 'waiting', 10000, 10000 FROM generate_series(1, $1::int)
    RETURNING id
"""
INSERT_MESSAGES = """
    INSERT INTO messages (chat_id, revision, role, content)
    SELECT chat, n, 'user', '[]' FROM generate_series(1, $2::int) AS n, unnest($1::uuid[]) AS chat
"""
PAGE = 100
NO_END, BYTES = 2**62, 1 << 20


def looks_at(table: str, plan: Any) -> int:
    """How many rows of that table the plan went through."""
    here = 0
    if plan.get("Relation Name") == table:
        here = round((plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0)) * plan["Actual Loops"])
    return here + sum(looks_at(table, child) for child in plan.get("Plans", ()))


@pytest.mark.parametrize(("others", "each"), [(0, 0), (3, 10_000), (10_000, 3)], ids=["alone", "large", "many"])
async def test_p10_how_a_long_history_is_read_does_not_depend_on_other_chats(
    database: Database, others: int, each: int
) -> None:
    """Neither on how many they are and how long, nor on how much of the table is of this one."""

    async def measure(connection: Connection) -> dict[str, int]:
        (chat,) = [row["id"] for row in await connection.fetch(INSERT_CHATS, 1)]
        await connection.execute(INSERT_MESSAGES, [chat], 5_000)
        if others:
            ids = [row["id"] for row in await connection.fetch(INSERT_CHATS, others)]
            await connection.execute(INSERT_MESSAGES, ids, each)
        await connection.execute("ANALYZE messages")
        owner = await connection.fetchval("SELECT owner_id FROM chats WHERE id = $1", chat)
        page = (chat, 0, 0, NO_END, PAGE, BYTES)
        asked: dict[str, tuple[Any, ...]] = {
            "read_chat_few": (0, chat),
            "read_chat_page": (*page, NO_END, 0, 0),
            "read_messages": (*page, NO_END, 0),
            "list_messages": (*page, owner),
            "list_newest": (chat, owner, NO_END, PAGE, BYTES),
            "read_if_few": (chat, 1),
            "read_histories": ([str(chat)], 256, BYTES, 0, 4_000),
            "read_histories_before": ([str(chat)], 256, BYTES, NO_END),
        }
        return {
            name: looks_at("messages", await explain(connection, CHATS[name], *values))
            for name, values in asked.items()
        }

    looks = await database.transaction(measure)
    assert {name: count for name, count in looks.items() if count > 3 * PAGE} == {}


async def test_a_claim_reads_the_chats_that_wait_and_no_others(database: Database) -> None:
    """Neither chats at rest nor busy ones cost the claim anything, be they ever so many."""
    await database.transaction(insert_crowd)

    async def claim(connection: Connection) -> Any:
        return await explain(connection, CLAIMS["claim"], WORKER, 4, 10, FIRST_OWNER, 0)

    plan = await database.transaction(claim)
    assert ("Seq Scan", "chats") not in set(scans(plan))
    assert plan["Actual Rows"] == 10


WAITING = """
    INSERT INTO chats (id, owner_id, title, status, snapshot_version, history_version, claimable_since)
    SELECT gen_random_uuid(), $1, '', 'running', 1, 1, now() FROM generate_series(1, $2::int)
"""


@pytest.mark.parametrize("known", ["nothing", "chats at rest", "the crowd"])
async def test_p10_a_claim_does_not_go_through_all_that_one_user_has_waiting(database: Database, known: str) -> None:
    """Whatever the planner knows of the table: of a crowd that came just now it knows nothing."""

    async def claim(connection: Connection) -> tuple[int, int]:
        await insert_crowd(connection)
        if known == "nothing":
            await connection.execute("TRUNCATE chats CASCADE")
        await connection.execute(WAITING, UUID(int=1), 10_000)
        for owner in range(2, 12):
            await connection.execute(WAITING, UUID(int=owner), 1)
        if known == "the crowd":
            await connection.execute("ANALYZE chats")
        plan = await explain(connection, CLAIMS["claim"], WORKER, 100, 10, UUID(int=5), 0)
        owners = "SELECT count(DISTINCT owner_id) FROM chats WHERE worker_id = $1"
        return looks_at("chats", plan), await connection.fetchval(owners, WORKER)

    looks, owners = await database.transaction(claim)
    assert looks < 500
    assert owners >= 9, "each has its turn"


async def test_a_claim_of_nothing_takes_no_locks_and_writes_nothing(database: Database) -> None:
    """The poll of an idle cluster is free: not even a transaction ID is spent."""

    async def claim(connection: Connection) -> tuple[object, object]:
        await connection.fetch(CLAIMS["claim"], WORKER, 4, 10, FIRST_OWNER, 0)
        return (
            await connection.fetchval("SELECT pg_current_xact_id_if_assigned()::text"),
            await connection.fetchval("SELECT count(*) FROM pg_locks WHERE locktype = 'tuple'"),
        )

    await database.transaction(insert_chat)
    assert await database.transaction(claim) == (None, 0)


async def test_sweeps_and_renewals_read_the_busy_chats_and_no_others(database: Database) -> None:
    await database.transaction(insert_crowd)

    async def sweep(connection: Connection) -> Any:
        return [*scans(await explain(connection, REGISTRY["select_heartbeats"]))]

    async def renew(connection: Connection) -> Any:
        return [*scans(await explain(connection, REGISTRY["renew"], WORKER, False))]

    for reads in (await database.transaction(sweep), await database.transaction(renew)):
        assert any(index == "chats_by_worker" for _, index in reads)
        assert ("Seq Scan", "chats") not in reads


async def test_the_writes_of_a_tenure_and_the_renewals_are_heap_only(database: Database) -> None:
    """No index grows with the attempts, steps and heartbeats: only a change of owner touches one."""

    async def update(connection: Connection) -> tuple[int, int]:
        running = state_of(Status.RUNNING)
        chat_id = await insert_chat(connection, running)
        await connection.execute(
            "INSERT INTO replicas (worker_id, name, address, version, slots) VALUES ($1, '', '', '', 4)", WORKER
        )
        step = CommitStep((assistant("a step"),))
        for command in (EVENTS["StartAttempt"], EVENTS["ScheduleRetry"], step, EVENTS["Send(queue)"]):
            fence = fence_of(running) if isinstance(command, get_args(OwnerCommand)) else None
            await write_decision(connection, chat_id, running, decide(running, command, fence), None)
        for _ in range(4):
            await connection.execute(REGISTRY["renew"], WORKER, False)
        updated = "SELECT pg_stat_get_xact_tuples_hot_updated($1::text::regclass)"
        return await connection.fetchval(updated, "chats"), await connection.fetchval(updated, "replicas")

    assert await database.transaction(update) == (4, 4)
