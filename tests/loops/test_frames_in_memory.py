"""What a tenure keeps in memory of its frames is bounded, for as long as Redis is away (P8)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import ClassVar
from uuid import UUID

import pytest
import trio

from chatcluster.errors import StreamsUnavailable
from chatcluster.memory import MemoryBroker, MemoryStreams
from chatcluster.parts import START, Frame, FrameKind, PartFrame, ReasoningPart, TextPart, decode_frame, joined
from chatcluster.ports import Appended
from chatcluster.publisher import APPEND_BYTES_MAX, Publisher
from chatcluster.tenure_stream import FRAME_CHARACTERS_MAX, TenureStream
from loops.cluster_world import Wire

CHAT, WORKER = UUID(int=1), UUID(int=2)
STEPS = 20
STEP_FRAMES_MAX = 5


def step(stream: TenureStream, history_version: int) -> None:
    """One step's frames; then it is committed."""
    stream.attempt(1, history_version, history_version)
    stream.part(TextPart(f"answer {history_version}"))
    stream.committed(history_version + 1)


def kept(stream: TenureStream) -> int:
    return len({id(frame) for frame in (*stream.memory, *stream.unsent)})


@pytest.mark.parametrize("redis_is_lost", ["before the tenure opens", "after the tenure opened"])
async def test_committed_steps_are_not_kept_while_redis_is_away(redis_is_lost: str, nursery: trio.Nursery) -> None:
    broker, wire = MemoryBroker(), Wire(StreamsUnavailable)
    streams = MemoryStreams(broker, wire)
    publisher = Publisher(streams, coalesce_seconds=0)
    nursery.start_soon(publisher.run)
    stream = publisher.stream(CHAT, WORKER, 1, on_fenced=lambda: None)
    wire.cut = redis_is_lost == "before the tenure opens"
    stream.open(1, trim=True)
    await trio.sleep(1)
    wire.cut = True
    for version in range(1, STEPS):
        step(stream, version)
        await trio.sleep(1)
        assert kept(stream) <= STEP_FRAMES_MAX
    wire.cut = False
    await trio.sleep(1)
    step(stream, STEPS)
    await publisher.drained(1)
    frames = await streams.read(CHAT, after=START, limit=1000)
    assert [frame.kind for frame in frames] == [
        FrameKind.OPEN,
        FrameKind.COMMITTED,
        FrameKind.ATTEMPT,
        FrameKind.PART,
        FrameKind.COMMITTED,
    ]


async def test_failed_attempts_are_not_kept_while_redis_is_away(nursery: trio.Nursery) -> None:
    """A new attempt makes readers drop what the one before said, so nobody needs it any more."""
    wire = Wire(StreamsUnavailable)
    publisher = Publisher(MemoryStreams(MemoryBroker(), wire), coalesce_seconds=0)
    nursery.start_soon(publisher.run)
    wire.cut = True
    stream = publisher.stream(CHAT, WORKER, 1, on_fenced=lambda: None)
    stream.open(1, trim=True)
    for number in range(1, 26):
        stream.attempt(number, 1, number)
        stream.part(TextPart(f"try {number}"))
        await trio.sleep(1)
        assert kept(stream) <= STEP_FRAMES_MAX


async def test_p10_a_long_piece_becomes_frames_of_bounded_size_and_is_sent_in_bounded_batches(
    nursery: trio.Nursery,
) -> None:
    """One chat's words neither fill the connection to Redis that all share, nor what a reader of the stream holds."""

    class Measured(MemoryStreams):
        batches: ClassVar[list[int]] = []

        async def append(self, entries: Sequence[tuple[UUID, Frame]]) -> list[Appended]:
            self.batches.append(sum(len(frame.data) for _, frame in entries))
            return await super().append(entries)

    streams = Measured(MemoryBroker())
    publisher = Publisher(streams, coalesce_seconds=0.015)
    nursery.start_soon(publisher.run)
    stream = publisher.stream(CHAT, WORKER, 1, on_fenced=lambda: None)
    stream.open(1, trim=True)
    stream.attempt(1, 1, 1)
    pieces = ["\U0001f600" * (1 << 20), "a", "b" * (5 << 20)]
    for text in pieces:
        stream.part(TextPart(text))
    stream.part(ReasoningPart("hm"))
    stream.part(ReasoningPart("c" * (2 << 20)))
    stream.part(ReasoningPart("", 70))
    await trio.sleep(1)
    frames = await streams.read(CHAT, after=START, limit=1000)
    assert max(len(frame.data) for frame in frames) < 4 * FRAME_CHARACTERS_MAX + 100
    assert max(streams.batches) < APPEND_BYTES_MAX + 4 * FRAME_CHARACTERS_MAX + 100
    bodies = [decode_frame(frame.data) for frame in frames]
    said = joined(body.part for body in bodies if isinstance(body, PartFrame))
    assert said == (TextPart("".join(pieces)), ReasoningPart(f"hm{'c' * (2 << 20)}", 70))
