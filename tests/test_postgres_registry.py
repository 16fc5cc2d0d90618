"""Session locks and leases on a real server: what proves a death, what does not, and what waits for what."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from typing import Any
from uuid import uuid4

import pytest
import trio
import trio.lowlevel
import trio.testing
from postgres_sessions import LossyLink, execute, fetchval, open_session, wait_blocked, wait_until

from chatcluster.config import Settings
from chatcluster.errors import NotFound, StoreUnavailable
from chatcluster.local.embedded import PostgresServer
from chatcluster.ports import Death, Replica, SessionLock
from chatcluster.postgres import Connection, Database, Session, open_database
from chatcluster.postgres.accounts import PostgresAccounts
from chatcluster.postgres.migrate import migrate
from chatcluster.postgres.registry import PostgresRegistry
from chatcluster.postgres.session_locks import lock_keys

pytestmark = pytest.mark.postgres

WORKER = uuid4()
HOLDERS = "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted"


class Watch:
    """A watch in the background, and how it ended."""

    def __init__(self, database: Database) -> None:
        self._registry = PostgresRegistry(database)
        self.outcome: Death | str | None = "waiting"
        """``broken`` where the watch ended without an answer."""

    async def run(self) -> None:
        try:
            self.outcome = await self._registry.watch(WORKER)
        except StoreUnavailable:
            self.outcome = "broken"


@asynccontextmanager
async def hold(database: Database) -> AsyncIterator[SessionLock]:
    """Hold the locks of ``WORKER``, as a process does; the first one is returned."""
    registry = PostgresRegistry(database)
    async with registry.hold(WORKER, 0) as first, registry.hold(WORKER, 1):
        yield first


# --- proof ------------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [PostgresServer.stop, PostgresServer.kill], ids=["stop", "kill"])
async def test_a_restart_of_the_server_proves_no_death(
    own_postgres: PostgresServer, end: Callable[[PostgresServer], None]
) -> None:
    """The server ends all sessions, also those that hold a lock; whoever waited learns nothing from that."""
    url = await trio.to_thread.run_sync(own_postgres.start)
    await migrate(url)
    async with open_database(Settings.of(database_url=url)) as database, AsyncExitStack() as stack:
        lock = await stack.enter_async_context(hold(database))
        observer = database.session("observer")
        watches = [Watch(database) for _ in range(5)]
        async with trio.open_nursery() as nursery:
            for watch in watches:
                nursery.start_soon(watch.run)
            await wait_blocked(observer, len(watches))
            await trio.to_thread.run_sync(end, own_postgres)
        await lock.wait_lost()
        assert [watch.outcome for watch in watches] == ["broken"] * 5


async def test_proof_is_given_however_long_it_took(database: Database, observer: Session) -> None:
    """The wait is cut into slices, so that no statement holds back the clean-up of the database for ever."""
    await execute(observer, "ALTER FUNCTION await_session_lock_shared SET lock_timeout = '20ms'")
    watch = Watch(database)
    async with trio.open_nursery() as nursery, hold(database):
        nursery.start_soon(watch.run)
        await wait_blocked(observer)
        waiting = "SELECT query_start FROM pg_stat_activity WHERE application_name = 'chatcluster session watch'"
        first = await fetchval(observer, waiting)
        await wait_until(observer, f"({waiting}) > '{first}'")
        await wait_until(observer, f"({waiting}) > '{first}'::timestamptz + interval '40 ms'")
    assert isinstance(watch.outcome, Death)


async def test_every_watcher_has_its_proof_and_none_keeps_the_lock(database: Database, observer: Session) -> None:
    watches = [Watch(database) for _ in range(3)]
    async with trio.open_nursery() as nursery, hold(database):
        for watch in watches:
            nursery.start_soon(watch.run)
        await wait_blocked(observer, 3)
    assert [type(watch.outcome) for watch in watches] == [Death] * 3
    assert await fetchval(observer, HOLDERS) == 0


async def test_a_watcher_that_froze_with_the_lock_keeps_nobody_from_the_proof(
    database: Database, observer: Session
) -> None:
    """P4: it waited first, was granted the lock, and never lets go of it."""
    watch = Watch(database)
    async with open_session(database, "frozen") as frozen:
        async with trio.open_nursery() as nursery, hold(database):
            nursery.start_soon(fetchval, frozen, "SELECT await_session_lock_shared($1)", lock_keys(WORKER)[0])
            await wait_blocked(observer)
            nursery.start_soon(watch.run)
            await wait_blocked(observer, 2)
        assert isinstance(watch.outcome, Death)
        assert await fetchval(observer, HOLDERS) == 1


async def test_a_watch_that_is_cancelled_leaves_nobody_waiting(database: Database, observer: Session) -> None:
    async with hold(database):
        async with trio.open_nursery() as nursery:
            nursery.start_soon(Watch(database).run)
            await wait_blocked(observer)
            nursery.cancel_scope.cancel()
        gone = "NOT EXISTS (SELECT FROM pg_stat_activity WHERE application_name = 'chatcluster session watch')"
        await wait_until(observer, gone)
        assert await fetchval(observer, HOLDERS) == 2


async def test_a_watch_that_loses_its_own_connection_proves_nothing(database: Database, observer: Session) -> None:
    watch = Watch(database)
    async with hold(database), trio.open_nursery() as nursery:
        nursery.start_soon(watch.run)
        await wait_blocked(observer)
        await execute(
            observer,
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
            " WHERE application_name = 'chatcluster session watch'",
        )
    assert watch.outcome == "broken"


async def test_a_lock_that_a_dying_server_grants_in_passing_proves_nothing(
    database_url: str, database: Database, observer: Session
) -> None:
    """A server that shuts down may end the holder's session first; a watcher has to hear from it once more."""
    link = LossyLink(database_url)
    async with link.listening() as url:
        settings = Settings.of(database_url=database_url, database_direct_url=url)
        async with open_database(settings) as watching, trio.open_nursery() as nursery:
            watch = Watch(watching)
            async with hold(database):
                nursery.start_soon(watch.run)
                await wait_blocked(observer)
                link.break_at("pg_advisory_unlock", delivered=False)
        assert link.broke
    assert watch.outcome == "broken"


