"""One reader of a chat's feed, with its buffer.

Each subscriber has a bounded buffer, for what waits. If that stays above it, the subscriber is cut (``Cut``): it
resumes by its cursor. No event is too large for it: one counts for a part of the buffer at most. And what waits are
references: all readers share the bytes. Nothing is ever dropped silently.
"""

from __future__ import annotations

from collections.abc import Callable
from math import inf

import trio

from chatcluster import events
from chatcluster.catch_up import CatchUp
from chatcluster.parts import BEGINNING, START, Cursor
from chatcluster.shown import Notice, Snapshot

TAKE_BYTES = 64 << 10
"""What is taken of a buffer at a time. An event that is larger is the reader's own task's to take."""
LARGE_EVENTS_MAX = 4
"""So many events that are as large as the buffer may wait."""
BEHIND_SECONDS_MAX = 2.0
"""What comes all at once is no sign of a slow reader: it gets this long to take what is above the bound."""
BURST_BUFFERS_MAX = 16
"""Above so many times the bound a reader is cut at once."""


class Cut(Exception):
    """This reader must be cut off abruptly; it resumes by its cursor."""


class Subscriber:
    """One reader. ``receive`` returns what is pending as SSE bytes; being cancelled loses nothing."""

    __slots__ = (
        "_awake",
        "_behind_since",
        "_buffer_bytes_max",
        "_catch_up",
        "_cursor",
        "_cut",
        "_join",
        "_mark",
        "_page",
        "_pending",
        "_pending_bytes",
        "_told",
        "sink",
    )

    def __init__(
        self, *, buffer_bytes_max: int, join: Callable[[Cursor, Snapshot, int | None], CatchUp] | None = None
    ) -> None:
        self._buffer_bytes_max = buffer_bytes_max
        self._join = join
        self.sink: Callable[[], None] | None = None
        """Told of every event that is offered, in place of a task that waits in ``receive``."""
        self._catch_up: CatchUp | None = None
        self._page: list[bytes] = []  # of the first events, what was read and is to be given next
        self._cursor = BEGINNING
        """What the reader was given last: it has been shown every frame up to there, and none is shown again."""
        self._told = 0
        """The version up to which the reader was told of every turn that ended."""
        self._pending: list[Notice] = []  # a deque would take each reader at rest 0.7 kB
        self._pending_bytes = 0
        """What is pending counts for."""
        self._behind_since = inf
        """When what waits went above the bound."""
        self._mark = b""
        """How an event's ID begins for this reader, if it is of more than the chat."""
        self._cut: str | None = None
        self._awake: trio.Event | None = None
        """While somebody waits in ``receive``."""

    def __repr__(self) -> str:
        return f"<Subscriber at {self._cursor} pending={self._pending_bytes} cut={self._cut}>"

    def offer(self, notice: Notice) -> None:
        """Something new from the feed. Never blocks: over the buffer's bound the subscriber is cut.

        After a cut it gets nothing any more: what came then would have a gap before it.
        """
        if self._cut is not None:
            return
        self._pending.append(notice)
        self._pending_bytes += self._weight(notice)
        if self._pending_bytes > self._buffer_bytes_max and self._is_slow():
            self.cut("slow")
        if self.sink is None:
            self._wake()
        else:
            self.sink()

    def join(self, cursor: Cursor, snapshot: Snapshot, told: int | None = None) -> None:
        """Begin with what lies between the cursor and the snapshot; ``told`` as for ``CatchUp``."""
        if self._join is not None:
            self._catch_up = self._join(cursor, snapshot, told)

    def restart(self, snapshot: Snapshot) -> None:
        """History was rewritten: what is pending is obsolete, and all of it follows. So do turns that ended before."""
        if self._cut is None:
            self._clear()
            at = self._catch_up
            self.join(*((self._cursor, snapshot, self._told) if at is None else (at.cursor, snapshot, at.told)))
            self._wake()

    def cut(self, reason: str) -> None:
        self._cut = reason
        self._page.clear()
        self._clear()
        self._wake()

    def _clear(self) -> None:
        self._pending.clear()
        self._pending_bytes, self._behind_since = 0, inf

    def _is_slow(self) -> bool:
        now = trio.current_time()
        self._behind_since = min(self._behind_since, now)
        is_burst = self._pending_bytes <= BURST_BUFFERS_MAX * self._buffer_bytes_max
        return not is_burst or now - self._behind_since > BEHIND_SECONDS_MAX

    def _weight(self, notice: Notice) -> int:
        return min(len(notice.data), self._buffer_bytes_max // LARGE_EVENTS_MAX)

    async def receive(self) -> bytes:
        """Some of what is pending, as whole events; waits while there is nothing. Raises ``Cut``."""
        data = b""
        while not data:
            if self._catch_up is not None and self._cut is None:
                data = await self._first(self._catch_up)
            elif not (data := self._take()):
                await self._wait()
        return data

    async def _wait(self) -> None:
        """Until there may be something. The caller has just seen that there is nothing."""
        self._awake = trio.Event()
        try:
            await self._awake.wait()
        finally:
            self._awake = None

    def _wake(self) -> None:
        if self._awake is not None:
            self._awake.set()

    def receive_nowait(self) -> bytes:
        """The first of what is pending; nothing before the first events were received.

        Raises ``Cut``, and ``trio.WouldBlock`` for a large event, which ``receive`` returns.
        """
        if self._pending and self._catch_up is None and len(self._pending[0].data) > TAKE_BYTES:
            raise trio.WouldBlock
        return self._take()

    @property
    def has_pending(self) -> bool:
        """Whether ``receive_nowait`` has something to give. What comes after the first events waits for those."""
        return self._catch_up is None and bool(self._pending)

    def _take(self) -> bytes:
        if self._cut is not None:
            raise Cut(self._cut)
        if self._catch_up is not None or not self._pending:
            return b""
        if len(self._pending) == 1:  # as a rule
            self._pending_bytes, self._behind_since = 0, inf
            return self._placed(self._pending.pop())
        pieces, size = list[bytes](), 0
        for notice in self._pending:
            if size and size + len(notice.data) > TAKE_BYTES:
                break
            self._pending_bytes -= self._weight(notice)
            piece = self._placed(notice)
            size += len(piece)  # what is held back takes no room: the wait for more is over when there is more
            pieces.append(piece)
        del self._pending[: len(pieces)]
        if self._pending_bytes <= self._buffer_bytes_max:
            self._behind_since = inf
        return b"".join(pieces)

    async def _first(self, catch_up: CatchUp) -> bytes:
        page = self._page or list(await catch_up.page())
        if self._catch_up is not catch_up:
            return b""  # history was rewritten meanwhile: it is told anew, from where this page began
        data, self._page = page.pop(0) if page else b"", page
        if not page and catch_up.complete:
            self._cursor, self._told, self._catch_up = catch_up.cursor, catch_up.told, None
        return data

    def _placed(self, notice: Notice) -> bytes:
        """The event as this reader gets it, which may be ahead of the feed: its position does not go back."""
        cursor = notice.cursor
        if cursor is None:
            return self._placed_aside(notice)
        self._told = max(self._told, cursor.version - (cursor.message_id is not None))
        shown = START if notice.is_reset else self._cursor.position
        if notice.is_frame and cursor.position <= shown:
            return b""
        data = notice.data
        if cursor.position >= shown:
            self._cursor = cursor
        else:
            self._cursor = cursor._replace(position=shown)
            data = events.moved(self._cursor, data)
        # This is done for every word of an answer: the mark is no business of a method of its own.
        return events.marked(self._mark, data) if self._mark else data

    def _placed_aside(self, notice: Notice) -> bytes:
        """The event as this reader gets it, where it has no place in the chat."""
        return notice.data
