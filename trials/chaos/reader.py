"""A client that reads one chat's stream, from whatever replica, and resumes by its cursor.

``public`` readers come through the public port, and every now and then through the private one of any replica.
``away`` readers attach to the private port of a replica that does not own the chat, and move when it comes to own it.
All leave their connection now and then, for no reason but to resume elsewhere. When a connection ends, a reader
comes back at the cursor of its last whole event.
"""

from __future__ import annotations

import random
import socket
import struct
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import msgspec
import trio
from checker import Event, Kind, Subscriber, Violation

from chaos.api import NOT_FOUND, Api
from chaos.record import Record
from chaos.recovery import Watch
from chaos.route import Place, Route
from chaos.stream import BrokenOff, EventStream

BACKOFF_SECONDS = 0.05
"""As the product's own client has it."""
BACKOFF_CAP_SECONDS = 0.5
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
RETRY_STATUSES = frozenset({429, 502, 503, 504})

_decoder = msgspec.json.Decoder(dict)


@dataclass
class Counts:
    """Of one reader."""

    connections: int = 0
    cuts: int = 0
    """Connections that broke, or could not be made."""
    errors: Counter[str] = field(default_factory=Counter)
    """What was got in the place of a stream: a status, or no answer at all."""


class Line:
    """The connection that a reader has, if it has one."""

    def __init__(self) -> None:
        self._scope = trio.CancelScope()
        self._socket: trio.socket.SocketType | None = None

    @contextmanager
    def within(self, scope: trio.CancelScope) -> Iterator[None]:
        """For the length of one connection, from the request on: to cancel ``scope`` drops it."""
        self._scope = scope
        try:
            yield
        finally:
            self._socket = None

    def opened(self, stream: EventStream) -> None:
        self._socket = stream.socket

    def hang_up(self) -> None:
        self._scope.cancel()

    def reset(self) -> bool:
        """Whether there was one to reset."""
        if self._socket is None:
            return False
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self._scope.cancel()
        return True


class Reader:
    """``run`` reads until it is cancelled."""

    def __init__(
        self,
        subscriber: Subscriber,
        api: Api,
        route: Route,
        record: Record,
        draw: random.Random,
        *,
        spared: bool = False,
    ) -> None:
        """``spared``: whatever is done to the cluster, it gets to see nothing but the end of a connection."""
        self.subscriber = subscriber
        self.route = route
        self.cursor = ""
        self.counts = Counts()
        self.watch: Watch | None = None
        """What waits for this reader to be told of a recovery."""
        self.progress = trio.Event()
        """Set, and replaced, with whatever the reader gets."""
        self.gone = trio.Event()
        """Set when there is no such chat, and that may be."""
        self.reading: trio.Event | None = None
        """While there is one that is not set, the reader takes nothing from its connection."""
        self._line = Line()
        self._api = api
        self._record = record
        self._draw = draw
        self._spared = spared
        self._backoff_seconds = BACKOFF_SECONDS

    def __repr__(self) -> str:
        return f"<Reader {self.subscriber!r} via {self.place.name} at {self.cursor}>"

    @property
    def place(self) -> Place:
        return self.route.place

    async def run(self) -> None:
        while True:
            self.route.choose(self.subscriber.worker_id)
            opened = self.counts.connections
            try:
                ending = await self._follow()
            except BrokenOff as error:
                ending = str(error)
                self.counts.cuts += 1
                if self.counts.connections == opened:
                    self._error(ending)
            self._note(ending)
            if ending != "hop":
                await self._back_off()

    async def _back_off(self) -> None:
        await trio.sleep(self._backoff_seconds * self._draw.uniform(0.5, 1.0))
        self._backoff_seconds = min(2 * self._backoff_seconds, BACKOFF_CAP_SECONDS)

    def begin_anew(self, subscriber: Subscriber) -> None:
        """Forget everything, and read the chat from the beginning."""
        self.subscriber = subscriber
        self.cursor = ""
        self._line.hang_up()

    def drop(self) -> bool:
        """Reset the connection; whether there is one."""
        return self._line.reset()

    async def _follow(self) -> str:
        """One connection; returns why it ended."""
        with trio.CancelScope() as scope, self._line.within(scope):
            return await self._read()
        return "dropped"

    async def _read(self) -> str:
        async with self._api.stream(self.place.url, self.subscriber.chat, self.cursor) as stream:
            if stream.status != 200:
                self._refused(stream)
                return f"refused {stream.status}"
            self._line.opened(stream)
            self.counts.connections += 1
            self.subscriber.connected()
            self._note("open")
            while not stream.is_whole:
                blocks = await stream.receive()
                await trio.lowlevel.checkpoint_if_cancelled()  # what had come by then was for the one before
                now = trio.current_time()
                for block in blocks:
                    self._take(block, now)
                self._progress()
                if self.reading is not None:
                    await self.reading.wait()
                if self.route.is_at_its_end and self.watch is None:
                    return "hop"
        self._violate(Kind.SERVER_ERROR, "the stream ended cleanly, as if there were nothing to come")
        return "clean end"

    def _take(self, block: bytes, now: float) -> None:
        """One event, or a comment."""
        fields = dict(line.split(b": ", 1) for line in block.split(b"\n") if not line.startswith(b":"))
        if b"event" not in fields:
            return
        kind, cursor, data = fields[b"event"].decode(), fields[b"id"].decode(), fields[b"data"]
        subscriber = self.subscriber
        self._record.event(now, subscriber.chat, subscriber.name, self.place.name, cursor, kind, data)
        event = Event(now, self.place.name, cursor, kind, _decoder.decode(data))
        subscriber.observe(event)
        self.cursor = cursor
        self._backoff_seconds = BACKOFF_SECONDS
        if self.watch is not None:
            self.watch.see(event)
        self.route.count(kind, subscriber.worker_id)

    def _progress(self) -> None:
        self.progress.set()
        self.progress = trio.Event()

    def _error(self, what: str) -> None:
        self.counts.errors[what] += 1
        if self._spared:
            self._violate(Kind.SERVER_ERROR, f"got no stream, but {what}")

    def _refused(self, stream: EventStream) -> None:
        self._error(str(stream.status))
        if stream.status == NOT_FOUND and self.subscriber.grounds.may_be_gone:
            self.gone.set()
        elif stream.status not in RETRY_STATUSES:
            self._violate(Kind.GAP, f"cursor {self.cursor}: refused with {stream.status} {stream.refusal[:200]}")

    def _violate(self, kind: Kind, detail: str) -> None:
        subscriber = self.subscriber
        subscriber.findings.report(
            Violation(kind, subscriber.chat, detail, trio.current_time(), subscriber.name, self.cursor)
        )

    def _note(self, connection: str) -> None:
        self._record.note(
            chat=self.subscriber.chat,
            reader=self.subscriber.name,
            replica=self.place.name,
            connection=connection,
            cursor=self.cursor,
        )
