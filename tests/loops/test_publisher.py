"""The publisher: frames from a runner's hands to the stream, joined, in order and once, whatever Redis does."""

from __future__ import annotations

from collections.abc import AsyncIterator
from random import Random
from uuid import UUID

import pytest
import trio
import trio.testing

from chatcluster import publisher as publisher_module
from chatcluster.errors import StreamsUnavailable
from chatcluster.memory import MemoryBroker, MemoryStreams
from chatcluster.parts import (
    START,
    Frame,
    FrameKind,
    OpenFrame,
    PartFrame,
    Position,
    ReasoningPart,
    TextPart,
    ToolCallPart,
    decode_frame,
    frame,
    unpack_frame,
)
from chatcluster.publisher import Publisher
from chatcluster.tenure_stream import TenureStream
from loops.cluster_world import Wire

CHAT = UUID(int=1)
WORKER = UUID(int=2)
COALESCE_SECONDS = 0.015


class Desk:
    """A publisher that runs, its wire to Redis, and what has arrived there."""

    def __init__(self) -> None:
        self.broker = MemoryBroker()
        self.wire = Wire(StreamsUnavailable)
        self.publisher = Publisher(MemoryStreams(self.broker, self.wire), coalesce_seconds=COALESCE_SECONDS)
        self.fenced: list[int] = []
        """Epochs of the tenures that were told that they are over."""

    def tenure(self, epoch: int = 1, chat_id: UUID = CHAT) -> TenureStream:
        """A tenure that has announced itself."""
        stream = self.publisher.stream(chat_id, WORKER, epoch, on_fenced=lambda: self.fenced.append(epoch))
        stream.open(1, trim=True)
        return stream

    async def answering(self, epoch: int = 1) -> TenureStream:
        """A tenure whose first attempt has begun, on the stream."""
        stream = self.tenure(epoch)
        stream.attempt(1, 1, 2)
        await settled()
        assert stream.state.name == "LIVE"
        return stream

    async def arrived(self, chat_id: UUID = CHAT) -> list[Frame]:
        return await MemoryStreams(self.broker).read(chat_id, after=START, limit=10_000)

    async def story(self, chat_id: UUID = CHAT) -> list[str]:
        return [_line(entry) for entry in await self.arrived(chat_id)]

    async def said(self) -> str:
        bodies = [decode_frame(entry.data) for entry in await self.arrived()]
        return "".join(body.part.text for body in bodies if _is_text(body))  # type: ignore[union-attr]


def _is_text(body: object) -> bool:
    return isinstance(body, PartFrame) and isinstance(body.part, TextPart)


def _line(entry: Frame) -> str:
    body = decode_frame(entry.data)
    if not isinstance(body, PartFrame):
        return f"{entry.position} {entry.kind}"
    part = body.part
    return f"{entry.position} {part.text if isinstance(part, TextPart | ReasoningPart) else type(part).__name__}"


async def settled() -> None:
    """Until everybody has done what there is to do now."""
    await trio.testing.wait_all_tasks_blocked()


@pytest.fixture
async def desk() -> AsyncIterator[Desk]:
    async with trio.open_nursery() as nursery:
        desk = Desk()
        nursery.start_soon(desk.publisher.run)
        yield desk
        nursery.cancel_scope.cancel()


def record(desk: Desk, sent: list[str]) -> None:
    """Write down what is published live, which trimming does not take away."""

    class Listener:
        def deliver(self, _: str, payload: bytes) -> None:
            sent.append(_line(unpack_frame(payload)).split()[1])

        def interrupted(self) -> None: ...

    desk.broker.listeners.append(Listener())


# --- coalescing -------------------------------------------------------------------------------


async def test_the_first_delta_goes_at_once(desk: Desk) -> None:
    stream = await desk.answering()
    stream.part(TextPart("Hel"))
    await settled()
    assert await desk.story() == ["1-0 open", "1-1 attempt", "1-2 Hel"]


async def test_deltas_that_follow_are_joined_for_15_ms(desk: Desk) -> None:
    stream = await desk.answering()
    began = trio.current_time()
    for word in ("a", "b", "c", "d"):
        stream.part(TextPart(word))
    await settled()
    assert await desk.story() == ["1-0 open", "1-1 attempt", "1-2 a"]
    await trio.sleep(COALESCE_SECONDS)
    await settled()
    assert (await desk.story())[3:] == ["1-3 bcd"]
    assert trio.current_time() == pytest.approx(began + COALESCE_SECONDS)


