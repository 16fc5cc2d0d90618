"""Migrations: forward only, by one process at a time, and a process that does not fit the schema does not start."""

from __future__ import annotations

from collections.abc import Callable
from urllib.parse import urlsplit

import pytest
import trio
from conftest import execute_sql, url_of_database
from postgres_sessions import execute, fetchval, open_session, wait_until

from chatcluster import telemetry
from chatcluster.config import Settings
from chatcluster.errors import ConfigError, SchemaError, StoreFailed, StoreUnavailable
from chatcluster.postgres import Connection, open_database
from chatcluster.postgres import migrate as migrations_module
from chatcluster.postgres.migrate import Migration, check_schema, known_migrations, migrate, pending

pytestmark = pytest.mark.postgres

FIRST = Migration(1, "first", "CREATE TABLE first (id int);")
SECOND = Migration(2, "second", "CREATE TABLE second (id int); INSERT INTO second VALUES (2);")
BREAKING = Migration(3, "third", "-- breaking: version 1 reads this table\nDROP TABLE first;")


async def tables(url: str) -> set[str]:
    async def select(connection: Connection) -> set[str]:
        rows = await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
        return {row["tablename"] for row in rows}

    async with open_database(Settings.of(database_url=url)) as database:
        return await database.autocommit(select)


async def check(url: str, *migrations: Migration) -> None:
    async with open_database(Settings.of(database_url=url)) as database:
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


# --- in the company of others -----------------------------------------------------------------

ALTERED = Migration(2, "altered", "ALTER TABLE first ADD COLUMN more int;")


