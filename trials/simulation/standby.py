"""A standby: what it has of the database is what its primary had when the two were parted.

``promote`` puts that in the place of all that the primary did since. Rows are copied, what they refer to cannot change.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import replace
from itertools import count
from uuid import UUID

from chatcluster.memory import MemoryDatabase
from chatcluster.memory.tables import ChatRow


class Standby:
    def __init__(self, database: MemoryDatabase) -> None:
        self._database = database
        self._chats = {chat_id: _copy(row) for chat_id, row in database.chats.items()}
        self._replicas = {worker_id: replace(row) for worker_id, row in database.replicas.items()}
        self._keys = dict(database.kept.keys)
        self._usage = dict(database.kept.usage)
        self._timeline = database.timeline
        self._next_id = next(database.ids)
        database.ids = count(self._next_id)

    @property
    def is_of_the_primary(self) -> bool:
        """Whether it could be promoted: whoever took over meanwhile is followed by other standbys."""
        return self._timeline == self._database.timeline

    def promote(self, *, ids_again: bool) -> Mapping[UUID, ChatRow]:
        """Returns the chats that something of is lost, as they are now.

        ``ids_again``: IDs of lost messages are given again; a real server has logged some of them ahead.
        """
        database = self._database
        lost = {chat_id: row for chat_id, row in self._chats.items() if row.state != database.chats[chat_id].state}
        database.chats, database.replicas = self._chats, self._replicas
        database.kept.keys, database.kept.usage = self._keys, self._usage
        used = next(database.ids)
        database.ids = count(self._next_id if ids_again else max(used, self._next_id))
        database.fail_over()
        return lost


def _copy(row: ChatRow) -> ChatRow:
    return replace(
        row,
        messages=list(row.messages),
        turns=list(row.turns),
        queued_at=dict(row.queued_at),
        commits=dict(row.commits),
        calls=deepcopy(row.calls),
    )