# --- the holder -------------------------------------------------------------------------------


async def test_a_holder_never_waits_for_the_lock(database: Database) -> None:
    """Nobody who holds a lock waits for one, so there is no circle of waiters."""
    registry = PostgresRegistry(database)
    async with registry.hold(WORKER, 0):
        with pytest.raises(StoreUnavailable, match="another session holds the lock"):
            async with registry.hold(WORKER, 0):
                pass
    async with registry.hold(WORKER, 0):
        pass


async def test_connections_that_were_lost_together_are_no_death(
    database: Database, observer: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P10: a firewall forgets all of a replica at once. The server has the old connections still, and would drop them
    at one moment; so their locks are taken from them, one after the other, and a watch sees that the replica lives."""
    registry, watch = PostgresRegistry(database), Watch(database)
    monkeypatch.setattr("chatcluster.postgres.session_locks.RETAKE_SECONDS", 60.0)  # however slow this machine is
    async with AsyncExitStack() as lost, trio.open_nursery() as nursery:
        await lost.enter_async_context(hold(database))
        nursery.start_soon(watch.run)
        await wait_blocked(observer)
        async with retaken(registry, 0):
            with pytest.raises(StoreUnavailable, match="another session holds the lock"):
                async with registry.hold(WORKER, 1):
                    pass
            assert await fetchval(observer, HOLDERS) == 2, "one of them is let go of at a time"
            with trio.fail_after(60):
                while watch.outcome == "waiting":
                    await trio.lowlevel.checkpoint()
            assert watch.outcome is None, "a connection was lost, and the replica lives"
            monkeypatch.setattr("chatcluster.postgres.session_locks.RETAKE_SECONDS", 0.0)
            async with retaken(registry, 1):
                assert await fetchval(observer, HOLDERS) == 2


@asynccontextmanager
async def retaken(registry: PostgresRegistry, lock: int) -> AsyncIterator[None]:
    """Try until the lock is taken, as a replica does."""
    with trio.fail_after(60):
        while True:
            try:
                async with AsyncExitStack() as stack:
                    await stack.enter_async_context(registry.hold(WORKER, lock))
                    kept = stack.pop_all()
                break
            except StoreUnavailable:
                continue
    async with kept:
        yield


async def test_without_a_direct_connection_there_are_no_session_locks(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Behind a transaction pooler the leases alone serve; nothing is connected for locks."""
    nowhere = Settings.of(database_url="postgresql://127.0.0.1:1/nowhere", database_direct_url="off")
    async with open_database(nowhere) as database:
        registry = PostgresRegistry(database)
        async with registry.hold(WORKER, 0) as lock:
            for wait in (lock.wait_lost, partial(registry.watch, WORKER)):
                with trio.move_on_after(3600) as patience:
                    await wait()
                assert patience.cancelled_caught


def test_the_keys_of_workers_fit_the_server_and_differ() -> None:
    keys = {key for _ in range(1000) for key in lock_keys(uuid4())}
    assert len(keys) == 2000
    assert all(-(1 << 63) <= key < 1 << 63 for key in keys)


# --- leases -----------------------------------------------------------------------------------


async def occupy(connection: Connection, until: asyncio.Event) -> None:
    await until.wait()


async def test_a_process_that_freezes_in_mid_statement_keeps_no_locks(
    database: Database, observer: Session, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P4: it has sent Parse and Flush, and no Sync. To the server it is active, and none of its timeouts applies."""
    locked = "EXISTS (SELECT FROM pg_locks WHERE relation = 'replicas'::regclass AND mode = 'ExclusiveLock')"
    async with trio.open_nursery() as nursery:
        nursery.start_soon(freeze_in_mid_statement, database)
        await wait_until(observer, locked)
        registry = PostgresRegistry(database)
        monkeypatch.setattr("chatcluster.postgres.registry.FROZEN_SECONDS", 3600.0)
        await registry.heartbeats()
        await registry.heartbeats()
        assert await fetchval(observer, f"SELECT {locked}"), "it may just be slow"
        monkeypatch.setattr("chatcluster.postgres.registry.FROZEN_SECONDS", 0.0)
        with trio.fail_after(60):
            while await fetchval(observer, f"SELECT {locked}"):  # a busy server may have read the statement only now
                await registry.heartbeats()


async def freeze_in_mid_statement(database: Database) -> None:
    async def lock_and_freeze(connection: Connection) -> None:
        await connection.execute("SELECT txid_current(); LOCK replicas IN EXCLUSIVE MODE")
        lost = asyncio.Event()
        connection.add_termination_listener(lambda _: lost.set())  # type: ignore[attr-defined]
        transport: Any = connection._transport  # type: ignore[attr-defined]
        parse = b"\0SELECT 1\0\0\0"
        transport.write(b"P" + (4 + len(parse)).to_bytes(4, "big") + parse + b"H\0\0\0\4")
        await lost.wait()
        raise ConnectionResetError("the server ended the session")

    with pytest.raises(StoreUnavailable):
        await database.transaction(lock_and_freeze)


async def test_a_heartbeat_does_not_wait_for_a_busy_pool(database_url: str) -> None:
    settings = Settings.of(database_url=database_url, database_pool_size=1)
    async with open_database(settings) as database:
        registry = PostgresRegistry(database)
        await registry.register(Replica(WORKER, "replica", "host:8100", "1", slots=4))
        free = asyncio.Event()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(database.autocommit, occupy, free)
            await trio.testing.wait_all_tasks_blocked()
            assert repr(database) == "<Database 1 of 1 busy, 0 idle>"
            renewal = await registry.renew(WORKER, draining=True)
            free.set()
        assert renewal.ring == (WORKER,)


async def test_a_heartbeat_connects_anew_after_its_connection_was_lost(database: Database, observer: Session) -> None:
    registry = PostgresRegistry(database)
    await registry.register(Replica(WORKER, "replica", "host:8100", "1", slots=4))
    await registry.renew(WORKER, draining=False)
    heartbeat = "FROM pg_stat_activity WHERE application_name = 'chatcluster heartbeat'"
    await execute(observer, f"SELECT pg_terminate_backend(pid) {heartbeat}")
    await wait_until(observer, f"NOT EXISTS (SELECT {heartbeat})")
    with trio.fail_after(60):
        while True:
            try:
                await registry.renew(WORKER, draining=False)
                break
            except StoreUnavailable:
                continue


async def test_a_heartbeat_that_hangs_leaves_time_for_another_connection(database_url: str, database: Database) -> None:
    """P4: a connection that leads nowhere any more is no reason to give up a lease."""
    settings = Settings.of(
        database_url=database_url, heartbeat_seconds=0.2, lease_ttl_seconds=3.2, lease_margin_seconds=1.0
    )
    async with open_database(settings) as hanging:
        registry = PostgresRegistry(hanging)
        await registry.register(Replica(WORKER, "replica", "host:8100", "1", slots=4))
        async with open_session(database, lasting=True) as other:  # the server ends other transactions that are silent
            await execute(other, "BEGIN")
            await execute(other, "SELECT FROM replicas FOR UPDATE")
            with pytest.raises(StoreUnavailable, match=r"heartbeat session within 1 s"):
                await registry.renew(WORKER, draining=False)
            await execute(other, "ROLLBACK")
        await registry.renew(WORKER, draining=False)


async def test_a_registration_without_an_answer_can_be_repeated(database: Database) -> None:
    registry = PostgresRegistry(database)
    for _ in range(2):
        await registry.register(Replica(WORKER, "replica", "host:8100", "1", slots=4))
    assert [replica.worker_id for replica in await registry.replicas()] == [WORKER]


# --- accounts ---------------------------------------------------------------------------------


async def test_the_use_of_a_token_is_noted_once_a_minute(database: Database, observer: Session) -> None:
    accounts = PostgresAccounts(database)
    user = await accounts.ensure_user("ada", admin=False)
    await accounts.add_token(user.user_id, token_id="t", name="laptop", secret_digest=bytes(32), expires_at=None)
    used = "SELECT last_used_at FROM tokens"
    assert await fetchval(observer, used) is None
    await accounts.authenticate("t", bytes(31) + b"x")
    assert await fetchval(observer, used) is None, "a wrong secret is no use"
    await accounts.authenticate("t", bytes(32))
    first = await fetchval(observer, used)
    await accounts.authenticate("t", bytes(32))
    assert await fetchval(observer, used) == first
    await execute(observer, "UPDATE tokens SET last_used_at = last_used_at - interval '61 seconds'")
    await accounts.authenticate("t", bytes(32))
    assert await fetchval(observer, used) > first


async def test_a_token_needs_a_user(database: Database) -> None:
    with pytest.raises(NotFound):
        await PostgresAccounts(database).add_token(
            uuid4(), token_id="t", name="laptop", secret_digest=bytes(32), expires_at=None
        )
