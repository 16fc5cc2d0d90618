"""``PubSub`` on a ``MemoryBroker``: one ``MemoryPubSub`` is one replica's connection.

Local subscribers get what is published here at once, also while the connection is cut; those of other
replicas get it through the broker. After a cut every subscription gets a ``GAP``, and so does one whose
buffer was full, in the place of all that it held.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager

import trio

from chatcluster.memory.broker import MemoryBroker
from chatcluster.ports import GAP, Gap, Subscription

BUFFER_MESSAGES_MAX = 256


class MemoryPubSub:
    def __init__(self, broker: MemoryBroker) -> None:
        self._broker = broker
        self._connected = True
        self._subscriptions: list[MemorySubscription] = []
        broker.listeners.append(self)

    # the port

    def publish(self, channel: str, payload: bytes) -> None:
        self._hand_out(channel, payload)
        if self._connected:
            self._broker.publish(channel, payload, origin=self)

    def subscribe(self, *channels: str) -> AbstractAsyncContextManager[Subscription]:
        return self._subscribe(frozenset(channels))

    @asynccontextmanager
    async def _subscribe(self, channels: frozenset[str]) -> AsyncIterator[Subscription]:
        subscription = MemorySubscription(channels)
        self._subscriptions.append(subscription)
        try:
            await trio.lowlevel.checkpoint()
            yield subscription
        finally:
            self._subscriptions.remove(subscription)

    # faults

    def disconnect(self) -> None:
        """This replica alone does not reach the server."""
        self._connected = False

    def connect(self) -> None:
        if not self._connected:
            self._connected = True
            self.interrupted()

    # the broker's side

    def deliver(self, channel: str, payload: bytes) -> None:
        if self._connected:
            self._hand_out(channel, payload)

    def interrupted(self) -> None:
        if self._connected:
            for subscription in self._subscriptions:
                subscription.put_gap()

    def _hand_out(self, channel: str, payload: bytes) -> None:
        for subscription in self._subscriptions:
            if channel in subscription.channels:
                subscription.put(payload)


class MemorySubscription:
    def __init__(self, channels: frozenset[str]) -> None:
        self.channels = channels
        self._buffer: deque[bytes | Gap] = deque()
        self._arrival = trio.lowlevel.ParkingLot()

    async def receive(self) -> bytes | Gap:
        await trio.lowlevel.checkpoint()
        while not self._buffer:
            await self._arrival.park()
        return self._buffer.popleft()

    async def receive_unless(self, taken: Callable[[bytes | Gap], bool]) -> bytes | Gap:
        while True:
            payload = await self.receive()
            if not taken(payload):
                return payload

    def receive_nowait(self) -> bytes | Gap:
        if not self._buffer:
            raise trio.WouldBlock
        return self._buffer.popleft()

    def put(self, payload: bytes) -> None:
        if len(self._buffer) < BUFFER_MESSAGES_MAX:
            self._buffer.append(payload)
            self._arrival.unpark()
        else:
            self._buffer.clear()
            self.put_gap()

    def put_gap(self) -> None:
        if not self._buffer or self._buffer[-1] is not GAP:
            self._buffer.append(GAP)
            self._arrival.unpark()
