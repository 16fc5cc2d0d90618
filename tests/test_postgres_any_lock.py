"""Whatever row of one user somebody holds: all that is done for all of them is done for another, at once (P10).

By the catalogue, as is ``test_postgres_any_value``: a table that is new is looked at as well. Somebody holds the row as
an administrator does who was called away from an open transaction.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

import pytest
from neighbours_looks import Look, Looks
from postgres_sessions import execute, open_session
from test_postgres_any_value import SHARED, odd_rows
from two_neighbours import PLAIN, Neighbours, open_neighbours, telling
from workspace_rows import open_rows

from chatcluster.config import Settings
from chatcluster.errors import StoreLocked
from chatcluster.ports.workspaces import WorkspaceState
from chatcluster.postgres import Database, Session, open_database

pytestmark = pytest.mark.postgres

WAITED = re.compile(r"^claim\.(unreadable|passed_over)$")
"""What is said where all were held up, and done one by one then."""
WAITS = {
    ("workspaces", "register_host"): "a host that comes back waits until it has told what it ran: it says so",
    ("usage_hours", "add_up"): "what is not added up is summed up at each question, and tells the same",
}
"""What is known to wait for it, and why that delays nobody's chat."""


async def failures(neighbours: Neighbours, other: Session) -> list[str]:
    """What waits for a row of the odd one that is held, or does not find the plain one meanwhile."""
    looks = {name: look for name, look in Looks(neighbours).all().items() if not name.startswith("own_")}
    failed = []
    for table, places in (await odd_rows(neighbours)).items():
        for place in places if table not in SHARED else ():
            await execute(other, "BEGIN")
            await execute(other, f"SELECT FROM {table} WHERE ctid = '{place}' FOR UPDATE")
            for name, look in looks.items():
                why = await _failure_of(look)
                if why and (table, name) not in WAITS:
                    failed.append(f"{table}: {name}: {why}")
            await execute(other, "ROLLBACK")
    return failed


async def _failure_of(look: Look) -> str:
    async with telling(WAITED) as told:
        try:
            is_found = await look(PLAIN)
        except StoreLocked as error:
            return repr(error)
    return "; ".join(told) if is_found else "the other one is not found"


@pytest.fixture
async def database(database_url: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Database]:
    monkeypatch.setattr("chatcluster.postgres.purge.PAUSE_SECONDS", 0.0)
    async with open_database(Settings.of(database_url=database_url)) as database:
        yield database


async def test_whatever_row_of_one_user_is_held_all_is_done_for_another(database: Database) -> None:
    async with open_neighbours(database) as neighbours, open_session(database, "other", lasting=True) as other:
        await neighbours.say("COMMIT")
        await neighbours.say("BEGIN")
        await neighbours.say("SET LOCAL lock_timeout = '50ms'")
        assert await failures(neighbours, other) == []


async def test_a_workspace_whose_row_was_held_when_its_host_was_buried_is_lost_by_a_later_burial(
    database_url: str, database: Database
) -> None:
    async with open_rows(database_url) as world, open_session(database, "other", lasting=True) as other:
        lease = await world.host()
        held, free = [await world.running(lease) for _ in range(2)]
        await execute(other, "BEGIN")
        await execute(other, f"SELECT FROM workspaces WHERE id = '{held.id}' FOR UPDATE")
        assert [row.id for row in await world.bury(lease)] == [free.id]
        assert (await world.state(held), await world.state(free)) == (WorkspaceState.RUNNING, WorkspaceState.LOST)
        token = (await world.hosts.heartbeats())[lease.host_id].token
        assert await world.hosts.bury(lease.host_id, token) is None, "nothing that could be done was left"
        await execute(other, "ROLLBACK")
        assert [row.id for row in await world.bury(lease)] == [held.id]
        assert await world.hosts.heartbeats() == {}
