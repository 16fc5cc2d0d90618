"""The WAL timeline of a real server: it moves with a promotion, and a session need not begin anew to see it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from uuid import uuid4

import pytest
import trio
from chat_states import assistant, user
from conftest import execute_sql
from contract_worlds import OWNER, fence_of

from chatcluster.chat import VERSIONS_FORGOTTEN_MAX, FinishTurn
from chatcluster.config import Settings
from chatcluster.local.embedded import PostgresServer, postgres_server
from chatcluster.ports import Chat, NewChat, Replica
from chatcluster.postgres import Connection, Database, open_database
from chatcluster.postgres.migrate import migrate
from chatcluster.postgres.registry import PostgresRegistry
from chatcluster.postgres.store import PostgresStore

pytestmark = pytest.mark.postgres

ANSWER = FinishTurn((assistant("the answer"),))


async def timeline(connection: Connection) -> int | None:
    told: int | None = await connection.fetchval("select wal_timeline()")
    return told


async def promote(connection: Connection) -> None:
    assert await connection.fetchval("select pg_promote()")


async def running_chat(database: Database) -> Chat:
    store, worker_id = PostgresStore(database), uuid4()
    await PostgresRegistry(database).register(Replica(worker_id, "replica", "", "0.1.0", slots=4))
    await store.create(NewChat(uuid4(), OWNER, "a chat", None, (user("hello"),)))
    (claimed,) = await store.claim(worker_id, free_slots=1, batch=1)
    return claimed.chat


def become_standby(server: PostgresServer) -> str:
    """The server comes back as one that follows another, and may be promoted: its URL."""
    server.stop()
    assert server.home is not None
    (server.home / "data" / "standby.signal").touch()
    return server.start()


async def test_after_a_promotion_the_first_write_leaps_also_on_a_session_that_is_older(
    own_postgres: PostgresServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(postgres_server.SETTINGS, "wal_level", "replica")
    url = await trio.to_thread.run_sync(own_postgres.start)
    await migrate(url)
    async with open_database(Settings.of(database_url=url)) as database:
        chat = await running_chat(database)
    assert chat.timeline == 1
    url = await trio.to_thread.run_sync(become_standby, own_postgres)
    async with open_database(Settings.of(database_url=url)) as database:
        session = database.session("an old one")
        assert await session.run(timeline) is None, "a standby writes on none"
        await session.run(promote)
        assert await session.run(timeline) == 2
        outcome = await PostgresStore(database).commit(fence_of(chat), ANSWER, known=chat)
        assert outcome.chat.timeline == 2
        assert outcome.chat.snapshot_version == chat.snapshot_version + VERSIONS_FORGOTTEN_MAX + 1


@contextmanager
def stranger_to_the_log(url: str) -> Iterator[str]:
    """The URL for a role that may do all that the tables need, and is not told of the WAL."""
    role = f"clerk_{uuid4().hex[:8]}"
    functions = ("pg_walfile_name(pg_lsn)", "pg_current_wal_insert_lsn()")
    execute_sql(
        url,
        f"CREATE ROLE {role} LOGIN",
        f"GRANT ALL ON ALL TABLES IN SCHEMA public TO {role}",
        *(f"REVOKE EXECUTE ON FUNCTION {function} FROM PUBLIC" for function in functions),
    )
    yield url.replace(f"//{postgres_server.USER}@", f"//{role}@", 1)
    execute_sql(url, f"DROP OWNED BY {role}", f"DROP ROLE {role}")


async def test_a_role_that_may_not_ask_for_the_log_works_as_it_did_without_a_timeline(database_url: str) -> None:
    with stranger_to_the_log(database_url) as url:
        async with open_database(Settings.of(database_url=url)) as database:
            chat = await running_chat(database)
            assert chat.timeline is None
            outcome = await PostgresStore(database).commit(fence_of(chat), ANSWER, known=chat)
            assert outcome.chat.snapshot_version == chat.snapshot_version + 1


async def test_rows_of_the_previous_version_are_read_written_and_told_apart(database_url: str) -> None:
    """It knows no such column: a chat that it made has no timeline, and one that it changed keeps the one it had."""
    async with open_database(Settings.of(database_url=database_url)) as database:
        chat = await running_chat(database)
        rewrite = f"SET snapshot_version = snapshot_version + 1 WHERE id = '{chat.id}'"
        await trio.to_thread.run_sync(
            execute_sql,
            database_url,
            "CREATE OR REPLACE FUNCTION wal_timeline() RETURNS bigint LANGUAGE sql AS 'select 2::bigint'",
            f"UPDATE chats {rewrite}",
        )
        outcome = await PostgresStore(database).commit(fence_of(chat), ANSWER, known=chat)
        assert outcome.chat.snapshot_version == chat.snapshot_version + 1 + VERSIONS_FORGOTTEN_MAX + 1
