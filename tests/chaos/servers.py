"""The Postgres and Redis of a cluster of our own: started by the run, so that it can stop, kill and empty them.

Whoever gives the cluster a database or a Redis of his own (`-- --database-url …`) keeps it: no fault touches it.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import redis
import trio

from chatcluster.config import env_name, flag_name
from chatcluster.embedded import PostgresServer, RedisServer

CONNECTIONS_MIN = 200
CONNECTIONS_PER_REPLICA = 40

Server = PostgresServer | RedisServer


class Servers:
    """Those that are ours; None for those that are not."""

    def __init__(self, postgres: PostgresServer | None, redis: RedisServer | None) -> None:
        self.postgres = postgres
        self.redis = redis
        self._redis_url = ""

    def of(self, fault: str) -> Server | None:
        """The one that a fault of that name hurts."""
        return self.postgres if fault.startswith("postgres") else self.redis

    async def start(self) -> dict[str, str]:
        """Start them; the environment that tells the cluster where they are."""
        environment = {}
        if self.postgres is not None:
            environment[env_name("database_url")] = await trio.to_thread.run_sync(self.postgres.start)
        if self.redis is not None:
            self._redis_url = await trio.to_thread.run_sync(self.redis.start)
            environment[env_name("redis_url")] = self._redis_url
        return environment

    async def stop(self) -> None:
        for server in (self.redis, self.postgres):
            if server is not None:
                await trio.to_thread.run_sync(server.stop)

    async def restart(self, server: Server, *, crash: bool, outage_seconds: float) -> None:
        """Stop it in order, or kill it; returns when it takes connections again."""
        try:
            await trio.to_thread.run_sync(server.kill if crash else server.stop)
            await trio.sleep(outage_seconds)
        finally:
            with trio.CancelScope(shield=True):  # bounded by the server's own patience
                await trio.to_thread.run_sync(server.start)

    async def flush(self) -> None:
        """Redis forgets everything, and goes on."""

        def flush() -> None:
            with redis.Redis.from_url(self._redis_url) as connection:
                connection.flushall()

        await trio.to_thread.run_sync(flush)


@asynccontextmanager
async def open_servers(data_dir: Path, replicas: int, up_arguments: Sequence[str]) -> AsyncIterator[Servers]:
    """The servers that are not given, not yet started; stopped at the end of the block."""
    connections = max(CONNECTIONS_MIN, CONNECTIONS_PER_REPLICA * replicas)
    servers = Servers(
        None if _given("database_url", up_arguments) else PostgresServer(data_dir, connections_max=connections),
        None if _given("redis_url", up_arguments) else RedisServer(data_dir),
    )
    try:
        yield servers
    finally:
        with trio.CancelScope(shield=True):  # bounded by the servers' own escalation
            await servers.stop()


def _given(name: str, up_arguments: Sequence[str]) -> bool:
    flag = f"--{flag_name(name)}"
    return env_name(name) in os.environ or any(argument.partition("=")[0] == flag for argument in up_arguments)
