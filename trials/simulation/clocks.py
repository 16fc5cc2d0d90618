"""A step of the database's clock: whatever was written before it is so much older, or younger, after it.

The times of the rows move the other way; the virtual clock itself, by which the world is judged, goes on. Dates that
users see stay as they were.
"""

from __future__ import annotations

from chatcluster.memory import MemoryDatabase


def step_clock(database: MemoryDatabase, seconds: float) -> None:
    for replica in database.replicas.values():
        replica.heartbeat_at -= seconds
    for chat in database.chats.values():
        if chat.retry_at is not None:
            chat.retry_at -= seconds
        if chat.claimable_since is not None:
            chat.claimable_since -= seconds
