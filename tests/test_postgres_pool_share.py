"""The share of a replica in what Postgres has room for: the rule, what the server says, and who makes room for whom."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import AsyncExitStack
from functools import partial
from urllib.parse import urlsplit
from uuid import UUID, uuid4

import pytest
import trio
from conftest import execute_sql
from postgres_sessions import as_role, execute, fetchval, open_session, wait_until

from chatcluster import telemetry
from chatcluster.config import Settings
from chatcluster.metrics import Metrics
from chatcluster.ports import SESSION_LOCKS, Replica
from chatcluster.postgres import Connection, Database, Lane, open_database
from chatcluster.postgres.pool_share import FREE, WATCHES_MAX, Room, has_room_for_watches, share_of
from chatcluster.postgres.registry import PostgresRegistry
from chatcluster.readiness import Readiness
from chatcluster.session_watch import WATCHED_MAX

SIZE = 10


def outside(replicas: int) -> int:
    """A replica's connections that are not the pool's."""
    return 1 + SESSION_LOCKS + min(replicas - 1, WATCHED_MAX)


def roomy(connections: int, *, strangers: int = 0) -> Room:
    """As it is while nobody comes."""
    return Room(connections, FREE, strangers)


# --- the rule ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("room", "replicas", "share"),
    [(97, 2, 10), (20, 2, 4), (14, 2, 2), (12, 2, 2), (10, 2, 1), (8, 2, 1), (12, 1, 6), (21, 3, 2), (30, 3, 4)],
)
def test_each_replica_has_the_same_share(room: int, replicas: int, share: int) -> None:
    assert share_of(roomy(room), replicas, size=SIZE) == share


@pytest.mark.parametrize("replicas", range(1, 40))
def test_what_the_documentation_says_is_enough_for_all_pools(replicas: int) -> None:
    assert share_of(roomy(replicas * (SIZE + 6)), replicas, size=SIZE) == SIZE


@pytest.mark.parametrize("replicas", range(1, 10))
def test_all_shares_together_fit_and_leave_what_the_next_replica_registers_with(replicas: int) -> None:
    for room in range(replicas * (outside(replicas) + 1), 300):
        share = share_of(roomy(room), replicas, size=SIZE)
        free = room - replicas * (outside(replicas) + share)
        assert free >= (FREE if share > 2 else 0), room
        assert has_room_for_watches(roomy(room), replicas), room


@pytest.mark.parametrize(("room", "replicas", "share"), [(12, 1, 2), (30, 2, 4), (20, 2, 2), (12, 2, 2), (10, 2, 1)])
def test_where_those_that_are_left_are_taken_the_others_make_room(room: int, replicas: int, share: int) -> None:
    """P10: two that come at once have half of what each needs, and neither would ever be seen."""
    assert share_of(Room(room, free=FREE - 1), replicas, size=SIZE) == share


def test_where_not_even_one_is_left_the_pool_has_one_and_no_watch_begins() -> None:
    assert share_of(roomy(1), 5, size=SIZE) == 1
    assert not has_room_for_watches(roomy(9), 2)


def test_replicas_of_another_role_have_other_connections_and_are_watched_all_the_same() -> None:
    assert share_of(roomy(14, strangers=2), 4, size=SIZE) == 2
    assert share_of(roomy(14, strangers=9), 4, size=SIZE) == 6  # of rows that are not seen yet


def test_as_many_neighbours_are_counted_as_are_watched() -> None:
    assert WATCHES_MAX == WATCHED_MAX


# --- what the server says ---------------------------------------------------------------------


@pytest.fixture
def sharing_url(database_url: str) -> Iterator[str]:
    """The database for a role without a limit."""
    grants = (f"GRANT ALL ON ALL {kind} IN SCHEMA public TO sharing" for kind in ("TABLES", "SEQUENCES", "FUNCTIONS"))
    execute_sql(database_url, "CREATE ROLE sharing LOGIN", *grants)
    yield as_role(database_url, "sharing")
    execute_sql(
        database_url,
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = 'sharing'",
        "DROP OWNED BY sharing",
        "DROP ROLE sharing",
    )


async def seen(url: str, **settings: object) -> str:
    """What a replica that is alone sees."""
    async with open_database(Settings.of(database_url=url, **settings)) as database:
        await database.share.look()
        database.share.divide(1)
        return repr(database.share)


@pytest.mark.postgres
async def test_the_least_of_all_limits_counts_without_the_connections_of_others(
    database_url: str, sharing_url: str
) -> None:
    name = urlsplit(database_url).path[1:]
    async with (
        open_database(Settings.of(database_url=database_url)) as owners,
        open_session(owners, "psql") as owner,
        open_database(Settings.of(database_url=sharing_url)) as others,
        open_session(others, "psql") as other,
    ):
        await fetchval(other, "SELECT 1")
        limit = "current_setting('max_connections')::int - current_setting('superuser_reserved_connections')::int"
        clients = "(SELECT count(*) FROM pg_stat_activity WHERE backend_type = 'client backend')"
        left = await fetchval(owner, f"SELECT {limit} - {clients}")
        assert (
            await seen(sharing_url)
            == f"<PoolShare 10, 1 replicas, Room(connections={left}, free={left - 1}, strangers=0)>"
        )
        await execute(owner, f"ALTER DATABASE {name} CONNECTION LIMIT 14")
        assert await seen(sharing_url) == "<PoolShare 6, 1 replicas, Room(connections=12, free=11, strangers=0)>"
        await execute(owner, "ALTER ROLE sharing CONNECTION LIMIT 10")
        assert await seen(sharing_url) == "<PoolShare 3, 1 replicas, Room(connections=9, free=8, strangers=0)>"
        assert "<PoolShare 10, " in await seen(database_url)  # a superuser is held to neither


@pytest.mark.postgres
async def test_replicas_that_log_in_as_another_role_are_told_apart(database_url: str, sharing_url: str) -> None:
    async with (
        open_database(Settings.of(database_url=database_url)) as others,
        open_session(others, "heartbeat") as other,
    ):
        await execute(other, "ALTER ROLE sharing CONNECTION LIMIT 14")
        assert await seen(sharing_url) == "<PoolShare 8, 1 replicas, Room(connections=14, free=13, strangers=1)>"


@pytest.mark.postgres
async def test_what_a_workspace_host_has_is_left_to_it(database_url: str, sharing_url: str) -> None:
    async with (
        open_database(Settings.of(database_url=database_url)) as owners,
        open_session(owners) as owner,
        open_database(Settings.of(database_url=sharing_url), purpose="workspace host") as host,
    ):
        await execute(owner, "ALTER ROLE sharing CONNECTION LIMIT 10")
        await host.autocommit(backend)
        assert await seen(sharing_url) == "<PoolShare 3, 1 replicas, Room(connections=9, free=8, strangers=0)>"


@pytest.mark.postgres
async def test_without_a_limit_that_can_be_read_the_pool_is_as_large_as_it_is_set(
    database_url: str, sharing_url: str
) -> None:
    """P10: and nothing fails for it."""
    async with open_database(Settings.of(database_url=database_url)) as owners, open_session(owners) as owner:
        await execute(owner, "ALTER ROLE sharing CONNECTION LIMIT 10")
        assert await seen_behind_pooler(sharing_url) == "<PoolShare 10, 1 replicas, None>"
        await execute(owner, "REVOKE SELECT ON pg_roles FROM PUBLIC")
        assert await seen(sharing_url) == "<PoolShare 10, 1 replicas, None>"


async def seen_behind_pooler(url: str) -> str:
    async with open_database(Settings.of(database_url=url, database_direct_url="off")) as database:
        await database.share.keep()  # there is nothing to keep
        database.share.divide(1)
        return repr(database.share)


class WorkingRedis:
    async def check(self) -> str:
        return "ok"


@pytest.mark.postgres
async def test_an_operator_sees_what_is_missing_and_the_replica_is_ready_all_the_same(
    database_url: str, sharing_url: str
) -> None:
    async with (
        open_database(Settings.of(database_url=database_url)) as owners,
        open_session(owners) as owner,
        open_database(Settings.of(database_url=sharing_url)) as database,
    ):
        ready = Readiness(database, WorkingRedis(), lambda: False)  # type: ignore[arg-type]
        with Metrics().listening() as metrics:
            for limit, missing, connections in (
                (14, 2, "few: 8 of 10 for transactions: Postgres has room for 14 connections of 1 replicas"),
                (100, 0, None),
            ):
                await execute(owner, f"ALTER ROLE sharing CONNECTION LIMIT {limit}")
                database.share.divide(1)
                await database.share.look()
                assert metrics.registry.get_sample_value("chatcluster_database_connections_missing") == missing
                checks = await ready.check()
                assert (checks["postgres"], checks.get("connections")) == ("ok", connections)


# --- who makes room for whom ------------------------------------------------------------------


async def occupy(connection: Connection, free: asyncio.Event) -> None:
    await free.wait()


async def join(database: Database, worker_id: UUID, stack: AsyncExitStack, registered: trio.Event) -> None:
    """What a replica does when it comes, and in that order."""
    registry = PostgresRegistry(database)
    for lock in range(SESSION_LOCKS):
        await stack.enter_async_context(registry.hold(worker_id, lock))
    await registry.register(Replica(worker_id, "name", "address", "version", 10))
    registered.set()
    await registry.renew(worker_id, draining=False)


async def backend(connection: Connection) -> int:
    pid: int = await connection.fetchval("SELECT pg_backend_pid()")
    return pid


@pytest.fixture
def refused() -> Iterator[trio.Event]:
    """Set once a session lock finds no connection."""
    event = trio.Event()

    def listen(name: str, fields: dict[str, object]) -> None:
        if name == "postgres.full" and fields.get("purpose") == "session lock":
            event.set()

    telemetry.subscribe(listen)
    yield event
    telemetry.unsubscribe(listen)


@pytest.mark.postgres
async def test_a_replica_that_comes_late_finds_connections_though_another_one_is_busy_on_all(
    sharing_url: str, database_url: str, refused: trio.Event
) -> None:
    """P10: the first to come does not keep the next one out of the database for as long as it is busy."""
    settings = Settings.of(database_url=sharing_url, statement_timeout_seconds=60.0, lease_ttl_seconds=60.0)
    async with (
        open_database(Settings.of(database_url=database_url)) as owners,
        open_session(owners) as owner,
        open_database(settings) as first,
        open_database(settings) as late,
        AsyncExitStack() as stack,
        trio.open_nursery() as nursery,
    ):
        await execute(owner, "ALTER ROLE sharing CONNECTION LIMIT 9")
        first_id, free = uuid4(), asyncio.Event()
        await join(first, first_id, stack, trio.Event())
        for _ in range(9):
            nursery.start_soon(partial(first.transaction, occupy, free, lane=Lane.CLUSTER))
        await wait_until(owner, "(SELECT count(*) FROM pg_stat_activity WHERE usename = 'sharing') = 9")
        registered, joined = trio.Event(), trio.Event()

        async def come() -> None:
            await join(late, uuid4(), stack, registered)
            joined.set()

        nursery.start_soon(come)
        await refused.wait()
        nursery.start_soon(first.share.look)
        free.set()
        await registered.wait()
        assert "<PoolShare 2, " in repr(first.share)
        await PostgresRegistry(first).renew(first_id, draining=False)
        await joined.wait()
        await late.share.look()
        assert ["<PoolShare 1, " in repr(database.share) for database in (first, late)] == [True, True]
        for _ in range(3):
            assert await first.autocommit(backend) != await late.autocommit(backend)
