"""The publishing side of the part streams: from a runner's hands to Redis, without the runner waiting.

A ``TenureStream`` numbers and encodes the frames of one tenure. One task per replica (``Publisher.run``)
drains what all of them have pending in one ``append``, so the cost per frame falls as load rises.

States of a tenure's stream, as this side sees it:

``NEW``     its ``open`` frame is not in the stream yet: what follows is kept in memory alone
``LIVE``    frames are appended as they come
``BROKEN``  an append failed, was refused, or the stream is gone, or the server was away and may have lost a part
            of it: what the stream lacks is appended again from memory, as soon as the server can be reached
``FENCED``  a newer tenure has opened: nothing is published any more, and the runner is told to look
            into the database, which alone decides who owns the chat

Text deltas are coalesced: the first goes at once, then at most one frame per ``coalesce_ms``. The frames of the
attempt under way stay in memory, because Redis is never the truth: if it loses them, they are appended again at the
same positions, and readers drop what they have seen. Older ones are history, or dropped: nobody needs them any more.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from enum import Enum, auto
from itertools import islice
from uuid import UUID

import trio

from chatcluster import telemetry
from chatcluster.errors import Fenced, StreamsUnavailable
from chatcluster.parts import (
    AttemptFrame,
    CloseFrame,
    CommittedFrame,
    Frame,
    FrameBody,
    OpenFrame,
    Part,
    PartFrame,
    Position,
    ReasoningPart,
    TextPart,
    TurnFrame,
    frame,
)
from chatcluster.ports import Appended, Opening, PartStreams

APPEND_FRAMES_MAX = 1000
APPEND_BYTES_MAX = 1 << 20
FRAME_CHARACTERS_MAX = 16 << 10
"""Text of a frame. Streams are read some hundred frames at a time, and Redis cuts whoever listens and has megabytes to
take: that would be every chat's listener on that replica."""
OPEN_MAX = 100
CLOSING_MAX = 10_000
"""Ended tenures whose last frames wait for Redis to come back; beyond, the oldest are forgotten."""
RECONNECT_SECONDS = 0.1
RECONNECT_CAP_SECONDS = 0.5


class State(Enum):
    NEW = auto()
    LIVE = auto()
    BROKEN = auto()
    FENCED = auto()


class TenureStream:
    """The frames of one tenure. Every method is synchronous; the publisher does the rest."""

    def __init__(
        self, publisher: Publisher, chat_id: UUID, worker_id: UUID, epoch: int, *, on_fenced: Callable[[], None]
    ) -> None:
        self.chat_id = chat_id
        self.epoch = epoch
        self.state = State.NEW
        self.trim = False
        self.unsent: list[Frame] = []
        self.memory: list[Frame] = []
        self.settled = trio.Event()
        """Set once the tenure is open in the stream, or known to be fenced."""
        self._worker_id = str(worker_id)
        self._publisher = publisher
        self._on_fenced = on_fenced
        self._next_seq = 0
        self._attempt = 0
        self._held: list[Part] = []
        self._quiet_until = -1.0

    def __repr__(self) -> str:
        return f"<TenureStream {self.epoch}-{self._next_seq} {self.state.name} unsent={len(self.unsent)}>"

    def open(self, history_version: int, *, trim: bool) -> None:
        """Announce the tenure. ``trim``: nothing before it is needed any more."""
        self.trim = trim
        self._add(OpenFrame(self._worker_id, history_version))

    def attempt(self, number: int, history_version: int, snapshot_version: int) -> None:
        self.flush()
        self._attempt = number
        self.memory = self.memory[:1]
        self._add(AttemptFrame(number, history_version, snapshot_version))

    def part(self, part: Part) -> None:
        """A delta of the current attempt; text and reasoning may be held back to be coalesced."""
        now = trio.current_time()
        mergeable = isinstance(part, TextPart | ReasoningPart)
        if self._held and (not mergeable or type(self._held[0]) is not type(part)):
            self.flush()
        if mergeable and (self._held or now < self._quiet_until):
            self._held.append(part)
            if len(self._held) == 1:
                self._publisher.flush_at(self._quiet_until, self)
            return
        self._quiet_until = now + self._publisher.coalesce_seconds
        self._add_part(part)

    def flush(self) -> Position:
        """Turn what is held back into a frame now; the position of the last frame."""
        if self._held:
            held, self._held = self._held, []
            self._quiet_until = trio.current_time() + self._publisher.coalesce_seconds
            self._add_part(_merged(held))
        return Position(self.epoch, self._next_seq - 1)

    def committed(self, history_version: int) -> None:
        """What came before is history now, and need not be kept for the readers' sake."""
        self._forget()
        self._add(CommittedFrame(history_version))

    def turn(self, message_id: int, history_version: int) -> None:
        self._add(TurnFrame(message_id, history_version))

    def close(self, outcome: str) -> None:
        """The tenure's last frame. The publisher lets go of the stream when it is sent."""
        self.flush()
        self._forget()  # what the tenure achieved is committed
        self._add(CloseFrame(outcome))
        self._publisher.closing(self)

    def fenced(self) -> None:
        self.state = State.FENCED
        self.unsent.clear()
        self.memory.clear()
        self.settled.set()
        self._on_fenced()

    def _forget(self) -> None:
        """Keep the first frame alone; all of them where the stream is about to be opened and will get them."""
        if self.state is not State.NEW or self._publisher.cut_off:
            self.memory = self.memory[:1]

    def _add_part(self, part: Part) -> None:
        """In several frames, if the text is long."""
        if isinstance(part, TextPart | ReasoningPart):
            for start in range(0, len(part.text), FRAME_CHARACTERS_MAX):
                text = part.text[start : start + FRAME_CHARACTERS_MAX]
                self._add(PartFrame(self._attempt, type(part)(text)))
        else:
            self._add(PartFrame(self._attempt, part))

    def _add(self, body: FrameBody) -> None:
        if not isinstance(body, PartFrame):
            self.flush()
        if self.state is State.FENCED:
            return
        added = frame(Position(self.epoch, self._next_seq), body)
        self._next_seq += 1
        self.memory.append(added)
        if self.state is State.LIVE:
            self.unsent.append(added)
        self._publisher.pending(self)


