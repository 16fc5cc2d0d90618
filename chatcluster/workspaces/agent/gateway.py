"""The way out of a sandbox that has a network: a port of its own loopback, which its programs take for an HTTP proxy.

The sandbox has no network but its loopback. What connects to the port is passed on, byte for byte, to a Unix socket
that its host bound into it; the proxy behind that decides (``workspaces/network_proxy.py``). So nothing here is
trusted.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import trio

from chatcluster.workspaces.agent.pipes import join

PORT = 3128
CONNECTIONS_MAX = 64


async def serve_gateway(path: Path, *, port: int = PORT) -> None:
    """For ever. Raises ``OSError`` where the port is taken."""
    listeners = await trio.open_tcp_listeners(port, host="127.0.0.1")
    await trio.serve_listeners(partial(_pass_on, path, trio.CapacityLimiter(CONNECTIONS_MAX)), listeners)


async def _pass_on(path: Path, places: trio.CapacityLimiter, inside: trio.SocketStream) -> None:
    async with inside:
        if not places.available_tokens:
            return
        async with places:
            try:
                outside = await trio.open_unix_socket(str(path))
            except OSError:
                return
            async with outside:
                await join(inside, outside)
