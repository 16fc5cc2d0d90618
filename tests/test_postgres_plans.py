"""What each turn asks of Postgres is planned once on a connection, and not each time.

A statement that the server thinks cheaper with its arguments than without is planned anew with each execution, which
takes longer than the execution itself. That it is not so is a property of how the statement is written.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from chat_states import WORKER

from chatcluster.config import Settings
from chatcluster.postgres import Connection, Database, open_database
from chatcluster.postgres.claims import FIRST_OWNER
from chatcluster.postgres.queries import load_queries

pytestmark = pytest.mark.postgres

EXECUTIONS = 8
"""The server tries the first five with their arguments."""
CHATS = [str(WORKER)] * 10
STATEMENTS: dict[str, tuple[object, ...]] = {
    "claim": (WORKER, 10, 10, FIRST_OWNER, 0),
    "claim_few": (WORKER, 10, 10, 64),
    "disown": (WORKER, "takeover", ""),
    "read_chat_few": (0, WORKER),
    "read_histories": (CHATS, 1 << 20, 1 << 24, 0, 0),
    "read_histories_before": (CHATS, 1 << 20, 1 << 24, 1 << 40),
    "select_heartbeats": (),
}
PLANS = "SELECT generic_plans, custom_plans FROM pg_prepared_statements WHERE statement = $1"


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    async with open_database(Settings.of(database_url=database_url)) as database:
        yield database


@pytest.mark.parametrize("name", STATEMENTS)
async def test_a_statement_of_every_turn_is_planned_once(database: Database, name: str) -> None:
    text = (load_queries("chats.sql") | load_queries("claims.sql") | load_queries("registry.sql"))[name]

    async def execute(connection: Connection) -> tuple[int, int]:
        for _ in range(EXECUTIONS):
            await connection.fetch(text, *STATEMENTS[name])
        row = await connection.fetchrow(PLANS, text)
        assert row is not None, "the connection keeps what it has prepared"
        return row["generic_plans"], row["custom_plans"]

    generic, custom = await database.autocommit(execute)
    assert generic >= EXECUTIONS - 5, f"planned {custom} times in {EXECUTIONS} executions"
