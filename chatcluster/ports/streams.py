"""The part streams of the chats."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol
from uuid import UUID

from chatcluster.errors import Fenced, StreamsUnavailable
from chatcluster.parts import Frame, FrameKind, OpenFrame, Position, TurnFrame, decode_frame


class Appended(StrEnum):
    ADDED = "added"
    REFUSED = "refused"
    """The stream has a higher position already: of a newer tenure, or this very frame from before."""
    MISSING = "missing"
    """There is no such stream (any more), or none that can be appended to: its owner restores it."""


class Opening(NamedTuple):
    """What ``PartStreams.open`` takes."""

    chat_id: UUID
    frame: Frame
    trim: bool


class PartStreams(Protocol):
    """The part streams. Positions are IDs, and a lower one than the last is refused by the server itself.

    Whatever else is found in a stream is passed over. What is no stream, but is in the place of one, is as good as
    none: it is replaced when a tenure opens or restores its stream.
    """

    async def open(self, chat_id: UUID, frame: Frame, *, trim: bool) -> None:
        """Open a tenure with its frame of seq 0, creating the stream if need be, and publish it.

        Atomic with its publication: on the live channel it comes before every frame that is refused because
        of it. ``trim`` drops everything before it. Raises ``StreamFenced`` if anything of this epoch or a higher one is
        in the stream, except for the very same frame: opening one's own tenure again does nothing.
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

        Creates the stream if it is gone. Raises ``StreamFenced`` if a newer tenure is open, or if what the stream has
        of this epoch is not of these frames' worker; ``StreamRefused`` if it is this stream alone that cannot be
        restored.
        """
        ...

    async def drop(self, chat_id: UUID) -> None:
        """Remove the stream, whatever it is."""
        ...

    async def read(self, chat_id: UUID, *, after: Position, limit: int) -> list[Frame]:
        """Frames after a position, in order; fewer than ``limit`` mean that the end was reached.

        What is no frame, or has not the body that its kind says, is there as one of kind ``UNKNOWN``.
        """
        ...


def same_tenure(last: Frame, frames: Sequence[Frame], first: Frame | None) -> bool:
    """Whether ``last``, the newest entry of a stream, is of the tenure of ``frames``, which has its epoch.

    ``frames`` are its ``open`` and what is left in its owner's memory, and ``first`` is the oldest entry of the epoch.
    A failover that lost a claim gives one epoch twice: so the stream has to begin with our ``open``, or with our name
    if that was trimmed away, what is remembered has to be the same, and what is not remembered any more has to be
    older. A tenure that has done no more than open has nothing to compare with what came after its ``open``.
    """
    if _worker_of(first) not in (_worker_of(frames[0]), ""):
        return False
    if first is not None and first.position == frames[0].position and first != frames[0]:
        return False
    for frame in reversed(frames):
        if frame.position == last.position:
            return frame == last
    return len(frames) == 1 or last.position < frames[-1].position


def _worker_of(frame: Frame | None) -> str | None:
    """The worker that a frame at the beginning of a stream names; empty for one of the previous version, None for what
    is no such frame.
    """
    if frame is None or frame.kind not in (FrameKind.OPEN, FrameKind.TURN):
        return None
    body = decode_frame(frame.data)
    return body.worker_id if isinstance(body, OpenFrame | TurnFrame) else None
