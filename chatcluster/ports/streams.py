"""The part streams of the chats."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol
from uuid import UUID

from chatcluster.errors import Fenced, StreamsUnavailable
from chatcluster.parts import Frame, Position


class Appended(StrEnum):
    ADDED = "added"
    REFUSED = "refused"
    """The stream has a higher position already: of a newer tenure, or this very frame from before."""
    MISSING = "missing"
    """There is no such stream (any more)."""


class Opening(NamedTuple):
    """What ``PartStreams.open`` takes."""

    chat_id: UUID
    frame: Frame
    trim: bool


class PartStreams(Protocol):
    """The part streams. Positions are IDs, and a lower one than the last is refused by the server itself."""

    async def open(self, chat_id: UUID, frame: Frame, *, trim: bool) -> None:
        """Open a tenure with its frame of seq 0, creating the stream if need be, and publish it.

        Atomic with its publication: on the live channel it comes before every frame that is refused because
        of it. ``trim`` drops everything before it. Raises ``Fenced`` if a newer tenure is open; opening one's own
        tenure again does nothing.
        """
        ...

    async def open_all(self, openings: Sequence[Opening]) -> list[Fenced | StreamsUnavailable | None]:
        """Open tenures of as many chats, in one round trip; for each what ``open`` would have raised, or None."""
        ...

    async def append(self, entries: Sequence[tuple[UUID, Frame]]) -> list[Appended]:
        """Add frames in order and publish each on its chat's live channel, in one round trip.

        A ``turn`` frame trims the stream to itself; a ``close`` frame starts the stream's expiry.
        """
        ...

    async def restore(self, chat_id: UUID, frames: Sequence[Frame]) -> None:
        """Append those of ``frames`` (one tenure's, in order, from its ``open``) that the stream lacks.

        Creates the stream if it is gone. Raises ``Fenced`` if a newer tenure is open.
        """
        ...

    async def read(self, chat_id: UUID, *, after: Position, limit: int) -> list[Frame]:
        """Frames after a position, in order; fewer than ``limit`` mean that the end was reached."""
        ...