async def test_there_is_at_most_one_frame_in_15_ms(desk: Desk) -> None:
    stream = await desk.answering()
    for _ in range(1000):
        stream.part(TextPart("x"))
        await trio.sleep(0.001)
    await trio.sleep(0.1)
    frames = len(await desk.arrived()) - 2
    assert 1000 / 17 <= frames <= 1000 / 15 + 2
    assert await desk.said() == "x" * 1000


async def test_a_delta_after_a_pause_goes_at_once(desk: Desk) -> None:
    stream = await desk.answering()
    for word in ("a", "b"):
        stream.part(TextPart(word))
        await trio.sleep(2 * COALESCE_SECONDS)
    stream.part(TextPart("c"))
    await settled()
    assert (await desk.story())[2:] == ["1-2 a", "1-3 b", "1-4 c"]


async def test_the_first_word_behind_a_thought_does_not_wait_for_how_long_that_was(desk: Desk) -> None:
    stream = await desk.answering()
    stream.part(ReasoningPart("r"))
    await trio.sleep(2 * COALESCE_SECONDS)
    for part in (ReasoningPart("", 30), TextPart("a"), TextPart("b")):
        stream.part(part)
    await settled()
    assert (await desk.story())[2:] == ["1-2 r", "1-3 ", "1-4 a"]


async def test_text_and_reasoning_are_not_joined_with_each_other(desk: Desk) -> None:
    stream = await desk.answering()
    for part in (ReasoningPart("r1"), ReasoningPart("r2"), ReasoningPart("r3"), TextPart("t1"), TextPart("t2")):
        stream.part(part)
    await trio.sleep(1)
    assert (await desk.story())[2:] == ["1-2 r1", "1-3 r2r3", "1-4 t1t2"]


async def test_a_tool_call_waits_for_nobody_and_comes_after_what_was_said_before(desk: Desk) -> None:
    stream = await desk.answering()
    for part in (TextPart("a"), TextPart("b"), ToolCallPart("1", "tool", "{}")):
        stream.part(part)
    await settled()
    assert (await desk.story())[2:] == ["1-2 a", "1-3 b", "1-4 ToolCallPart"]


@pytest.mark.parametrize("end", ["committed", "turn", "close", "attempt"])
async def test_what_is_held_back_comes_before_whatever_ends_it(desk: Desk, end: str) -> None:
    stream = await desk.answering()
    sent: list[str] = []
    record(desk, sent)
    for word in ("a", "b"):
        stream.part(TextPart(word))
    match end:
        case "committed":
            stream.committed(2)
        case "turn":
            stream.turn(7, 2)
        case "close":
            stream.close("finished")
        case "attempt":
            stream.attempt(2, 1, 3)
    await settled()
    assert "".join(sent) == "ab" + end


async def test_flush_says_which_frame_was_the_last(desk: Desk) -> None:
    stream = await desk.answering()
    assert stream.flush() == Position(1, 1)
    stream.part(TextPart("a"))
    stream.part(TextPart("b"))
    assert stream.flush() == Position(1, 3)
    assert stream.flush() == Position(1, 3), "a flush of nothing adds nothing"
    await settled()
    assert (await desk.arrived())[-1].position == (1, 3)


@pytest.mark.parametrize("seed", range(5))
async def test_whatever_the_pace_the_parts_joined_are_what_was_said(desk: Desk, seed: int) -> None:
    random, stream = Random(seed), await desk.answering()
    said: list[TextPart | ReasoningPart] = []
    for number in range(100):
        part = TextPart(f"{number} ") if random.random() < 0.5 else ReasoningPart(f"{number} ")
        said.append(part)
        stream.part(part)
        await trio.sleep(random.choice([0, 0.001, 0.02]))
    stream.flush()
    await settled()
    for kind in (TextPart, ReasoningPart):
        shown = [decode_frame(entry.data) for entry in await desk.arrived()]
        texts = [body.part.text for body in shown if isinstance(body, PartFrame) and isinstance(body.part, kind)]
        assert "".join(texts) == "".join(part.text for part in said if isinstance(part, kind))


# --- states -----------------------------------------------------------------------------------


async def test_a_tenure_is_new_until_it_is_open_on_the_stream(desk: Desk) -> None:
    hold = desk.wire.hold("open")
    stream = desk.tenure()
    stream.attempt(1, 1, 2)
    stream.part(TextPart("a"))
    await hold.reached.wait()
    assert stream.state.name == "NEW"
    assert not stream.settled.is_set()
    hold.release()
    await settled()
    assert stream.state.name == "LIVE"
    assert stream.settled.is_set()
    assert await desk.story() == ["1-0 open", "1-1 attempt", "1-2 a"]


