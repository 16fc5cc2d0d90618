"""Connections that die without a word, that the server refuses, and what they are told against its defaults."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Iterator
from functools import partial
from unittest.mock import Mock
from urllib.parse import urlsplit

import asyncpg
import pytest
import trio
from conftest import execute_sql
from postgres_sessions import LossyLink, as_role, execute, fetchval, open_session, wait_until

from chatcluster import telemetry
from chatcluster.config import Settings
from chatcluster.errors import StoreFailed, StoreLocked, StoreUnavailable
from chatcluster.postgres import Connection, Database, Lane, connecting, connections, open_database, silence
from chatcluster.postgres.migrate import check_schema

pytestmark = pytest.mark.postgres
SECONDS_MAX = 30.0
"""What does not wait for the deadlines of statements is over by then, however slow the machine."""


async def backend(connection: Connection) -> int:
    pid: int = await connection.fetchval("SELECT pg_backend_pid()")
    return pid


async def meet(connection: Connection, together: asyncio.Barrier) -> None:
    await connection.execute("SELECT")
    await together.wait()


async def fill(database: Database, count: int) -> None:
    """Have so many idle connections."""
    together = asyncio.Barrier(count)
    async with trio.open_nursery() as nursery:
        for _ in range(count):
            nursery.start_soon(database.transaction, meet, together)


# --- without a word ---------------------------------------------------------------------------


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(silence, "SILENCE_SECONDS", 0.2)
    monkeypatch.setattr(silence, "GRACE_SECONDS", 0.2)


@pytest.fixture
async def link(empty_database_url: str, impatient: None) -> AsyncIterator[tuple[LossyLink, Database]]:
    """A way to the server, and the database over it. Whoever waits for the deadlines is too late."""
    link = LossyLink(empty_database_url)
    settings = partial(Settings.of, statement_timeout_seconds=2 * SECONDS_MAX)
    async with link.listening() as url, open_database(settings(database_url=url)) as database:
        with trio.fail_after(SECONDS_MAX):
            yield link, database


@pytest.fixture
def lost() -> Iterator[list[str]]:
    """Reports of connections that were found lost."""
    reports: list[str] = []

    def listen(name: str, fields: dict[str, object]) -> None:
        if name == "postgres.connection_lost":
            reports.append(name)

    telemetry.subscribe(listen)
    yield reports
    telemetry.unsubscribe(listen)


async def test_idle_connections_that_were_forgotten_fail_no_call(
    link: tuple[LossyLink, Database], lost: list[str]
) -> None:
    """P10: a firewall forgets idle connections; the next call finds out, and the others with it."""
    way, database = link
    await fill(database, 3)
    way.forget()
    assert await database.autocommit(backend) > 0
    assert await database.transaction(backend) > 0
    assert repr(database) == "<Database 0 of 10 busy, 1 idle>"
    assert len(lost) == 1


async def test_a_statement_whose_answer_was_lost_fails_at_once(
    link: tuple[LossyLink, Database], lost: list[str]
) -> None:
    way, database = link

    async def lose_the_way(connection: Connection) -> None:
        await connection.execute("SELECT")
        way.forget()
        await connection.execute("SELECT")

    with pytest.raises(StoreUnavailable):
        await database.transaction(lose_the_way)
    assert len(lost) == 1
    assert await database.transaction(backend) > 0


async def test_a_row_that_a_lost_transaction_had_locked_is_free_for_its_repeat(
    link: tuple[LossyLink, Database], empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P10: whose connection froze between two statements waits for the watch, and not for the server to notice."""
    monkeypatch.setattr(connecting, "IDLE_IN_TRANSACTION_SECONDS_MAX", 3600.0)
    execute_sql(empty_database_url, "CREATE TABLE rows AS SELECT 1 AS id")
    way, database = link

    async def lose_the_way(connection: Connection) -> None:
        await change_rows(connection)
        way.forget(server_notices=False)
        await connection.execute("SELECT")

    with pytest.raises(StoreUnavailable):
        await database.transaction(lose_the_way)
    await database.transaction(change_rows)
    async with open_database(Settings.of(database_url=empty_database_url)) as others, open_session(others) as other:
        assert await fetchval(other, "SELECT id FROM rows") == 2


