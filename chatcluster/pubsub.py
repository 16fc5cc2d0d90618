"""The subscriptions of this process, and what a server has been told of them. No I/O.

Every ``PubSub`` hands over to inboxes, the one on Redis and the one in memory: what arrives is given to its reader in
the call that delivers it, if the reader waits for that.

An ``Inbox`` is one subscription. It holds at most ``BUFFER_MESSAGES_MAX`` messages. One more, and all of them are
replaced by one ``GAP``: its reader reads the truth, which covers them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Literal, NamedTuple

import trio

from chatcluster.ports import GAP, Gap, PubSub

BUFFER_MESSAGES_MAX = 256
NOTHING = frozenset[bytes]()
SETTLED = trio.Event()
"""An event that is set: one for all subscriptions that are settled."""
SETTLED.set()


class Inbox:
    """One subscription: its bounded buffer, and whether it is complete. Synchronous but for ``receive``, which one task
    calls at a time.

    Each reader at rest has two: so nothing is kept here that is not needed then.
    """

    __slots__ = ("_arrived", "_buffer", "_owes_gap", "_taken", "channels", "settled", "unconfirmed")

    def __init__(self, channels: frozenset[bytes]) -> None:
        self.channels = tuple(channels)
        self.unconfirmed = channels
        self.settled = trio.Event()
        """Set when there is nothing to wait for on entry: complete, or no connection."""
        self._owes_gap = False
        self._taken: Callable[[bytes | Gap], bool] | None = None
        """Gets what arrives while nothing is buffered, if its reader waits for what this leaves, or for nothing."""
        self._buffer: list[bytes | Gap] = []
        """Empty as a rule; a deque would take 0.7 kB."""
        self._arrived: trio.Event | None = None
        """Set when something came, if somebody waits for it."""

    def __repr__(self) -> str:
        state = f"{len(self.unconfirmed)} unconfirmed" if self.unconfirmed else "complete"
        return f"<Inbox {state} buffered={len(self._buffer)}{' owes a gap' if self._owes_gap else ''}>"

    # the port

    @property
    def is_complete(self) -> bool:
        return not self.unconfirmed

    async def receive(self) -> bytes | Gap:
        await trio.lowlevel.checkpoint()
        await self._arrival()
        return self._buffer.pop(0)

    async def receive_unless(self, taken: Callable[[bytes | Gap], bool]) -> bytes | Gap:
        await trio.lowlevel.checkpoint()
        while self._buffer:
            payload = self._buffer.pop(0)
            if not taken(payload):
                return payload
        self._taken = taken
        try:
            await self._arrival()
        finally:
            self._taken = None
        return self._buffer.pop(0)

    async def _arrival(self) -> None:
        """Until something is buffered."""
        try:
            while not self._buffer:
                self._arrived = trio.Event()
                await self._arrived.wait()
        finally:
            self._arrived = None

    def hand_over(self, taken: Callable[[bytes | Gap], Literal[True]]) -> None:
        early, self._buffer, self._taken = self._buffer, [], taken
        for payload in early:
            taken(payload)

    def receive_nowait(self) -> bytes | Gap:
        if not self._buffer:
            raise trio.WouldBlock
        return self._buffer.pop(0)

    # the switchboard's side

    def put(self, payload: bytes) -> None:
        if self._taken is not None and not self._buffer and self._taken(payload):
            return
        if len(self._buffer) < BUFFER_MESSAGES_MAX:
            self._add(payload)
        else:
            self._buffer.clear()
            self._put_gap()

    def enter(self) -> None:
        """The block is entered. What may be missed from now on, until it is complete, is owed a gap."""
        if self.unconfirmed:
            self._owes_gap = True

    def confirm(self, channel: bytes) -> None:
        self.unconfirmed = self.unconfirmed - {channel} or NOTHING
        if self.unconfirmed:
            return
        self.settle()
        if self._owes_gap:
            self._owes_gap = False
            self._put_gap()

    def lose(self) -> None:
        """The connection is gone, and with it every confirmation."""
        self.unconfirmed = frozenset(self.channels)
        self._owes_gap = True
        self.settle()

    def settle(self) -> None:
        """There is nothing to wait for on entry."""
        self.settled.set()
        self.settled = SETTLED

    def _put_gap(self) -> None:
        if self._taken is not None and not self._buffer and self._taken(GAP):
            return
        if not self._buffer or self._buffer[-1] is not GAP:
            self._add(GAP)

    def _add(self, payload: bytes | Gap) -> None:
        self._buffer.append(payload)
        if self._arrived is not None:
            self._arrived.set()


class Changes(NamedTuple):
    """Channels that the server has to be told of: those to unsubscribe from, then those to subscribe to."""

    leave: list[bytes]
    enter: list[bytes]


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
                inbox.unconfirmed = inbox.unconfirmed - {channel} or NOTHING
        if not (inbox.unconfirmed and self._connected):
            inbox.settle()

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

    @property
    def settled(self) -> bool:
        """Whether every ``SUBSCRIBE`` is answered."""
        return not self._unanswered

    def confirmed(self, channel: bytes) -> None:
        """The server answered a ``SUBSCRIBE``; or, if it is out of its mind, one that there never was."""
        if channel not in self._unanswered:
            return
        self._unanswered[channel] -= 1
        if self._unanswered[channel]:
            return
        del self._unanswered[channel]
        if channel in self._followed:
            for inbox in self._inboxes.get(channel, ()):
                inbox.confirm(channel)

    def changes(self) -> Changes:
        """What makes the server follow what is wanted; it counts as told from here on."""
        leave = [channel for channel in self._touched if channel in self._followed and channel not in self._inboxes]
        enter = [channel for channel in self._touched if channel in self._inboxes and channel not in self._followed]
        self._touched.clear()
        self.changed = trio.Event()
        self._followed.difference_update(leave)
        self._followed.update(enter)
        for channel in enter:
            self._unanswered[channel] = self._unanswered.get(channel, 0) + 1
        return Changes(leave, enter)

    def _touch(self, channel: bytes) -> None:
        if self._connected:
            self._touched.add(channel)
            self.changed.set()


async def read_again(pubsub: PubSub, channel: str, every_seconds: float, read: Callable[[], Awaitable[None]]) -> None:
    """Keep a copy of rows fresh until cancelled: ``read`` at first, at each hint, and ``every_seconds`` without one."""
    async with pubsub.subscribe(channel) as hints:
        while True:
            await read()
            with trio.move_on_after(every_seconds):
                await hints.receive()
