"""The preview: the frames of the answer under way, as readers have them. Pure.

One ``Preview`` lasts from the frame that begins an attempt to the message that it becomes, or to whatever else
ends it; then there is a new, empty one. It only ever grows, so whoever joins keeps it with the number of frames
that it has at that moment, and reads them from it later.

Many readers join at one moment, after a deploy all of them: the frames are encoded for one of them, and
the others get the same bytes.
"""

from __future__ import annotations

from bisect import bisect_right
from typing import NamedTuple

from chatcluster import events
from chatcluster.parts import START, Cursor, Position


class Preview:
    def __init__(self) -> None:
        self.positions: list[Position] = []
        self._bodies: list[bytes] = []
        self._version = 0
        self._encoded: list[bytes] = []
        """The first frames as events, with cursors of ``_version``."""
        self._joined = b""
        self._joined_count = 0

    def __repr__(self) -> str:
        return f"<Preview of {len(self._bodies)} frames up to {self.last}>"

    @property
    def last(self) -> Position:
        """The last frame's position; ``START`` if there is none."""
        return self.positions[-1] if self.positions else START

    def add(self, position: Position, body: bytes) -> None:
        """The next frame: its event without a cursor."""
        self.positions.append(position)
        self._bodies.append(body)

    def now(self) -> Joined:
        """What a reader that joins at this moment gets."""
        return Joined(self, len(self._bodies))

    def encoded(self, count: int, version: int, after: Position) -> bytes:
        """Of the first ``count`` frames those after a position, as events with cursors of a snapshot version."""
        skipped = bisect_right(self.positions, after, hi=count)
        if skipped == count:
            return b""
        self._encode(count, version)
        if skipped:
            return b"".join(self._encoded[skipped:count])
        if self._joined_count != count:
            self._joined, self._joined_count = b"".join(self._encoded[:count]), count
        return self._joined

    def _encode(self, count: int, version: int) -> None:
        if version != self._version:
            self._version, self._encoded, self._joined_count = version, [], 0
        for index in range(len(self._encoded), count):
            self._encoded.append(events.with_id(Cursor(version, self.positions[index]), self._bodies[index]))


class Joined(NamedTuple):
    """A preview at one moment."""

    preview: Preview
    frame_count: int

    @property
    def last(self) -> Position:
        """The last frame's position; ``START`` if there is none."""
        return self.preview.positions[self.frame_count - 1] if self.frame_count else START

    def after(self, position: Position, version: int) -> bytes:
        """The frames after a position, as events with cursors of this snapshot version."""
        return self.preview.encoded(self.frame_count, version, position)
