"""The publishing side of the part streams: from a runner's hands to Redis, without the runner waiting.

A ``TenureStream`` numbers and encodes the frames of one tenure. One task per replica (``Publisher.run``)
drains what all of them have pending in one ``append``, so the cost per frame falls as load rises.

States of a tenure's stream, as this side sees it:

``NEW``     its ``open`` frame is not in the stream yet: what follows is kept in memory alone
``LIVE``    frames are appended as they come
``BROKEN``  an append failed, was refused, or the stream is gone, or the server was away and may have lost a part
            of it: what the stream lacks is appended again from memory, as soon as the server can be reached
``FENCED``  nothing is published any more: the tenure ended without a word (``abandon``), or the stream has frames of
            another tenure where ours would go. In the second case the runner is told to look into the database, which
            alone decides who owns the chat. If that is still this tenure, what is in the stream is garbage, or of a
            tenure that Postgres has forgotten, and the runner overrules it: the tenure goes on under an epoch above all
            that, with the frames in memory renumbered (``overrule``)

What concerns one stream holds up no other: one that Redis refuses to work on (``StreamRefused``) is left for a while,
and the rest is sent. Only a server that cannot be reached, or that refuses everything, is waited for by all.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable
from itertools import islice
from uuid import UUID

import trio

from chatcluster import telemetry
from chatcluster.backoff import Backoff
from chatcluster.errors import Fenced, StreamFenced, StreamRefused, StreamsMisconfigured, StreamsUnavailable
from chatcluster.parts import Frame, Position
from chatcluster.ports import Appended, Opening, PartStreams
from chatcluster.tenure_stream import State, TenureStream

APPEND_FRAMES_MAX = 1000
APPEND_BYTES_MAX = 1 << 20
OPEN_MAX = 100
CLOSING_MAX = 10_000
"""Ended tenures whose last frames wait for Redis to come back; beyond, the oldest are forgotten."""
RECONNECT_SECONDS = 0.1
RECONNECT_CAP_SECONDS = 0.5
MISCONFIGURED_CAP_SECONDS = 10.0
"""Between tries on a server that will refuse the same until somebody changes something."""


class Publisher:
    """One per replica. Holds the streams that have something to send, and the task that sends it."""

    def __init__(self, streams: PartStreams, *, coalesce_seconds: float) -> None:
        self.coalesce_seconds = coalesce_seconds
        self._streams = streams
        self._pending: dict[TenureStream, None] = {}
        self._closing: dict[TenureStream, None] = {}
        self._open: dict[TenureStream, None] = {}
        """The streams that are open in Redis: begun there, and not closed."""
        self._timers: list[tuple[float, int, TenureStream]] = []
        self._timer_count = 0
        self._pause = trio.CancelScope()
        self._wake = trio.Event()
        self._cycle = trio.Event()
        """Set, and made anew, whenever a round of sending is over."""
        self._backoff = Backoff(RECONNECT_SECONDS, RECONNECT_CAP_SECONDS)

    def __repr__(self) -> str:
        return f"<Publisher pending={len(self._pending)} cut_off={self.cut_off}>"

    def stream(self, chat_id: UUID, worker_id: UUID, epoch: int, *, on_fenced: Callable[[], None]) -> TenureStream:
        """The stream of a new tenure; ``on_fenced`` is called when a newer one is found in its place."""
        return TenureStream(self, chat_id, worker_id, epoch, on_fenced=on_fenced)

    @property
    def cut_off(self) -> bool:
        """Whether the server could not be reached when last tried."""
        return self._backoff.has_begun

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
        stream.given_up()

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
                self._backoff.reset()
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
            stream = heapq.heappop(self._timers)[2]
            stream.flush()
            if stream.refusals.count:
                self._pending[stream] = None

    async def _send_pending(self) -> None:
        """What older tenures have left goes first: after a successor of theirs has opened it would be refused."""
        await self._append_unsent()
        failures = await self._make_all_live()
        await self._append_unsent()
        for failure in failures:
            if not isinstance(failure, StreamRefused):
                raise failure
        for stream in list(self._pending):
            if not stream.unsent and stream.state in (State.LIVE, State.FENCED):
                self._let_go(stream)
            elif stream.refusals.left_alone_until > trio.current_time():
                del self._pending[stream]  # its timer brings it back
        if self._pending:
            self._wake.set()

    async def _make_all_live(self) -> list[StreamsUnavailable]:
        """Tenures of one chat one after the other, chats together: after a takeover there are many at once."""
        now = trio.current_time()
        chats: dict[UUID, list[TenureStream]] = {}
        for stream in self._pending:
            if stream.state in (State.NEW, State.BROKEN) and stream.refusals.left_alone_until <= now:
                chats.setdefault(stream.chat_id, []).append(stream)
        failures: list[StreamsUnavailable] = []
        waiting = list(chats.values())
        while waiting:
            failed = await self._make_live([streams[0] for streams in waiting])
            failures += failed.values()
            for stream, failure in failed.items():
                if isinstance(failure, StreamRefused):
                    self._leave_alone(stream, failure)
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

    def _leave_alone(self, stream: TenureStream, refusal: StreamRefused) -> None:
        """Redis refuses to work on this stream: try again later, and go on with the others."""
        if stream.refusals.count == 0:
            telemetry.event("stream.refused", chat_id=str(stream.chat_id), error=str(refusal))
        self.flush_at(stream.refusals.refused(trio.current_time()), stream)

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
                self._fenced(stream, outcome)
            else:
                failed[stream] = outcome

    async def _restore(self, stream: TenureStream, failed: dict[TenureStream, StreamsUnavailable]) -> None:
        if stream.state is not State.BROKEN:
            return  # abandoned meanwhile
        frames = list(stream.memory)
        try:
            await self._streams.restore(stream.chat_id, frames)
        except Fenced as fenced:
            self._fenced(stream, fenced)
            return
        except StreamsUnavailable as error:
            failed[stream] = error
            return
        self._go_live(stream, frames[-1].position)
        telemetry.event("stream.restored", chat_id=str(stream.chat_id), epoch=stream.epoch, frames=len(frames))

    def _fenced(self, stream: TenureStream, fenced: Fenced) -> None:
        if stream.state is not State.FENCED:  # nor abandoned meanwhile
            stream.fenced(fenced.epoch if isinstance(fenced, StreamFenced) else stream.epoch)

    def _go_live(self, stream: TenureStream, sent: Position) -> None:
        """The stream has everything up to ``sent``; what was added meanwhile is appended."""
        if stream.state is State.FENCED:
            return  # abandoned meanwhile
        stream.unsent = [added for added in stream.memory if added.position > sent]
        stream.state = State.LIVE
        stream.refusals.count = 0
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
        if not self._backoff.has_begun:
            telemetry.event("streams.unavailable", error=str(error))
        for_good = isinstance(error, StreamsMisconfigured)
        self._backoff.cap_seconds = MISCONFIGURED_CAP_SECONDS if for_good else RECONNECT_CAP_SECONDS
        await trio.sleep(self._backoff.next_seconds())
        self._wake.set()
