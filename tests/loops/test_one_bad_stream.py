"""A stream that Redis refuses to work on, alone, does not hold up the others of its replica."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from uuid import UUID

import trio
import trio.testing

from chatcluster.errors import Fenced, StreamRefused, StreamsUnavailable
from chatcluster.memory import MemoryBroker, MemoryStreams
from chatcluster.parts import START, Frame, FrameKind, TextPart
from chatcluster.ports import Appended, Opening
from chatcluster.publisher import Publisher
from chatcluster.tenure_stream import REFUSED_CAP_SECONDS

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


class OneRefusedKey(MemoryStreams):
    """As when Redis answers with an error that concerns one key, and nobody knows which."""

    def __init__(self, broker: MemoryBroker) -> None:
        super().__init__(broker)
        self.tries: list[float] = []

    async def open_all(self, openings: Sequence[Opening]) -> list[Fenced | StreamsUnavailable | None]:
        good = [opening for opening in openings if opening.chat_id != BAD]
        outcomes = iter(await super().open_all(good))
        return [next(outcomes) if opening.chat_id != BAD else self._refused() for opening in openings]

    def _refused(self) -> StreamRefused:
        self.tries.append(trio.current_time())
        return StreamRefused("Redis: UNHEARDOF")


async def test_a_stream_that_redis_refuses_is_tried_more_and_more_seldom_and_delays_no_other(
    nursery: trio.Nursery,
) -> None:
    """P10"""
    streams = OneRefusedKey(MemoryBroker())
    publisher = Publisher(streams, coalesce_seconds=0)
    nursery.start_soon(publisher.run)
    bad, good = (publisher.stream(chat_id, WORKER, 1, on_fenced=lambda: None) for chat_id in (BAD, GOOD))
    for stream in (bad, good):
        stream.open(1, trim=True)
    for number in range(60):
        bad.part(TextPart(f"{number} "))
        good.part(TextPart(f"{number} "))
        await trio.testing.wait_all_tasks_blocked()
        newest = (await streams.read(GOOD, after=START, limit=100))[-1]
        assert newest.position == (1, number + 1), "at once"
        await trio.sleep(1)
    waits = [later - earlier for earlier, later in pairwise(streams.tries)]
    assert len(waits) < 12
    assert waits == sorted(waits)
    assert waits[-1] == REFUSED_CAP_SECONDS
    assert not publisher.cut_off
