"""Load beside the cluster: processes that take the processor from it, and do nothing else."""

from __future__ import annotations

import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from chatcluster.local.embedded import child

WORK = "while True: pass"


@asynccontextmanager
async def busy_processes(count: int) -> AsyncIterator[None]:
    """``count`` of them for the length of the block, at the priority that the cluster has."""
    program = [sys.executable, "-I", "-S", "-c", WORK]
    processes = [child.spawn(program, log=Path("/dev/null"), death_signal=signal.SIGKILL) for _ in range(count)]
    try:
        yield
    finally:
        for process in processes:
            child.stop(process)
