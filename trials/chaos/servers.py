"""The Postgres and Redis of a cluster of our own: started by the run, so that it can stop, kill and empty them.

A database or a Redis that the run is given (`-- --database-url …`) is left alone: no fault touches it.

Where a fault needs it the replicas reach the servers through wires, that can be silenced and moved (``wires.py``); the
run itself goes to the servers directly.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import redis
import trio

from chaos.postgres_host import PostgresHost, find_faketime, url_through
from chaos.wires import Wires, open_wires
from chatcluster.config import env_name
from chatcluster.local.embedded import RedisServer
from chatcluster.setting_checks import flag_name

CONNECTIONS_MIN = 200
CONNECTIONS_PER_REPLICA = 40
WIRED = frozenset({"freeze-connection", "failover"})
"""The faults that need wires."""
REPLICATION = "replication"

Server = PostgresHost | RedisServer


class Servers:
    """The cluster's servers; None for one that is not ours. ``wires`` is None where the replicas go there directly."""

    def __init__(
        self, postgres: PostgresHost | None, redis: RedisServer | None, wires: Wires | None, clock: Path | None
    ) -> None:
        self.postgres = postgres
        self.redis = redis
        self.wires = wires
        self.clock = clock
        self.database_url = ""
        """The run's own way to the database, as the following is to Redis."""
        self.redis_url = ""
        self._copies = 0

    def of(self, name: str) -> Server | None:
        """The one of that name: postgres, or redis."""
        return self.postgres if name == "postgres" else self.redis

    async def start(self) -> dict[str, str]:
        """Start them; the environment that tells the cluster where they are."""
        environment = {}
        if self.postgres is not None:
            environment[env_name("database_url")] = await self._start_postgres(self.postgres)
        if self.redis is not None:
            self.redis_url = await trio.to_thread.run_sync(self.redis.start)
            environment[env_name("redis_url")] = await self._wire_redis()
        return environment

    async def _start_postgres(self, postgres: PostgresHost) -> str:
        self.database_url = await trio.to_thread.run_sync(postgres.start)
        if self.wires is None:
            return self.database_url
        await self.wires.open(REPLICATION, str(postgres.socket))
        return url_through(await self.wires.open("postgres", str(postgres.socket)))

    async def _wire_redis(self) -> str:
        if self.wires is None:
            return self.redis_url
        head, _, address = self.redis_url.rpartition("@")
        target, _, number = address.partition("/")
        return f"{head}@127.0.0.1:{await self.wires.open('redis', target)}/{number}"

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
            with redis.Redis.from_url(self.redis_url) as connection:
                connection.flushall()

        await trio.to_thread.run_sync(flush)

    def set_clock(self, seconds: float) -> None:
        """The database's clock goes so far wrong, at most a second from now."""
        assert self.clock is not None
        self.clock.write_text(f"{seconds:+g}\n")

    async def copy_postgres(self) -> PostgresHost:
        """A standby of the database, that follows through the replication door.

        It is waited for in any case: it is bounded by its own patience, and a server half started would be forgotten.
        """
        assert self.postgres is not None
        assert self.wires is not None
        directory = self.postgres.data_dir.with_name(f"postgres-{self._copies + 2}")
        port = self.wires.ports[REPLICATION]
        standby = await trio.to_thread.run_sync(self.postgres.copy, directory, port)
        self._copies += 1
        return standby

    async def promoted(self, standby: PostgresHost) -> PostgresHost | None:
        """The database is another server from now on; the old one."""
        assert self.wires is not None
        old, self.postgres = self.postgres, standby
        self.database_url = await trio.to_thread.run_sync(standby.start)  # it runs: that is its URL
        for door in ("postgres", REPLICATION):
            await self.wires.move(door, str(standby.socket))
        return old


@asynccontextmanager
async def open_servers(
    data_dir: Path, replicas: int, faults: Collection[str], up_arguments: Sequence[str]
) -> AsyncIterator[Servers]:
    """The servers that are not given, not yet started; stopped at the end of the block."""
    connections = max(CONNECTIONS_MIN, CONNECTIONS_PER_REPLICA * replicas)
    clock = _make_clock(data_dir) if "clock" in faults and find_faketime() else None
    postgres = redis = None
    if not given("database_url", up_arguments):
        directory = data_dir / "postgres-1"
        replicated = "failover" in faults
        postgres = PostgresHost(directory, connections_max=connections, replicated=replicated, clock=clock)
    if not given("redis_url", up_arguments):
        redis = RedisServer(data_dir)
    if WIRED.isdisjoint(faults):
        async with _stopped_in_the_end(Servers(postgres, redis, None, clock)) as servers:
            yield servers
    else:
        async with open_wires() as wires, _stopped_in_the_end(Servers(postgres, redis, wires, clock)) as servers:
            yield servers


@asynccontextmanager
async def _stopped_in_the_end(servers: Servers) -> AsyncIterator[Servers]:
    try:
        yield servers
    finally:
        with trio.CancelScope(shield=True):  # bounded by the servers' own escalation
            await servers.stop()


def given(name: str, up_arguments: Sequence[str]) -> bool:
    """Whether the user gives the cluster this server."""
    flag = f"--{flag_name(name)}"
    return env_name(name) in os.environ or any(argument.partition("=")[0] == flag for argument in up_arguments)


def _make_clock(data_dir: Path) -> Path:
    """Readable for the server's user."""
    clock = data_dir / "clock"
    clock.write_text("+0\n")
    clock.chmod(0o644)
    return clock
