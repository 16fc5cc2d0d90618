"""A stream that Redis refuses to work on, alone, does not hold up the others of its replica."""

from __future__ import annotations

from collections.abc import Sequence
from uuid import UUID

import trio

from chatcluster.errors import StreamsUnavailable
from chatcluster.memory import MemoryBroker, MemoryStreams
from chatcluster.parts import START, Frame, FrameKind, TextPart
from chatcluster.ports import Appended
from chatcluster.publisher import Publisher

BAD, GOOD, WORKER = UUID(int=1), UUID(int=2), UUID(int=3)


class OneBadKey(MemoryStreams):
    """As when something else is stored under the key of one stream."""

    async def open(self, chat_id: UUID, frame: Frame, *, trim: bool) -> None:
        _refuse(chat_id)
        await super().open(chat_id, frame, trim=trim)

    async def append(self, entries: Sequence[tuple[UUID, Frame]]) -> list[Appended]:
        for chat_id, _ in entries:
            _refuse(chat_id)
        return await super().append(entries)

    async def restore(self, chat_id: UUID, frames: Sequence[Frame]) -> None:
        _refuse(chat_id)
        await super().restore(chat_id, frames)


def _refuse(chat_id: UUID) -> None:
    if chat_id == BAD:
        raise StreamsUnavailable("WRONGTYPE Operation against a key holding the wrong kind of value")


async def test_others_are_published_while_one_stream_is_refused(nursery: trio.Nursery) -> None:
    streams = OneBadKey(MemoryBroker())
    publisher = Publisher(streams, coalesce_seconds=0)
    nursery.start_soon(publisher.run)
    bad, good = (publisher.stream(chat_id, WORKER, 1, on_fenced=lambda: None) for chat_id in (BAD, GOOD))
    for stream in (bad, good):
        stream.open(1, trim=True)
        stream.attempt(1, 1, 1)
        stream.part(TextPart("Once"))
    await trio.sleep(2)
    good.part(TextPart(" upon"))
    await trio.sleep(2)
    frames = await streams.read(GOOD, after=START, limit=10)
    assert [frame.kind for frame in frames] == [FrameKind.OPEN, FrameKind.ATTEMPT, FrameKind.PART, FrameKind.PART]
