"""The messages that a feed has shown lately: what most readers that join or come back need, without the database."""

from __future__ import annotations

from collections import deque

import msgspec

from chatcluster.parts import Message

OVERHEAD_BYTES = 200
"""What a message costs besides its text, roughly."""


class RecentMessages:
    """The newest messages, up to ``bytes_max``. It has all with ``revision > since``, and says so honestly."""

    def __init__(self, bytes_max: int) -> None:
        self.since = 0
        self._bytes_max = bytes_max
        self._bytes = 0
        self._messages: deque[Message] = deque()

    def __repr__(self) -> str:
        return f"<RecentMessages {len(self._messages)} since {self.since}>"

    def begin(self, version: int) -> None:
        """Forget everything; what is newer than ``version`` will come."""
        self._messages.clear()
        self._bytes = 0
        self.since = version

    def add(self, message: Message) -> None:
        self._messages.append(message)
        self._bytes += _size(message)
        while self._bytes > self._bytes_max:
            oldest = self._messages.popleft()
            self._bytes -= _size(oldest)
            self.since = oldest.revision

    def after(self, version: int) -> tuple[Message, ...] | None:
        """Messages with a revision above ``version``, or None if some of them may be forgotten."""
        if version < self.since:
            return None
        return tuple(message for message in self._messages if message.revision > version)


def _size(message: Message) -> int:
    texts = (value for part in message.parts for value in msgspec.structs.astuple(part) if isinstance(value, str))
    return OVERHEAD_BYTES + sum(map(len, texts))