def _merged(held: list[Part]) -> Part:
    """Neighbouring deltas of one kind as one."""
    if isinstance(held[0], ReasoningPart):
        return ReasoningPart("".join(part.text for part in held if isinstance(part, ReasoningPart)))
    return TextPart("".join(part.text for part in held if isinstance(part, TextPart)))


class Publisher:
    """One per replica. Holds the streams that have something to send, and the task that sends it."""

    def __init__(self, streams: PartStreams, *, coalesce_seconds: float) -> None:
        self.coalesce_seconds = coalesce_seconds
        self._streams = streams
        self._pending: dict[TenureStream, None] = {}
        self._closing: dict[TenureStream, None] = {}
        self._open: dict[TenureStream, None] = {}
        """Those that Redis has, and that are not closed."""
        self._timers: list[tuple[float, int, TenureStream]] = []
        self._timer_count = 0
        self._pause = trio.CancelScope()
        self._wake = trio.Event()
        self._cycle = trio.Event()
        """Set, and made anew, whenever a round of sending is over."""
        self._failures = 0

    def __repr__(self) -> str:
        return f"<Publisher pending={len(self._pending)} failures={self._failures}>"

    def stream(self, chat_id: UUID, worker_id: UUID, epoch: int, *, on_fenced: Callable[[], None]) -> TenureStream:
        """The stream of a new tenure; ``on_fenced`` is called when a newer one is found in its place."""
        return TenureStream(self, chat_id, worker_id, epoch, on_fenced=on_fenced)

    @property
    def cut_off(self) -> bool:
        """Whether the server could not be reached when last tried."""
        return self._failures > 0

    def pending(self, stream: TenureStream) -> None:
        self._pending[stream] = None
        self._wake.set()

    def flush_at(self, deadline: float, stream: TenureStream) -> None:
        self._timer_count += 1
        heapq.heappush(self._timers, (deadline, self._timer_count, stream))
        self._pause.deadline = min(self._pause.deadline, deadline)

    def closing(self, stream: TenureStream) -> None:
        self._closing[stream] = None
        while len(self._closing) > CLOSING_MAX:
            self.abandon(next(iter(self._closing)))

    def abandon(self, stream: TenureStream) -> None:
        """Forget a stream whose tenure ended without a word: nothing of it is sent any more."""
        self._pending.pop(stream, None)
        self._closing.pop(stream, None)
        self._open.pop(stream, None)
        stream.state = State.FENCED
        stream.unsent.clear()
        stream.memory.clear()

    def regained(self) -> None:
        """Redis was away, and may have come back with less than it had: append again what it lacks."""
        for stream in self._open:
            if stream.state is State.LIVE:
                self._break(stream)
                self.pending(stream)

    async def run(self) -> None:
        """Send what is pending, for ever."""
        while True:
            with trio.CancelScope(deadline=self._timers[0][0] if self._timers else float("inf")) as self._pause:
                await self._wake.wait()
            self._wake = trio.Event()
            self._flush_due()
            try:
                await self._send_pending()
                self._failures = 0
            except StreamsUnavailable as error:
                await self._back_off(error)
            self._cycle.set()
            self._cycle = trio.Event()

    async def drained(self, timeout_seconds: float) -> None:
        """Wait until nothing is pending, but no longer than ``timeout_seconds``."""
        with trio.move_on_after(timeout_seconds):
            while self._pending:
                await self._cycle.wait()

    def _flush_due(self) -> None:
        now = trio.current_time()
        while self._timers and self._timers[0][0] <= now:
            heapq.heappop(self._timers)[2].flush()

    async def _send_pending(self) -> None:
        """What older tenures have left goes first: after a successor of theirs has opened it would be refused."""
        await self._append_unsent()
        failures = await self._make_all_live()
        await self._append_unsent()
        if failures:
            raise failures[0]
        for stream in list(self._pending):
            if not stream.unsent and stream.state in (State.LIVE, State.FENCED):
                self._let_go(stream)
        if self._pending:
            self._wake.set()

    async def _make_all_live(self) -> list[StreamsUnavailable]:
        """Tenures of one chat one after the other, chats together: after a takeover there are many at once."""
        chats: dict[UUID, list[TenureStream]] = {}
        for stream in self._pending:
            if stream.state in (State.NEW, State.BROKEN):
                chats.setdefault(stream.chat_id, []).append(stream)
        failures: list[StreamsUnavailable] = []
        waiting = list(chats.values())
        while waiting:
            failed = await self._make_live([streams[0] for streams in waiting])
            failures += failed.values()
            waiting = [streams[1:] for streams in waiting if streams[1:] and streams[0] not in failed]
        return failures

    async def _make_live(self, streams: list[TenureStream]) -> dict[TenureStream, StreamsUnavailable]:
        """Streams of as many chats. Returns those that are not live now, and why."""
        failed: dict[TenureStream, StreamsUnavailable] = {}
        async with trio.open_nursery() as nursery:
            for start in range(0, len(streams), OPEN_MAX):
                nursery.start_soon(self._open_all, streams[start : start + OPEN_MAX], failed)
            for stream in streams:
                if stream.state is State.BROKEN:
                    nursery.start_soon(self._restore, stream, failed)
        return failed

    async def _append_unsent(self) -> None:
        unsent = ((stream, added) for stream in self._pending if stream.state is State.LIVE for added in stream.unsent)
        entries, size = [], 0
        for stream, added in islice(unsent, APPEND_FRAMES_MAX):
            entries.append((stream, added))
            size += len(added.data)
            if size >= APPEND_BYTES_MAX:
                break
        if entries:
            await self._append(entries)

    def _let_go(self, stream: TenureStream) -> None:
        del self._pending[stream]
        if stream in self._closing:
            del self._closing[stream]
            self._open.pop(stream, None)
            stream.memory.clear()

    async def _open_all(self, streams: list[TenureStream], failed: dict[TenureStream, StreamsUnavailable]) -> None:
        """The first frames of tenures, each atomically with its publication; see ``PartStreams.open``."""
        new = [stream for stream in streams if stream.state is State.NEW]
        if not new:
            return
        try:
            outcomes = await self._streams.open_all(
                [Opening(stream.chat_id, stream.memory[0], stream.trim) for stream in new]
            )
        except StreamsUnavailable as error:
            failed.update(dict.fromkeys(new, error))
            return
        for stream, outcome in zip(new, outcomes, strict=True):
            if outcome is None:
                self._go_live(stream, Position(stream.epoch, 0))
            elif isinstance(outcome, Fenced):
                stream.fenced()
            else:
                failed[stream] = outcome

    async def _restore(self, stream: TenureStream, failed: dict[TenureStream, StreamsUnavailable]) -> None:
        if stream.state is not State.BROKEN:
            return  # abandoned meanwhile
        frames = list(stream.memory)
        try:
            await self._streams.restore(stream.chat_id, frames)
        except Fenced:
            stream.fenced()
            return
        except StreamsUnavailable as error:
            failed[stream] = error
            return
        self._go_live(stream, frames[-1].position)
        telemetry.event("stream.restored", chat_id=str(stream.chat_id), epoch=stream.epoch, frames=len(frames))

    def _go_live(self, stream: TenureStream, sent: Position) -> None:
        """The stream has everything up to ``sent``; what was added meanwhile is appended."""
        if stream.state is State.FENCED:
            return  # abandoned meanwhile
        stream.unsent = [added for added in stream.memory if added.position > sent]
        stream.state = State.LIVE
        self._open[stream] = None
        stream.settled.set()

    async def _append(self, entries: list[tuple[TenureStream, Frame]]) -> None:
        results = await self._streams.append([(stream.chat_id, added) for stream, added in entries])
        sent: dict[TenureStream, int] = {}
        for (stream, _), result in zip(entries, results, strict=True):
            if stream.state is not State.LIVE:
                continue
            if result is Appended.ADDED:
                sent[stream] = sent.get(stream, 0) + 1
            else:
                self._break(stream)
        for stream, count in sent.items():
            if stream.state is State.LIVE:
                del stream.unsent[:count]

    def _break(self, stream: TenureStream) -> None:
        stream.state = State.BROKEN
        stream.unsent.clear()

    async def _back_off(self, error: StreamsUnavailable) -> None:
        """The server cannot be reached, or the outcome of an append is unknown: restore when it is back."""
        for stream in self._pending:
            if stream.state is State.LIVE:
                self._break(stream)
        if self._failures == 0:
            telemetry.event("streams.unavailable", error=str(error))
        delay = min(RECONNECT_SECONDS * 2**self._failures, RECONNECT_CAP_SECONDS)
        self._failures = min(self._failures + 1, 10)
        await trio.sleep(delay)
        self._wake.set()
