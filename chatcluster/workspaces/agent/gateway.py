"""The way out of a sandbox that has a network: a port of its own loopback, which its programs take for an HTTP proxy.

The sandbox has no network but its loopback. What connects to the port is passed on, byte for byte, to a proxy of its
host, which decides (``workspaces/network_proxy.py``). So nothing here is trusted. The way there is a Unix socket that
the host bound into the sandbox (``by_socket``); or, where host and sandbox have no files in common, a connection that
the host made to this agent and **lent** it (``LentConnections``): so a sandbox that may connect to nobody has a way out
all the same.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from functools import partial
from pathlib import Path

import trio

from chatcluster.workspaces.agent.pipes import join

PORT = 3128
CONNECTIONS_MAX = 64
LENT_MAX = 16
"""The most connections that are lent and nobody uses yet."""
LENT_SECONDS_MAX = 10.0
"""A program waits that long for one."""

WayOut = Callable[[], AbstractAsyncContextManager[trio.SocketStream]]
"""A connection to the proxy. Raises ``OSError``, and ``TooSlowError`` if there is none."""


async def serve_gateway(way_out: WayOut, *, host: str = "127.0.0.1", port: int = PORT) -> None:
    """Serve for ever. Raises ``OSError`` where the port is taken."""
    listeners = await trio.open_tcp_listeners(port, host=host)
    await trio.serve_listeners(partial(_pass_on, way_out, trio.CapacityLimiter(CONNECTIONS_MAX)), listeners)


@asynccontextmanager
async def by_socket(path: Path) -> AsyncIterator[trio.SocketStream]:
    """``WayOut``."""
    async with await trio.open_unix_socket(str(path)) as outside:
        yield outside


class _Lent:
    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self.spare = trio.CancelScope()
        """Cancelled by the connection that takes it."""
        self.is_free = trio.Event()
        """Nobody else reads it any more."""
        self.is_done = trio.Event()


class LentConnections:
    """Connections to the proxy that the host made. The host, which lent them, waits for the first word from here."""

    def __init__(self) -> None:
        self._spare: deque[_Lent] = deque()
        self._came = trio.Event()

    async def lend(self, stream: trio.SocketStream) -> None:
        """Until it has been used, or its host has closed it. More than there is use for are not kept."""
        if len(self._spare) >= LENT_MAX:
            return
        lent = _Lent(stream)
        self._spare.append(lent)
        self._came.set()
        try:
            with lent.spare, suppress(trio.BrokenResourceError):
                await stream.receive_some(1)
                return  # its host does not speak first
        finally:
            lent.is_free.set()
            if lent in self._spare:
                self._spare.remove(lent)
        if lent.spare.cancel_called:
            await lent.is_done.wait()

    @asynccontextmanager
    async def way_out(self) -> AsyncIterator[trio.SocketStream]:
        """``WayOut``."""
        with trio.fail_after(LENT_SECONDS_MAX):
            while not self._spare:
                if self._came.is_set():
                    self._came = trio.Event()
                await self._came.wait()
        lent = self._spare.popleft()
        lent.spare.cancel()
        try:
            await lent.is_free.wait()
            yield lent.stream
        finally:
            lent.is_done.set()


async def _pass_on(way_out: WayOut, places: trio.CapacityLimiter, inside: trio.SocketStream) -> None:
    async with inside:
        if not places.available_tokens:
            return
        async with places:
            with suppress(OSError, trio.TooSlowError):
                async with way_out() as outside:
                    await join(inside, outside)
