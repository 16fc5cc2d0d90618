"""``PubSub`` on a ``MemoryBroker``: one ``MemoryPubSub`` is one replica's connection.

Local subscribers get what is published here at once, also while the connection is cut; those of other
replicas get it through the broker. After a cut every subscription gets a ``GAP``. The inboxes are those of production.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import trio

from chatcluster.memory.broker import MemoryBroker
from chatcluster.ports import Subscription
from chatcluster.pubsub import Inbox


class _MemoryInbox(Inbox):
    """Nothing is confirmed here: whether it is complete is seen by the connection."""

    __slots__ = ("_pubsub",)

    def __init__(self, channels: frozenset[bytes], pubsub: MemoryPubSub) -> None:
        super().__init__(channels)
        self._pubsub = pubsub

    @property
    def is_complete(self) -> bool:
        return self._pubsub.is_connected


class MemoryPubSub:
    def __init__(self, broker: MemoryBroker) -> None:
        self.inboxes: list[Inbox] = []
        self._broker = broker
        self._connected = True
        broker.listeners.append(self)

    @property
    def is_connected(self) -> bool:
        return self._connected and self._broker.connected

    # the port

    def publish(self, channel: str, payload: bytes) -> None:
        self._hand_out(channel, payload)
        if self._connected:
            self._broker.publish(channel, payload, origin=self)

    def subscribe(self, *channels: str) -> AbstractAsyncContextManager[Subscription]:
        return self._subscribe(frozenset(channel.encode() for channel in channels))

    @asynccontextmanager
    async def _subscribe(self, channels: frozenset[bytes]) -> AsyncIterator[Subscription]:
        inbox = _MemoryInbox(channels, self)
        self.inboxes.append(inbox)
        try:
            await trio.lowlevel.checkpoint()
            yield inbox
        finally:
            self.inboxes.remove(inbox)

    # faults

    def disconnect(self) -> None:
        """Cut this replica alone off from the server."""
        self._connected = False

    def connect(self, *, quietly: bool = False) -> None:
        """``quietly``: nobody is told that something may be missing."""
        if not self._connected:
            self._connected = True
            if not quietly:
                self.interrupted()

    # the broker's side

    def deliver(self, channel: str, payload: bytes) -> None:
        if self._connected:
            self._hand_out(channel, payload)

    def interrupted(self) -> None:
        if self._connected:
            for inbox in self.inboxes:
                inbox.lose()
                for channel in inbox.channels:
                    inbox.confirm(channel)

    def _hand_out(self, channel: str, payload: bytes) -> None:
        for inbox in list(self.inboxes):
            if channel.encode() in inbox.channels:
                inbox.put(payload)
