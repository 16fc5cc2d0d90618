"""Which processes are killed under chats that run commands in workspaces, one at a time, and when.

============  ================================================================================
owner         the replica that has the chat; ``--kills`` counts these
freeze        the same, stopped until others have taken its chats, and woken again
replicas      all of them in the same moment; the commands run on with nobody behind them
agent         process 1 of one workspace's sandbox, which so ends
host          the workspace host, and with it every sandbox of the machine
============  ================================================================================

A process is found by what is told of it and by ``/proc``: a replica and a host by the port that they listen on, an
agent as the child of the bubblewrap that binds its workspace's disk.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import trio

from chaos.api import Api
from chaos.fleet import Fleet, Replica, listener_on
from chaos.options import Options
from chaos.workspace_verdicts import Scores

FREEZE_SECONDS = 7.0
"""Longer than a lease."""
HOST_SECONDS_MAX = 180.0
"""More than the supervisor gives it to be ready."""
LOOK_SECONDS = 0.1
BUBBLEWRAP = b"bwrap"


class Death(NamedTuple):
    """When an agent was killed, or all of them, where ``workspace_id`` is None."""

    at: float
    workspace_id: str | None


class Killer:
    """Whatever it does is done when the cluster is whole, and whether it was done is answered."""

    def __init__(self, api: Api, fleet: Fleet, scores: Scores, options: Options, say: Callable[[str], None]) -> None:
        self._api = api
        self._fleet = fleet
        self._scores = scores
        self._kills_max = options.faults.kills_max
        self._until = trio.current_time() + options.faults.seconds
        self._say = say
        self._one_at_a_time = trio.Lock()
        self._agents: list[Death] = []
        self._replicas: list[float] = []

    @property
    def is_done(self) -> bool:
        return self._scores.counts["kills"] >= self._kills_max or trio.current_time() >= self._until

    def agent_died(self, workspace_id: str, since: float) -> bool:
        """Whether the agent of this workspace was killed, or the host that it runs on."""
        return any(death.at >= since and death.workspace_id in (workspace_id, None) for death in self._agents)

    def owners_died(self, since: float) -> int:
        """How many times replicas were killed or frozen since then."""
        return sum(at >= since for at in self._replicas)

    async def owner(self, worker_id: str) -> bool:
        async with self._one_at_a_time:
            replica = await self._whole(worker_id)
            if replica is None:
                return False
            await self._kill_replicas(replica)
            self._scores.counts["kills"] += 1
            if self._scores.counts["kills"] % 10 == 0:
                self._say(f"{self._scores.counts['kills']} kills, {len(self._scores.violations)} violations")
            return True

    async def freeze(self, worker_id: str) -> bool:
        async with self._one_at_a_time:
            replica = await self._whole(worker_id)
            if replica is None:
                return False
            pid = await self._fleet.process(replica)
            self._fleet.forget(replica)
            self._replicas.append(trio.current_time())
            self._scores.counts["freezes"] += 1
            os.kill(pid, signal.SIGSTOP)
            try:
                await trio.sleep(FREEZE_SECONDS)
            finally:
                os.kill(pid, signal.SIGCONT)
            return True

    async def replicas(self) -> bool:
        async with self._one_at_a_time:
            await self._fleet.ready()
            if self.is_done:
                return False
            await self._kill_replicas(*self._fleet.replicas)
            self._scores.counts["all_replicas_killed"] += 1
            return True

    async def agent(self, workspace_id: str) -> bool:
        async with self._one_at_a_time:
            pid = await trio.to_thread.run_sync(agent_process, workspace_id)
            if pid is None or self.is_done:
                return False
            self._agents.append(Death(trio.current_time(), workspace_id))
            self._scores.counts["agents_killed"] += 1
            _kill(pid)
            return True

    async def host(self) -> bool:
        async with self._one_at_a_time:
            pid = await self._host_process()
            if pid is None or self.is_done:
                return False
            self._agents.append(Death(trio.current_time(), None))
            self._scores.counts["hosts_killed"] += 1
            _kill(pid)
            return True

    async def _whole(self, worker_id: str) -> Replica | None:
        """This replica, if it is there when at most one other is not, and is to be hurt still."""
        await self._fleet.ready(missing_max=1)
        return None if self.is_done else self._fleet.owner(worker_id)

    async def _kill_replicas(self, *replicas: Replica) -> None:
        pids = [await self._fleet.process(replica) for replica in replicas]
        for replica, pid in zip(replicas, pids, strict=True):
            self._fleet.forget(replica)
            _kill(pid)
        self._replicas.append(trio.current_time())

    async def _host_process(self) -> int | None:
        """The one host's, once it is there. Raises ``RuntimeError`` if it does not come."""
        with trio.move_on_after(HOST_SECONDS_MAX):
            while True:
                hosts = (await self._api.read("/admin/workspace-hosts"))["hosts"]
                ports = [int(host["address"].rpartition(":")[2]) for host in hosts if host["state"] == "ready"]
                if ports:
                    return await trio.to_thread.run_sync(listener_on, ports[0])
                await trio.sleep(LOOK_SECONDS)
        raise RuntimeError("the workspace host does not come back")


def agent_process(workspace_id: str) -> int | None:
    """Process 1 of a workspace's sandbox, as it is numbered outside; None if it does not run."""
    walls = {pid for pid, words in _processes() if words[0] == BUBBLEWRAP and _is_about(words, workspace_id)}
    return next((pid for pid, words in _processes() if words[0] != BUBBLEWRAP and _parent(pid) in walls), None)


def _is_about(words: list[bytes], workspace_id: str) -> bool:
    return any(f"/{workspace_id}/".encode() in word for word in words)


def _processes() -> Iterator[tuple[int, list[bytes]]]:
    for entry in Path("/proc").glob("[0-9]*"):
        with suppress(OSError):  # it ended meanwhile
            if words := (entry / "cmdline").read_bytes().split(b"\0"):
                yield int(entry.name), words


def _parent(pid: int) -> int:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return 0


def _kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
