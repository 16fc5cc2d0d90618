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
from typing import NamedTuple

import msgspec
import trio
from checker import Event, Kind, Subscriber, Violation
from checker.history import PUBLIC

from chaos.api import NOT_FOUND, Api
from chaos.fleet import Fleet, Replica
from chaos.record import Record
from chaos.recovery import Watch
from chaos.stream import BrokenOff, EventStream

BACKOFF_SECONDS = 0.05
"""As the product's own client has it."""
BACKOFF_CAP_SECONDS = 0.5
HOP_EVENTS_MEAN = 300
MOVE_EVENTS_MAX = 20
PRIVATE_SHARE = 0.25
"""How often a public reader takes a replica's own address instead."""
RESET_ON_CLOSE = struct.pack("ii", 1, 0)
RETRY_STATUSES = frozenset({429, 502, 503, 504})

_decoder = msgspec.json.Decoder(dict)


class Place(NamedTuple):
    """Where a reader connects: ``replica`` is None behind the public port."""

    url: str
    name: str
    replica: Replica | None = None


class Reader:
    """``run`` reads until it is cancelled."""

    def __init__(
        self,
        subscriber: Subscriber,
        api: Api,
        fleet: Fleet,
        record: Record,
        draw: random.Random,
        *,
        away: bool,
        front_only: bool = False,
        spared: bool = False,
    ) -> None:
        """``front_only``: it knows no replica's own address. ``spared``: whatever is done to the cluster, it gets to
        see nothing but the end of a connection."""
        self.subscriber = subscriber
        self.place = Place(api.base_url, PUBLIC)
        self.cursor = ""
        self.connections = 0
        self.cuts = 0
        """Connections that broke, or could not be made."""
        self.errors: Counter[str] = Counter()
        """What was got in the place of a stream: a status, or no answer at all."""
        self.watch: Watch | None = None
        """What waits for this reader to be told of a recovery."""
        self.progress = trio.Event()
        """Set, and replaced, with whatever the reader gets."""
        self.gone = trio.Event()
        """Set when there is no such chat, and that may be."""
        self.reading: trio.Event | None = None
        """While there is one that is not set, the reader takes nothing from its connection."""
        self._connection = trio.CancelScope()
        self._socket: trio.socket.SocketType | None = None
        self._api = api
        self._fleet = fleet
        self._record = record
        self._draw = draw
        self._away = away
        self._front_only = front_only
        self._spared = spared
        self._hop_in = 0
        self._backoff_seconds = BACKOFF_SECONDS

    def __repr__(self) -> str:
        return f"<Reader {self.subscriber!r} via {self.place.name} at {self.cursor}>"

    async def run(self) -> None:
        while True:
            self.place = self._choose()
            self._hop_in = 1 + int(self._draw.expovariate(1 / HOP_EVENTS_MEAN))
            opened = self.connections
            try:
                ending = await self._follow()
            except BrokenOff as error:
                ending = str(error)
                self.cuts += 1
                if self.connections == opened:
                    self._error(ending)
            self._note(ending)
            if ending != "hop":
                await self._back_off()

    def _choose(self) -> Place:
        others = [
            replica
            for replica in self._fleet.replicas
            if not self._away or replica.worker_id != self.subscriber.worker_id
        ]
        if not others or self._front_only or not (self._away or self._draw.random() < PRIVATE_SHARE):
            return Place(self._api.base_url, PUBLIC)
        replica = self._draw.choice(others)
        return Place(replica.url, replica.name, replica)

    async def _back_off(self) -> None:
        await trio.sleep(self._backoff_seconds * self._draw.uniform(0.5, 1.0))
        self._backoff_seconds = min(2 * self._backoff_seconds, BACKOFF_CAP_SECONDS)

    def begin_anew(self, subscriber: Subscriber) -> None:
        """Forget everything, and read the chat from the beginning."""
        self.subscriber = subscriber
        self.cursor = ""
        self._connection.cancel()

    def drop(self) -> bool:
        """Reset the connection; whether there is one."""
        if self._socket is None:
            return False
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self._connection.cancel()
        return True

    async def _follow(self) -> str:
        """One connection; returns why it ended."""
        with trio.CancelScope() as self._connection:
            try:
                return await self._read()
            finally:
                self._socket = None
        return "dropped"

    async def _read(self) -> str:
        async with self._api.stream(self.place.url, self.subscriber.chat, self.cursor) as stream:
            if stream.status != 200:
                self._refused(stream)
                return f"refused {stream.status}"
            self._socket = stream.socket
            self.connections += 1
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
                if self._hop_in <= 0 and self.watch is None:
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
        self._count_down(kind)

    def _count_down(self, kind: str) -> None:
        self._hop_in -= 1
        replica = self.place.replica
        if kind == "status" and self._away and replica is not None and replica.worker_id == self.subscriber.worker_id:
            self._hop_in = min(self._hop_in, self._draw.randint(1, MOVE_EVENTS_MAX))

    def _progress(self) -> None:
        self.progress.set()
        self.progress = trio.Event()

    def _error(self, what: str) -> None:
        self.errors[what] += 1
        if self._spared:
            self._violate(Kind.SERVER_ERROR, f"got no stream, but {what}")

    def _refused(self, stream: EventStream) -> None:
        self._error(str(stream.status))
        if stream.status == NOT_FOUND and self.subscriber.may_be_gone:
            self.gone.set()
        elif stream.status not in RETRY_STATUSES:
            self._violate(Kind.GAP, f"cursor {self.cursor}: refused with {stream.status} {stream.refusal[:200]}")

    def _violate(self, kind: Kind, detail: str) -> None:
        subscriber = self.subscriber
        subscriber.report(Violation(kind, subscriber.chat, detail, trio.current_time(), subscriber.name, self.cursor))

    def _note(self, connection: str) -> None:
        self._record.note(
            chat=self.subscriber.chat,
            reader=self.subscriber.name,
            replica=self.place.name,
            connection=connection,
            cursor=self.cursor,
        )
