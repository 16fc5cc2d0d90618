"""What is measured: the replicas of a case, and the model's server if they need one apart."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import trio

from bench.errors import BenchError
from bench.servers import Servers
from bench.sides import OWN
from chatcluster.config import Settings, env_name
from chatcluster.local.embedded import child

READY_SECONDS_MAX = 60.0
ONE_USER = {"requests_per_user": 0, "requests_per_second_per_user": 0, "subscribers_per_user": 0}
"""The load is one user's, and stands for that of many: no share of theirs is measured."""

Json = dict[str, Any]


@dataclass(frozen=True)
class Setup:
    """What a case needs: replicas with ``settings``, and a model inside of them or behind HTTP. ``quiet`` ones log
    warnings only; others log as they do by default."""

    replicas: int = 2
    model_inside: bool = True
    quiet: bool = True
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


class Cluster:
    """Replicas that work, and the model's server if they need one."""

    def __init__(self, servers: Servers, setup: Setup) -> None:
        self.servers = servers
        self.setup = setup
        self.replicas: list[Replica] = []
        self.model_pid: int | None = None
        self._processes: list[subprocess.Popen[bytes]] = []
        self._started = 0
        self._environment = servers.environment

    @property
    def addresses(self) -> list[str]:
        return [replica.address for replica in self.replicas]

    @property
    def heartbeat_seconds(self) -> float:
        return float(str(self.setup.settings.get("heartbeat_seconds", Settings().ownership.heartbeat_seconds)))

    async def start(self) -> None:
        """Start what the setup names, and wait until it is ready."""
        if self.setup.quiet:
            self._configure(log_level="warning")
        self._configure(titles=False)  # the model's server is to be asked for what is measured
        self._configure(llm_api_key="simulated", llm_model="simulated", llm_base_url="http://127.0.0.1:1/v1")
        if not self.setup.model_inside:
            own = self.servers.environment | dict(OWN.environment)  # one and the same model for every side
            process, ready = await self._spawn("model", ["chatcluster", "simulate-llm", "--port", "0"], own)
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
        process, ready = await self._spawn(name, command, self._environment)
        replica = Replica(name, process, ready)
        self.replicas.append(replica)
        return replica

    async def add_host(self, **settings: object) -> tuple[int, str]:
        """A host of workspaces: its process ID, and what it lacks on this machine, which is empty if nothing."""
        environment = self._environment | {env_name(name): str(value) for name, value in settings.items()}
        command = ["chatcluster", "workspace-host", "--default-template", "--workspaces-port", "0"]
        process, ready = await self._spawn("workspace-host", command, environment)
        return process.pid, str(ready["problem"])

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

    async def _spawn(
        self, name: str, command: Sequence[str], environment: Mapping[str, str]
    ) -> tuple[subprocess.Popen[bytes], Json]:
        log = self.servers.directory / f"{name}.log"
        read_fd, write_fd = os.pipe()
        async with trio.lowlevel.FdStream(read_fd) as pipe:
            process = child.spawn(
                [sys.executable, "-P", "-m", *command, "--ready-fd", str(write_fd)],
                log=log,
                death_signal=signal.SIGKILL,
                environment=environment,
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
