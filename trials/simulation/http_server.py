"""The HTTP server of a simulated process: its requests and its event streams, as tasks of the process.

Whatever ends the process breaks them: ``break_off``. While the process is frozen they hang, as its sockets stay open.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar
from uuid import UUID

import trio

from chatcluster.errors import CallerError, UnavailableError, Unreadable
from chatcluster.parts import Cursor
from chatcluster.subscribe import Feeds
from chatcluster.subscriber import Cut
from simulation.scheduler import Process

WINDOW_BYTES = 8 << 10
"""What a connection takes in before its reader has read."""

T = TypeVar("T")


class Disconnected(Exception):
    """The connection broke: whether the request was carried out is unknown."""


class Reply(Generic[T]):
    """What comes of a request: a value, an error of the API, or a broken connection."""

    def __init__(self) -> None:
        self._ended = trio.Event()
        self._value: list[T] = []
        self._error: Exception = Disconnected()

    def answer(self, value: T) -> None:
        self._value.append(value)
        self._ended.set()

    def fail(self, error: Exception) -> None:
        self._error = error
        self._ended.set()

    async def received(self) -> T:
        """Raises ``CallerError``, ``UnavailableError`` (503) or ``Disconnected``."""
        await self._ended.wait()
        if self._value:
            return self._value[0]
        raise self._error


class Connection:
    """An event stream between a process and a reader: bytes in order, until either side ends it."""

    def __init__(self) -> None:
        self.scope = trio.CancelScope()
        self.ended: str | None = None
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._changed = trio.Event()

    async def send(self, data: bytes) -> None:
        """From the process: waits while the reader is behind."""
        while self._pending_bytes >= WINDOW_BYTES and self.ended is None:
            await self._changed.wait()
        self._pending.append(data)
        self._pending_bytes += len(data)
        self._change()

    async def receive(self) -> bytes:
        """To the reader. Raises ``Disconnected`` once everything that was sent before the end is read."""
        while not self._pending and self.ended is None:
            await self._changed.wait()
        if not self._pending:
            raise Disconnected(self.ended)
        data = b"".join(self._pending)
        self._pending.clear()
        self._pending_bytes = 0
        self._change()
        return data

    def end(self, reason: str) -> None:
        if self.ended is None:
            self.ended = reason
        self._change()

    def _change(self) -> None:
        self._changed.set()
        self._changed = trio.Event()


class HttpServer:
    """It serves from ``begin`` on."""

    def __init__(self, process: Process, feeds: Feeds) -> None:
        self._process = process
        self._feeds = feeds
        self._replies: set[Reply[Any]] = set()
        self._connections: dict[Connection, None] = {}
        self._nursery: trio.Nursery | None = None

    def begin(self, nursery: trio.Nursery) -> None:
        """``nursery`` is where the process runs."""
        self._nursery = nursery

    async def request(self, handle: Callable[[], Awaitable[T]], *, patience_seconds: float) -> T:
        """Have a request carried out. Raises what the API answers, or ``Disconnected``."""
        if self._nursery is None:
            raise Disconnected("refused")
        reply: Reply[T] = Reply()
        self._replies.add(reply)
        try:
            self._process.context.run(self._nursery.start_soon, _carry_out, handle, reply)
            with trio.move_on_after(patience_seconds):
                return await reply.received()
            raise Disconnected("no answer")
        finally:
            self._replies.discard(reply)

    def connect(self, chat_id: UUID, cursor: Cursor, owner_id: UUID, *, accepting: bool) -> Connection:
        """Open an event stream."""
        connection = Connection()
        if not accepting or self._nursery is None:
            connection.end("refused")
            return connection
        self._connections[connection] = None
        self._process.context.run(self._nursery.start_soon, self._stream, connection, chat_id, cursor, owner_id)
        return connection

    def break_off(self, reason: str) -> None:
        """No request is answered any more, and no event sent."""
        for reply in self._replies:
            reply.fail(Disconnected(reason))
        for connection in self._connections:
            connection.end(reason)

    async def _stream(self, connection: Connection, chat_id: UUID, cursor: Cursor, owner_id: UUID) -> None:
        reason = "disconnected"
        try:
            with connection.scope:
                await trio.lowlevel.checkpoint()  # the request's head is read
                async with self._feeds.subscribe(chat_id, cursor, owner_id=owner_id) as subscriber:
                    while connection.ended is None:
                        await connection.send(await subscriber.receive())
        except Cut as cut:
            reason = f"cut: {cut}"
        except (CallerError, UnavailableError, Unreadable) as error:
            reason = f"{type(error).__name__}: {error}"
        finally:
            self._connections.pop(connection, None)
            connection.end(reason)


async def _carry_out(handle: Callable[[], Awaitable[T]], reply: Reply[T]) -> None:
    try:
        reply.answer(await handle())
    except (CallerError, UnavailableError) as error:
        reply.fail(error)
