"""Other doors to a Redis server: TLS or a Unix socket in front of it, and what networks do to bytes on their way."""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from urllib.parse import urlsplit

import trio
import trio.testing

CERTIFICATE = Path(__file__).parent / "localhost.pem"
"""Signed by itself, for the name localhost, with its key, which is no secret."""


class Door:
    """Where clients come in. What they say is passed on to the server, and its answers back."""

    def __init__(self, server_url: str, *, byte_by_byte: bool) -> None:
        self._server = urlsplit(server_url)
        self._byte_by_byte = byte_by_byte
        self._inside: list[trio.abc.Stream] = []
        self.entered = 0
        """How many connections were made."""

    async def say(self, data: bytes) -> None:
        """Tell everyone inside what the server never said. They have had time to hear it when this returns."""
        await trio.testing.wait_all_tasks_blocked()
        for client in self._inside:
            await client.send_all(data)
        await trio.testing.wait_all_tasks_blocked()

    async def let_in(self, client: trio.abc.Stream) -> None:
        """Serve one client until it or the server leaves."""
        assert self._server.hostname is not None
        assert self._server.port is not None
        self.entered += 1
        server = await trio.open_tcp_stream(self._server.hostname, self._server.port)
        self._inside.append(client)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._pass, client, server, nursery.cancel_scope)
                nursery.start_soon(self._pass, server, client, nursery.cancel_scope)
        finally:
            self._inside.remove(client)
            with trio.CancelScope(shield=True):
                await trio.aclose_forcefully(client)
                await trio.aclose_forcefully(server)

    async def _pass(self, source: trio.abc.Stream, sink: trio.abc.Stream, both: trio.CancelScope) -> None:
        with suppress(trio.BrokenResourceError):  # nobody here says good-bye
            async for data in source:
                pieces = [bytes([byte]) for byte in data] if self._byte_by_byte else [data]
                for piece in pieces:
                    await sink.send_all(piece)
                    if self._byte_by_byte:
                        await trio.testing.wait_all_tasks_blocked()
        both.cancel()


@asynccontextmanager
async def open_tcp_door(server_url: str, *, byte_by_byte: bool = False) -> AsyncIterator[tuple[str, Door]]:
    """A plain door on a port of its own, and the URL that leads through it."""
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    door = Door(server_url, byte_by_byte=byte_by_byte)
    async with _served(door, listener):
        yield f"redis://:{urlsplit(server_url).password}@127.0.0.1:{_port(listener)}/0", door


@asynccontextmanager
async def open_tls_door(server_url: str) -> AsyncIterator[str]:
    """A door that speaks TLS, as ``localhost``; the URL has no options yet."""
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(CERTIFICATE)
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
    async with _served(Door(server_url, byte_by_byte=False), trio.SSLListener(listener, context)):
        yield f"rediss://:{urlsplit(server_url).password}@localhost:{_port(listener)}/0"


@asynccontextmanager
async def open_unix_door(server_url: str, path: Path) -> AsyncIterator[str]:
    """A door on a Unix socket, which is made at ``path``."""
    inside = trio.socket.socket(socket.AF_UNIX)
    await inside.bind(str(path))
    inside.listen()
    async with _served(Door(server_url, byte_by_byte=False), trio.SocketListener(inside)):
        yield f"unix://:{urlsplit(server_url).password}@{path}"


@asynccontextmanager
async def _served(door: Door, listener: trio.abc.Listener[trio.abc.Stream]) -> AsyncIterator[None]:
    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, door.let_in, [listener])
        yield
        nursery.cancel_scope.cancel()


def _port(listener: trio.SocketListener) -> int:
    port: int = listener.socket.getsockname()[1]
    return port
