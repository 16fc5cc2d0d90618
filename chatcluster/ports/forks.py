"""Forks: where a history may end in another chat, and the copy of it that such a chat begins with. A part of ``Store``.

A history is copied where it is kept: none of it passes through a replica, however long it is. What is copied are the
messages as they are, but for those of the system, and for summaries with the calls that made them.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol
from uuid import UUID

import msgspec


class HistoryCopy(msgspec.Struct, frozen=True):
    """The history of a chat up to a message, with that. ``reset_version``: the chat's, when that was looked at.

    To make a chat with it raises ``ChatNotFound``, ``Conflict`` where the history was rewritten since, and ``ChatFull``
    where it is longer than a chat may be. The outcome has the new chat's own messages, and not the copied ones."""

    chat_id: UUID
    up_to: int
    reset_version: int


class TurnEnds(NamedTuple):
    """Messages that end whole turns, around a message: the last one ``before`` it, and the first one from it on.

    ``is_there``: whether there is such a message."""

    is_there: bool
    before: int | None
    end: int | None


class Forks(Protocol):
    async def turn_ends(self, chat_id: UUID, message_id: int) -> TurnEnds:
        """Whole turns end before a user's message, and where the chat rests. Raises ``ChatNotFound``."""
        ...
