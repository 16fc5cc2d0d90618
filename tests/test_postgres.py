"""The pool and the sessions: transactions cross once, failures are told apart, nothing returns to the pool unsure."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager

import asyncpg
import pytest
import trio
import trio.testing
from conftest import execute_sql, url_of_database
from postgres_sessions import LossyLink, execute, fetchval, open_session, wait_until

from chatcluster import telemetry
from chatcluster.config import Settings
from chatcluster.errors import ConfigError, InvalidRequest, StoreFailed, StoreUnavailable
from chatcluster.local.embedded import PostgresServer
from chatcluster.postgres import Connection, Database, connecting, open_database, session
from chatcluster.postgres.asyncio_loop import AsyncioLoop

pytestmark = pytest.mark.postgres


@pytest.fixture
async def database(empty_database_url: str) -> AsyncIterator[Database]:
    async with open_database(Settings.of(database_url=empty_database_url)) as database:
        await database.autocommit(create_table)
        yield database


async def create_table(connection: Connection) -> None:
    await connection.execute("CREATE TABLE notes (body text)")


async def note(connection: Connection, body: str) -> None:
    await connection.execute("INSERT INTO notes VALUES ($1)", body)


async def notes(connection: Connection) -> list[str]:
    return [row["body"] for row in await connection.fetch("SELECT body FROM notes ORDER BY body")]


async def backend(connection: Connection) -> int:
    pid: int = await connection.fetchval("SELECT pg_backend_pid()")
    return pid


async def note_and_sleep(connection: Connection) -> None:
    await note(connection, "asleep")
    await connection.execute("SELECT pg_sleep(60)")


SLEEPS = "EXISTS (SELECT FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)' AND state = 'active')"


# --- transactions -----------------------------------------------------------------------------


async def test_what_returns_is_committed_and_what_raises_is_rolled_back(database: Database) -> None:
    async def note_and_fail(connection: Connection) -> None:
        await note(connection, "never")
        raise KeyError("a bug")

    await database.transaction(note, "kept")
    with pytest.raises(KeyError):
        await database.transaction(note_and_fail)
    assert await database.autocommit(notes) == ["kept"]
    assert repr(database) == "<Database 0 of 10 busy, 1 idle>"


async def test_a_failed_statement_cannot_be_ignored(database: Database) -> None:
    """Postgres would answer COMMIT with a rollback, and the caller would take its write for done."""

    async def go_on_after_an_error(connection: Connection) -> None:
        await note(connection, "never")
        with pytest.raises(asyncpg.DivisionByZeroError):
            await connection.fetchval("SELECT 1 / 0")

    with pytest.raises(AssertionError, match="a statement failed"):
        await database.transaction(go_on_after_an_error)
    assert await database.autocommit(notes) == []


async def test_a_transaction_crosses_into_asyncio_once_whatever_its_statements(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    crossings = 0
    cross = database.cross

    async def count(work: object) -> object:
        nonlocal crossings
        crossings += 1
        return await cross(work)  # type: ignore[arg-type]

    async def note_thrice(connection: Connection) -> None:
        for body in ("a", "b", "c"):
            await note(connection, body)

    monkeypatch.setattr(database, "cross", count)
    await database.transaction(note_thrice)
    assert crossings == 1


async def test_each_transaction_is_reported_and_counted_by_its_name(database: Database) -> None:
    events: list[tuple[str, object, object]] = []

    def listen(name: str, fields: dict[str, object]) -> None:
        events.append((name, fields["name"], fields.get("error")))

    telemetry.subscribe(listen)
    try:
        await database.transaction(note, "a")
        with pytest.raises(StoreUnavailable):
            await database.transaction(raise_error, asyncpg.TooManyConnectionsError)
    finally:
        telemetry.unsubscribe(listen)
    assert events == [("store.transaction", "note", None), ("store.transaction", "raise_error", "StoreUnavailable")]
    assert database.transaction_counts == {"create_table": 1, "note": 1, "raise_error": 1}


# --- errors -----------------------------------------------------------------------------------


async def raise_error(connection: Connection, error: type[Exception]) -> None:
    raise error("from the server")


@pytest.mark.parametrize(
    "error",
    [
        asyncpg.TooManyConnectionsError,
        asyncpg.CannotConnectNowError,
        asyncpg.AdminShutdownError,
        asyncpg.ConnectionDoesNotExistError,
        asyncpg.ReadOnlySQLTransactionError,
        asyncpg.DiskFullError,
        asyncpg.InternalClientError,
        ConnectionRefusedError,
        TimeoutError,
    ],
)
async def test_a_server_that_cannot_serve_is_unavailable(database: Database, error: type[Exception]) -> None:
    with pytest.raises(StoreUnavailable, match="from the server"):
        await database.transaction(raise_error, error)
    await database.transaction(note, "afterwards")


@pytest.mark.parametrize(
    ("statement", "arguments"),
    [
        ("SELECT 1 / 0", ()),
        ("SELECT 2147483647 + $1::int", (1,)),
        ("SELECT $1::int", (1, 2)),
        ("SELECT $1::int", ("not a number",)),
        ("SELECT repeat('x', 2000000000)", ()),
        ("SELECT 'infinity'::timestamptz - '1 day'::interval * 1e12", ()),
        ("DO $$ BEGIN RAISE 'a trigger of the operator' ; END $$", ()),
    ],
)
async def test_what_cannot_be_done_fails_one_call_and_leaves_its_connection_usable(
    database: Database, statement: str, arguments: tuple[object, ...]
) -> None:
    """P10: told from a server that is away, because repeating it changes nothing."""
    pid = await database.autocommit(backend)
    for run in (database.autocommit, database.transaction):
        with pytest.raises(StoreFailed):
            await run(execute_statement, statement, *arguments)
    assert await database.autocommit(backend) == pid


async def test_bytes_that_are_no_text_fail_the_call_that_reads_them(postgres_url: str) -> None:
    """A database without an encoding takes any bytes from others."""
    execute_sql(postgres_url, "CREATE DATABASE bytes ENCODING 'SQL_ASCII' LOCALE 'C' TEMPLATE template0")
    async with open_database(Settings.of(database_url=url_of_database(postgres_url, "bytes"))) as database:
        with pytest.raises(StoreFailed):
            await database.autocommit(execute_statement, "SELECT convert_from('\\xff', 'SQL_ASCII')")
        await database.autocommit(backend)
    execute_sql(postgres_url, "DROP DATABASE bytes")


async def execute_statement(connection: Connection, query: str, *arguments: object) -> None:
    await connection.fetchval(query, *arguments)


async def test_text_that_cannot_be_stored_is_the_callers_fault(database: Database) -> None:
    with pytest.raises(InvalidRequest):
        await database.transaction(note, "NUL: \0")


async def test_a_statement_that_takes_too_long_is_ended_by_the_server(empty_database_url: str) -> None:
    settings = Settings.of(database_url=empty_database_url, statement_timeout_seconds=0.1)
    async with open_database(settings) as database:
        pid = await database.autocommit(backend)
        with pytest.raises(StoreUnavailable, match="statement timeout"):
            await database.transaction(execute_statement, "SELECT pg_sleep(60)")
        assert await database.autocommit(backend) == pid


async def test_a_database_that_does_not_exist_is_unavailable_and_says_so(empty_database_url: str) -> None:
    url = empty_database_url.replace("/test_", "/absent_")
    async with open_database(Settings.of(database_url=url)) as database:
        with pytest.raises(StoreUnavailable, match=r'database "absent_.*" does not exist'):
            await database.autocommit(backend)


@pytest.mark.parametrize(
    "url", ["redis://localhost", "postgresql://host:port/name", "postgresql://127.0.0.1:99999/name"]
)
async def test_an_url_that_is_none_is_a_wrong_setting(url: str) -> None:
    async with open_database(Settings.of(database_url=url)) as database:
        with pytest.raises(ConfigError, match="the Postgres URL cannot be used"):
            await database.autocommit(backend)


@pytest.mark.parametrize("password", ["hush/more", "hush?more", "hush#more", "hush[more"])
async def test_what_is_said_of_an_url_has_nothing_of_its_password(password: str) -> None:
    async with open_database(Settings.of(database_url=f"postgresql://user:{password}@host/name")) as database:
        with pytest.raises(ConfigError) as refused:
            await database.autocommit(backend)
    assert "hush" not in str(refused.value)
    assert "more" not in str(refused.value)


@pytest.mark.parametrize(
    "error", [asyncpg.InsufficientPrivilegeError, asyncpg.DuplicateTableError], ids=lambda error: error.__name__
)
async def test_a_database_that_is_not_ours_is_unavailable_and_says_so(
    database: Database, error: type[Exception]
) -> None:
    """Nothing of it is lost by waiting until somebody has mended it."""
    with pytest.raises(StoreUnavailable, match="a database of its own"):
        await database.transaction(raise_error, error)


# --- the bounds of the pool -------------------------------------------------------------------


@asynccontextmanager
async def one_connection(url: str, **settings: float) -> AsyncIterator[Database]:
    async with open_database(Settings.of(database_url=url, database_pool_size=1, **settings)) as database:
        yield database


async def occupy(connection: Connection, until: asyncio.Event) -> None:
    await until.wait()


async def test_a_full_pool_makes_the_others_wait_in_order_and_not_for_ever(empty_database_url: str) -> None:
    async with one_connection(empty_database_url, statement_timeout_seconds=0.1) as database:
        free = asyncio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(database.transaction, occupy, free)
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(StoreUnavailable, match="nothing was done"):
                await database.autocommit(backend)
            free.set()
        assert await database.autocommit(backend) > 0


async def test_who_gives_up_waiting_for_a_connection_leaves_its_place(empty_database_url: str) -> None:
    async with one_connection(empty_database_url) as database:
        free = asyncio.Event()
        served: list[int] = []

        async def take() -> None:
            served.append(await database.autocommit(backend))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(database.transaction, occupy, free)
            await trio.testing.wait_all_tasks_blocked()
            async with trio.open_nursery() as impatient:
                impatient.start_soon(take)
                await trio.testing.wait_all_tasks_blocked()
                impatient.cancel_scope.cancel()
            nursery.start_soon(take)
            free.set()
        assert len(served) == 1


# --- cancellation -----------------------------------------------------------------------------


async def test_a_cancelled_transaction_is_undone_and_its_connection_used_again(database: Database) -> None:
    pid = await database.autocommit(backend)
    async with open_session(database) as observer:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(database.transaction, note_and_sleep)
            await wait_until(observer, SLEEPS)
            nursery.cancel_scope.cancel()
        await wait_until(observer, f"NOT {SLEEPS}")
        assert await database.autocommit(notes) == []
        assert await database.autocommit(backend) == pid
    assert repr(database) == "<Database 0 of 10 busy, 1 idle>"


class CancelBeforeTurn(trio.abc.Instrument):
    """Cancels ``scope`` when asyncio's loop is about to take a turn, which is when something has come that nobody has
    looked at: each turn is another place to be cancelled at."""

    def __init__(self, turn: int) -> None:
        self.scope = trio.CancelScope()
        self._turns_left = turn

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if task.name.endswith(AsyncioLoop.drive.__qualname__):
            self._turns_left -= 1
            if self._turns_left == 0:
                self.scope.cancel()

    @contextmanager
    def installed(self) -> Iterator[None]:
        trio.lowlevel.add_instrument(self)
        try:
            with self.scope:
                yield
        finally:
            trio.lowlevel.remove_instrument(self)


TRANSACTIONS = "FROM pg_stat_activity WHERE application_name = 'chatcluster transactions' AND state IS NOT NULL"


@pytest.mark.parametrize("connected", [True, False], ids=["on an idle connection", "while it connects"])
async def test_a_transaction_cancelled_anywhere_leaves_no_connection_unsure(
    empty_database_url: str, connected: bool
) -> None:
    """Whatever is hit (connecting, BEGIN, a statement, COMMIT), what remains is idle and outside of a transaction, and
    the server has no connection that the pool does not know. Over a link that is served by our own tasks each answer
    takes a turn, however fast the server is."""
    link = LossyLink(empty_database_url)
    async with link.listening() as url, one_connection(url) as database, open_session(database) as observer:
        await database.transaction(create_table)
        turn, cancelled = 0, True
        while cancelled:
            turn += 1
            if connected:
                await database.transaction(note, "before")
            else:
                await database.aclose()
            cancel = CancelBeforeTurn(turn)
            with cancel.installed():
                await database.transaction(note, "perhaps")
            cancelled = cancel.scope.cancel_called
            busy, idle = map(int, re.findall(r"(\d+) (?:of|idle)", repr(database)))
            assert busy == 0
            await wait_until(observer, f"(SELECT count(*) {TRANSACTIONS}) = {idle}")
            assert await fetchval(observer, f"SELECT count(*) {TRANSACTIONS} AND state <> 'idle'") == 0
        assert turn > len(["BEGIN", "INSERT", "COMMIT"])
        assert repr(database) == "<Database 0 of 1 busy, 1 idle>"


async def test_a_cancelled_session_closes_its_connection_and_connects_anew(database: Database) -> None:
    async with open_session(database, "patient") as session, open_session(database) as observer:
        pid = await session.run(backend)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(execute, session, "SELECT pg_sleep(60)")
            await wait_until(observer, SLEEPS)
            nursery.cancel_scope.cancel()
        await wait_until(observer, f"NOT EXISTS (SELECT FROM pg_stat_activity WHERE pid = {pid})")
        assert await session.run(backend) != pid


# --- losing the server ------------------------------------------------------------------------


async def test_a_connection_that_is_killed_in_a_transaction_costs_that_transaction(database: Database) -> None:
    async with open_session(database) as observer:
        async with trio.open_nursery() as nursery:

            async def transact() -> None:
                with pytest.raises(StoreUnavailable):
                    await database.transaction(note_and_sleep)

            nursery.start_soon(transact)
            await wait_until(observer, SLEEPS)
            await execute(
                observer, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE query = 'SELECT pg_sleep(60)'"
            )
        assert await database.autocommit(notes) == []


@pytest.mark.parametrize("end", [PostgresServer.stop, PostgresServer.kill], ids=["stop", "kill"])
async def test_the_pool_comes_back_by_itself_after_a_restart(
    own_postgres: PostgresServer, end: Callable[[PostgresServer], None]
) -> None:
    """P4: no request fails after the server is back, though all connections from before are dead."""
    url = await trio.to_thread.run_sync(own_postgres.start)
    async with open_database(Settings.of(database_url=url)) as database:
        session = database.session("heartbeat")
        together = asyncio.Barrier(3)

        async def meet(connection: Connection) -> None:
            await connection.execute("SELECT")
            await together.wait()

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(database.transaction, meet)
        await execute(session, "SELECT")
        assert repr(database) == "<Database 0 of 10 busy, 3 idle>"

        async with trio.open_nursery() as nursery:
            nursery.start_soon(session.wait_lost)
            await trio.to_thread.run_sync(end, own_postgres)
        with pytest.raises(StoreUnavailable):
            await database.autocommit(backend)
        with pytest.raises(StoreUnavailable):
            await session.run(backend)

        await trio.to_thread.run_sync(own_postgres.start)
        assert await database.autocommit(backend) > 0
        assert await database.transaction(backend) > 0
        assert await session.run(backend) > 0


async def test_a_dead_idle_connection_is_passed_over_when_the_next_transaction_begins(
    empty_database_url: str,
) -> None:
    """It shows before anything happened, so nobody has to repeat anything."""
    link = LossyLink(empty_database_url)
    async with link.listening() as url, open_database(Settings.of(database_url=url)) as database:
        await database.transaction(create_table)
        link.break_at("BEGIN", delivered=False)
        await database.transaction(note, "at once")
        assert link.broke
        assert await database.autocommit(notes) == ["at once"]


async def test_a_cut_network_ends_every_wait_though_nobody_is_told(
    empty_database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P4: neither a transaction nor the holder of a session waits for ever for a server that it cannot reach."""
    link = LossyLink(empty_database_url)
    async with link.listening() as url, one_connection(url) as database:
        lock = database.session("session lock")
        await lock.run(backend)
        await database.transaction(create_table)
        monkeypatch.setattr(Database, "deadline_seconds", 0.2)  # not before all is connected, which may take a while
        monkeypatch.setattr(connecting, "CLOSE_SECONDS_MAX", 0.1)
        monkeypatch.setattr(session, "PROBE_SECONDS", 0.1)
        link.cut()
        with trio.fail_after(60):
            with pytest.raises(StoreUnavailable, match=r"did not answer within 0.2 s"):
                await database.transaction(note, "lost")
            await lock.wait_lost()
        assert repr(database) == "<Database 0 of 1 busy, 0 idle>"


