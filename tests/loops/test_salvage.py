"""What a dead tenure had said: its last attempt's words, and only if they are part of this history (P5)."""

from __future__ import annotations

import msgspec
import pytest

from chatcluster.attempt import Said
from chatcluster.chat import Retry
from chatcluster.errors import StreamsUnavailable
from chatcluster.memory import MemoryBroker, MemoryStreams
from chatcluster.parts import (
    AttemptFrame,
    CommittedFrame,
    FrameBody,
    OpenFrame,
    PartFrame,
    Position,
    ReasoningPart,
    ResumedFrame,
    TextPart,
    TurnFrame,
    frame,
)
from chatcluster.ports import Chat
from chatcluster.salvage import Half, last_attempt
from loops.cluster_world import World

OPEN = OpenFrame("somebody", 1)
RETRY = Retry(1, 1000, "busy", "overloaded")
NOTHING = Said()


def attempt(number: int, history_version: int) -> AttemptFrame:
    return AttemptFrame(number, history_version, history_version)


def said(words: str) -> PartFrame:
    return PartFrame(1, TextPart(words))


class Past:
    """A chat in its third tenure, at history version 7, and the stream that the first two left."""

    def __init__(self, chat: Chat) -> None:
        self.chat = chat
        self.broker = MemoryBroker()
        self.streams = MemoryStreams(self.broker)

    async def tenure(self, epoch: int, *bodies: FrameBody) -> None:
        frames = [frame(Position(epoch, seq), body) for seq, body in enumerate((OPEN, *bodies))]
        await self.streams.open(self.chat.id, frames[0], trim=False)
        await self.streams.append([(self.chat.id, entry) for entry in frames[1:]])

    async def salvaged(self) -> Said:
        return (await self.half()).said

    async def half(self) -> Half:
        return await last_attempt(self.streams, self.chat)


@pytest.fixture
async def past(world: World) -> Past:
    nobody = await world.replica(slots=0)
    chat = await nobody.create()
    view = world.database.view(chat.row)
    return Past(msgspec.structs.replace(view, epoch=3, history_version=7))


async def test_the_last_attempts_deltas_and_the_position_of_the_last_of_them(past: Past) -> None:
    await past.tenure(2, attempt(1, 7), said("Half"), PartFrame(1, ReasoningPart("hm")), said(" an"))
    salvaged = await past.salvaged()
    assert salvaged.deltas == (TextPart("Half"), ReasoningPart("hm"), TextPart(" an"))
    assert salvaged.position == (2, 4)


async def test_an_attempt_that_was_tried_again_is_not_it(past: Past) -> None:
    await past.tenure(2, attempt(1, 7), said("first"), attempt(2, 7), said("second"))
    assert (await past.salvaged()).deltas == (TextPart("second"),)


async def test_an_attempt_without_words_leaves_nothing_of_the_one_before(past: Past) -> None:
    await past.tenure(2, attempt(1, 7), said("first"), attempt(2, 7))
    assert await past.salvaged() == NOTHING


async def test_the_last_of_several_dead_tenures_counts(past: Past) -> None:
    await past.tenure(1, attempt(1, 7), said("first"))
    await past.tenure(2, attempt(2, 7), said("second"))
    assert (await past.salvaged()).deltas == (TextPart("second"),)


async def test_a_tenure_that_died_before_it_said_anything_leaves_the_one_before(past: Past) -> None:
    """It took over an interruption, and died while it finished it."""
    await past.tenure(1, attempt(1, 7), said("Half an"))
    await past.tenure(2)
    salvaged = await past.salvaged()
    assert salvaged.deltas == (TextPart("Half an"),)
    assert salvaged.position == (1, 2)


async def test_words_that_answer_another_history_are_not_it(past: Past) -> None:
    await past.tenure(2, attempt(1, 5), said("to an edited message"))
    assert await past.salvaged() == NOTHING


async def test_words_that_were_committed_are_not_it(past: Past) -> None:
    await past.tenure(2, attempt(1, 5), said("committed"), CommittedFrame(7), TurnFrame(9, 7))
    assert await past.salvaged() == NOTHING


