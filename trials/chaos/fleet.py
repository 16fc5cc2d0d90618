"""The replicas of the cluster: who they are by the API, and which processes they are.

A replica's process is found by the private port that it listens on, in ``/proc``: so the run need not be
told of it, and a successor is found like its predecessor. Replicas elsewhere are signalled by a command
that is given, in which ``{signal}`` (KILL, STOP, CONT, TERM), ``{host}``, ``{port}``, ``{name}`` and
``{worker_id}`` are filled in.
"""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path
from typing import NamedTuple

import trio

from chaos.api import Api

WHOLE_SECONDS_MAX = 180.0
"""More than the supervisor gives a replica to be ready, as all of them may start at once on a busy machine."""
POLL_SECONDS = 0.1
ACTIVE_MIN = 2
"""One for the next fault, and one to take over."""
COMMAND_SECONDS_MAX = 10.0
_LISTEN = "0A"


class Replica(NamedTuple):
    worker_id: str
    name: str
    address: str
    state: str
    started_at: str
    """The time of day, in a form that sorts."""

    @property
    def url(self) -> str:
        return f"http://{self.address}"


class Fleet:
    """``replicas`` are those that were registered when last asked."""

    def __init__(self, api: Api, *, size: int, signal_command: str = "") -> None:
        self.replicas: tuple[Replica, ...] = ()
        self.size = size
        self._api = api
        self._signal_command = signal_command
        self._gone: set[str] = set()

    async def refresh(self) -> tuple[Replica, ...]:
        """Ask the cluster who is there. Workers that were hurt are not counted any more, even where they linger."""
        answer = await self._api.read("/replicas")
        found = (
            Replica(entry["worker_id"], entry["name"], entry["address"], entry["state"], entry["started_at"])
            for entry in answer["replicas"]
        )
        self.replicas = tuple(replica for replica in found if replica.worker_id not in self._gone)
        return self.replicas

    async def ready(self, *, missing_max: int = 0) -> None:
        """Wait until all replicas but ``missing_max`` are there and active, and at least two.

        Raises ``RuntimeError`` if that takes longer than ``WHOLE_SECONDS_MAX``.
        """
        wanted = max(self.size - missing_max, min(self.size, ACTIVE_MIN))
        with trio.move_on_after(WHOLE_SECONDS_MAX):
            while True:
                if sum(replica.state == "active" for replica in await self.refresh()) >= wanted:
                    return
                await trio.sleep(POLL_SECONDS)
        raise RuntimeError(f"the cluster is not whole again: {self.replicas}")

    def forget(self, replica: Replica) -> None:
        """Its worker is gone, or about to be: nobody should go there."""
        self._gone.add(replica.worker_id)
        self.replicas = tuple(other for other in self.replicas if other != replica)

    def owner(self, worker_id: str | None) -> Replica | None:
        return next((replica for replica in self.replicas if replica.worker_id == worker_id), None)

    async def process(self, replica: Replica) -> int:
        """The process ID of the replica, 0 where a command signals it. Raises ``RuntimeError`` if there is none."""
        if self._signal_command:
            return 0
        pid = await trio.to_thread.run_sync(listener_on, int(replica.address.rpartition(":")[2]))
        if pid is None:
            raise RuntimeError(f"no process listens on {replica.address}: give --signal-command")
        return pid

    async def signal(self, replica: Replica, pid: int, number: signal.Signals) -> float:
        """Signal the replica's process; the time at which that was done."""
        if pid:
            os.kill(pid, number)
            return trio.current_time()
        host, _, port = replica.address.rpartition(":")
        command = self._signal_command.format(
            signal=number.name.removeprefix("SIG"), host=host, port=port, name=replica.name, worker_id=replica.worker_id
        )
        with trio.fail_after(COMMAND_SECONDS_MAX):
            await trio.run_process(command, shell=True, stdout=subprocess.DEVNULL)
        return trio.current_time()


def listener_on(port: int) -> int | None:
    """The process that listens on ``port``."""
    inodes = {f"socket:[{inode}]" for table in ("tcp", "tcp6") for inode in _listening_inodes(table, port)}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            if any(os.readlink(descriptor) in inodes for descriptor in (entry / "fd").iterdir()):
                return int(entry.name)
        except OSError:
            continue  # it ended meanwhile, or is not ours to look at
    return None


def _listening_inodes(table: str, port: int) -> list[str]:
    lines = Path("/proc/net", table).read_text().splitlines()[1:]
    rows = [line.split() for line in lines]
    return [row[9] for row in rows if row[3] == _LISTEN and int(row[1].rpartition(":")[2], 16) == port]
