"""The state of one 'Redis' in this process; see the package's docstring."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol
from uuid import UUID

import trio

from chatcluster.errors import StreamsUnavailable
from chatcluster.parts import START, Frame, Position


@dataclass(slots=True)
class StreamRow:
    """The frames of a chat, in order. ``last`` outlives trimming: it is what refuses a lower position."""

    frames: list[Frame] = field(default_factory=list)
    last: Position = START
    expires_at: float | None = None


class Listener(Protocol):
    """One replica's connection for subscriptions."""

    def deliver(self, channel: str, payload: bytes) -> None: ...

    def interrupted(self) -> None:
        """The connection is back after having been lost."""
        ...


class MemoryBroker:
    """All streams and all listeners, shared by the adapters of all replicas. ``clock`` returns seconds."""

    def __init__(self, clock: Callable[[], float] = trio.current_time) -> None:
        self.clock = clock
        self.connected = True
        self.listeners: list[Listener] = []
        self._streams: dict[UUID, StreamRow] = {}

    def __repr__(self) -> str:
        state = "connected" if self.connected else "disconnected"
        return f"<MemoryBroker {state}, {len(self._streams)} streams, {len(self.listeners)} listeners>"

    # faults

    def disconnect(self) -> None:
        """The server cannot be reached; it keeps its data."""
        self.connected = False

    def connect(self) -> None:
        if not self.connected:
            self.connected = True
            for listener in self.listeners:
                listener.interrupted()

    def flush(self) -> None:
        """Lose all data, as when the server comes back empty."""
        self._streams.clear()

    def lose_newest(self, frames: int) -> None:
        """Lose the newest frames of each stream, as when the server comes back with what it had saved."""
        for row in self._streams.values():
            del row.frames[max(0, len(row.frames) - frames) :]
            row.last = row.frames[-1].position if row.frames else START

    # the server

    def require_connection(self) -> None:
        """Raises ``StreamsUnavailable``."""
        if not self.connected:
            raise StreamsUnavailable("the broker is disconnected")

    def publish(self, channel: str, payload: bytes, *, origin: Listener | None = None) -> None:
        """Publish to every listener but ``origin``, which has it already."""
        if self.connected:
            for listener in self.listeners:
                if listener is not origin:
                    listener.deliver(channel, payload)

    def stream(self, chat_id: UUID) -> StreamRow | None:
        row = self._streams.get(chat_id)
        if row is not None and row.expires_at is not None and row.expires_at <= self.clock():
            del self._streams[chat_id]
            return None
        return row

    def drop_stream(self, chat_id: UUID) -> None:
        self._streams.pop(chat_id, None)

    def create_stream(self, chat_id: UUID) -> StreamRow:
        """The stream of this chat, a new one if there is none."""
        return self.stream(chat_id) or self._streams.setdefault(chat_id, StreamRow())
