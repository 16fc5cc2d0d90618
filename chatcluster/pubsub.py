"""``PubSub`` on Redis: hints between replicas, and the live frames that ``streams.py`` publishes.

Best effort by contract: a message may be lost, and what is authoritative is read elsewhere. What is
never lost is the word that something may have been: the ``GAP``.

**Following.** One connection per replica follows the channels of all subscriptions (``_follow``). The
``Switchboard`` says which channels that are, and what the server has been told on this connection; the
difference is sent in batches. A subscription is *complete* while the server has confirmed all of its
channels on the current connection. It gets one ``GAP`` when it becomes complete

* after the connection was lost, or
* for the first time, if its block was entered earlier: the server could not be reached, or took longer than
  ``CONFIRM_SECONDS``,

so whoever reads the truth after a ``GAP`` misses nothing from then on. While the connection is down there is
no ``GAP``, because there is nothing yet from which on nothing is missed.

**Buffers.** A subscription holds at most ``BUFFER_MESSAGES_MAX`` messages. One more, and all of them are replaced by
one ``GAP``: its reader reads the truth, which covers them.

**Publishing.** Subscribers in this process get a message at once, with or without Redis. For the others it
is queued for the one task that writes (``_write``), which sends all that is pending in one batch. While Redis is away
the newest ``OUTBOX_MESSAGES_MAX`` are kept. A batch whose outcome is unknown is sent again, and own messages come
back from the server: a hint may arrive twice.

Messages of one channel from one publisher arrive in order.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import NoReturn

import trio

from chatcluster import telemetry
from chatcluster.errors import StreamsUnavailable
from chatcluster.ports import GAP, Gap, Subscription
from chatcluster.redis import Command, ErrorReply, Listener, RedisConnection, Reply

BUFFER_MESSAGES_MAX = 256
CONFIRM_SECONDS = 1.0
OUTBOX_MESSAGES_MAX = 4096
BATCH_MESSAGES_MAX = 512
CHANNELS_PER_COMMAND_MAX = 500
RECONNECT_SECONDS = 0.05
RECONNECT_CAP_SECONDS = 0.5


class RedisPubSub:
    """One replica's end. ``run`` has to run for anything to pass between this process and the server."""

    def __init__(self, connection: RedisConnection) -> None:
        self._connection = connection
        self._switchboard = Switchboard()
        self._outbox: deque[Command] = deque()
        self._outbox_filled = trio.Event()
        self._dropped = 0
        self._tried = trio.Event()
        self._lost = False

    def __repr__(self) -> str:
        return f"<RedisPubSub {self._switchboard!r} outbox={len(self._outbox)}>"

    # the port

    def publish(self, channel: str, payload: bytes) -> None:
        name = channel.encode()
        self._switchboard.deliver(name, payload)
        if len(self._outbox) >= OUTBOX_MESSAGES_MAX:
            self._outbox.popleft()
            self._dropped += 1
        self._outbox.append(("PUBLISH", name, payload))
        self._outbox_filled.set()

    def subscribe(self, *channels: str) -> AbstractAsyncContextManager[Subscription]:
        return self._subscribe(frozenset(channel.encode() for channel in channels))

    @asynccontextmanager
    async def _subscribe(self, channels: frozenset[bytes]) -> AsyncIterator[Subscription]:
        inbox = Inbox(channels)
        self._switchboard.add(inbox)
        try:
            with trio.move_on_after(CONFIRM_SECONDS):
                await inbox.settled.wait()
            inbox.enter()
            yield inbox
        finally:
            self._switchboard.remove(inbox)

    # the tasks

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Connect and stay connected, until cancelled. Started means that the first try to connect is over."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._write)
            nursery.start_soon(self._follow)
            await self._tried.wait()
            task_status.started()

    async def _follow(self) -> NoReturn:
        backoff = Backoff()
        while True:
            try:
                async with self._connection.listen() as listener, trio.open_nursery() as nursery:
                    backoff.reset()
                    self._connected()
                    nursery.start_soon(listener.run, self._take)
                    await self._tell(listener)
            except* StreamsUnavailable as lost:
                self._disconnected(_reason(lost))
            await backoff.sleep()

    def _connected(self) -> None:
        self._switchboard.connected()
        self._tried.set()
        if self._lost:
            self._lost = False
            telemetry.event("pubsub.regained")

    def _disconnected(self, reason: str) -> None:
        self._switchboard.disconnected()
        self._tried.set()
        if not self._lost:
            self._lost = True
            telemetry.event("pubsub.lost", error=reason)

    async def _tell(self, listener: Listener) -> NoReturn:
        """Tell the server which channels to follow, whenever that changes."""
        while True:
            await self._switchboard.changed.wait()
            commands = self._switchboard.changes()
            if commands:
                await listener.send(commands)

    def _take(self, reply: Reply) -> None:
        match reply:
            case [b"message", bytes(channel), bytes(payload)]:
                self._switchboard.deliver(channel, payload)
            case [b"subscribe", bytes(channel), _]:
                self._switchboard.confirmed(channel)

    async def _write(self) -> NoReturn:
        backoff = Backoff()
        while True:
            await self._outbox_filled.wait()
            batch = [self._outbox.popleft() for _ in range(min(len(self._outbox), BATCH_MESSAGES_MAX))]
            if not self._outbox:
                self._outbox_filled = trio.Event()
            try:
                replies = await self._connection.exchange(batch)
            except StreamsUnavailable:
                self._put_back(batch)
                await backoff.sleep()
            else:
                backoff.reset()
                self._report(replies)

    def _put_back(self, batch: Sequence[Command]) -> None:
        """Queue again what may not have been sent, before what came since, and no more than fits."""
        room = OUTBOX_MESSAGES_MAX - len(self._outbox)
        self._dropped += max(0, len(batch) - room)
        self._outbox.extendleft(batch[-1 : -1 - room : -1])
        self._outbox_filled.set()

    def _report(self, replies: Sequence[Reply]) -> None:
        refusals = [reply for reply in replies if isinstance(reply, ErrorReply)]
        if refusals:
            telemetry.event("pubsub.refused", count=len(refusals), error=str(refusals[0]))
        if self._dropped:
            telemetry.event("pubsub.dropped", count=self._dropped)
            self._dropped = 0


