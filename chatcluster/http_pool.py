"""The connections to a server, for many requests at a time.

httpcore's own pool looks at each of its connections with each request, and for each that is idle at all of them once
more. Here a request takes the one that was used last, or a new one, however many there are.

A connection is *busy* with one request until the response is closed, then *idle* if all of that was read, and the first
to be taken again. The one that is idle for the longest is closed where too many are. One that has expired, or that the
server has closed meanwhile, is closed when it would be taken, or by ``close_expired``.

On failure a connection closes itself, and so it does where it is left before its response is whole. A request that
finds no place in time raises ``httpcore.PoolTimeout``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable
from typing import Any

import httpcore
import trio

Connect = Callable[[httpcore.Origin], httpcore.AsyncConnectionInterface]


class Pool:
    """To servers behind one address. ``connect`` makes a connection, which is established with its first request."""

    def __init__(self, connect: Connect, *, connections_max: int, idle_max: int) -> None:
        self._connect = connect
        self._places = trio.Semaphore(connections_max)
        self._idle_max = idle_max
        self._idle: deque[httpcore.AsyncConnectionInterface] = deque()
        """The one that was used last is the last."""
        self._busy: set[httpcore.AsyncConnectionInterface] = set()

    def __repr__(self) -> str:
        return f"<Pool busy={len(self._busy)} idle={len(self._idle)}>"

    async def __aenter__(self) -> Pool:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.aclose()

    async def handle_async_request(self, request: httpcore.Request) -> httpcore.Response:
        if request.url.scheme not in (b"http", b"https"):
            raise httpcore.UnsupportedProtocol("the URL has to begin with http:// or https://")
        await self._take_place(request.extensions.get("timeout", {}).get("pool"))
        connection = None
        try:
            connection = await self._kept(request.url.origin) or self._connect(request.url.origin)
            self._busy.add(connection)
            response = await connection.handle_async_request(request)
        except BaseException:
            with trio.CancelScope(shield=True):
                await self.put_back(connection)
            raise
        content = _Content(self, connection, response.stream)
        return httpcore.Response(
            response.status, headers=response.headers, content=content, extensions=response.extensions
        )

    async def _take_place(self, seconds_max: float | None) -> None:
        try:
            self._places.acquire_nowait()  # unlike ``acquire`` no switch of tasks
        except trio.WouldBlock:
            with trio.move_on_after(float("inf") if seconds_max is None else seconds_max) as waiting:
                await self._places.acquire()
            if waiting.cancelled_caught:
                raise httpcore.PoolTimeout(f"no connection became free within {seconds_max:g} s") from None

    async def _kept(self, origin: httpcore.Origin) -> httpcore.AsyncConnectionInterface | None:
        while self._idle:
            connection = self._idle.pop()
            if connection.can_handle_request(origin) and not connection.has_expired():
                return connection
            await connection.aclose()
        return None

    async def put_back(self, connection: httpcore.AsyncConnectionInterface | None) -> None:
        """Its response is closed, or did not come about."""
        self._places.release()
        if connection is None:
            return
        self._busy.discard(connection)
        if connection.is_idle() and not connection.is_closed():
            self._idle.append(connection)
            connection = self._idle.popleft() if len(self._idle) > self._idle_max else None
        if connection is not None and not connection.is_closed():
            await connection.aclose()

    async def close_expired(self) -> None:
        """Close the idle connections that would not be taken again."""
        for connection in [connection for connection in self._idle if connection.has_expired()]:
            if connection in self._idle:  # nobody took it while another one was closed
                self._idle.remove(connection)
                await connection.aclose()

    async def aclose(self) -> None:
        """Close all connections, also those that are busy."""
        connections, self._idle, self._busy = (*self._idle, *self._busy), deque(), set()
        for connection in connections:
            await connection.aclose()


class _Content:
    """The body of a response: its end, or its being left, makes the connection free."""

    def __init__(self, pool: Pool, connection: httpcore.AsyncConnectionInterface, stream: Any) -> None:
        self._pool = pool
        self._connection = connection
        self._stream = stream
        self._is_closed = False

    def __aiter__(self) -> AsyncIterator[bytes]:
        body: AsyncIterator[bytes] = self._stream.__aiter__()
        return body

    async def aclose(self) -> None:
        if self._is_closed:
            return
        self._is_closed = True
        with trio.CancelScope(shield=True):  # nothing is waited for but the words of goodbye of TLS
            await self._stream.aclose()
            await self._pool.put_back(self._connection)
