"""What is measured: servers for a whole run, replicas for a case, the load generator, and their process IDs."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import trio

from chatcluster.config import ENV_PREFIX, Settings, env_name
from chatcluster.embedded import PostgresServer, RedisServer, child
from chatcluster.postgres import Connection, Database, open_database
from chatcluster.provisioning import create_token, migrate_schema
from chatcluster.redis import RedisConnection, open_redis

READY_SECONDS_MAX = 60.0
ORDER_SECONDS_MAX = 180.0
CONNECTIONS_MAX = 300
LINE_BYTES = 1 << 20

Json = dict[str, Any]


ONE_USER = {"requests_per_user": 0, "requests_per_second_per_user": 0, "subscribers_per_user": 0}
"""The load is one user's, and stands for that of many: no share of theirs is measured."""


class BenchError(Exception):
    """A workload cannot go on; the message says why."""


def leaves(group: BaseExceptionGroup[BaseException]) -> list[BaseException]:
    """The errors in a group and in the groups within it."""
    return [
        leaf
        for error in group.exceptions
        for leaf in (leaves(error) if isinstance(error, BaseExceptionGroup) else [error])
    ]


@dataclass(frozen=True)
class Setup:
    """What a case needs: replicas with ``settings``, and a model inside of them or behind HTTP."""

    replicas: int = 2
    model_inside: bool = True
    settings: Mapping[str, object] = field(default_factory=dict)


class Replica:
    """One replica process."""

    def __init__(self, name: str, process: subprocess.Popen[bytes], ready: Json) -> None:
        self.name = name
        self.process = process
        self.worker_id = str(ready.get("worker_id", ""))
        self.address = f"127.0.0.1:{ready['port']}"

    @property
    def pid(self) -> int:
        return self.process.pid

    @property
    def runs(self) -> bool:
        return self.process.poll() is None


class Servers:
    """Postgres, Redis and ways to look into them; what a run has from its start to its end."""

    def __init__(self, directory: Path, postgres: PostgresServer, redis: RedisServer) -> None:
        self.directory = directory
        self.postgres = postgres
        self.redis = redis
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


@asynccontextmanager
async def open_servers() -> AsyncIterator[Servers]:
    """Servers on a new directory, which is deleted in the end; its logs are kept if ``keep_logs`` is set by then."""
    directory = _new_directory()
    postgres = PostgresServer(directory / "postgres", connections_max=CONNECTIONS_MAX)
    redis = RedisServer(directory / "redis")
    servers = Servers(directory, postgres, redis)
    try:
        servers.database_url = await trio.to_thread.run_sync(postgres.start)
        servers.redis_url = await trio.to_thread.run_sync(redis.start)
        settings = Settings(database_url=servers.database_url, statement_timeout_seconds=120)
        await migrate_schema(settings)
        servers.token = await create_token(settings, user="bench", admin=True, name="bench")
        async with open_database(settings) as servers.database, open_redis(servers.redis_url) as servers.cache:
            yield servers
    finally:
        with trio.CancelScope(shield=True):  # bounded by the servers' own escalation
            await trio.to_thread.run_sync(postgres.kill)
            await trio.to_thread.run_sync(redis.kill)
            shutil.rmtree(directory / "postgres", ignore_errors=True)
            if not servers.keep_logs:
                shutil.rmtree(directory, ignore_errors=True)


def _new_directory() -> Path:
    directory = Path(tempfile.mkdtemp(prefix="chatcluster-bench-", dir="/tmp"))
    directory.chmod(0o755)  # embedded Postgres runs as another user when we are root
    return directory