async def test_a_session_that_is_lost_is_missed_at_once(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "PROBE_SECONDS", 3600.0)
    async with open_session(database, "holder") as holder, open_session(database) as observer:
        pid = await holder.run(backend)
        with trio.fail_after(60):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(holder.wait_lost)
                await execute(observer, "SELECT pg_terminate_backend($1)", pid)


# --- what a connection is told ----------------------------------------------------------------


async def settings_of(connection: Connection) -> list[str]:
    names = ("statement_timeout", "idle_in_transaction_session_timeout", "idle_session_timeout", "application_name")
    return [await connection.fetchval(f"SHOW {name}") for name in names]


async def test_a_process_that_freezes_in_a_transaction_loses_its_locks_before_its_lease(database: Database) -> None:
    """P4: the server ends a transaction that is silent for 3 s; the lease is 5 s."""
    assert await database.autocommit(settings_of) == ["10s", "3s", "0", "chatcluster transactions"]


async def test_a_session_that_lasts_has_no_limits_of_time_but_notices_a_cut_network(database: Database) -> None:
    session = database.session("session lock", lasting=True)
    assert await session.run(settings_of) == ["0", "0", "0", "chatcluster session lock"]


async def test_behind_a_pooler_connections_are_told_and_keep_nothing(empty_database_url: str) -> None:
    settings = Settings.of(database_url=empty_database_url, database_direct_url="off")
    async with open_database(settings) as database:
        assert await database.autocommit(settings_of) == ["0", "0", "0", "chatcluster transactions"]
        prepared = "SELECT count(*) FROM pg_prepared_statements WHERE name <> ''"
        for _ in range(3):
            await database.autocommit(execute_statement, "SELECT $1::int", 1)
        async with open_session(database):
            assert await database.autocommit(count_of, prepared) == 0


async def count_of(connection: Connection, query: str) -> int:
    count: int = await connection.fetchval(query)
    return count
