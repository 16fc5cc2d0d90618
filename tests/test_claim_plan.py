"""The claim costs the same however many chats there are: its plan at a thousand rows and at two hundred thousand."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any, NamedTuple

import pytest
from chat_states import WORKER

from chatcluster.config import Settings
from chatcluster.postgres import Connection, Database, open_database
from chatcluster.postgres.claims import FIRST_OWNER
from chatcluster.postgres.queries import load_queries

pytestmark = pytest.mark.postgres

SQL = load_queries("claims.sql") | load_queries("chats.sql")
BATCH = 10
ASKED = {
    "claim": (WORKER, BATCH, BATCH, FIRST_OWNER, 0),
    "claim_few": (WORKER, BATCH, BATCH, 0),
    "may_claim": (WORKER, WORKER, WORKER),
}
INDEXES = {"chats_claimable", "chats_claimable_by_owner", "chats_suspected", "chats_by_worker", "chats_pkey"}
INSERT_REPLICA = "INSERT INTO replicas (worker_id, name, address, version, slots) VALUES ($1, '', '', '', 4)"
INSERT_CHATS = """
    INSERT INTO chats (id, owner_id, title, status, snapshot_version, history_version,
        worker_id, epoch, claimable_since)
    SELECT gen_random_uuid(), gen_random_uuid(), '', $1, 1, 1,
        CASE WHEN $2 = 'busy' THEN gen_random_uuid() END, 1,
        CASE WHEN $2 = 'unowned' THEN now() - n * interval '1 second' END
    FROM generate_series(1, $3::int) AS n
"""


class Claim(NamedTuple):
    chats: int
    indexes: frozenset[str]
    """Those that were looked into, and tables that were read without one."""
    blocks: int
    """Pages looked at."""


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with open_database(Settings.of(database_url=database_url, statement_timeout_seconds=60)) as database:
        yield database


async def explain_claim(connection: Connection, name: str = "claim") -> Claim:
    """Claim a batch, look how it was done, and leave everything as it was."""
    await connection.execute("SAVEPOINT before")
    explained = await connection.fetchval(f"EXPLAIN (ANALYZE, BUFFERS, FORMAT json) {SQL[name]}", *ASKED[name])
    await connection.execute("ROLLBACK TO SAVEPOINT before")
    plan = json.loads(explained)[0]["Plan"]
    found = frozenset(
        node.get("Index Name") or node["Relation Name"] for node in scans_of(plan) if node["Actual Loops"]
    )
    return Claim(plan["Actual Rows"], found, plan["Shared Hit Blocks"] + plan["Shared Read Blocks"])


def scans_of(plan: Any) -> list[Any]:
    """The nodes of a plan that read the table of chats."""
    here = [plan] if "Scan" in plan["Node Type"] and plan.get("Relation Name") == "chats" else []
    return here + [node for child in plan.get("Plans", ()) for node in scans_of(child)]


async def test_the_plan_of_a_claim_does_not_grow_with_chats_at_rest_or_busy(database: Database) -> None:
    async def measure(connection: Connection) -> tuple[Claim, Claim]:
        async def grow(rows: int) -> Claim:
            await connection.execute(INSERT_CHATS, "waiting", "at rest", rows // 2)
            await connection.execute(INSERT_CHATS, "running", "busy", rows // 2)
            await connection.execute("ANALYZE chats")
            return await explain_claim(connection)

        await connection.execute(INSERT_REPLICA, WORKER)
        await connection.execute(INSERT_CHATS, "running", "unowned", 3 * BATCH)
        return await grow(1_000), await grow(199_000)

    few, many = await database.transaction(measure)
    assert few.chats == many.chats == BATCH
    assert few.indexes == many.indexes == INDEXES
    assert many.blocks < 2 * few.blocks, "an index is a level deeper, and that is all"


@pytest.mark.parametrize(("unowned", "chats"), [(BATCH, BATCH), (BATCH + 1, 0)], ids=["few", "crowded"])
async def test_a_claim_of_few_looks_into_an_index_and_takes_all_or_nothing(
    database: Database, unowned: int, chats: int
) -> None:
    async def measure(connection: Connection) -> Claim:
        await connection.execute(INSERT_REPLICA, WORKER)
        await connection.execute(INSERT_CHATS, "running", "unowned", unowned)
        await connection.execute(INSERT_CHATS, "waiting", "at rest", 50_000)
        await connection.execute(INSERT_CHATS, "running", "busy", 50_000)
        await connection.execute("ANALYZE chats")
        return await explain_claim(connection, "claim_few")

    claim = await database.transaction(measure)
    assert claim.chats == max(chats, 1), "it says in one row that it is crowded"
    assert claim.indexes <= {"chats_claimable", "chats_pkey"}
    assert claim.blocks < 100 * BATCH


async def test_whether_anybody_waits_is_a_look_into_an_index_whatever_is_known_of_the_table(database: Database) -> None:
    """Statistics of a crowded moment: a scan of the table would look quick, and be long."""

    async def measure(connection: Connection) -> Claim:
        await connection.execute(INSERT_REPLICA, WORKER)
        await connection.execute(INSERT_CHATS, "running", "unowned", 20_000)
        await connection.execute("ANALYZE chats")
        await connection.execute("UPDATE chats SET claimable_since = null, status = 'waiting'")
        return await explain_claim(connection, "may_claim")

    looked = await database.transaction(measure)
    assert looked.indexes == {"chats_claimable"}
