"""The connection to Redis: batches of commands over a bounded pool of connections, and listeners.

``RedisConnection`` is the pool, and the way to a ``Listener``, which is one connection that follows channels.
``transport.py`` moves the bytes; hiredis packs commands and parses replies; ``errors.py`` says what an
error that is replied means. Nothing outside of these modules knows any of them.

**Names.** Several clusters share a server without knowing of each other, also where one is a copy of the other's
database. So every key begins with the ID of the cluster, which Postgres gives (``postgres/identity.py``), and every
channel with that and the number of the Redis database, because channels are common to all databases of a server. Until
the ID is known there is no name, and every use of one is ``StreamsUnavailable``.

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
* A batch or a listener without an answer takes the idle connections with it: where one died without a word the others
  are likely to have died with it, and each of them would cost the next batch its whole deadline.
* A reply that is larger than any of ours, as where somebody has put that much under a key, is ``StreamRefused`` before
  it is there as a whole.
* An idle connection on which the server has said anything, or which it has closed, is dropped before anything is
  sent on it: a restart between two batches fails neither.
* The next batch connects anew by itself. How soon it comes, and so the back-off, is the caller's matter.
* An error that Redis replies is a value, an ``ErrorReply`` in the place of the reply, for in a
  pipeline the other commands took effect. Exceptions are the errors that concern the connection: it is not logged
  in, or the server is loading its data; and a server that says that it is read-only has become a
  replica. Those close the connection, and the next one leads to the server that the URL names by then.
* A listener sends a ``PING`` every 0.4 s, and gives itself up after three without an answer: a cut network
  does not close a connection. So silence costs less than 2 s, and a server that stands still for a second is waited
  for.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterable, Sequence
from contextlib import asynccontextmanager
from types import TracebackType
from typing import Any, NoReturn

import hiredis
import trio

from chatcluster.errors import StreamRefused, StreamsUnavailable
from chatcluster.redis.errors import ErrorReply, ProtocolBroken, refusal
from chatcluster.redis.transport import TRANSPORT_ERRORS, RedisAddress, Transport, open_transport, parse_address

POOL_CONNECTIONS_MAX = 16
CONNECT_SECONDS = 1.0
COMMANDS_SECONDS = 1.7
PING_SECONDS = 0.4
UNANSWERED_PINGS_MAX = 3
REPLY_BYTES_MAX = 64 << 20
"""More than the most frames that are read at a time can have."""
REPLIES_PER_TURN_MAX = 64
"""A listener lets other tasks run after this many replies, however much the server has sent."""
CLIENT_NAME = "chatcluster"
"""What ``CLIENT LIST`` shows, unless the URL has a ``client_name``."""

Command = tuple[str | bytes | int, ...]
Reply = bytes | int | None | list[Any] | ErrorReply

_CONNECTION_ERRORS = (*TRANSPORT_ERRORS, ProtocolBroken)
_INCOMPLETE = object()


@asynccontextmanager
async def open_redis(url: str, *, cluster_id: str | None = None) -> AsyncIterator[RedisConnection]:
    """A connection to the server at ``url`` (redis://, rediss:// or unix://), for the length of the block.

    Nothing is connected yet on entry, so the server need not be there; neither need the cluster's ID be known, see
    ``identify``. Raises ``ConfigError`` for a URL that is none, or asks for what is not understood.
    """
    connection = RedisConnection(parse_address(url), cluster_id)
    try:
        yield connection
    finally:
        await connection.aclose()


class RedisConnection:
    """What the adapters share: batches of commands, and listeners."""

    def __init__(self, address: RedisAddress, cluster_id: str | None = None) -> None:
        self._address = address
        self._key_prefix = self._channel_prefix = ""
        if cluster_id is not None:
            self.identify(cluster_id)
        self._places = trio.Semaphore(POOL_CONNECTIONS_MAX)
        self._idle: list[_Conversation] = []

    def __repr__(self) -> str:
        return f"<RedisConnection idle={len(self._idle)} busy={POOL_CONNECTIONS_MAX - self._places.value}>"

    def identify(self, cluster_id: str) -> None:
        """From now on names are those of this cluster."""
        self._key_prefix = f"chatcluster:{cluster_id}:"
        self._channel_prefix = f"{self._key_prefix}{self._address.database}:"

    @property
    def key_prefix(self) -> str:
        """What every key of this cluster begins with. Raises ``StreamsUnavailable``."""
        return self._key_prefix or _not_identified()

    @property
    def channel_prefix(self) -> str:
        """What every channel of this cluster begins with. Raises ``StreamsUnavailable``."""
        return self._channel_prefix or _not_identified()

    def refusal(self, reply: ErrorReply) -> StreamsUnavailable:
        """The exception for an error that was replied."""
        return refusal(reply, user=self._address.username)

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
        self._leave_idle()
        raise StreamsUnavailable(f"Redis did not answer within {COMMANDS_SECONDS:g} s")

    async def transactions(self, groups: Sequence[Sequence[Command]]) -> list[list[Reply] | ErrorReply]:
        """Each group in a ``MULTI`` of its own, all of them sent in one write.

        All commands of a group take effect at once, or, on an ``ErrorReply`` in the place of its replies, none: it is
        the first that was refused. One that fails when it is run has an ``ErrorReply`` among the replies, and does not
        stop the others.
        """
        replies = await self.exchange([command for group in groups for command in (("MULTI",), *group, ("EXEC",))])
        executed: list[list[Reply] | ErrorReply] = []
        start = 0
        for group in groups:
            end = start + len(group) + 1
            executed.append(_executed(replies[end], replies[start:end], len(group)))
            start = end + 1
        return executed

    @asynccontextmanager
    async def listen(self) -> AsyncIterator[Listener]:
        """A connection of its own that follows channels. Raises ``StreamsUnavailable`` if it cannot be made."""
        conversation = await self._connect()
        try:
            yield Listener(conversation, self.refusal, on_silence=self._leave_idle)
        finally:
            conversation.close()

    async def aclose(self) -> None:
        """Close what is idle, which is everything, once nobody is inside of ``exchange``. Never waits."""
        self._leave_idle()

    def _leave_idle(self) -> None:
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
                if isinstance(reply, ErrorReply) and reply.ends_connection:
                    conversation.close()
                    raise self.refusal(reply)
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

    def __init__(
        self,
        conversation: _Conversation,
        refusal: Callable[[ErrorReply], StreamsUnavailable],
        on_silence: Callable[[], None],
    ) -> None:
        self._conversation = conversation
        self._refusal = refusal
        self._on_silence = on_silence
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
                if isinstance(reply, ErrorReply):
                    raise self._refusal(reply)
                on_reply(reply)
                if count % REPLIES_PER_TURN_MAX == 0:
                    await trio.lowlevel.checkpoint()

    async def _ping(self) -> NoReturn:
        while True:
            if self._unanswered_pings >= UNANSWERED_PINGS_MAX:
                self._on_silence()
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
        self._incomplete_bytes = 0
        self._reader = hiredis.Reader(
            protocolError=ProtocolBroken,
            replyError=ErrorReply,
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
            # The name is a courtesy to people who look at the server, which may not know it or not allow it.
            if isinstance(reply, ErrorReply) and (name != "CLIENT" or reply.ends_connection):
                self.close()
                error = refusal(reply, user=address.username)
                raise type(error)(f"Redis refuses {name}: {str(error).removeprefix('Redis: ')}")

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
        data = await self._transport.receive()
        self._incomplete_bytes += len(data)
        if self._incomplete_bytes > REPLY_BYTES_MAX:
            raise StreamRefused(
                f"Redis: a reply has more than {REPLY_BYTES_MAX} bytes: what it is about is none of ours"
            )
        self._reader.feed(data)
        replies: list[Any] = []
        gets = self._reader.gets
        while len(replies) != count_max and (reply := gets()) is not _INCOMPLETE:
            replies.append(reply)
        if replies:
            self._incomplete_bytes = 0
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


def _not_identified() -> NoReturn:
    raise StreamsUnavailable("the ID of the cluster is not known yet: Postgres has not been reached")


def _executed(reply: Reply, queued: Sequence[Reply], count: int) -> list[Reply] | ErrorReply:
    """The replies of a transaction, or why it was not executed. No server is trusted to answer with
    what is expected.
    """
    for refused in queued:
        if isinstance(refused, ErrorReply):
            return refused
    if isinstance(reply, ErrorReply) or (isinstance(reply, list) and len(reply) == count):
        return reply
    return ErrorReply("ERR a transaction was answered with something else than its replies")


def _pack(commands: Iterable[Command]) -> bytes:
    return b"".join([hiredis.pack_command(command) for command in commands])  # type: ignore[arg-type]
