"""Where in a history a page of it is, and what of it is too large to be shown."""

from __future__ import annotations

from typing import NamedTuple

from chatcluster.parts import Message, Parts, TextPart
from chatcluster.ports.store import VERSION_MAX

MESSAGE_BYTES_MAX = 12 << 20
"""A message that has more is neither read nor shown, as it is decoded in one step of the event loop: one of so many
bytes takes some 15 ms. An answer of one step and the results of a tool are smaller."""
TOO_LARGE: Parts = (TextPart("(this message is too large to be shown)"),)


class HistoryPlace(NamedTuple):
    """Which page of a history: see ``Store.read_history``."""

    after: int
    before: int
    since: int
    page_bytes: int
    message_bytes_max: int

    @property
    def is_first(self) -> bool:
        """Whether a history that is short is on it whole."""
        return self.before == VERSION_MAX if self.before else self.after == 0

    @property
    def bytes_min(self) -> int:
        """What is on it for sure, if there is so much."""
        return min(self.page_bytes, self.message_bytes_max)

    def has(self, message: Message) -> bool:
        """Whether the message may be on it."""
        if self.before:
            return message.id < self.before
        return message.id > self.after and message.revision >= self.since
