"""The load generator's process, which obeys orders."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio

from bench.errors import BenchError

ORDER_SECONDS_MAX = 180.0
LINE_BYTES = 1 << 20


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
