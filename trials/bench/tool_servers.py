"""A server of tools that a workload's cluster knows, for the length of a block."""

from __future__ import annotations

import os
import signal
import socket
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from bench.cluster import Cluster
from bench.errors import BenchError
from bench.servers import run_chatcluster
from chatcluster.local.embedded import child

START_SECONDS_MAX = 30.0
LOOK_SECONDS = 0.05


@asynccontextmanager
async def tool_server(cluster: Cluster, kind: str) -> AsyncIterator[None]:
    """An MCP server of this kind (``tool_server.py``), under its kind as slug."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    directory = cluster.servers.directory
    process = child.spawn(
        [sys.executable, "-m", "tool_server", kind, str(port), str(directory / f"{kind}.jsonl")],
        log=directory / f"{kind}.log",
        death_signal=signal.SIGKILL,
        environment=dict(os.environ),
    )
    try:
        await _until_listening(port)
        added = ("mcp", "add", kind, f"http://127.0.0.1:{port}/mcp", "--trusted")
        there = ("--url", f"http://{cluster.addresses[0]}", "--token", cluster.servers.token)
        await run_chatcluster(cluster.servers.environment, *added, *there)
        yield
    finally:
        process.kill()
        process.wait()


async def _until_listening(port: int) -> None:
    with trio.move_on_after(START_SECONDS_MAX):
        while True:
            try:
                stream = await trio.open_tcp_stream("127.0.0.1", port)
            except OSError:
                await trio.sleep(LOOK_SECONDS)
            else:
                await stream.aclose()
                return
    raise BenchError("the server of tools does not start")