class Backoff:
    """Growing, jittered waits between tries to reach the server."""

    def __init__(self) -> None:
        self._seconds = RECONNECT_SECONDS

    def reset(self) -> None:
        self._seconds = RECONNECT_SECONDS

    async def sleep(self) -> None:
        await trio.sleep(self._seconds * random.uniform(0.5, 1.0))
        self._seconds = min(self._seconds * 2, RECONNECT_CAP_SECONDS)


class Inbox:
    """One subscription: its bounded buffer, and whether it is complete. Synchronous but for ``receive``."""

    def __init__(self, channels: frozenset[bytes]) -> None:
        self.channels = channels
        self.unconfirmed = set(channels)
        self.settled = trio.Event()
        """Set when there is nothing to wait for on entry: complete, or no connection."""
        self._owes_gap = False
        self._taken: Callable[[bytes | Gap], bool] | None = None
        """Gets what arrives while nothing is buffered, if its reader waits for what this leaves."""
        self._buffer: deque[bytes | Gap] = deque()
        self._arrival = trio.lowlevel.ParkingLot()

    def __repr__(self) -> str:
        state = f"{len(self.unconfirmed)} unconfirmed" if self.unconfirmed else "complete"
        return f"<Inbox {state} buffered={len(self._buffer)}{' owes a gap' if self._owes_gap else ''}>"

    # the port

    async def receive(self) -> bytes | Gap:
        await trio.lowlevel.checkpoint()
        while not self._buffer:
            await self._arrival.park()
        return self._buffer.popleft()

    async def receive_unless(self, taken: Callable[[bytes | Gap], bool]) -> bytes | Gap:
        await trio.lowlevel.checkpoint()
        while self._buffer:
            payload = self._buffer.popleft()
            if not taken(payload):
                return payload
        self._taken = taken
        try:
            while not self._buffer:
                await self._arrival.park()
        finally:
            self._taken = None
        return self._buffer.popleft()

    def receive_nowait(self) -> bytes | Gap:
        if not self._buffer:
            raise trio.WouldBlock
        return self._buffer.popleft()

    # the switchboard's side

    def put(self, payload: bytes) -> None:
        if self._taken is not None and not self._buffer and self._taken(payload):
            return
        if len(self._buffer) < BUFFER_MESSAGES_MAX:
            self._buffer.append(payload)
            self._arrival.unpark()
        else:
            self._buffer.clear()
            self._put_gap()

    def enter(self) -> None:
        """The block is entered. What may be missed from now on, until it is complete, is owed a gap."""
        if self.unconfirmed:
            self._owes_gap = True

    def confirm(self, channel: bytes) -> None:
        self.unconfirmed.discard(channel)
        if self.unconfirmed:
            return
        self.settled.set()
        if self._owes_gap:
            self._owes_gap = False
            self._put_gap()

    def lose(self) -> None:
        """The connection is gone, and with it every confirmation."""
        self.unconfirmed = set(self.channels)
        self._owes_gap = True
        self.settled.set()

    def _put_gap(self) -> None:
        if not self._buffer or self._buffer[-1] is not GAP:
            self._buffer.append(GAP)
            self._arrival.unpark()