async def test_an_append_that_fails_is_made_good_as_soon_as_redis_is_back(desk: Desk) -> None:
    stream = await desk.answering()
    stream.part(TextPart("a"))
    await settled()
    desk.wire.cut = True
    await trio.sleep(1)
    stream.part(TextPart("b"))
    await trio.sleep(1)
    assert stream.state.name == "BROKEN"
    stream.part(TextPart("c"))
    desk.wire.cut = False
    await trio.sleep(1)
    assert stream.state.name == "LIVE"
    assert await desk.story() == ["1-0 open", "1-1 attempt", "1-2 a", "1-3 b", "1-4 c"]


async def test_an_append_whose_answer_was_lost_doubles_nothing(desk: Desk) -> None:
    stream = await desk.answering()
    desk.wire.lose_answer("append")
    stream.part(TextPart("a"))
    await trio.sleep(1)
    stream.part(TextPart("b"))
    await trio.sleep(1)
    assert await desk.story() == ["1-0 open", "1-1 attempt", "1-2 a", "1-3 b"]


async def test_an_opening_whose_answer_was_lost_is_made_again(desk: Desk) -> None:
    desk.wire.lose_answer("open")
    stream = desk.tenure()
    stream.attempt(1, 1, 2)
    await trio.sleep(1)
    assert stream.state.name == "LIVE"
    assert await desk.story() == ["1-0 open", "1-1 attempt"]


async def test_a_stream_that_is_gone_is_made_anew_at_the_same_positions(desk: Desk) -> None:
    stream = await desk.answering()
    stream.part(TextPart("a"))
    await settled()
    desk.broker.flush()
    await trio.sleep(1)
    stream.part(TextPart("b"))
    await settled()
    assert await desk.story() == ["1-0 open", "1-1 attempt", "1-2 a", "1-3 b"]


async def test_after_a_commit_only_what_followed_is_restored(desk: Desk) -> None:
    """What is history need not be kept in memory."""
    stream = await desk.answering()
    stream.part(TextPart("a"))
    stream.committed(2)
    stream.turn(7, 2)
    stream.attempt(1, 2, 3)
    stream.part(TextPart("b"))
    await trio.sleep(1)
    desk.broker.flush()
    stream.part(TextPart("c"))
    await settled()
    kinds = [line.split(maxsplit=1)[1] for line in await desk.story()]
    assert kinds == ["open", "attempt", "b", "c"]


async def test_a_tenure_that_finds_a_newer_one_is_told_and_says_no_more(desk: Desk) -> None:
    """P2."""
    stale = await desk.answering(epoch=1)
    await desk.answering(epoch=2)
    stale.part(TextPart("late"))
    await settled()
    assert stale.state.name == "FENCED"
    assert desk.fenced == [1]
    stale.part(TextPart("later"))
    stale.close("finished")
    await trio.sleep(1)
    assert desk.fenced == [1], "it is told once"
    assert "late" not in "".join(await desk.story())
    assert "pending=0" in repr(desk.publisher)


async def test_a_tenure_that_comes_too_late_to_open_is_fenced(desk: Desk) -> None:
    await desk.answering(epoch=5)
    late = desk.tenure(epoch=4)
    await settled()
    assert late.state.name == "FENCED"
    assert desk.fenced == [4]
    assert not late.settled.is_set(), "only the database knows whether it is over"
    desk.publisher.abandon(late)
    assert late.settled.is_set(), "nobody waits for it in vain"


async def test_a_tenure_that_was_fenced_while_redis_was_away_restores_nothing(desk: Desk) -> None:
    stale = await desk.answering(epoch=1)
    desk.wire.cut = True
    stale.part(TextPart("late"))
    await trio.sleep(1)
    newer = frame(Position(2, 0), OpenFrame("another", 1))
    await MemoryStreams(desk.broker).open(CHAT, newer, trim=True)
    desk.wire.cut = False
    await trio.sleep(1)
    assert desk.fenced == [1]
    assert await desk.story() == ["2-0 open"]


async def test_an_abandoned_tenure_says_no_more_even_if_redis_comes_back(desk: Desk) -> None:
    stream = await desk.answering()
    desk.wire.cut = True
    stream.part(TextPart("a"))
    await trio.sleep(1)
    desk.publisher.abandon(stream)
    stream.part(TextPart("b"))
    desk.wire.cut = False
    await trio.sleep(1)
    assert await desk.story() == ["1-0 open", "1-1 attempt"]
    assert desk.fenced == [], "it was not Redis that said so"


async def test_a_tenure_abandoned_while_it_is_opened_stays_silent(desk: Desk) -> None:
    hold = desk.wire.hold("open")
    stream = desk.tenure()
    await hold.reached.wait()
    desk.publisher.abandon(stream)
    hold.release()
    await settled()
    stream.part(TextPart("late"))
    await trio.sleep(1)
    assert await desk.story() == ["1-0 open"]


