"""``PubSub`` on Redis: hints between replicas, and the live frames that ``streams.py`` publishes.

Best effort by contract: a message may be lost, and what is authoritative is read elsewhere. What is
never lost is the word that something may have been: the ``GAP``.

**Following.** One connection per replica follows the channels of all subscriptions (``_follow``). The
``Switchboard`` (``chatcluster/pubsub.py``) says which channels that are, and what the server has been told on this
connection; the difference is sent in batches. A subscription is *complete* while the server has confirmed all of its
channels on the current connection. It gets one ``GAP`` when it becomes complete

* after the connection was lost, or
* for the first time, if its block was entered earlier: the server could not be reached, or took longer than
  ``CONFIRM_SECONDS``,

so a subscriber that reads the truth after a ``GAP`` misses nothing from then on. While the connection is down there is
no ``GAP``, because there is nothing yet from which on nothing is missed.

**Publishing.** Subscribers in this process get a message at once, with or without Redis. For the others it
is queued for the one task that writes (``_write``), which sends all that is pending in one batch. While Redis is away
the newest ``OUTBOX_MESSAGES_MAX`` are kept. A batch whose outcome is unknown is sent again, and own messages come
back from the server: a hint may arrive twice.

A server that refuses to be followed, because channels are not allowed, is tried again after waits that grow, and
``problem`` says why; only an answer that it does give, a confirmed subscription or a ``PONG``, makes them short again.
Messages that it refuses to publish are gone, like any that are lost.

Messages of one channel from one publisher arrive in order.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from functools import partial
from typing import NoReturn

import trio

from chatcluster import telemetry
from chatcluster.backoff import Backoff
from chatcluster.errors import StreamsMisconfigured, StreamsUnavailable, first_error
from chatcluster.ports import Subscription
from chatcluster.pubsub import Inbox, Switchboard
from chatcluster.redis.connections import Command, Listener, RedisConnection, Reply, open_redis
from chatcluster.redis.errors import ErrorReply

CHANNELS_PER_COMMAND_MAX = 500
CONFIRM_SECONDS = 1.0
OUTBOX_MESSAGES_MAX = 4096
BATCH_MESSAGES_MAX = 512
RECONNECT_SECONDS = 0.05
RECONNECT_CAP_SECONDS = 0.5
MISCONFIGURED_CAP_SECONDS = 15.0
"""Between tries on a server that will refuse the same until somebody changes something."""


class _Subscribed:
    """A class, since each reader at rest is within two of these, and a generator takes three times the memory."""

    __slots__ = ("_inbox", "_switchboard")

    def __init__(self, switchboard: Switchboard, inbox: Inbox) -> None:
        self._switchboard, self._inbox = switchboard, inbox

    async def __aenter__(self) -> Subscription:
        self._switchboard.add(self._inbox)
        try:
            if not self._inbox.settled.is_set():
                with trio.move_on_after(CONFIRM_SECONDS):
                    await self._inbox.settled.wait()
        except BaseException:
            self._switchboard.remove(self._inbox)
            raise
        self._inbox.enter()
        return self._inbox

    async def __aexit__(self, *_: object) -> None:
        self._switchboard.remove(self._inbox)


class RedisPubSub:
    """One replica's end. ``run`` has to run for anything to pass between this process and the server."""

    def __init__(self, connection: RedisConnection) -> None:
        self._connection = connection
        self._switchboard = Switchboard()
        self._outbox: deque[tuple[bytes, bytes]] = deque()
        self._outbox_filled = trio.Event()
        self._dropped = 0
        self._tried = trio.Event()
        self._refused = telemetry.Seldom("pubsub.refused")
        self.problem = ""
        """Why the server cannot be followed; empty while it is."""

    def __repr__(self) -> str:
        return f"<RedisPubSub {self._switchboard!r} outbox={len(self._outbox)}>"

    # the port

    def publish(self, channel: str, payload: bytes) -> None:
        name = channel.encode()
        self._switchboard.deliver(name, payload)
        if len(self._outbox) >= OUTBOX_MESSAGES_MAX:
            self._outbox.popleft()
            self._dropped += 1
        self._outbox.append((name, payload))
        self._outbox_filled.set()

    def subscribe(self, *channels: str) -> AbstractAsyncContextManager[Subscription]:
        return _Subscribed(self._switchboard, Inbox(frozenset(channel.encode() for channel in channels)))

    # the tasks

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Connect and stay connected, until cancelled. Started means that the first try to connect is over."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write)
            nursery.start_soon(self._follow)
            await self._tried.wait()
            task_status.started()

    async def _follow(self) -> NoReturn:
        backoff = Backoff(RECONNECT_SECONDS, RECONNECT_CAP_SECONDS)
        while True:
            try:
                prefix = self._connection.channel_prefix.encode()
                async with self._connection.listen() as listener, trio.open_nursery() as nursery:
                    self._connected()
                    nursery.start_soon(listener.run, partial(self._take, prefix, backoff))
                    await self._tell(listener, prefix)
            except* StreamsUnavailable as lost:
                self._disconnected(first_error(lost), backoff)
            await trio.sleep(backoff.drawn_seconds())

    def _connected(self) -> None:
        self._switchboard.connected()
        self._tried.set()

    def _disconnected(self, reason: StreamsUnavailable, backoff: Backoff) -> None:
        self._switchboard.disconnected()
        self._tried.set()
        backoff.cap_seconds = RECONNECT_CAP_SECONDS
        if isinstance(reason, StreamsMisconfigured):
            backoff.cap_seconds = MISCONFIGURED_CAP_SECONDS
        if str(reason) != self.problem:
            self.problem = str(reason)
            telemetry.event("pubsub.lost", error=self.problem)

    def _answered(self, backoff: Backoff) -> None:
        """The server follows the channels that it was asked to follow, or lives without any."""
        backoff.reset()
        if self.problem:
            self.problem = ""
            telemetry.event("pubsub.regained")

    async def _tell(self, listener: Listener, prefix: bytes) -> NoReturn:
        """Tell the server which channels to follow, whenever that changes."""
        while True:
            await self._switchboard.changed.wait()
            changes = self._switchboard.changes()
            commands = [
                *_in_commands("UNSUBSCRIBE", prefix, changes.leave),
                *_in_commands("SUBSCRIBE", prefix, changes.enter),
            ]
            if commands:
                await listener.send(commands)

    def _take(self, prefix: bytes, backoff: Backoff, reply: Reply) -> None:
        match reply:
            case [b"message", bytes(channel), bytes(payload)]:
                self._switchboard.deliver(channel.removeprefix(prefix), payload)
            case [b"subscribe", bytes(channel), _]:
                self._switchboard.confirmed(channel.removeprefix(prefix))
                self._answered(backoff)
            case [b"pong", _] if self._switchboard.settled:
                self._answered(backoff)
            case b"PONG" if self._switchboard.settled:
                self._answered(backoff)

    async def _write(self) -> NoReturn:
        backoff = Backoff(RECONNECT_SECONDS, RECONNECT_CAP_SECONDS)
        while True:
            await self._outbox_filled.wait()
            batch = [self._outbox.popleft() for _ in range(min(len(self._outbox), BATCH_MESSAGES_MAX))]
            if not self._outbox:
                self._outbox_filled = trio.Event()
            try:
                prefix = self._connection.channel_prefix.encode()
                replies = await self._connection.exchange(
                    [("PUBLISH", prefix + name, payload) for name, payload in batch]
                )
            except StreamsUnavailable:
                self._put_back(batch)
                await trio.sleep(backoff.drawn_seconds())
            else:
                backoff.reset()
                self._report(replies)

    def _put_back(self, batch: Sequence[tuple[bytes, bytes]]) -> None:
        """Queue again what may not have been sent, before what came since, and no more than fits."""
        room = OUTBOX_MESSAGES_MAX - len(self._outbox)
        self._dropped += max(0, len(batch) - room)
        self._outbox.extendleft(batch[-1 : -1 - room : -1])
        self._outbox_filled.set()

    def _report(self, replies: Sequence[Reply]) -> None:
        refusals = [reply for reply in replies if isinstance(reply, ErrorReply)]
        if refusals:
            self._refused.event(error=str(self._connection.refusal(refusals[0])))
        if self._dropped:
            telemetry.event("pubsub.dropped", count=self._dropped)
            self._dropped = 0


async def publish_now(url: str, cluster_id: str, messages: Sequence[tuple[str, bytes]]) -> None:
    """For a program that follows nothing and ends: publish, and wait until the server has it.

    Raises ``StreamsUnavailable``.
    """
    async with open_redis(url, cluster_id=cluster_id) as connection:
        prefix = connection.channel_prefix
        commands = [("PUBLISH", prefix + channel, payload) for channel, payload in messages]
        for reply in await connection.exchange(commands):
            if isinstance(reply, ErrorReply):
                raise connection.refusal(reply)


def _in_commands(name: str, prefix: bytes, channels: Sequence[bytes]) -> Iterator[Command]:
    for start in range(0, len(channels), CHANNELS_PER_COMMAND_MAX):
        yield (name, *(prefix + channel for channel in channels[start : start + CHANNELS_PER_COMMAND_MAX]))
