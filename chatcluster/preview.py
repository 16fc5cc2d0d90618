"""The preview: the frames of the answer under way, as readers have them. Pure.

One ``Preview`` lasts from the frame that begins an attempt to the message that it becomes, or to whatever else
ends it; then there is a new, empty one. It only ever grows, so a reader that joins keeps it with the number of
frames that it has at that moment, and reads them from it later.

Many readers join at one moment, after a deploy all of them: the frames are encoded for one of them, and
the others get the same bytes. A reader that joins a long answer gets it in pages. Those who join together are not on
the same page at each moment, so the last few are kept.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import OrderedDict
from typing import NamedTuple

from chatcluster import events
from chatcluster.parts import START, Cursor, Frame, FrameKind, Position, resumes_behind

PAGE_FRAMES = 1000
PAGE_BYTES = 512 << 10
SHARED_PAGES_MAX = 4
OVERHEAD_BYTES = 32
"""What an event has besides its data, roughly."""


class Preview:
    def __init__(self) -> None:
        self.positions: list[Position] = []
        self._frames: list[Frame] = []
        self._ends: list[int] = []
        """For each frame the size of all frames up to it, with its own."""
        self._version = 0
        self._encoded: dict[int, bytes] = {}
        """Frames as events, with cursors of ``_version``."""
        self._pages: OrderedDict[tuple[int, int], bytes] = OrderedDict()
        """The pages that were asked for last, by the frames that they have."""

    def __repr__(self) -> str:
        return f"<Preview of {len(self._frames)} frames up to {self.last}>"

    @property
    def last(self) -> Position:
        """The last frame's position; ``START`` if there is none."""
        return self.positions[-1] if self.positions else START

    def takes(self, frame: Frame) -> bool:
        """Whether all frames of the attempt before this one are here. Otherwise the message tells it all."""
        if frame.kind is FrameKind.RESUMED:
            return resumes_behind(frame, self.last)
        return frame.kind is FrameKind.ATTEMPT or frame.position == (self.last.epoch, self.last.seq + 1)

    def add(self, frame: Frame) -> None:
        """The next frame."""
        self.positions.append(frame.position)
        self._frames.append(frame)
        self._ends.append(len(frame.data) + OVERHEAD_BYTES + (self._ends[-1] if self._ends else 0))

    def now(self) -> Joined:
        """What a reader that joins at this moment gets."""
        return Joined(self, len(self._frames))

    def frames(self, count: int) -> list[Frame]:
        """The first ``count`` of them."""
        return self._frames[:count]

    def page_end(self, first: int, count: int) -> int:
        """The end of the page that begins with frame ``first``, of ``count``."""
        end = bisect_right(self._ends, PAGE_BYTES + (self._ends[first - 1] if first else 0), lo=first)
        return min(max(end, first + 1), first + PAGE_FRAMES, count)

    def encoded(self, first: int, end: int, version: int) -> bytes:
        """Frames from ``first`` up to, but not with, ``end``, as events with cursors of a snapshot version."""
        if version != self._version:
            self._version, self._encoded = version, {}
            self._pages.clear()
        page = self._pages.get((first, end))
        if page is None:
            page = self._pages[first, end] = b"".join([self._event(index) for index in range(first, end)])
            if len(self._pages) > SHARED_PAGES_MAX:
                self._pages.popitem(last=False)
        else:
            self._pages.move_to_end((first, end))
        return page

    def _event(self, index: int) -> bytes:
        event = self._encoded.get(index)
        if event is None:
            cursor = Cursor(self._version, self.positions[index])
            event = self._encoded[index] = events.of_frame(cursor, self._frames[index])
        return event


class Joined(NamedTuple):
    """A preview at one moment."""

    preview: Preview
    frame_count: int

    @property
    def last(self) -> Position:
        """The last frame's position; ``START`` if there is none."""
        return self.preview.positions[self.frame_count - 1] if self.frame_count else START

    @property
    def frames(self) -> list[Frame]:
        """The frames as values, from the first on."""
        return self.preview.frames(self.frame_count)

    def after(self, position: Position, version: int) -> tuple[bytes, Position]:
        """A page of the frames after a position, as events with cursors of this snapshot version; and the last one's
        position, which is ``last`` if there are no more."""
        first = bisect_right(self.preview.positions, position, hi=self.frame_count)
        if first == self.frame_count:
            return b"", self.last
        end = self.preview.page_end(first, self.frame_count)
        return self.preview.encoded(first, end, version), self.preview.positions[end - 1]
