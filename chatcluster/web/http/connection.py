"""One connection: a socket, and the requests on it, one after another. HTTP/1.1 alone; there is nothing to upgrade to.

It ends in one of four ways:

*closed*      an orderly end: what was sent arrives, and what the client still sends is read and thrown away for a
              moment, so that it gets to see its answer
*broken off*  the response is unfinished: the connection is closed without the terminating chunk. On
              HTTP/1.0, which knows no such thing, it is reset
*reset*       the reader took too little for ``send_stall_seconds``, while there was something to send: less than
              ``reader_bytes_per_second_min`` on the average. What it has not taken is dropped
*dropped*     it said nothing, or nothing more, and its place is needed (``connections.py``)

One task reads a request, has the application answer it, and reads the next (``exchange.py``). What comes while it works
stays with the kernel, which makes the client wait; requests that came together wait in the buffer. What is no HTTP, and
a WebSocket, is refused, and ends the connection: nothing behind it is read.

There is one deadline, that of what is waited for: ``head_seconds`` for a head, from its first byte or the connection's
beginning; ``KEEP_ALIVE_SECONDS`` between two requests; the stall limit for what the socket does not take at once.
"""

from __future__ import annotations

import math
import os
import socket
import struct
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

import trio
from litestar.types import ASGIApp

from chatcluster import telemetry
from chatcluster.errors import CallerError, Forbidden
from chatcluster.web.errors import answer
from chatcluster.web.health import PUBLIC
from chatcluster.web.http import response
from chatcluster.web.http.connections import Connections, Limits, address_of
from chatcluster.web.http.departures import Departures
from chatcluster.web.http.exchange import Exchange, scope_of
from chatcluster.web.http.request_head import NotHttp, RequestHead, head_end, parse_head
from chatcluster.web.http.turns import Turns

KEEP_ALIVE_SECONDS = 75.0
LINGER_SECONDS = 1.0
REQUESTS_MAX = 100_000
SEND_BUFFER_BYTES = 256 << 10
RECEIVE_BYTES = 64 << 10
UNREAD_PIECES_MAX = 16
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Serving(Protocol):
    """What a connection has of its server."""

    app: ASGIApp
    connections: Connections
    departures: Departures
    turns: Turns
    limits: Limits
    send_stall_seconds: float
    piece_bytes: int
    """What a reader has to take in that time."""

    @property
    def is_cut(self) -> bool:
        """A request that is answered is the last of its connection."""
        ...


