"""Pub/sub in memory that delivers as the real one does: who waits with ``receive_unless`` is called by the deliverer.

``MemoryPubSub`` wakes the receiver's task for each payload. On Redis the connection's reader puts it into an
``Inbox``, which hands a live frame to the relay in the same call. The scenarios here run on those inboxes.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from chatcluster.memory import MemoryBroker
from chatcluster.memory.broker import Listener
from chatcluster.ports import Subscription
from chatcluster.pubsub import Inbox


class DirectPubSub(Listener):
    """One replica's connection to the broker."""

    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker
        self._connected = True
        self.inboxes: list[Inbox] = []
        broker.listeners.append(self)

    # the port

    def publish(self, channel: str, payload: bytes) -> None:
        self._hand_out(channel, payload)
        if self._connected:
            self._broker.publish(channel, payload, origin=self)

    @asynccontextmanager
    async def subscribe(self, *channels: str) -> AsyncIterator[Subscription]:
        inbox = Inbox(frozenset(channel.encode() for channel in channels))
        self.inboxes.append(inbox)
        try:
            await trio.lowlevel.checkpoint()
            yield inbox
        finally:
            self.inboxes.remove(inbox)

    # faults

    def disconnect(self) -> None:
        """This replica alone does not reach the server."""
        self._connected = False

    def connect(self) -> None:
        if not self._connected:
            self._connected = True
            self.interrupted()

    def reconnect_quietly(self) -> None:
        """Nobody is told that something may be missing."""
        self._connected = True

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
