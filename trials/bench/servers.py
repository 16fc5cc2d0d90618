"""Postgres and Redis of a run, and for each side a database of its own on them."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Any, cast
from urllib.parse import urlsplit, urlunsplit

import trio

from bench.errors import BenchError
from bench.sides import OWN, Side
from chatcluster.config import ENV_PREFIX, Settings, env_name
from chatcluster.local.embedded import PostgresServer, RedisServer
from chatcluster.postgres import Connection, Database, open_database
from chatcluster.redis.connections import RedisConnection, open_redis

CONNECTIONS_MAX = 300
SETUP_SECONDS_MAX = 60.0


class Servers:
    """What a run has from its start to its end, as one side sees it: its database, and ways to look into it."""

    def __init__(self, directory: Path, postgres: PostgresServer, redis: RedisServer, side: Side = OWN) -> None:
        self.directory = directory
        self.postgres = postgres
        self.redis = redis
        self.side = side
        self.database_url = ""
        self.redis_url = ""
        self.token = ""
        self.keep_logs = False
        self.database: Database
        self.cache: RedisConnection

    async def sql(self, query: str, *arguments: object) -> list[tuple[Any, ...]]:
        async def run(connection: Connection) -> list[tuple[Any, ...]]:
            return [tuple(cast(Sequence[Any], row)) for row in await connection.fetch(query, *arguments)]

        return await self.database.autocommit(run)

    async def empty(self) -> None:
        """No chats, no replicas, nothing in Redis; users and tokens stay."""
        await self.sql("TRUNCATE chats, replicas, idempotency_keys CASCADE")
        await self.cache.exchange([("FLUSHALL",)])

    async def commit(self) -> None:
        """A small transaction that has to reach the disk."""
        await self.sql("INSERT INTO calibration DEFAULT VALUES")

    async def wake_claimers(self) -> None:
        """Say on every channel of this kind, whatever this version calls it, that there are chats to claim."""
        [channels] = await self.cache.exchange([("PUBSUB", "CHANNELS", "*runnable*")])
        await self.cache.exchange([("PUBLISH", channel, b"") for channel in cast(list[bytes], channels)])

    @property
    def environment(self) -> dict[str, str]:
        """For the processes of this side: its code and its servers, and none of the caller's settings."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(ENV_PREFIX)}
        servers = {env_name("database_url"): self.database_url, env_name("redis_url"): self.redis_url}
        return inherited | dict(self.side.environment) | servers


@asynccontextmanager
async def open_servers(sides: Sequence[Side] = (OWN,)) -> AsyncIterator[tuple[Servers, ...]]:
    """Servers on a new directory, which is deleted in the end; its logs are kept if ``keep_logs`` is set by then."""
    directory = _new_directory()
    postgres = PostgresServer(directory / "postgres", connections_max=CONNECTIONS_MAX)
    redis = RedisServer(directory / "redis")
    seen = tuple(Servers(directory, postgres, redis, side) for side in sides)
    try:
        postgres_url = await trio.to_thread.run_sync(postgres.start)
        redis_url = await trio.to_thread.run_sync(redis.start)
        async with AsyncExitStack() as stack:
            for servers in seen:
                servers.redis_url = redis_url
                await _prepare(servers, postgres_url)
                settings = Settings.of(database_url=servers.database_url, statement_timeout_seconds=120)
                servers.database = await stack.enter_async_context(open_database(settings))
                servers.cache = await stack.enter_async_context(open_redis(redis_url))
                await servers.sql("CREATE TABLE calibration (id bigint generated always as identity)")
            yield seen
    finally:
        with trio.CancelScope(shield=True):  # bounded by the servers' own escalation
            await trio.to_thread.run_sync(postgres.kill)
            await trio.to_thread.run_sync(redis.kill)
            shutil.rmtree(directory / "postgres", ignore_errors=True)
            if not any(servers.keep_logs for servers in seen):
                shutil.rmtree(directory, ignore_errors=True)


async def _prepare(servers: Servers, postgres_url: str) -> None:
    """Make the side's database, with its own migrations, and a token in it."""
    name = f"bench_{servers.side.name}"
    async with open_database(Settings.of(database_url=postgres_url)) as database:

        async def create(connection: Connection) -> None:
            await connection.execute(f"CREATE DATABASE {name}")

        await database.autocommit(create)
    servers.database_url = urlunsplit(urlsplit(postgres_url)._replace(path=f"/{name}"))
    await run_chatcluster(servers.environment, "migrate")
    said = await run_chatcluster(servers.environment, "token", "create", "--user", "bench", "--admin")
    found = re.search(r"ccl_[\w-]+", said)
    if found is None:
        raise BenchError(f"chatcluster token create printed no token: {said.strip()}")
    servers.token = found[0]


async def run_chatcluster(environment: Mapping[str, str], *words: str) -> str:
    """What a command of a side's own version prints."""
    command = [sys.executable, "-P", "-m", "chatcluster", *words]
    with trio.move_on_after(SETUP_SECONDS_MAX):
        done = await trio.run_process(
            command, check=False, env=dict(environment), capture_stdout=True, stderr=subprocess.STDOUT
        )
        said = done.stdout.decode(errors="replace")
        if done.returncode:
            raise BenchError(f"chatcluster {' '.join(words)}: {said.strip()[-500:]}")
        return said
    raise BenchError(f"chatcluster {' '.join(words)} took longer than {SETUP_SECONDS_MAX:.0f} s")


def _new_directory() -> Path:
    directory = Path(tempfile.mkdtemp(prefix="chatcluster-bench-", dir="/tmp"))
    directory.chmod(0o755)  # embedded Postgres runs as another user when we are root
    return directory
