"""A subscriber who hops from replica to replica with its cursor, now and then stops reading, and misses nothing.

It takes the bytes apart as an SSE client does, and shows each event to the checker. What was on its way when it
left is lost: it has its cursor.
"""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING
from uuid import UUID

import msgspec
import trio
from checker import Event, Kind, Subscriber

from chatcluster.parts import BEGINNING, Cursor, parse_cursor
from simulation.client import OWNER
from simulation.http_server import Connection, Disconnected
from simulation.process import ReplicaProcess

if TYPE_CHECKING:
    from simulation.run import World

RECONNECT_SECONDS = 0.05
LAZY_SECONDS = 0.3


class Reader:
    def __init__(
        self, name: str, chat_id: UUID, world: World, draw: Random, subscriber: Subscriber, owner_id: UUID = OWNER
    ) -> None:
        self.name = name
        self.chat_id = chat_id
        self.subscriber = subscriber
        self.hop_seconds = world.plan.readers.hop_seconds
        self.lazy = world.plan.readers.lazy
        self.archived = False
        self._world = world
        self._draw = draw
        self._owner_id = owner_id
        self._cursor: Cursor = BEGINNING

    def settle(self) -> None:
        """From now on, stay where you are, and read at once."""
        self.hop_seconds = 1e9
        self.lazy = 0.0

    async def run(self) -> None:
        while True:
            process = await self._world.processes.accepting(self._draw)
            self._world.witness.note("connect", self.name, process.name, self._cursor)
            self.subscriber.connected()
            connection = process.connect(self.chat_id, self._cursor, self._owner_id)
            stay_seconds = self._draw.expovariate(1 / self.hop_seconds)
            try:
                with trio.move_on_after(stay_seconds):
                    await self._read(process, connection)
            except Disconnected as error:
                self._world.witness.note("disconnected", self.name, process.name, error)
                if "InvalidCursor" in str(error):
                    self._world.witness.violate(
                        Kind.SERVER_ERROR, self.chat_id, f"{self.name}'s own cursor {self._cursor} was refused"
                    )
            connection.end("left")
            connection.scope.cancel()
            await trio.sleep(self._draw.uniform(0, RECONNECT_SECONDS))

    async def _read(self, process: ReplicaProcess, connection: Connection) -> None:
        while True:
            data = await connection.receive()
            for event in data.split(b"\n\n")[:-1]:
                self._observe(process.name, event)
                if self._draw.random() < self.lazy:
                    await trio.sleep(self._draw.expovariate(1 / LAZY_SECONDS))

    def _observe(self, replica: str, event: bytes) -> None:
        id_line, kind_line, data_line = event.split(b"\n")
        cursor, kind = id_line[4:].decode(), kind_line[7:].decode()
        self._world.witness.note("event", self.name, cursor, kind, data_line[6:])
        self._cursor = parse_cursor(cursor)
        is_harmed = self.chat_id in self._world.witness.harmed.chats
        if is_harmed and kind != "status":
            return  # foreign entries in a stream may be shown as they are, and nobody judges its readers
        data = msgspec.json.decode(data_line[6:])
        if kind == "status":
            self.archived = data["archived"]
        if not is_harmed:
            self.subscriber.observe(Event(self._world.now, replica, cursor, kind, data))
