"""Servers, databases and loops for the tests.

The session starts one Postgres and one Redis, each at the first test that wants it, and stops them at its
end. A test gets a database of its own, copied from one that was migrated once, and an emptied Redis. A
test that wants to stop, kill or freeze a server starts one of its own (``own_postgres``, ``own_redis``).
"""

from __future__ import annotations

import asyncio
import gc
import itertools
import os
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import asyncpg
import pytest
import redis
import trio
from postgres_sessions import open_session

from chatcluster import telemetry
from chatcluster.config import Settings
from chatcluster.local.embedded import PostgresServer, RedisServer, postgres_server
from chatcluster.local.embedded.binaries import find_redis
from chatcluster.postgres import Database, Session, open_database
from chatcluster.postgres.migrate import migrate

if TYPE_CHECKING:
    from mcp_world import Zygote

TEMPLATE_DATABASE = "template_migrated"

Server = TypeVar("Server", PostgresServer, RedisServer)

_serial_numbers = itertools.count(1)

# Whatever is tested with a server fails with it: a busy machine may take its time to start one.
postgres_server.INITDB_SECONDS_MAX = postgres_server.START_SECONDS_MAX = 600.0


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files that start clusters come first: they take longest, and what comes last shall be short, so that all
    end at the same time."""
    slow = {item.path for item in items if item.get_closest_marker("cluster")}
    items.sort(key=lambda item: item.path not in slow)


def pytest_collection_finish() -> None:
    """What was imported and collected stays to the end: to look through it for garbage takes longer than most tests."""
    gc.collect()
    gc.freeze()


@pytest.fixture(autouse=True)
def nobody_listens_afterwards() -> Iterator[None]:
    """A test that leaves a listener would have its say in all that come after it."""
    before = list(telemetry._listeners)
    yield
    assert telemetry._listeners == before, "a listener to what is reported was left behind"


@pytest.fixture(scope="session")
def servers_dir() -> Iterator[Path]:
    """A directory with a short name that an unprivileged server can enter when the tests run as root."""
    directory = Path(tempfile.mkdtemp(prefix="chatcluster-tests-", dir="/tmp"))
    directory.chmod(0o755)
    yield directory
    shutil.rmtree(directory)


@pytest.fixture(scope="session")
def postgres_url(servers_dir: Path) -> Iterator[str]:
    """The session's Postgres: the URL of its maintenance database, which tests leave alone."""
    server = PostgresServer(servers_dir / "postgres", durable=False)
    yield server.start()
    server.stop()


@pytest.fixture(scope="session")
def real_redis() -> None:
    """What stands in for Redis where there is none will do for a first look, and not for tests of adapters."""
    if find_redis() is None:
        pytest.exit(
            "the tests need a redis-server (>= 6.2) on the PATH, or Python 3.11 or 3.12, for which a wheel has one",
            returncode=1,
        )


@pytest.fixture(scope="session")
def redis_url(servers_dir: Path, real_redis: None) -> Iterator[str]:
    """The session's Redis; see ``empty_redis_url``."""
    server = RedisServer(servers_dir / "redis")
    yield server.start()
    server.stop()


@pytest.fixture(scope="session")
def template_database(postgres_url: str) -> str:
    """The name of a database with the current schema and nothing in it."""
    execute_sql(postgres_url, f"CREATE DATABASE {TEMPLATE_DATABASE}")
    trio.run(migrate, url_of_database(postgres_url, TEMPLATE_DATABASE))
    return TEMPLATE_DATABASE


@pytest.fixture
def database_url(postgres_url: str, template_database: str) -> Iterator[str]:
    """A migrated database for one test."""
    yield from _fresh_database(postgres_url, template_database)


@pytest.fixture
async def database(database_url: str) -> AsyncIterator[Database]:
    """The connections of a replica to ``database_url``."""
    async with open_database(Settings.of(database_url=database_url)) as database:
        yield database


@pytest.fixture
async def observer(database: Database) -> AsyncIterator[Session]:
    async with open_session(database, "observer") as session:
        yield session


@pytest.fixture
async def other(database: Database) -> AsyncIterator[Session]:
    """Somebody else's transaction, statement by statement."""
    async with open_session(database, "other") as session:
        yield session


@pytest.fixture
def empty_database_url(postgres_url: str) -> Iterator[str]:
    """A database without any schema for one test, for the migrations themselves."""
    yield from _fresh_database(postgres_url, "template1")


@pytest.fixture
def empty_redis_url(redis_url: str) -> str:
    """The session's Redis with nothing in it."""
    with redis.Redis.from_url(redis_url) as client:
        client.flushall()
    return redis_url


@pytest.fixture
def own_postgres(servers_dir: Path) -> Iterator[PostgresServer]:
    """A Postgres of one's own, not started yet, to be stopped or killed in the middle of a test."""
    yield from _own(PostgresServer(servers_dir / f"own-{next(_serial_numbers)}", durable=False))


@pytest.fixture
def own_redis(servers_dir: Path, real_redis: None) -> Iterator[RedisServer]:
    """A Redis of one's own, not started yet, to be stopped or killed in the middle of a test."""
    yield from _own(RedisServer(servers_dir / f"own-{next(_serial_numbers)}"))


@pytest.fixture(scope="session")
def mcp_processes() -> Iterator[Zygote]:
    """What MCP processes are forked off."""
    from mcp_world import zygote

    with zygote() as processes:
        yield processes


@pytest.fixture
def forked(mcp_processes: Zygote, monkeypatch: pytest.MonkeyPatch) -> None:
    """The MCP processes of the test are there at once."""
    monkeypatch.setattr("chatcluster.tools.mcp_link.started", mcp_processes.started)


def url_of_database(url: str, name: str) -> str:
    """The URL of another database on the same server."""
    return url.replace("/chatcluster?", f"/{name}?")


def execute_sql(url: str, *statements: str) -> None:
    """Run statements one by one, from a test or fixture that is not inside a loop."""

    async def run() -> None:
        connection = await asyncpg.connect(url)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    asyncio.run(run())


def _fresh_database(postgres_url: str, template: str) -> Iterator[str]:
    name = f"test_{os.getpid()}_{next(_serial_numbers)}"
    execute_sql(postgres_url, f"CREATE DATABASE {name} TEMPLATE {template}")
    yield url_of_database(postgres_url, name)
    execute_sql(postgres_url, f"DROP DATABASE {name} WITH (FORCE)")


def _own(server: Server) -> Iterator[Server]:
    yield server
    server.kill()