async def test_a_server_that_works_is_left_to_work(link: tuple[LossyLink, Database], lost: list[str]) -> None:
    """It is asked whether it does, more than once."""
    _, database = link

    async def work(connection: Connection) -> int:
        await connection.execute("SELECT pg_sleep(1.2)")
        return await backend(connection)

    pid = await database.autocommit(backend)
    assert await database.transaction(work) == pid
    assert await database.autocommit(work) == pid
    assert lost == []


def test_who_falls_silent_while_the_server_is_asked_of_another_is_asked_for_at_once(
    impatient: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P10: a call that went from a lost connection to another lost one does not wait for both pauses."""

    async def run() -> None:
        questions: list[asyncio.Event] = [asyncio.Event(), asyncio.Event()]
        held = asyncio.Event()
        asked = iter(questions)

        async def connect() -> asyncpg.Connection:
            next(asked).set()
            await held.wait()
            raise OSError("no answer")

        watch = silence.SilenceWatch(connect, Mock())
        first, second = Mock(), Mock()
        watch.begin(first)
        async with asyncio.timeout(SECONDS_MAX):
            await questions[0].wait()
            watch.begin(second)
            asyncio.get_running_loop().call_later(silence.SILENCE_SECONDS, held.set)  # behind the timer of the second
            monkeypatch.setattr(silence, "SILENCE_SECONDS", 3600.0)
            await questions[1].wait()
        watch.end(first)
        watch.end(second)

    asyncio.run(run())


async def test_a_session_whose_way_is_lost_connects_anew(link: tuple[LossyLink, Database], lost: list[str]) -> None:
    """P4: a heartbeat is late by about a second, and not by the statement timeout."""
    way, database = link
    session = database.session("heartbeat")
    pid = await session.run(backend)
    way.forget()
    with pytest.raises(StoreUnavailable):
        await session.run(backend)
    assert await session.run(backend) != pid
    assert len(lost) == 1


async def test_a_session_that_lasts_is_missed_though_nobody_says_that_it_is_gone(
    link: tuple[LossyLink, Database],
) -> None:
    way, database = link
    session = database.session("session lock", lasting=True)
    await session.run(backend)
    way.forget()
    await session.wait_lost()


async def test_behind_a_pooler_an_idle_connection_has_to_answer_before_it_is_used(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There the server does not know our connections, and cannot be asked."""
    monkeypatch.setattr(connections, "PROBE_AFTER_SECONDS", 0.0)
    monkeypatch.setattr(connections, "PROBE_SECONDS_MAX", 0.2)
    way = LossyLink(empty_database_url)
    settings = partial(Settings.of, database_direct_url="off", statement_timeout_seconds=2 * SECONDS_MAX)
    async with way.listening() as url, open_database(settings(database_url=url)) as database:
        await fill(database, 3)
        way.forget()
        with trio.fail_after(SECONDS_MAX):
            assert await database.autocommit(backend) > 0
        assert repr(database) == "<Database 0 of 10 busy, 1 idle>"


async def test_behind_a_pooler_a_transaction_whose_client_was_lost_lets_go_of_its_rows(empty_database_url: str) -> None:
    """The pooler may keep the server's side of it open for as long as it likes."""

    async def shown(connection: Connection) -> list[str]:
        names = ("idle_in_transaction_session_timeout", "lock_timeout")
        return [await connection.fetchval(f"SHOW {name}") for name in names]

    settings = Settings.of(database_url=empty_database_url, database_direct_url="off")
    async with open_database(settings) as database:
        assert await database.transaction(shown) == ["3s", "1s"]


async def test_a_socket_notices_soon_that_nobody_is_at_its_other_end(empty_database_url: str) -> None:
    way = LossyLink(empty_database_url)
    async with way.listening() as url, open_database(Settings.of(database_url=url)) as database:

        async def options(connection: object) -> list[int]:
            sock = connection._transport.get_extra_info("socket")  # type: ignore[attr-defined]
            tcp = [getattr(socket, name) for name in ("TCP_KEEPIDLE", "TCP_KEEPINTVL", "TCP_USER_TIMEOUT")]
            return [sock.getsockopt(socket.IPPROTO_TCP, option) for option in tcp]

        assert await database.autocommit(options) == [1, 1, 2000]


async def test_connections_that_are_idle_for_long_are_closed(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with open_database(Settings.of(database_url=empty_database_url)) as database:
        await fill(database, 3)
        monkeypatch.setattr(connections, "IDLE_SECONDS_MAX", -1.0)
        for _ in range(3):
            await database.autocommit(backend)
        assert repr(database) == "<Database 0 of 10 busy, 0 idle>"


# --- too few ----------------------------------------------------------------------------------


@pytest.fixture
def few_url(empty_database_url: str) -> Iterator[str]:
    """The database for a role that may have two connections."""
    execute_sql(empty_database_url, "CREATE ROLE few LOGIN CONNECTION LIMIT 2")
    yield as_role(empty_database_url, "few")
    execute_sql(
        empty_database_url,
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = 'few'",
        "DROP ROLE few",
    )


async def test_a_transaction_waits_for_a_connection_that_is_there_if_the_server_gives_no_more(few_url: str) -> None:
    """P10: a small database is slower, and refuses nobody."""
    async with open_database(Settings.of(database_url=few_url)) as database:
        served: list[int] = []

        async def serve() -> None:
            served.append(await database.transaction(backend))

        async with trio.open_nursery() as nursery:
            for _ in range(30):
                nursery.start_soon(serve)
        assert (len(served), len(set(served)) <= 2) == (30, True)


async def test_a_wait_for_a_connection_that_is_given_up_loses_none(few_url: str) -> None:
    async with open_database(Settings.of(database_url=few_url)) as database:
        await fill(database, 2)
        free = asyncio.Event()

        async def occupy(connection: Connection) -> None:
            await free.wait()

        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(database.transaction, occupy)
            with trio.move_on_after(0.1):
                await database.autocommit(backend)
            free.set()
        assert repr(database) == "<Database 0 of 10 busy, 2 idle>"


async def test_a_session_gets_the_place_of_an_idle_connection(empty_database_url: str, few_url: str) -> None:
    """What keeps the replica alive comes before what makes it quick."""
    async with (
        open_database(Settings.of(database_url=few_url)) as database,
        open_database(Settings.of(database_url=empty_database_url)) as others,
        open_session(others) as observer,
    ):
        await fill(database, 2)
        pids = {await database.session("heartbeat").run(backend), await database.autocommit(backend)}
        await wait_until(observer, "(SELECT count(*) FROM pg_stat_activity WHERE usename = 'few') = 2")
        assert len(pids) == 2


async def test_a_session_gets_the_place_of_the_next_that_is_given_back_where_none_is_idle(
    empty_database_url: str, few_url: str
) -> None:
    """P10: a pool that is always busy does not keep its own replica's heartbeat waiting."""
    async with (
        open_database(Settings.of(database_url=few_url)) as database,
        open_database(Settings.of(database_url=empty_database_url)) as others,
        open_session(others) as observer,
    ):
        free, waiting = asyncio.Event(), trio.Event()

        async def occupy(connection: Connection) -> None:
            await free.wait()

        def listen(name: str, fields: dict[str, object]) -> None:
            if name == "postgres.full" and fields.get("purpose") == "heartbeat":
                waiting.set()

        telemetry.subscribe(listen)
        async with trio.open_nursery() as nursery:
            for _ in range(2):
                nursery.start_soon(partial(database.transaction, occupy, lane=Lane.CLUSTER))
            await wait_until(observer, "(SELECT count(*) FROM pg_stat_activity WHERE usename = 'few') = 2")
            nursery.start_soon(database.session("heartbeat").run, backend)
            await waiting.wait()
            for _ in range(10):
                nursery.start_soon(database.transaction, backend)
            free.set()
        telemetry.unsubscribe(listen)
        assert repr(database) == "<Database 0 of 10 busy, 1 idle>"


async def test_the_last_connection_for_transactions_is_nobodys_to_spare(few_url: str) -> None:
    settings = Settings.of(database_url=few_url, statement_timeout_seconds=0.5)
    async with open_database(settings) as database, open_session(database, "heartbeat") as session:
        await session.run(backend)
        pid = await database.autocommit(backend)
        with pytest.raises(StoreUnavailable, match="too many connections"):
            await database.session("session watch").run(backend)
        assert await database.autocommit(backend) == pid


async def test_silence_is_asked_after_though_the_server_has_no_connection_left(
    few_url: str, impatient: None, lost: list[str]
) -> None:
    """An idle one makes room for the question."""
    way = LossyLink(few_url)
    settings = partial(Settings.of, statement_timeout_seconds=2 * SECONDS_MAX)
    async with way.listening() as url, open_database(settings(database_url=url)) as database:
        await fill(database, 2)
        way.forget()
        with trio.fail_after(SECONDS_MAX):
            assert await database.transaction(backend) > 0
    assert len(lost) == 1


# --- what they are told -----------------------------------------------------------------------

FOREIGN = {
    "default_transaction_isolation": "serializable",
    "standard_conforming_strings": "off",
    "bytea_output": "escape",
    "DateStyle": "'German, DMY'",
    "IntervalStyle": "sql_standard",
    "TimeZone": "'Asia/Kathmandu'",
    "statement_timeout": "1",
    "lock_timeout": "1",
    "idle_in_transaction_session_timeout": "1",
    "idle_session_timeout": "1",
    "row_security": "on",
    "plan_cache_mode": "force_generic_plan",
    "extra_float_digits": "-15",
    "client_min_messages": "debug5",
    "transform_null_equals": "on",
    "exit_on_error": "on",
    "gin_fuzzy_search_limit": "1",
    "quote_all_identifiers": "on",
}


async def test_defaults_of_a_database_do_not_change_what_statements_mean(empty_database_url: str) -> None:
    name = urlsplit(empty_database_url).path[1:]
    execute_sql(empty_database_url, *(f"ALTER DATABASE {name} SET {key} = {value}" for key, value in FOREIGN.items()))

    async def show(connection: Connection) -> dict[str, str]:
        return {key: await connection.fetchval(f"SHOW {key}") for key in FOREIGN}

    async with open_database(Settings.of(database_url=empty_database_url)) as database:
        shown = await database.transaction(show)
        lasting = await database.session("session lock", lasting=True).run(show)
    limits = {
        "statement_timeout": "10s",
        "lock_timeout": "1s",
        "idle_in_transaction_session_timeout": "3s",
        "idle_session_timeout": "0",
    }
    told = {key: value for key, value in connecting.MEANING.items() if key in FOREIGN}
    assert shown == told | limits
    assert lasting == told | limits | dict.fromkeys(list(limits)[:4], "0")


async def test_a_server_that_is_to_take_no_writes_is_not_overruled(database_url: str) -> None:
    """P2: as a primary that was replaced, and goes on as one for reads. It is unavailable until it says otherwise."""
    name = urlsplit(database_url).path[1:]

    async def write(connection: Connection) -> None:
        await connection.execute("DELETE FROM replicas")

    execute_sql(database_url, f"ALTER DATABASE {name} SET default_transaction_read_only = on")
    async with open_database(Settings.of(database_url=database_url)) as database:
        for body in (database.transaction, database.autocommit, database.session("heartbeat").run):
            with pytest.raises(StoreUnavailable) as refused:
                await body(write)
            assert not isinstance(refused.value, StoreFailed)
        with pytest.raises(StoreUnavailable, match="read only"):
            await check_schema(database)


async def test_a_row_that_somebody_holds_is_waited_for_less_long_than_a_statement(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connecting, "LOCK_SECONDS_MAX", 0.05)
    async with open_database(Settings.of(database_url=empty_database_url)) as database, open_session(database) as other:
        await execute(other, "CREATE TABLE rows AS SELECT 1 AS id")
        await execute(other, "BEGIN; SELECT FROM rows FOR UPDATE")
        for run in (database.transaction, database.autocommit):
            with pytest.raises(StoreLocked):
                await run(change_rows)
        await execute(other, "ROLLBACK")
        await database.transaction(change_rows)
        assert await fetchval(other, "SELECT id FROM rows") == 2


async def change_rows(connection: Connection) -> None:
    await connection.execute("UPDATE rows SET id = id + 1")
