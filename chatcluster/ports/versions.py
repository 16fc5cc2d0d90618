"""How one state of a chat is told from another."""

from __future__ import annotations

from typing import NamedTuple

from chatcluster.chat import StoredPhase


class Version(NamedTuple):
    """One state of a chat. After a failover its number may be another one's, so the number alone does not name it."""

    snapshot_version: int
    history_version: int
    queue_version: int
    epoch: int
    status: str

    @classmethod
    def of(cls, chat: StoredPhase) -> Version:
        return cls(chat.snapshot_version, chat.history_version, chat.queue_version, chat.epoch, chat.status)

    def precedes(self, known: Version) -> bool:
        """Whether the database, which says this, has forgotten what was ``known``."""
        return self != known and self.snapshot_version <= known.snapshot_version