# --- many tenures, long outages ---------------------------------------------------------------


async def test_the_frames_of_all_chats_go_in_one_round_trip(desk: Desk) -> None:
    streams = [desk.tenure(chat_id=UUID(int=number)) for number in range(50)]
    await settled()
    before = desk.wire.crossings["append"]
    for stream in streams:
        stream.part(TextPart("a"))
    await settled()
    assert desk.wire.crossings["append"] == before + 1
    for number in range(50):
        assert (await desk.story(UUID(int=number)))[-1] == "1-1 a"


async def test_a_burst_is_sent_in_bounded_pieces_and_in_order(desk: Desk) -> None:
    stream = await desk.answering()
    before = desk.wire.crossings["append"]
    for number in range(2500):
        stream.part(ToolCallPart(str(number), "tool", "{}"))
    await settled()
    positions = [entry.position.seq for entry in await desk.arrived()]
    assert positions == list(range(2502))
    assert desk.wire.crossings["append"] - before == 3


async def test_one_chats_trouble_is_not_anothers(desk: Desk) -> None:
    """A fenced tenure in the middle of a batch takes nobody with it."""
    stale = await desk.answering(epoch=1)
    other = desk.tenure(chat_id=UUID(int=9))
    await desk.answering(epoch=2)
    stale.part(TextPart("late"))
    other.part(TextPart("mine"))
    await settled()
    assert desk.fenced == [1]
    assert await desk.story(UUID(int=9)) == ["1-0 open", "1-1 mine"]


async def test_redis_is_tried_again_with_growing_pauses(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    await desk.answering()
    stream = desk.tenure(chat_id=UUID(int=9))
    await settled()
    tries: list[float] = []

    async def restore(chat_id: UUID, frames: object) -> None:
        tries.append(trio.current_time())
        raise StreamsUnavailable("away")

    monkeypatch.setattr(MemoryStreams, "restore", staticmethod(restore))
    desk.wire.cut = True
    stream.part(TextPart("a"))
    began = trio.current_time()
    await trio.sleep(3)
    assert [round(at - began, 3) for at in tries[:6]] == [0.1, 0.3, 0.7, 1.2, 1.7, 2.2]


async def test_an_ended_tenure_is_let_go_when_its_last_frame_is_sent(desk: Desk) -> None:
    stream = await desk.answering()
    stream.part(TextPart("a"))
    stream.close("finished")
    await settled()
    assert (await desk.story())[-1].endswith("close")
    assert stream.memory == []
    assert "pending=0" in repr(desk.publisher)


async def test_ended_tenures_wait_for_redis_but_not_without_bound(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(publisher_module, "CLOSING_MAX", 3)
    streams = [desk.tenure(chat_id=UUID(int=number)) for number in range(5)]
    await settled()
    desk.wire.cut = True
    for stream in streams:
        stream.close("finished")
    await trio.sleep(1)
    assert [stream.state.name for stream in streams[:2]] == ["FENCED", "FENCED"], "the oldest are forgotten"
    desk.wire.cut = False
    await trio.sleep(1)
    closed = [(await desk.story(UUID(int=number)))[-1].endswith("close") for number in range(5)]
    assert closed == [False, False, True, True, True]


async def test_what_is_pending_can_be_waited_for_but_not_for_ever(desk: Desk) -> None:
    stream = await desk.answering()
    stream.part(TextPart("a"))
    await desk.publisher.drained(5.0)
    assert (await desk.story())[-1] == "1-2 a"
    desk.wire.cut = True
    stream.close("finished")
    began = trio.current_time()
    await desk.publisher.drained(5.0)
    assert trio.current_time() - began == pytest.approx(5.0)


async def test_a_turn_trims_the_stream_to_itself(desk: Desk) -> None:
    stream = await desk.answering()
    stream.part(TextPart("a"))
    stream.committed(2)
    stream.turn(7, 2)
    await settled()
    (turn,) = await desk.arrived()
    assert turn.kind is FrameKind.TURN


async def test_after_a_takeover_all_chats_open_together(desk: Desk) -> None:
    """P4: what one of many chats waits for is a round trip, not one for each of the others."""
    held = desk.wire.hold("open")
    streams = [desk.tenure(1, UUID(int=number)) for number in range(20)]
    await held.reached.wait()
    await settled()
    assert desk.wire.crossings["open"] >= 19, "the others did not wait for the one that is held"
    held.release()
    await settled()
    assert {stream.state.name for stream in streams} == {"LIVE"}
