"""A server of tools that a workload's cluster knows, for the length of a block."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from local_ports import free_port, is_listened_to

from bench.cluster import Cluster
from bench.errors import BenchError
from bench.servers import run_chatcluster
from chatcluster.local.embedded import child

START_SECONDS_MAX = 30.0


@asynccontextmanager
async def tool_server(cluster: Cluster, kind: str) -> AsyncIterator[None]:
    """An MCP server of this kind (``tool_server.py``), under its kind as slug."""
    port, directory = free_port(), cluster.servers.directory
    process = child.spawn(
        [sys.executable, "-m", "tool_server", kind, str(port), str(directory / f"{kind}.jsonl")],
        log=directory / f"{kind}.log",
        death_signal=signal.SIGKILL,
        environment=dict(os.environ),
    )
    try:
        if not await is_listened_to(port, seconds_max=START_SECONDS_MAX):
            raise BenchError("the server of tools does not start")
        added = ("mcp", "add", kind, f"http://127.0.0.1:{port}/mcp", "--trusted")
        there = ("--url", f"http://{cluster.addresses[0]}", "--token", cluster.servers.token)
        await run_chatcluster(cluster.servers.environment, *added, *there)
        yield
    finally:
        process.kill()
        process.wait()