class Connection:
    __slots__ = (
        "__weakref__",
        "_client",
        "_exchange",
        "_here",
        "_public",
        "_requests",
        "_server",
        "_stream",
        "_waits",
        "_whole",
        "address",
        "buffer",
        "socket",
    )

    def __init__(self, server: Serving, stream: trio.SocketStream, *, public: bool) -> None:
        self._server = server
        self._stream = stream
        self._public = public
        self._client: Any = None
        self._here: Any = None
        self._exchange: Exchange | None = None
        """The one that is under way."""
        self._requests = 0
        self._waits = False
        """For the turn of a request that is here."""
        self._whole = trio.CancelScope()
        self.address = address_of(stream)
        """The address of its client, for the count of silent ones."""
        self.socket = stream.socket
        self.buffer = bytearray()
        """Received, and not taken yet."""

    def drop(self) -> None:
        """End at once, without an answer."""
        self._whole.cancel()

    def wind_up(self, idle_seconds: float) -> None:
        """Break off what would go on for ever; let a request that is being served be answered."""
        if self._exchange is not None:
            if self._exchange.is_endless:
                self._whole.cancel()
        elif not self._waits:
            self._whole.deadline = min(self._whole.deadline, trio.current_time() + idle_seconds)

    async def run(self, head_seconds: float) -> None:
        """Serve until either side ends it. The head of the first request has to be there within ``head_seconds``."""
        try:
            self._client, self._here = self.socket.getpeername()[:2], self.socket.getsockname()[:2]
            self._tune()
        except OSError:
            return  # gone before it said anything
        with self._whole:
            self._whole.deadline = trio.current_time() + head_seconds
            try:
                is_ours_to_end = await self._serve()
            except NotHttp as error:
                is_ours_to_end = True
                await self.refuse(error)
            if is_ours_to_end:
                await self._end()

    async def _serve(self) -> bool:
        """Answer requests until one is the last. False: the client has left before."""
        while (head := await self._next_head()) is not None:
            if head.wants_websocket:
                await self.refuse(Forbidden("there are no WebSockets here; what happens is told in event streams"))
                return True
            if head.expects_continue:
                await self.send(response.go_on())
            exchange, scope = self._begin(head)
            del head  # a stream may stay for days
            await exchange.run(self._server.app, scope)
            if not exchange.is_over or self._server.is_cut:
                return True
            self._rest()
        return False

    async def _next_head(self) -> RequestHead | None:
        searched_bytes, is_timed, is_here = 0, not self._requests, True
        while (end := head_end(self.buffer, searched_bytes)) < 0:
            if self.buffer and not is_timed:
                is_timed = True
                self._whole.deadline = trio.current_time() + self._server.limits.head_seconds
            searched_bytes, is_here = len(self.buffer), False
            if not await self.read():
                return None
        await self._turn(waits=is_here)
        head = parse_head(bytes(self.buffer[:end]))
        del self.buffer[:end]
        return head

    async def _turn(self, *, waits: bool) -> None:
        """From here on it is ours to answer, however long that takes. ``waits``: it came with the one before, and
        others get their turn first."""
        self._whole.deadline = math.inf
        self._server.connections.busy(self)
        self._waits = True
        if waits:
            await trio.lowlevel.checkpoint()
        await self._server.turns.next()
        self._waits = False

    def _begin(self, head: RequestHead) -> tuple[Exchange, dict[str, Any]]:
        self._requests += 1
        state: dict[str, object] = {PUBLIC: True} if self._public else {}
        self._exchange = exchange = Exchange(self, head, is_last=self._requests >= REQUESTS_MAX)
        return exchange, scope_of(head, client=self._client, here=self._here, state=state)

    def count(self, *, whole: bool) -> None:
        """Count as one that has asked for something, or as silent until its request is ``whole``."""
        if whole:
            self._server.connections.busy(self)
        else:
            self._server.connections.silent(self)

    def _rest(self) -> None:
        self._exchange = None
        self._whole.deadline = trio.current_time() + KEEP_ALIVE_SECONDS
        self._server.connections.idle(self)

    def _tune(self) -> None:
        """Bound what the kernel buffers for a reader, and how long it tries to reach one that is gone."""
        self._stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        if hasattr(socket, "TCP_USER_TIMEOUT") and self.socket.family != socket.AF_UNIX:
            milliseconds = int(self._server.send_stall_seconds * 1000)
            self._stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)

    # what the client sends

    async def read(self) -> bool:
        """Wait until there is more in ``buffer``. False: the client left."""
        while True:
            try:
                await trio.lowlevel.wait_readable(self.socket)
                data = os.read(self.socket.fileno(), RECEIVE_BYTES)
            except BlockingIOError:
                continue
            except (OSError, trio.ClosedResourceError):
                return False
            self.buffer += data
            return bool(data)

    def watch(self, left: Callable[[], None]) -> bool:
        """Call ``left`` once the client has left. False: somebody has to read for that."""
        return self._server.departures.watch(self.socket.fileno(), left)

    def unwatch(self) -> None:
        """Throw away what came meanwhile: a socket that is closed with something unread is reset."""
        self._server.departures.forget(self.socket.fileno())
        with suppress(OSError):
            for _ in range(UNREAD_PIECES_MAX):
                if not os.read(self.socket.fileno(), RECEIVE_BYTES):
                    break

    def read_nowait(self) -> None:
        """Put into ``buffer`` what is here."""
        with suppress(OSError):
            self.buffer += os.read(self.socket.fileno(), RECEIVE_BYTES)

    # what is said to it

    async def send(self, data: bytes) -> None:
        """What the socket does not take at once, the reader has to take in time."""
        try:
            sent = os.write(self.socket.fileno(), data)
        except BlockingIOError:
            sent = 0
        except OSError:
            self._whole.cancel()  # it is gone
            return
        if sent < len(data):
            await self._send_slowly(memoryview(data)[sent:])

    async def _send_slowly(self, left: memoryview) -> None:
        """Send in pieces. A deadline of the whole costs less than a scope each."""
        try:
            while left:
                self._whole.deadline = trio.current_time() + self._server.send_stall_seconds
                await self._stream.send_all(left[: self._server.piece_bytes])
                left = left[self._server.piece_bytes :]
        except trio.Cancelled:
            if trio.current_time() >= self._whole.deadline:
                telemetry.event("http.reader_stalled", seconds=self._server.send_stall_seconds)
                self._reset()
            raise
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._whole.cancel()
        finally:
            self._whole.deadline = math.inf

    async def refuse(self, error: CallerError) -> None:
        """Say what is wrong with what came, outside of the application."""
        status, body, _ = answer(error)
        await self.send(response.refusal(status, body))

    async def _end(self) -> None:
        """An orderly end, unless the response is unfinished and would not look it."""
        if self._exchange is not None and self._exchange.looks_complete_and_is_not:
            self._reset()
            return
        self._whole.deadline = trio.current_time() + LINGER_SECONDS
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self._stream.send_eof()
        self.buffer.clear()
        while await self.read():
            self.buffer.clear()

    def _reset(self) -> None:
        with suppress(OSError):
            self._stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self._whole.cancel()
