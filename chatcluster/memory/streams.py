"""``PartStreams`` on a ``MemoryBroker``.

As with Redis, a frame is published whether it was added or not: readers drop what is not above the last position
that they have seen. A stale owner's is published after the ``open`` that it was refused for.
"""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import trio

from chatcluster.errors import Fenced, StreamFenced, StreamsUnavailable
from chatcluster.memory.broker import MemoryBroker, StreamRow
from chatcluster.memory.link import Link
from chatcluster.parts import Frame, FrameKind, Position, pack_frame, understood
from chatcluster.ports import Appended, Opening, live_channel, same_tenure

EXPIRY_SECONDS = 600
"""After its turn has ended a stream can be read for this long."""


class MemoryStreams:
    def __init__(self, broker: MemoryBroker, link: Link | None = None) -> None:
        self._broker = broker
        self._link = link or Link()

    async def open(self, chat_id: UUID, frame: Frame, *, trim: bool) -> None:
        async with self._link.crossing("open"):
            self._broker.require_connection()
            row = self._broker.create_stream(chat_id)
            _refuse_others(row, [frame])
            row.expires_at = None
            if row.last < frame.position:
                if trim:
                    row.frames.clear()
                _add(row, frame, self._broker.clock())
                self._publish(chat_id, frame)

    async def open_all(self, openings: Sequence[Opening]) -> list[Fenced | StreamsUnavailable | None]:
        outcomes: list[Fenced | StreamsUnavailable | None] = [None] * len(openings)

        async def open_one(index: int, opening: Opening) -> None:
            try:
                await self.open(opening.chat_id, opening.frame, trim=opening.trim)
            except (Fenced, StreamsUnavailable) as error:
                outcomes[index] = error

        async with trio.open_nursery() as nursery:
            for index, opening in enumerate(openings):
                nursery.start_soon(open_one, index, opening)
        return outcomes

    async def append(self, entries: Sequence[tuple[UUID, Frame]]) -> list[Appended]:
        async with self._link.crossing("append"):
            self._broker.require_connection()
            verdicts = []
            for chat_id, frame in entries:
                verdicts.append(self._append(chat_id, frame))
                self._publish(chat_id, frame)
            return verdicts

    async def restore(self, chat_id: UUID, frames: Sequence[Frame]) -> None:
        async with self._link.crossing("restore"):
            self._broker.require_connection()
            if not frames:
                return
            row = self._broker.create_stream(chat_id)
            _refuse_others(row, frames)
            for frame in frames:
                if row.last < frame.position:
                    _add(row, frame, self._broker.clock())
                    self._publish(chat_id, frame)

    async def drop(self, chat_id: UUID) -> None:
        async with self._link.crossing("drop"):
            self._broker.require_connection()
            self._broker.drop_stream(chat_id)

    async def read(self, chat_id: UUID, *, after: Position, limit: int) -> list[Frame]:
        async with self._link.crossing("read"):
            self._broker.require_connection()
            row = self._broker.stream(chat_id)
            later = [frame for frame in row.frames if frame.position > after] if row is not None else []
            return [understood(frame) for frame in later[:limit]]

    def _append(self, chat_id: UUID, frame: Frame) -> Appended:
        row = self._broker.stream(chat_id)
        if row is None:
            return Appended.MISSING
        if frame.position <= row.last:
            return Appended.REFUSED
        _add(row, frame, self._broker.clock())
        return Appended.ADDED

    def _publish(self, chat_id: UUID, frame: Frame) -> None:
        self._broker.publish(live_channel(chat_id), pack_frame(frame))


def _add(row: StreamRow, frame: Frame, now: float) -> None:
    if frame.kind is FrameKind.TURN:
        row.frames.clear()
    if frame.kind is FrameKind.CLOSE:
        row.expires_at = now + EXPIRY_SECONDS
    row.frames.append(frame)
    row.last = frame.position


def _refuse_others(row: StreamRow, frames: Sequence[Frame]) -> None:
    """Raise ``StreamFenced`` if there is anything that ``frames``, of one tenure, may not follow."""
    epoch = frames[0].position.epoch
    if row.last.epoch == epoch and row.frames:
        first = next(frame for frame in row.frames if frame.position.epoch == epoch)
        if same_tenure(understood(row.frames[-1]), frames, understood(first)):
            return
    if row.last.epoch >= epoch:
        raise StreamFenced(f"the stream has {row.last} of another tenure", epoch=row.last.epoch)
