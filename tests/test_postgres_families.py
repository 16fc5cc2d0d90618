"""Families on Postgres: what does not grow with the cluster, what waits for whom, and what cannot be read."""

from __future__ import annotations

import json
import re
from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import pytest
from contract_worlds import World, open_world
from postgres_sessions import execute
from test_families_contract import parent, spawn, waiting
from two_neighbours import telling

from chatcluster.config import Settings
from chatcluster.postgres import Connection, Database, Session, open_database
from chatcluster.postgres.queries import load_queries
from chatcluster.postgres.store import PostgresStore

pytestmark = pytest.mark.postgres

LEDGER, FAMILIES = load_queries("ledger.sql"), load_queries("families.sql")
INSERT_CHATS = """
    INSERT INTO chats (id, owner_id, title, status, snapshot_version, history_version, open_calls, action_deadline)
    SELECT gen_random_uuid(), gen_random_uuid(), '', 'requires_action', 1, 1, 1, now() + interval '1 day'
    FROM generate_series(1, $1::int)
"""
INSERT_CALLS = """
    WITH asking AS (
        INSERT INTO messages (chat_id, revision, role, content) SELECT id, 1, 'assistant', '[]' FROM chats
        RETURNING id, chat_id
    )
    INSERT INTO tool_calls (chat_id, message_id, call_id, name, state, deadline)
    SELECT chat_id, id, 'c', 'tool', 'approval', now() + interval '1 day' FROM asking
"""


@pytest.fixture
async def world(database_url: str) -> AsyncIterator[World]:
    async with open_world(database_url) as world:
        yield world


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with open_database(Settings.of(database_url=database_url, statement_timeout_seconds=60)) as database:
        yield database


def blocks_of(explained: str) -> int:
    plan: dict[str, Any] = json.loads(explained)[0]["Plan"]
    blocks: int = plan["Shared Hit Blocks"] + plan["Shared Read Blocks"]
    return blocks


async def test_p10_what_a_chat_waits_for_is_found_however_many_others_wait(database: Database) -> None:
    async def measure(connection: Connection) -> int:
        await connection.execute(INSERT_CHATS, 20_000)
        await connection.execute(INSERT_CALLS)
        await connection.execute("ANALYZE chats")
        await connection.execute("ANALYZE tool_calls")
        chat_id = await connection.fetchval("SELECT id FROM chats LIMIT 1")
        explain = f"EXPLAIN (ANALYZE, BUFFERS, FORMAT json) {LEDGER['select_actions']}"
        return blocks_of(await connection.fetchval(explain, chat_id))

    assert await database.transaction(measure) < 50


async def test_p10_what_keeps_one_kind_of_work_from_being_looked_for_keeps_no_other(
    world: World, database_url: str, other: Session
) -> None:
    """A table that is moved, copied or restored, say, and so held as a whole."""
    chat = await parent(world)
    agent = (await spawn(world, chat)).chat
    await waiting(world, chat, agent.id)
    await execute(other, "UPDATE chats SET status = 'waiting', claimable_since = null WHERE id = $1", agent.id)
    await execute(other, FAMILIES["order_look"], chat.id, "look")
    await execute(other, "BEGIN")
    await execute(other, "LOCK TABLE family_orders IN ACCESS EXCLUSIVE MODE")
    settings = Settings.of(database_url=database_url, statement_timeout_seconds=0.2)
    async with open_database(settings) as hurried, telling(re.compile("^deadlines.failed$")) as told:
        found = await PostgresStore(hurried).undone(10)
    assert (found.reports, found.orders, len(told)) == ((chat.id,), (), 1)
    await execute(other, "ROLLBACK")
    assert (await world.store.undone(10)).orders == (chat.id,)


async def test_an_order_of_a_newer_version_is_left_to_one(world: World, other: Session) -> None:
    agent = (await spawn(world, await parent(world))).chat
    await execute(
        other,
        "INSERT INTO family_orders (chat_id, root_id, word) VALUES ($1, $2, 'sing')",
        agent.id,
        agent.root_id,
    )
    assert await world.store.obey(agent.id) is None
    assert await world.store.due_orders(10) == (agent.id,)


async def test_whoever_obeys_sees_what_an_order_that_was_given_twice_is_about(
    database: Database, other: Session
) -> None:
    """The second is held until what it is about is committed: so it is not carried out before."""
    chat_id = uuid4()

    async def is_free(connection: Connection) -> bool:
        free = "SELECT EXISTS (SELECT FROM family_orders WHERE chat_id = $1 FOR UPDATE SKIP LOCKED)"
        return bool(await connection.fetchval(free, chat_id))

    await execute(other, FAMILIES["order_look"], chat_id, "look")
    assert await database.transaction(is_free)
    await execute(other, "BEGIN")
    await execute(other, FAMILIES["order_look"], chat_id, "look")
    assert not await database.transaction(is_free)
    await execute(other, "COMMIT")
    assert await database.transaction(is_free)


@pytest.mark.parametrize(
    ("change", "word"),
    [
        ("status = 'interrupting'", "close"),
        ("status = 'interrupting', archiving = true", "archive"),
        ("cause = 'edit', history_version = history_version + 1", "close"),
        ("status = 'interrupting', queue_length = 1", None),
        ("title = 'another'", None),
    ],
    ids=["stop", "archive", "edit", "message", "rename"],
)
async def test_a_replica_from_before_there_were_agents_stops_a_chat_and_its_agents_have_their_order(
    world: World, other: Session, change: str, word: str | None
) -> None:
    chat = await parent(world)
    agent = (await spawn(world, chat)).chat
    update = f"UPDATE chats SET {change}, snapshot_version = snapshot_version + 1 WHERE id = $1"
    await execute(other, update, chat.id)
    assert await world.store.due_orders(10) == (() if word is None else (agent.id,))
    if word is not None:
        outcome = await world.store.obey(agent.id)
        assert outcome is not None
        assert outcome.chat.archiving is (word == "archive")
        assert outcome.chat.status == "interrupting"


async def test_the_same_for_a_chat_that_waited_for_its_agents(world: World, other: Session) -> None:
    chat = await parent(world)
    agent = (await spawn(world, chat)).chat
    chat = await waiting(world, chat, agent.id)
    assert chat.status == "requires_action"
    stopped = "status = 'waiting', open_calls = 0, waits_for_agents = false, action_deadline = null"
    await execute(other, f"UPDATE chats SET {stopped} WHERE id = $1", chat.id)
    assert await world.store.due_orders(10) == (agent.id,)
    await execute(other, "UPDATE chats SET archived = true WHERE id = $1", chat.id)
    await world.store.obey(agent.id)
    await execute(other, "UPDATE chats SET archived = false WHERE id = $1", chat.id)
    assert await world.store.due_orders(10) == (agent.id,)