@pytest.fixture
def restless(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(migrations_module, "PAUSE_SECONDS_MAX", 0.02)


async def test_readers_do_not_wait_for_a_migration_that_waits_for_a_backup(
    empty_database_url: str, restless: None
) -> None:
    """P10: while somebody reads a table for long, its migration steps back again and again, and says who that is."""
    said: list[str] = []
    waits = trio.Event()
    applied: list[Migration] = []

    def say(text: str) -> None:
        said.append(text)
        waits.set()

    async def run() -> None:
        applied.extend(await migrate(empty_database_url, (FIRST, ALTERED), say=say))

    await migrate(empty_database_url, (FIRST,))
    async with (
        open_database(Settings.of(database_url=empty_database_url)) as database,
        open_session(database, "backup") as backup,
        trio.open_nursery() as nursery,
    ):
        await execute(backup, "BEGIN; LOCK TABLE first IN ACCESS SHARE MODE; SELECT pg_sleep(0.3)")
        nursery.start_soon(run)
        await waits.wait()
        for _ in range(3):
            await database.autocommit(read_first)
        pid = await fetchval(backup, "SELECT pg_backend_pid()")
        assert applied == []
        await execute(backup, "COMMIT")
    assert applied == [ALTERED]
    assert said == [
        f"the migration waits for a lock that another session holds (held: first by pid {pid}, chatcluster backup)"
    ]


async def read_first(connection: Connection) -> None:
    await connection.execute("SELECT FROM first")


async def test_a_migration_that_gets_no_lock_gives_up_and_what_came_before_stays(
    empty_database_url: str, restless: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(migrations_module, "WAIT_SECONDS_MAX", 0.0)
    between = Migration(2, "between", "CREATE TABLE between_them (id int);")
    await migrate(empty_database_url, (FIRST,))
    altered = ALTERED._replace(version=3)
    async with (
        open_database(Settings.of(database_url=empty_database_url)) as database,
        open_session(database, "backup") as backup,
    ):
        await execute(backup, "BEGIN; LOCK TABLE first IN ACCESS SHARE MODE")
        with pytest.raises(StoreUnavailable, match=r"given up after 0 s: .* run it again later"):
            await migrate(empty_database_url, (FIRST, between, altered))
    assert await pending(empty_database_url, (FIRST, between, altered)) == (altered,)


async def test_a_migration_that_is_interrupted_leaves_no_lock_behind(empty_database_url: str) -> None:
    slow = Migration(1, "slow", "CREATE TABLE slow (id int); SELECT pg_sleep(60);")
    async with (
        open_database(Settings.of(database_url=empty_database_url)) as database,
        open_session(database) as other,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(migrate, empty_database_url, (slow,))
        await wait_until(other, "EXISTS (SELECT FROM pg_stat_activity WHERE query LIKE 'CREATE TABLE slow%')")
        nursery.cancel_scope.cancel()
    with trio.fail_after(55):
        assert await migrate(empty_database_url, (FIRST,)) == (FIRST,)


# --- databases of others ----------------------------------------------------------------------


async def test_a_database_that_cannot_hold_all_text_is_refused(postgres_url: str) -> None:
    execute_sql(postgres_url, "CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    url = url_of_database(postgres_url, "latin")
    for action in (migrate, pending, check):
        with pytest.raises(ConfigError, match="the encoding LATIN1, which cannot hold all text"):
            await action(url)
    execute_sql(postgres_url, "DROP DATABASE latin")


async def test_a_search_path_that_leads_nowhere_is_refused(empty_database_url: str) -> None:
    name = urlsplit(empty_database_url).path[1:]
    execute_sql(empty_database_url, f"ALTER DATABASE {name} SET search_path = nowhere")
    with pytest.raises(ConfigError, match="search_path"):
        await migrate(empty_database_url)


async def test_a_schema_of_its_own_is_as_good_as_the_public_one(empty_database_url: str) -> None:
    execute_sql(empty_database_url, "CREATE SCHEMA own")
    url = f"{empty_database_url}&search_path=own"
    assert await migrate(url) == known_migrations()
    await check(url)
    assert await tables(empty_database_url) == set()


async def test_defaults_that_a_pooler_hides_from_us_are_refused(empty_database_url: str) -> None:
    """Through a transaction pooler a connection cannot be told what it needs."""
    await migrate(empty_database_url)
    name = urlsplit(empty_database_url).path[1:]
    execute_sql(empty_database_url, f"ALTER DATABASE {name} SET default_transaction_isolation = 'repeatable read'")
    await check(empty_database_url)
    settings = Settings.of(database_url=empty_database_url, database_direct_url="off")
    async with open_database(settings) as database:
        with pytest.raises(ConfigError, match="default_transaction_isolation"):
            await check_schema(database)


async def test_a_database_whose_foreign_keys_do_nothing_is_refused(empty_database_url: str) -> None:
    """Only a superuser may set that, so nobody else can tell a connection otherwise."""
    name = urlsplit(empty_database_url).path[1:]
    execute_sql(empty_database_url, f"ALTER DATABASE {name} SET session_replication_role = replica")
    with pytest.raises(ConfigError, match="session_replication_role"):
        await check(empty_database_url)


@pytest.mark.parametrize("direct_url", ["", "off"])
async def test_a_database_that_was_made_read_only_is_waited_for_and_never_written_to(
    empty_database_url: str, direct_url: str
) -> None:
    """A primary that was demoted like this goes on to answer: a write that it took would be lost."""
    await migrate(empty_database_url)
    settings = Settings.of(database_url=empty_database_url, database_direct_url=direct_url)
    async with open_database(settings) as database:
        await check_schema(database)
        name = urlsplit(empty_database_url).path[1:]
        execute_sql(empty_database_url, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    async with open_database(settings) as database:
        with pytest.raises(StoreUnavailable, match="default_transaction_read_only"):
            await check_schema(database)
        with pytest.raises(StoreUnavailable, match="read-only"):
            await database.autocommit(create_table)


async def create_table(connection: Connection) -> None:
    await connection.execute("CREATE TABLE written ()")


async def test_a_role_without_rights_is_told_which_it_lacks(empty_database_url: str) -> None:
    await migrate(empty_database_url)
    execute_sql(
        empty_database_url,
        "CREATE ROLE reader LOGIN",
        "GRANT SELECT ON ALL TABLES IN SCHEMA public TO reader",
        "GRANT ALL ON chats TO reader",
    )
    parts = urlsplit(empty_database_url)
    url = parts._replace(netloc=f"reader@{parts.netloc.rpartition('@')[2]}").geturl()
    with pytest.raises(StoreUnavailable, match="no rights on the table"):
        await check(url)
    with pytest.raises(StoreUnavailable, match="permission denied"):
        await migrate(url, (*known_migrations(), Migration(9999, "more", "CREATE TABLE more (id int);")))
    execute_sql(empty_database_url, "DROP OWNED BY reader", "DROP ROLE reader")


async def test_commits_that_may_be_lost_are_said_and_not_refused(empty_database_url: str) -> None:
    """P1 is as good as the server's disk."""
    said: list[str] = []
    name = urlsplit(empty_database_url).path[1:]
    execute_sql(empty_database_url, f"ALTER DATABASE {name} SET synchronous_commit = off")
    await migrate(empty_database_url, say=said.append)
    async with open_database(Settings.of(database_url=empty_database_url)) as database:
        await check_schema(database, say=said.append)
    assert len(said) == 2
    assert all("can be lost" in text for text in said)
