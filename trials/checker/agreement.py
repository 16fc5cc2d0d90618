"""What all readers of a chat must agree on, whatever replica each of them reads from (P2).

A position names one frame, an ID one message, an epoch one worker. Two readers that were shown different
things under one name have seen the work of two owners. Frames are remembered for a while only: readers
of a chat are never far from each other.
"""

from __future__ import annotations

from collections import OrderedDict

from checker.history import FinalMessage, Position

FRAMES_REMEMBERED_MAX = 4096


class Agreement:
    """One per chat, shared by its readers. Each method returns what is wrong, or None."""

    def __init__(self) -> None:
        self.messages: dict[int, FinalMessage] = {}
        self.workers: dict[int, str] = {}
        self._frames: OrderedDict[Position, str] = OrderedDict()

    def frame(self, position: Position, content: str) -> str | None:
        known = self._frames.setdefault(position, content)
        if len(self._frames) > FRAMES_REMEMBERED_MAX:
            self._frames.popitem(last=False)
        if known != content:
            return f"the frame at {position} is {known[:80]!r} for one reader and {content[:80]!r} for another"
        return None

    def message(self, message: FinalMessage) -> str | None:
        known = self.messages.setdefault(message.id, message)
        if known != message:
            return f"message {message.id} is {known} for one reader and {message} for another"
        return None

    def owner(self, epoch: int, worker_id: str) -> str | None:
        known = self.workers.setdefault(epoch, worker_id)
        if known != worker_id:
            return f"epoch {epoch} belongs to {known} and to {worker_id}"
        return None