class Cluster:
    """Replicas that work, and the model's server if they need one."""

    def __init__(self, servers: Servers, setup: Setup) -> None:
        self.servers = servers
        self.setup = setup
        self.replicas: list[Replica] = []
        self.model_pid: int | None = None
        self._processes: list[subprocess.Popen[bytes]] = []
        self._started = 0
        self._environment = {name: value for name, value in os.environ.items() if not name.startswith(ENV_PREFIX)}

    @property
    def addresses(self) -> list[str]:
        return [replica.address for replica in self.replicas]

    @property
    def heartbeat_seconds(self) -> float:
        return float(str(self.setup.settings.get("heartbeat_seconds", Settings().heartbeat_seconds)))

    async def start(self) -> None:
        """Start what the setup names, and wait until it is ready."""
        self._configure(database_url=self.servers.database_url, redis_url=self.servers.redis_url, log_level="warning")
        self._configure(llm_api_key="simulated", llm_model="simulated", llm_base_url="http://127.0.0.1:1/v1")
        if not self.setup.model_inside:
            process, ready = await self._spawn("model", ["chatcluster", "simulate-llm", "--port", "0"])
            self.model_pid = process.pid
            self._configure(llm_base_url=f"http://127.0.0.1:{ready['port']}/v1")
        self._configure(**ONE_USER, **self.setup.settings)
        async with trio.open_nursery() as nursery:
            for _ in range(self.setup.replicas):
                nursery.start_soon(self.add)

    async def add(self) -> Replica:
        """One more replica."""
        self._started += 1
        name = f"replica-{self._started}"
        inside = ["bench.replica"]
        command = inside if self.setup.model_inside else ["chatcluster", "serve", "--port", "0", "--name", name]
        process, ready = await self._spawn(name, command)
        replica = Replica(name, process, ready)
        self.replicas.append(replica)
        return replica

    async def condition(self) -> str:
        """What a look behind the API shows, for an error that needs an explanation."""
        rows = await self.servers.sql("SELECT status, count(*), count(worker_id) FROM chats GROUP BY 1 ORDER BY 1")
        chats = ", ".join(f"{count} {status} ({owned} owned)" for status, count, owned in rows) or "none"
        died = [replica.name for replica in self.replicas if not replica.runs]
        said = "; ".join(child.last_line(log, "Error:") for log in sorted(self.servers.directory.glob("replica-*.log")))
        return f"chats: {chats}; died: {', '.join(died) or 'none'}; logs end with: {said or 'nothing'}"

    async def kill(self, replica: Replica) -> int:
        """SIGKILL; the monotonic time (ns) right before."""
        killed_ns = time.monotonic_ns()
        replica.process.kill()
        self.replicas.remove(replica)
        await trio.to_thread.run_sync(replica.process.wait)
        return killed_ns

    def stop(self) -> None:
        """End everything at once: nothing of it is needed any more."""
        for process in self._processes:
            process.kill()
            process.wait()

    def _configure(self, **settings: object) -> None:
        self._environment |= {env_name(name): str(value) for name, value in settings.items()}

    async def _spawn(self, name: str, command: Sequence[str]) -> tuple[subprocess.Popen[bytes], Json]:
        log = self.servers.directory / f"{name}.log"
        read_fd, write_fd = os.pipe()
        async with trio.lowlevel.FdStream(read_fd) as pipe:
            process = child.spawn(
                [sys.executable, "-m", *command, "--ready-fd", str(write_fd)],
                log=log,
                death_signal=signal.SIGKILL,
                environment=self._environment,
                inherited_fds=(write_fd,),
            )
            os.close(write_fd)
            self._processes.append(process)
            with trio.move_on_after(READY_SECONDS_MAX):
                line = await pipe.receive_some()
                if line:
                    return process, json.loads(line.splitlines()[0])
        raise BenchError(f"{name} does not start: {child.last_line(log, 'Error:')}")


@asynccontextmanager
async def open_cluster(servers: Servers, setup: Setup) -> AsyncIterator[Cluster]:
    """A cluster on an empty database."""
    await servers.empty()
    cluster = Cluster(servers, setup)
    try:
        await cluster.start()
        yield cluster
    finally:
        cluster.stop()


class Load:
    """The load generator's process."""

    def __init__(self, process: trio.Process, token: str) -> None:
        self.pid = process.pid
        self._process = process
        self._token = token
        self._buffered = b""

    async def order(self, do: str, *, on_said: Callable[[Any], Awaitable[None]] | None = None, **plan: object) -> Any:
        """Have an order obeyed, and return its result. ``on_said`` gets what is said meanwhile."""
        assert self._process.stdin is not None
        await self._process.stdin.send_all(json.dumps({"do": do, "token": self._token, **plan}).encode() + b"\n")
        with trio.move_on_after(ORDER_SECONDS_MAX):
            while True:
                answer = json.loads(await self._line())
                if "error" in answer:
                    raise BenchError(f"{do}: {answer['error']}")
                if "result" in answer:
                    return answer["result"]
                if on_said is not None:
                    await on_said(answer["said"])
                if answer["waits"]:
                    await self._process.stdin.send_all(b"\n")

        raise BenchError(f"{do}: no end after {ORDER_SECONDS_MAX:.0f} s")

    async def _line(self) -> bytes:
        assert self._process.stdout is not None
        while b"\n" not in self._buffered:
            data = await self._process.stdout.receive_some(LINE_BYTES)
            if not data:
                raise BenchError("the load generator has died")
            self._buffered += data
        line, _, self._buffered = self._buffered.partition(b"\n")
        return line


@asynccontextmanager
async def open_load(token: str) -> AsyncIterator[Load]:
    """The load generator, which ends with the block, or with us."""
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "bench.load"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        yield Load(process, token)
    finally:
        process.kill()
        with trio.CancelScope(shield=True):
            await process.wait()
