"""The connection to Redis: redis-py, which speaks asyncio, behind trio.

``RedisConnection`` is a bounded pool of connections for commands, and the way to a ``Listener``, which is one
connection that follows channels. Nothing outside of this module knows asyncio or redis-py.

Crossing between trio and asyncio costs several times what a command costs, so commands cross in
batches: one ``exchange`` is one write, one read and one crossing, however many commands it carries. A
listener crosses once, for as long as it lives: its replies are handed over by a plain function call,
because both worlds share the thread.

What happens on failure:

* A batch has one deadline, over waiting for a connection, connecting and all replies. After it, or when the
  connection breaks, ``StreamsUnavailable`` is raised and the connection is closed, so that a late
  reply can never be taken for the answer to another command.
* **A batch is sent at most once.** When its outcome is unknown, nothing here repeats it: what may be
  repeated is known to the caller alone (an ``XADD`` with an explicit ID refuses to be added twice, and
  a hint may come twice).
* The next batch connects anew by itself. How soon it comes, and so the back-off, is the caller's matter.
* An error that Redis replies is a value, an ``ErrorReply`` in the place of the reply, for in a
  pipeline the other commands took effect. One exception: a server that says that it is read-only has become a
  replica, so its connection is closed, and the next one leads to whoever the URL names by then.
* A listener sends a ``PING`` every second, and gives itself up after two without an answer: a cut network
  does not close a connection.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from typing import Any, NoReturn, TypeVar

import hiredis
import trio
from redis.asyncio.connection import AbstractConnection, ConnectionPool
from redis.exceptions import ReadOnlyError, RedisError, ResponseError

from chatcluster import telemetry
from chatcluster.asyncio_loop import AsyncioLoop, open_asyncio_loop
from chatcluster.errors import ConfigError, StreamsUnavailable

POOL_CONNECTIONS_MAX = 16
CONNECT_SECONDS = 1.0
COMMANDS_SECONDS = 2.0
CLOSE_SECONDS = 0.5
PING_SECONDS = 1.0
UNANSWERED_PINGS_MAX = 2
REPLIES_PER_TURN_MAX = 64
"""A listener lets other tasks run after this many replies, however much the server has sent."""

Command = tuple[str | bytes | int, ...]
ErrorReply = ResponseError
Reply = bytes | int | None | list[Any] | ErrorReply

T = TypeVar("T")
Crossing = Callable[[Coroutine[Any, Any, Any]], Awaitable[Any]]


@asynccontextmanager
async def open_redis(url: str) -> AsyncIterator[RedisConnection]:
    """A connection to the server at ``url`` (redis://, rediss:// or unix://), for the length of the block.

    Nothing is connected yet on entry, so the server need not be there. Raises ``ConfigError`` for a URL that
    is none.
    """
    server = _parse(url)
    async with open_asyncio_loop(_report_stray_error) as loop:
        connection = RedisConnection(loop, server)
        try:
            yield connection
        finally:
            with trio.move_on_after(CLOSE_SECONDS, shield=True):
                await connection.aclose()


def _parse(url: str) -> ConnectionPool:
    try:
        return ConnectionPool.from_url(
            url,
            # One deadline per batch, on trio's side, serves instead of a timer per reply.
            socket_timeout=None,
            socket_connect_timeout=CONNECT_SECONDS,
            socket_keepalive=True,
            protocol=2,
            decode_responses=False,
        )
    except ValueError as error:
        raise ConfigError(f"the Redis URL cannot be used: {error}") from None


def _report_stray_error(message: str, error: BaseException | None) -> None:
    """Such as of a socket that breaks while it is closed. Whoever uses that connection has an error of its own."""
    telemetry.event("redis.stray_error", message=message, error=type(error).__name__)


class RedisConnection:
    """What the adapters share: batches of commands, and listeners.

    The pool is kept here rather than by redis-py's, whose locks may be awaited, and so cancelled, when a
    connection is given back. ``server`` makes connections and checks them, no more.
    """

    def __init__(self, loop: AsyncioLoop, server: ConnectionPool) -> None:
        self._loop = loop
        self._server = server
        self._places = trio.Semaphore(POOL_CONNECTIONS_MAX)
        self._idle: list[AbstractConnection] = []

    def __repr__(self) -> str:
        return f"<RedisConnection idle={len(self._idle)} busy={POOL_CONNECTIONS_MAX - self._places.value}>"

    async def exchange(self, commands: Sequence[Command]) -> list[Reply]:
        """Send the commands in one write, and return their replies in order.

        Raises ``StreamsUnavailable`` when not all replies came in ``COMMANDS_SECONDS``: then any of the commands
        may have taken effect, or may still do so.
        """
        if not commands:
            return []
        packed = _pack(commands)
        with _deadline():
            async with self._places:
                connection = self._idle.pop() if self._idle else self._new_connection()
                try:
                    return await self._cross(self._exchange(connection, packed, len(commands)))
                finally:
                    self._idle.append(connection)

    async def transaction(self, commands: Sequence[Command]) -> list[Reply]:
        """The same in a ``MULTI``: all of the commands take effect at once, or, on an ``ErrorReply`` to ``EXEC``
        itself (raised as ``StreamsUnavailable``), none.

        A command that fails when it is run has an ``ErrorReply`` among the replies, and does not stop the others.
        """
        replies = (await self.exchange([("MULTI",), *commands, ("EXEC",)]))[-1]
        if isinstance(replies, list):
            return replies
        raise StreamsUnavailable("Redis refused a transaction: " + str(replies))

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[Listener]:
        """A connection of its own that follows channels. Raises ``StreamsUnavailable`` if it cannot be made."""
        connection = self._new_connection()
        try:
            with _deadline():
                await self._cross(self._server.ensure_connection(connection))
            yield Listener(self._cross, connection)
        finally:
            with trio.move_on_after(CLOSE_SECONDS, shield=True):
                await self._cross(connection.disconnect(nowait=True))

    async def aclose(self) -> None:
        """Close what is idle, which is everything, once nobody is inside of ``exchange``."""
        while self._idle:
            await self._cross(self._idle.pop().disconnect(nowait=True))

    def _new_connection(self) -> AbstractConnection:
        connection: AbstractConnection = self._server.make_connection()  # type: ignore[no-untyped-call]
        return connection

    async def _exchange(self, connection: AbstractConnection, packed: bytes, replies: int) -> list[Reply]:
        try:
            await self._server.ensure_connection(connection)
            await connection.send_packed_command(packed, check_health=False)
            return [await _read_reply(connection) for _ in range(replies)]
        except BaseException:
            # Replies may still be on the way, and nobody must ever take them for others.
            await connection.disconnect(nowait=True)
            raise

    async def _cross(self, work: Coroutine[Any, Any, T]) -> T:
        try:
            return await self._loop.run(work)
        except (RedisError, OSError) as error:
            raise StreamsUnavailable(f"Redis: {error}") from error


@contextmanager
def _deadline() -> Iterator[None]:
    with trio.move_on_after(COMMANDS_SECONDS) as scope:
        yield
    if scope.cancelled_caught:
        raise StreamsUnavailable(f"Redis did not answer within {COMMANDS_SECONDS:g} s")


class Listener:
    """One connection in the mode in which the server speaks first."""

    def __init__(self, cross: Crossing, connection: AbstractConnection) -> None:
        self._cross = cross
        self._connection = connection
        self._unanswered_pings = 0

    async def send(self, commands: Iterable[Command]) -> None:
        """Send commands without waiting for replies. Raises ``StreamsUnavailable``."""
        with _deadline():
            await self._cross(self._connection.send_packed_command(_pack(commands), check_health=False))

    async def run(self, on_reply: Callable[[Reply], None]) -> NoReturn:
        """Read until the connection breaks, which raises ``StreamsUnavailable`` (in an exception group).

        ``on_reply`` is called in this thread for each reply, in order. It must not block.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._ping)
            await self._cross(self._read(on_reply))
        raise AssertionError("reading ends with an error only")

    async def _read(self, on_reply: Callable[[Reply], None]) -> NoReturn:
        while True:
            # Replies that have arrived already are read without a suspension.
            for _ in range(REPLIES_PER_TURN_MAX):
                on_reply(await self._connection.read_response())
                self._unanswered_pings = 0
            await asyncio.sleep(0)

    async def _ping(self) -> NoReturn:
        while True:
            if self._unanswered_pings >= UNANSWERED_PINGS_MAX:
                raise StreamsUnavailable(f"Redis left {UNANSWERED_PINGS_MAX} pings without an answer")
            self._unanswered_pings += 1
            await self.send([("PING",)])
            await trio.sleep(PING_SECONDS)


async def _read_reply(connection: AbstractConnection) -> Reply:
    try:
        reply: Reply = await connection.read_response()
    except ReadOnlyError:
        raise
    except ErrorReply as error:
        return error
    return reply


def _pack(commands: Iterable[Command]) -> bytes:
    return b"".join([hiredis.pack_command(command) for command in commands])  # type: ignore[arg-type]
