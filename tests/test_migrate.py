"""Migrations: forward only, by one process at a time, and a process that does not fit the schema does not start."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import trio

from chatcluster import telemetry
from chatcluster.config import Settings
from chatcluster.errors import SchemaError, StoreFailed
from chatcluster.migrate import Migration, check_schema, known_migrations, migrate, pending
from chatcluster.postgres import Connection, open_database

pytestmark = pytest.mark.postgres

FIRST = Migration(1, "first", "CREATE TABLE first (id int);")
SECOND = Migration(2, "second", "CREATE TABLE second (id int); INSERT INTO second VALUES (2);")
BREAKING = Migration(3, "third", "-- breaking: version 1 reads this table\nDROP TABLE first;")


async def tables(url: str) -> set[str]:
    async def select(connection: Connection) -> set[str]:
        rows = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        return {row["tablename"] for row in rows}

    async with open_database(Settings(database_url=url)) as database:
        return await database.autocommit(select)


async def check(url: str, *migrations: Migration) -> None:
    async with open_database(Settings(database_url=url)) as database:
        await check_schema(database, migrations or None)


def test_migrations_are_numbered_from_1_without_gaps() -> None:
    migrations = known_migrations()
    assert [migration.version for migration in migrations] == list(range(1, len(migrations) + 1))


async def test_an_empty_database_is_brought_up_to_date_once(empty_database_url: str) -> None:
    assert await pending(empty_database_url) == known_migrations()
    assert await migrate(empty_database_url) == known_migrations()
    assert await pending(empty_database_url) == ()
    assert await migrate(empty_database_url) == ()
    await check(empty_database_url)
    assert {"chats", "messages", "replicas", "schema_migrations"} <= await tables(empty_database_url)


async def test_replicas_that_migrate_at_once_do_not_get_in_each_others_way(empty_database_url: str) -> None:
    applied: list[Migration] = []

    async def run() -> None:
        applied.extend(await migrate(empty_database_url))

    async with trio.open_nursery() as nursery:
        for _ in range(4):
            nursery.start_soon(run)
    assert tuple(applied) == known_migrations()


async def test_only_what_is_missing_is_applied_in_order(empty_database_url: str) -> None:
    assert await migrate(empty_database_url, (FIRST,)) == (FIRST,)
    assert await pending(empty_database_url, (FIRST, SECOND)) == (SECOND,)
    assert await migrate(empty_database_url, (FIRST, SECOND)) == (SECOND,)


async def test_a_migration_that_fails_leaves_nothing_behind_and_keeps_what_came_before(empty_database_url: str) -> None:
    broken = Migration(2, "second", "CREATE TABLE half (id int); SELECT 1 / 0;")
    with pytest.raises(StoreFailed):
        await migrate(empty_database_url, (FIRST, broken))
    assert await tables(empty_database_url) == {"first", "schema_migrations"}
    assert await migrate(empty_database_url, (FIRST, SECOND)) == (SECOND,)


@pytest.mark.parametrize("action", [migrate, pending, check], ids=["migrate", "pending", "start"])
async def test_a_migration_that_was_changed_after_it_was_applied_is_refused(
    empty_database_url: str, action: Callable[..., object]
) -> None:
    changed = FIRST._replace(script="CREATE TABLE first (id bigint);")
    await migrate(empty_database_url, (FIRST,))
    arguments = ((changed, SECOND),) if action is not check else (changed, SECOND)
    with pytest.raises(SchemaError, match="0001 first was applied to this database in another form"):
        await action(empty_database_url, *arguments)  # type: ignore[misc]
    assert await tables(empty_database_url) == {"first", "schema_migrations"}


@pytest.mark.parametrize("prepare", [(), (FIRST,)], ids=["empty", "older"])
async def test_a_process_does_not_start_on_an_older_schema_and_says_what_to_do(
    empty_database_url: str, prepare: tuple[Migration, ...]
) -> None:
    await migrate(empty_database_url, prepare)
    with pytest.raises(SchemaError, match="run `chatcluster migrate`"):
        await check(empty_database_url, FIRST, SECOND)


async def test_a_newer_schema_that_fits_is_only_reported(empty_database_url: str) -> None:
    """P6: in a rolling deploy the old version goes on, and restarts, on the schema of the new one."""
    events: list[tuple[str, dict[str, object]]] = []
    listen: Callable[[str, dict[str, object]], None] = lambda name, fields: events.append((name, fields))  # noqa: E731
    await migrate(empty_database_url, (FIRST, SECOND))
    telemetry.subscribe(listen)
    try:
        await check(empty_database_url, FIRST)
    finally:
        telemetry.unsubscribe(listen)
    assert ("schema.newer", {"version": 2, "known": 1}) in events


async def test_a_newer_schema_that_breaks_this_version_is_refused(empty_database_url: str) -> None:
    await migrate(empty_database_url, (FIRST, SECOND, BREAKING))
    with pytest.raises(SchemaError, match="0003 third, which this version cannot work with: upgrade chatcluster"):
        await check(empty_database_url, FIRST, SECOND)
    await check(empty_database_url, FIRST, SECOND, BREAKING)
