"""The connection to Redis: batches of commands over a bounded pool of connections, and listeners.

``RedisConnection`` is the pool, and the way to a ``Listener``, which is one connection that follows channels.
``redis_transport.py`` moves the bytes; hiredis packs commands and parses replies; the classes of errors are
redis-py's. Nothing outside of these two modules knows any of them.

**A batch has a connection to itself** while it lasts: one ``exchange`` is one write and, unless the replies are
long, one read, however many commands it carries. Sharing one connection would need a task that reads and hands
replies over, which costs a lone batch twice the switches of tasks, and one batch's failure would be everyone's.

A listener hands its replies over by a plain function call; what arrived together costs one wake-up.

What happens on failure:

* A batch has one deadline, over waiting for a connection, connecting and all replies. After it, or when the
  batch is cancelled, or when the connection breaks, which all raise, the connection is closed, so that a late
  reply can never be taken for the answer to another command.
* **A batch is sent at most once.** When its outcome is unknown, ``StreamsUnavailable`` is raised and nothing here
  repeats it: what may be repeated is known to the caller alone (an ``XADD`` with an explicit ID refuses to be added
  twice, and a hint may come twice).
* An idle connection on which the server has said anything, or which it has closed, is dropped before anything is
  sent on it: a restart between two batches fails neither.
* The next batch connects anew by itself. How soon it comes, and so the back-off, is the caller's matter.
* An error that Redis replies is a value, an ``ErrorReply`` in the place of the reply, for in a
  pipeline the other commands took effect. Exceptions are the errors that concern the connection: it is not logged
  in, or the server is loading its data; and a server that says that it is read-only has become a
  replica. Those close the connection, and the next one leads to whoever the URL names by then.
* A listener sends a ``PING`` every second, and gives itself up after two without an answer: a cut network
  does not close a connection.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, NoReturn

import hiredis
import trio
from redis.connection import DefaultParser
from redis.exceptions import InvalidResponse, ReadOnlyError, RedisError, ResponseError

from chatcluster.errors import StreamsUnavailable
from chatcluster.redis_transport import TRANSPORT_ERRORS, RedisAddress, Transport, open_transport, parse_address

POOL_CONNECTIONS_MAX = 16
CONNECT_SECONDS = 1.0
COMMANDS_SECONDS = 2.0
PING_SECONDS = 1.0
UNANSWERED_PINGS_MAX = 2
REPLIES_PER_TURN_MAX = 64
"""A listener lets other tasks run after this many replies, however much the server has sent."""
CLIENT_NAME = "chatcluster"
"""What ``CLIENT LIST`` shows, unless the URL has a ``client_name``."""

Command = tuple[str | bytes | int, ...]
ErrorReply = ResponseError
Reply = bytes | int | None | list[Any] | ErrorReply

_CONNECTION_ERRORS = (*TRANSPORT_ERRORS, RedisError)
_INCOMPLETE = object()


@asynccontextmanager
async def open_redis(url: str) -> AsyncIterator[RedisConnection]:
    """A connection to the server at ``url`` (redis://, rediss:// or unix://), for the length of the block.

    Nothing is connected yet on entry, so the server need not be there. Raises ``ConfigError`` for a URL that
    is none, or asks for what is not understood.
    """
    connection = RedisConnection(parse_address(url))
    try:
        yield connection
    finally:
        await connection.aclose()


class RedisConnection:
    """What the adapters share: batches of commands, and listeners."""

    def __init__(self, address: RedisAddress) -> None:
        self._address = address
        self._places = trio.Semaphore(POOL_CONNECTIONS_MAX)
        self._idle: list[_Conversation] = []

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
        with trio.move_on_after(COMMANDS_SECONDS):
            return await self._exchange(packed, len(commands))
        raise StreamsUnavailable(f"Redis did not answer within {COMMANDS_SECONDS:g} s")

    async def transactions(self, groups: Sequence[Sequence[Command]]) -> list[list[Reply] | ErrorReply]:
        """Each group in a ``MULTI`` of its own, all of them sent in one write.

        All commands of a group take effect at once, or, on an ``ErrorReply`` in the place of its replies, none. One
        that fails when it is run has an ``ErrorReply`` among the replies, and does not stop the others.
        """
        replies = await self.exchange([command for group in groups for command in (("MULTI",), *group, ("EXEC",))])
        executed: list[list[Reply] | ErrorReply] = []
        end = -1
        for group in groups:
            end += len(group) + 2
            reply = replies[end]
            assert isinstance(reply, list | ErrorReply), "nothing is watched, so no transaction is given up"
            executed.append(reply)
        return executed

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[Listener]:
        """A connection of its own that follows channels. Raises ``StreamsUnavailable`` if it cannot be made."""
        conversation = await self._connect()
        try:
            yield Listener(conversation)
        finally:
            conversation.close()

    async def aclose(self) -> None:
        """Close what is idle, which is everything, once nobody is inside of ``exchange``. Never waits."""
        while self._idle:
            self._idle.pop().close()

    async def _exchange(self, packed: bytes, count: int) -> list[Reply]:
        try:
            self._places.acquire_nowait()  # unlike ``acquire`` no switch of tasks
        except trio.WouldBlock:
            await self._places.acquire()
        try:
            conversation = self._idle_conversation() or await self._connect()
            replies = await conversation.exchange(packed, count)
            for reply in replies:
                if isinstance(reply, RedisError) and _ends_connection(reply):
                    conversation.close()
                    raise StreamsUnavailable(f"Redis: {reply}")
            self._idle.append(conversation)
            return replies
        finally:
            self._places.release()

    def _idle_conversation(self) -> _Conversation | None:
        while self._idle:
            conversation = self._idle.pop()
            if conversation.is_silent():
                return conversation
            conversation.close()
        return None

    async def _connect(self) -> _Conversation:
        with trio.move_on_after(CONNECT_SECONDS):
            conversation = _Conversation(await open_transport(self._address))
            await conversation.log_in(self._address)
            return conversation
        raise StreamsUnavailable(f"no connection to Redis within {CONNECT_SECONDS:g} s")


class Listener:
    """One connection in the mode in which the server speaks first."""

    def __init__(self, conversation: _Conversation) -> None:
        self._conversation = conversation
        self._sending = trio.Lock()
        self._unanswered_pings = 0

    async def send(self, commands: Iterable[Command]) -> None:
        """Send commands without waiting for replies. Raises ``StreamsUnavailable``, which ends the listener."""
        packed = _pack(commands)
        with trio.move_on_after(COMMANDS_SECONDS):
            async with self._sending:
                await self._conversation.send(packed)
            return
        raise StreamsUnavailable(f"Redis took no commands within {COMMANDS_SECONDS:g} s")

    async def run(self, on_reply: Callable[[Reply], None]) -> NoReturn:
        """Read until the connection breaks, which raises ``StreamsUnavailable`` (in an exception group).

        ``on_reply`` is called in this thread for each reply, in order. It must not block.
        """
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._ping)
            await self._read(on_reply)
        raise AssertionError("reading ends with an error only")

    async def _read(self, on_reply: Callable[[Reply], None]) -> NoReturn:
        while True:
            replies = await self._conversation.receive()
            self._unanswered_pings = 0
            for count, reply in enumerate(replies, 1):
                if isinstance(reply, RedisError):
                    raise StreamsUnavailable(f"Redis: {reply}")
                on_reply(reply)
                if count % REPLIES_PER_TURN_MAX == 0:
                    await trio.lowlevel.checkpoint()

    async def _ping(self) -> NoReturn:
        while True:
            if self._unanswered_pings >= UNANSWERED_PINGS_MAX:
                raise StreamsUnavailable(f"Redis left {UNANSWERED_PINGS_MAX} pings without an answer")
            self._unanswered_pings += 1
            await self.send([("PING",)])
            await trio.sleep(PING_SECONDS)


class _Conversation:
    """One connection: commands out, replies in. When something in it fails or is cancelled, it is closed.

    Only ``StreamsUnavailable`` and ``trio.Cancelled`` come out. An error that the server replies is a value.
    """

    def __init__(self, transport: Transport) -> None:
        self._transport = transport
        self._reader = hiredis.Reader(
            protocolError=InvalidResponse,
            replyError=DefaultParser.parse_error,
            errors="replace",
            notEnoughData=_INCOMPLETE,
        )

    def is_silent(self) -> bool:
        """Whether the server is still there, as far as can be known here, and says nothing that nobody asked for."""
        return self._transport.is_silent() and not self._reader.has_data()

    def close(self) -> None:
        self._transport.close()

    async def log_in(self, address: RedisAddress) -> None:
        """Become the user, choose the database and give a name, in one round trip."""
        commands = _login(address)
        replies = await self.exchange(_pack(commands), len(commands))
        for (name, *_), reply in zip(commands, replies, strict=True):
            # The name is a courtesy to whoever looks at the server, which may not know it or not allow it.
            if isinstance(reply, RedisError) and not (name == "CLIENT" and isinstance(reply, ErrorReply)):
                self.close()
                raise StreamsUnavailable(f"Redis refuses {name}: {reply}")

    async def exchange(self, packed: bytes, count: int) -> list[Any]:
        """Send commands, and return as many replies."""
        with self:
            await self._transport.send(packed)
            replies = await self._received(count)
            while len(replies) < count:
                replies += await self._received(count - len(replies))
            return replies

    async def send(self, packed: bytes) -> None:
        with self:
            await self._transport.send(packed)

    async def receive(self) -> list[Any]:
        """Wait for something to arrive, and return the replies that are complete, which may be none."""
        with self:
            return await self._received(None)

    async def _received(self, count_max: int | None) -> list[Any]:
        self._reader.feed(await self._transport.receive())
        replies: list[Any] = []
        gets = self._reader.gets
        while len(replies) != count_max and (reply := gets()) is not _INCOMPLETE:
            replies.append(reply)
        return replies

    def __enter__(self) -> None:
        """Begin what must succeed or close the connection: replies that are on the way are nobody else's."""

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self.close()
        if isinstance(error, _CONNECTION_ERRORS):
            raise StreamsUnavailable(f"Redis: {error}") from error


def _login(address: RedisAddress) -> list[tuple[str, ...]]:
    """The first commands on a connection. A password has to be in the very first."""
    commands: list[tuple[str, ...]] = [("CLIENT", "SETNAME", address.client_name or CLIENT_NAME)]
    if address.database:
        commands.insert(0, ("SELECT", str(address.database)))
    if address.username:
        commands.insert(0, ("AUTH", address.username, address.password))
    elif address.password:
        commands.insert(0, ("AUTH", address.password))
    return commands


def _ends_connection(error: RedisError) -> bool:
    """Whether an error that was replied concerns the connection, or its server, rather than the command."""
    return isinstance(error, ReadOnlyError) or not isinstance(error, ErrorReply)


def _pack(commands: Iterable[Command]) -> bytes:
    return b"".join([hiredis.pack_command(command) for command in commands])  # type: ignore[arg-type]