async def test_a_scheduled_retry_means_that_the_last_attempt_failed(past: Past) -> None:
    await past.tenure(2, attempt(1, 7), said("failed"))
    past.chat = msgspec.structs.replace(past.chat, retry=RETRY)
    assert await past.salvaged() == NOTHING


async def test_an_attempt_that_failed_is_not_it_where_the_next_one_had_no_time_to_begin(past: Past) -> None:
    """Its readers were told that it is tried again."""
    await past.tenure(2, attempt(1, 7), said("failed"))
    past.chat = msgspec.structs.replace(past.chat, attempt=2, failed=1)
    assert await past.salvaged() == NOTHING


async def test_what_comes_after_a_hole_is_not_it(past: Past) -> None:
    """Redis lost frames: joined, the rest would be what nobody has said (P3)."""
    await past.tenure(2, attempt(1, 7), said("Half"), said(" an"))
    past.broker.lose_newest(1)
    await past.streams.append([(past.chat.id, frame(Position(2, 4), said(" answer")))])
    salvaged = await past.salvaged()
    assert salvaged.deltas == (TextPart("Half"),)
    assert salvaged.position == (2, 2)


async def test_words_whose_attempt_was_lost_belong_to_none(past: Past) -> None:
    await past.tenure(1, attempt(1, 7), said("first"))
    await past.tenure(2, attempt(1, 7))
    past.broker.lose_newest(1)
    await past.streams.append([(past.chat.id, frame(Position(2, 2), said(" of another")))])
    assert (await past.salvaged()).deltas == (TextPart("first"),)


async def test_what_the_present_tenure_says_is_not_it(past: Past) -> None:
    await past.tenure(2, attempt(1, 7), said("dead"))
    await past.tenure(3, attempt(2, 7), said("alive"))
    assert (await past.salvaged()).deltas == (TextPart("dead"),)


async def test_a_stream_that_is_gone_has_nothing(past: Past) -> None:
    assert await past.salvaged() == NOTHING


async def test_a_long_attempt_is_read_in_pages(past: Past) -> None:
    await past.tenure(2, attempt(1, 7), *(said(f"{number} ") for number in range(1200)))
    salvaged = await past.salvaged()
    assert len(salvaged.deltas) == 1200
    assert salvaged.position == (2, 1201)


async def test_a_stream_that_cannot_be_read_is_said_to_be_so(past: Past) -> None:
    broker = MemoryBroker()
    broker.disconnect()
    with pytest.raises(StreamsUnavailable):
        await last_attempt(MemoryStreams(broker), past.chat)


def resumed(number: int, after: str) -> ResumedFrame:
    return ResumedFrame(number, 7, 7, "attached", after)


async def test_an_attempt_that_went_on_in_another_tenure_is_one(past: Past) -> None:
    await past.tenure(1, attempt(1, 7), said("Half"))
    await past.tenure(2, resumed(2, "1-2"), PartFrame(2, TextPart(" an"), 17))
    half = await past.half()
    assert half.said.deltas == (TextPart("Half"), TextPart(" an"))
    assert half.said.position == half.last == (2, 2)
    assert half.attempts == {1, 2}
    assert half.sequence == 17


async def test_a_tenure_that_died_before_it_said_more_leaves_what_there_was(past: Past) -> None:
    await past.tenure(1, attempt(1, 7), PartFrame(1, TextPart("Half"), 3))
    await past.tenure(2, resumed(2, "1-2"))
    half = await past.half()
    assert (half.said.deltas, half.said.position, half.sequence) == ((TextPart("Half"),), (1, 2), 3)
    assert half.last == (2, 1), "what goes on now does so behind that"


async def test_what_goes_on_behind_what_no_reader_has_is_not_it(past: Past) -> None:
    """Redis lost the end of the first tenure after the second had read it."""
    await past.tenure(1, attempt(1, 7), said("Half"))
    await past.tenure(2, resumed(2, "1-9"), said(" answer"))
    half = await past.half()
    assert half.said.deltas == (TextPart("Half"),)
    assert half.last == (1, 2)