class Switchboard:
    """Who wants which channel, and what the server knows of it on the current connection. Synchronous.

    A channel is *followed* from the moment that its ``SUBSCRIBE`` is handed out until its ``UNSUBSCRIBE`` is.
    It is *confirmed* when it is followed and no ``SUBSCRIBE`` is unanswered: with one subscriber leaving and
    the next one coming several may be on the way, and only the answer to the last one counts.
    """

    def __init__(self) -> None:
        self.changed = trio.Event()
        """Set when ``changes`` has something to say."""
        self._connected = False
        self._inboxes: dict[bytes, list[Inbox]] = {}
        self._followed: set[bytes] = set()
        self._unanswered: dict[bytes, int] = {}
        self._touched: set[bytes] = set()

    def __repr__(self) -> str:
        state = "connected" if self._connected else "disconnected"
        return f"<Switchboard {state} wanted={len(self._inboxes)} followed={len(self._followed)}>"

    def add(self, inbox: Inbox) -> None:
        for channel in inbox.channels:
            inboxes = self._inboxes.setdefault(channel, [])
            inboxes.append(inbox)
            if len(inboxes) == 1:
                self._touch(channel)
            if channel in self._followed and channel not in self._unanswered:
                inbox.unconfirmed.discard(channel)
        if not (inbox.unconfirmed and self._connected):
            inbox.settled.set()

    def remove(self, inbox: Inbox) -> None:
        for channel in inbox.channels:
            self._inboxes[channel].remove(inbox)
            if not self._inboxes[channel]:
                del self._inboxes[channel]
                self._touch(channel)

    def deliver(self, channel: bytes, payload: bytes) -> None:
        for inbox in self._inboxes.get(channel, ()):
            inbox.put(payload)

    def connected(self) -> None:
        self._connected = True
        for channel in self._inboxes:
            self._touch(channel)

    def disconnected(self) -> None:
        self._connected = False
        self._followed.clear()
        self._unanswered.clear()
        self._touched.clear()
        for inboxes in self._inboxes.values():
            for inbox in inboxes:
                inbox.lose()

    def confirmed(self, channel: bytes) -> None:
        """The server answered a ``SUBSCRIBE``."""
        self._unanswered[channel] -= 1
        if self._unanswered[channel]:
            return
        del self._unanswered[channel]
        if channel in self._followed:
            for inbox in self._inboxes.get(channel, ()):
                inbox.confirm(channel)

    def changes(self) -> list[Command]:
        """The commands that make the server follow what is wanted; they count as sent from here on."""
        leave = [channel for channel in self._touched if channel in self._followed and channel not in self._inboxes]
        enter = [channel for channel in self._touched if channel in self._inboxes and channel not in self._followed]
        self._touched.clear()
        self.changed = trio.Event()
        self._followed.difference_update(leave)
        self._followed.update(enter)
        for channel in enter:
            self._unanswered[channel] = self._unanswered.get(channel, 0) + 1
        return [*_in_commands("UNSUBSCRIBE", leave), *_in_commands("SUBSCRIBE", enter)]

    def _touch(self, channel: bytes) -> None:
        if self._connected:
            self._touched.add(channel)
            self.changed.set()


def _in_commands(name: str, channels: Sequence[bytes]) -> Iterator[Command]:
    for start in range(0, len(channels), CHANNELS_PER_COMMAND_MAX):
        yield (name, *channels[start : start + CHANNELS_PER_COMMAND_MAX])


def _reason(group: BaseExceptionGroup[StreamsUnavailable]) -> str:
    error: BaseException = group
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return str(error)
