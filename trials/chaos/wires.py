"""The wires between replicas and servers, seen from the run: doors that can be silenced and moved.

The process that carries the bytes is ``wire_process.py``. It ends with the block that opened it, or with us.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import trio

ORDER_SECONDS_MAX = 10.0
ANSWER_BYTES_MAX = 1 << 16
STOP_SECONDS_MAX = 5.0
ESTABLISHED = "01"


class Wires:
    """``ports`` has by its name the port of each door that is open."""

    def __init__(self, process: trio.Process) -> None:
        self.ports: dict[str, int] = {}
        self._process = process
        self._turn = trio.Lock()

    async def open(self, door: str, target: str) -> int:
        """A new door, that leads to ``target``; its port."""
        self.ports[door] = int((await self._order(do="open", door=door, target=target))["port"])
        return self.ports[door]

    async def silence(self, door: str, pid: int | None = None) -> int:
        """Nothing that is open now (of process ``pid``, or at all) carries anything any more; how many that were."""
        ports = None if pid is None else await trio.to_thread.run_sync(ports_of, pid, self.ports[door])
        return int((await self._order(do="silence", door=door, ports=ports))["connections"])

    async def move(self, door: str, target: str) -> None:
        await self._order(do="move", door=door, target=target)

    async def _order(self, **order: Any) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        async with self._turn:
            with trio.fail_after(ORDER_SECONDS_MAX):
                await self._process.stdin.send_all(json.dumps(order).encode() + b"\n")
                answer = b""
                while not answer.endswith(b"\n"):
                    received = await self._process.stdout.receive_some(ANSWER_BYTES_MAX)
                    if not received:
                        raise RuntimeError("the process between replicas and servers has died")
                    answer += received
        decoded: dict[str, Any] = json.loads(answer)
        return decoded


@asynccontextmanager
async def open_wires() -> AsyncIterator[Wires]:
    """The process, for the length of the block. Ctrl-C does not reach it: who it serves is stopped before it."""
    path = os.pathsep.join((str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")))
    process = await trio.lowlevel.open_process(
        [sys.executable, "-m", "chaos.wire_process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env=os.environ | {"PYTHONPATH": path},
        start_new_session=True,
    )
    try:
        yield Wires(process)
    finally:
        with trio.CancelScope(shield=True):
            assert process.stdin is not None
            await process.stdin.aclose()
            with trio.move_on_after(STOP_SECONDS_MAX):
                await process.wait()
            if process.returncode is None:
                process.kill()
                await process.wait()


def ports_of(pid: int, server_port: int) -> list[int]:
    """The local ports of the connections that process ``pid`` has to ``server_port`` of this machine."""
    inodes = set()
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        try:
            inodes.add(os.readlink(descriptor))
        except FileNotFoundError:
            continue  # closed meanwhile
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return [
        _port(row[1])
        for row in rows
        if row[3] == ESTABLISHED and _port(row[2]) == server_port and f"socket:[{row[9]}]" in inodes
    ]


def _port(address: str) -> int:
    return int(address.rpartition(":")[2], 16)
