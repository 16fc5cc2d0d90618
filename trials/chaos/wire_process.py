"""The wires between replicas and servers, as a process of its own: ``python -m chaos.wire_process``.

A **door** is a port of 127.0.0.1 that leads to a server; what connects there is copied to it, both ways. Orders come
on standard input, a line of JSON each, and each is answered with one on standard output:

* ``{"do": "open", "door": NAME, "target": "/a/socket" | "HOST:PORT"}`` → ``{"port": N}``
* ``{"do": "silence", "door": NAME, "ports": [...] | null}`` → ``{"connections": N}``: what is open at this moment (from
  these ports, or all of it) carries nothing any more, either way, and neither side is told: what they write is taken
  and dropped, and so is their end, as by a firewall that has forgotten them. New connections work. A server hears of
  it after ``SERVER_KEEPALIVE_SECONDS``, as its own probes would tell it.
* ``{"do": "move", "door": NAME, "target": …}`` → ``{}``: new connections lead there. Open ones stay as they are.

It ends with its input. It is no part of the run's own process, which must not be what the replicas wait for.
"""

from __future__ import annotations

import asyncio
import json
import sys
from typing import Any, cast

CONNECT_SECONDS_MAX = 5.0
SERVER_KEEPALIVE_SECONDS = 20.0
BUFFER_BYTES = 1 << 20
ORDER_BYTES_MAX = 1 << 20


class End(asyncio.Protocol):
    """One end of a wire; ``peer`` is the other. What comes before there is one waits in ``early``: it is a greeting."""

    def __init__(self, wire: Wire) -> None:
        self.transport: asyncio.Transport | None = None
        self.peer: End | None = None
        self.early = bytearray()
        self._wire = wire

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(BUFFER_BYTES)
        self._wire.made(self)

    def data_received(self, data: bytes) -> None:
        if self.peer is None:
            self.early += data
        elif not self._wire.silent and self.peer.transport is not None:
            self.peer.transport.write(data)

    def pause_writing(self) -> None:
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.peer is not None and self.peer.transport is not None:
            self.peer.transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        self._wire.lost(self)


class Wire:
    """A connection through a door: a client's end and a server's."""

    def __init__(self, door: Door) -> None:
        self.silent = False
        self.client = End(self)
        self._server = End(self)
        self._door = door
        self._connecting: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The client's."""
        assert self.client.transport is not None
        return int(self.client.transport.get_extra_info("peername")[1])

    def made(self, end: End) -> None:
        if end is self.client:
            self._door.wires.add(self)
            self._connecting = asyncio.get_running_loop().create_task(self._connect())

    async def _connect(self) -> None:
        try:
            async with asyncio.timeout(CONNECT_SECONDS_MAX):
                await self._door.connect(self._server)
        except (OSError, TimeoutError):
            self._hang_up()
            return
        self.client.peer, self._server.peer = self._server, self.client
        self.client.data_received(bytes(self.client.early))

    def lost(self, end: End) -> None:
        """One end is gone: so is the other, unless nobody is told."""
        if self.silent:
            return
        self._door.wires.discard(self)
        self._hang_up()

    def fall_silent(self) -> None:
        self.silent = True
        asyncio.get_running_loop().call_later(SERVER_KEEPALIVE_SECONDS, self._give_up)

    def _give_up(self) -> None:
        """The server's end only: a client has to find out by itself."""
        if self._server.transport is not None:
            self._server.transport.abort()

    def _hang_up(self) -> None:
        for end in (self.client, self._server):
            if end.transport is not None:
                end.transport.close()


class Door:
    """A port, and where it leads."""

    def __init__(self, target: str) -> None:
        self.target = target
        self.wires: set[Wire] = set()

    async def open(self) -> int:
        loop = asyncio.get_running_loop()
        self._server = await loop.create_server(lambda: Wire(self).client, "127.0.0.1", 0, backlog=512)
        return int(self._server.sockets[0].getsockname()[1])

    async def connect(self, end: End) -> None:
        loop = asyncio.get_running_loop()
        if self.target.startswith("/"):
            await loop.create_unix_connection(lambda: end, self.target)
        else:
            host, _, port = self.target.rpartition(":")
            await loop.create_connection(lambda: end, host, int(port))

    def silence(self, ports: list[int] | None) -> int:
        chosen = [wire for wire in self.wires if ports is None or wire.port in ports]
        for wire in chosen:
            wire.fall_silent()
            self.wires.discard(wire)
        return len(chosen)


async def carry_out(doors: dict[str, Door], order: dict[str, Any]) -> dict[str, Any]:
    name = order["door"]
    match order["do"]:
        case "open":
            doors[name] = Door(order["target"])
            return {"port": await doors[name].open()}
        case "silence":
            return {"connections": doors[name].silence(order["ports"])}
        case "move":
            doors[name].target = order["target"]
            return {}
        case other:
            raise ValueError(f"there is no order {other!r}")


async def main() -> None:
    doors: dict[str, Door] = {}
    orders = asyncio.StreamReader(limit=ORDER_BYTES_MAX)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(orders), sys.stdin)
    while line := await orders.readline():
        print(json.dumps(await carry_out(doors, json.loads(line))), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
