"""Which chats are harmed right now, and what the servers of the world then do: P10 is about all the others.

The servers ask here whenever they are about to answer. A harm hits the chats that are named, and no other:

* ``unreadable``: the history cannot be read by this version; ``stalled``: the statement that reads it never ends;
  ``deadly``: the replica that loads it dies;
* ``damaged``: nobody can read the row itself, but for the claim and the owner's writes;
* ``refused``: Redis refuses to work on the stream;
* ``models``: how the chat's model server misbehaves;
* ``unburiable``: workers whose burial fails with an error that nobody thought of.

Rows that somebody holds locked are in ``MemoryDatabase.locked_rows``.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from uuid import UUID

import trio

from chatcluster.errors import StoreFailed, StoreLocked, StreamRefused, Unreadable
from chatcluster.memory import MemoryDatabase

STATEMENT_SECONDS_MAX = 3.0
LOCK_SECONDS_MAX = 0.5
LOOK_SECONDS = 0.05


class Misbehaviour(StrEnum):
    """What a model server does instead of answering."""

    SILENT = "silent"
    KEEP_ALIVE = "keeps alive for ever"
    GARBAGE = "answers garbage"


class Harmed:
    def __init__(self, database: MemoryDatabase) -> None:
        self.chats: set[UUID] = set()
        """All that were ever harmed: what becomes of them is not judged."""
        self.unreadable: set[UUID] = set()
        self.stalled: set[UUID] = set()
        self.deadly: set[UUID] = set()
        self.damaged: set[UUID] = set()
        self.refused: set[UUID] = set()
        self.models: dict[UUID, Misbehaviour] = {}
        self.unburiable: set[UUID] = set()
        self.kill_reader: Callable[[], None] = lambda: None
        """Kill the process that runs right now."""
        self._database = database

    async def history_asked(self, chat_id: UUID) -> None:
        """Raises what reading this history comes to."""
        if chat_id in self.deadly:
            self.kill_reader()
            await trio.sleep_forever()
        if chat_id in self.stalled:
            await trio.sleep(STATEMENT_SECONDS_MAX)
            raise StoreFailed("the statement took too long")
        if chat_id in self.unreadable:
            raise Unreadable("a message that this version cannot read")

    def row_asked(self, chat_id: UUID) -> None:
        if chat_id in self.damaged:
            raise Unreadable("a row that this version cannot read")

    async def row_written(self, chat_id: UUID) -> None:
        """Wait for the row's lock, but not for long."""
        for _ in range(round(LOCK_SECONDS_MAX / LOOK_SECONDS)):
            if not self.is_locked(chat_id):
                return
            await trio.sleep(LOOK_SECONDS)
        raise StoreLocked("somebody holds the row of this chat")

    def is_locked(self, row_id: UUID) -> bool:
        return row_id in self._database.locked_rows

    def stream_asked(self, chat_id: UUID) -> None:
        if chat_id in self.refused:
            raise StreamRefused("WRONGTYPE Operation against a key holding the wrong kind of value")

    def buried(self, worker_id: UUID) -> None:
        if worker_id in self.unburiable:
            raise ValueError("a row that nobody thought of")
