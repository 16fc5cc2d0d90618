"""What every ``PartStreams`` does: positions only rise, tenures fence each other, frames are published.

fakeredis's server closes the connection where Redis answers with an error, so with it a refusal is a
``StreamsUnavailable``, and the owner learns its state when it restores. What is refused is left out there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from uuid import UUID, uuid4

import pytest
import trio
from broker_worlds import World, open_cut_off_world, open_world

from chatcluster.errors import Fenced, StreamFenced, StreamsUnavailable
from chatcluster.local.embedded import RedisServer, redis_server
from chatcluster.parts import (
    START,
    AttemptFrame,
    CloseFrame,
    Frame,
    FrameKind,
    OpenFrame,
    PartFrame,
    Position,
    TextPart,
    TurnFrame,
    frame,
    unpack_frame,
)
from chatcluster.ports import Appended, Opening, live_channel

ADDED, REFUSED, MISSING = Appended.ADDED, Appended.REFUSED, Appended.MISSING
CHAT = uuid4()


@pytest.fixture(scope="session")
def fake_redis_url(servers_dir: Path) -> Iterator[str]:
    """The server that stands in where no Redis is to be had."""
    server = RedisServer(servers_dir / "fake-redis")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(redis_server, "find_redis", lambda: None)
        url = server.start()
    yield url
    server.stop()


SERVERS = ["memory", pytest.param("empty_redis_url", marks=pytest.mark.redis)]
STAND_IN = pytest.param("fake_redis_url", marks=pytest.mark.redis)

answers_refusals = pytest.mark.parametrize("url", SERVERS, indirect=True)


@pytest.fixture(params=[*SERVERS, STAND_IN])
def url(request: pytest.FixtureRequest) -> str | None:
    return None if request.param == "memory" else request.getfixturevalue(request.param)


@pytest.fixture
async def world(url: str | None) -> AsyncIterator[World]:
    async with open_world(url) as world:
        await world.lose_data()
        yield world


def opened(epoch: int) -> Frame:
    return frame(Position(epoch, 0), OpenFrame(f"worker {epoch}", 1))


def part(epoch: int, seq: int) -> Frame:
    return frame(Position(epoch, seq), PartFrame(1, TextPart(f"text {seq} of tenure {epoch} \u0000 é\r\n")))


async def append(world: World, *frames: Frame, chat_id: UUID = CHAT) -> list[Appended]:
    return await world.streams.append([(chat_id, added) for added in frames])


async def everything(world: World, chat_id: UUID = CHAT) -> list[Frame]:
    return await world.streams.read(chat_id, after=START, limit=1000)


# --- order and fences -------------------------------------------------------------------------


async def test_a_tenures_frames_are_read_back_in_order_from_any_position(world: World) -> None:
    """P3"""
    frames = [opened(1), frame(Position(1, 1), AttemptFrame(1, 1)), part(1, 2), part(1, 3)]
    await world.streams.open(CHAT, frames[0], trim=True)
    assert await append(world, *frames[1:]) == [ADDED] * 3
    assert await everything(world) == frames
    assert await world.streams.read(CHAT, after=Position(1, 1), limit=1000) == frames[2:]
    assert await world.streams.read(CHAT, after=START, limit=2) == frames[:2]
    assert await world.streams.read(CHAT, after=Position(1, 3), limit=2) == []
    assert await world.streams.read(CHAT, after=Position(0, 999), limit=2) == frames[:2]
    assert await everything(world, uuid4()) == []


async def test_tenures_of_many_chats_open_together_and_one_that_is_fenced_stops_no_other(world: World) -> None:
    """P4: after a takeover there are many to open at once."""
    here, newer, there = CHAT, uuid4(), uuid4()
    await world.streams.open(newer, opened(2), trim=True)
    openings = [Opening(chat_id, opened(1), trim=True) for chat_id in (here, newer, there)]
    first, fenced, last = await world.streams.open_all(openings)
    assert (first, last) == (None, None)
    assert isinstance(fenced, Fenced)
    assert await everything(world, here) == await everything(world, there) == [opened(1)]
    assert await everything(world, newer) == [opened(2)]
    assert await world.streams.open_all(openings[:1]) == [None], "its own tenure, again"
    assert await world.streams.open_all([]) == []


@answers_refusals
async def test_a_frame_is_added_once_however_often_it_is_sent(world: World) -> None:
    """P3: a batch whose outcome is unknown is sent again without harm."""
    await world.streams.open(CHAT, opened(1), trim=True)
    assert await append(world, part(1, 1), part(1, 2)) == [ADDED, ADDED]
    assert await append(world, part(1, 1), part(1, 2), part(1, 3)) == [REFUSED, REFUSED, ADDED]
    assert await everything(world) == [opened(1), part(1, 1), part(1, 2), part(1, 3)]


@answers_refusals
async def test_a_stale_owner_cannot_append_after_its_successor_has_opened(world: World) -> None:
    """P2"""
    await world.streams.open(CHAT, opened(1), trim=True)
    await append(world, part(1, 1))
    await world.streams.open(CHAT, opened(2), trim=False)
    assert await append(world, part(1, 2), frame(Position(1, 3), CloseFrame("waiting"))) == [REFUSED, REFUSED]
    assert await append(world, part(2, 1)) == [ADDED]
    assert await everything(world) == [opened(1), part(1, 1), opened(2), part(2, 1)]


async def test_a_tenure_cannot_open_behind_a_newer_one(world: World) -> None:
    """P2"""
    await world.streams.open(CHAT, opened(2), trim=True)
    with pytest.raises(Fenced):
        await world.streams.open(CHAT, opened(1), trim=True)
    with pytest.raises(Fenced):
        await world.streams.restore(CHAT, [opened(1), part(1, 1)])
    assert await everything(world) == [opened(2)]


async def test_opening_ones_own_tenure_again_does_nothing(world: World) -> None:
    await world.streams.open(CHAT, opened(1), trim=True)
    await append(world, part(1, 1))
    await world.streams.open(CHAT, opened(1), trim=True)
    assert await everything(world) == [opened(1), part(1, 1)]


async def test_streams_of_several_chats_do_not_mix(world: World) -> None:
    """P9"""
    other = uuid4()
    await world.streams.open(CHAT, opened(5), trim=True)
    await world.streams.open(other, opened(1), trim=True)
    assert await world.streams.append([(other, part(1, 1)), (CHAT, part(5, 1)), (other, part(1, 2))]) == [ADDED] * 3
    assert await everything(world) == [opened(5), part(5, 1)]
    assert await everything(world, other) == [opened(1), part(1, 1), part(1, 2)]


# --- trimming, loss and restoration -----------------------------------------------------------


async def test_a_new_tenure_keeps_what_came_before_it_or_drops_it(world: World) -> None:
    await world.streams.open(CHAT, opened(1), trim=True)
    await append(world, part(1, 1))
    await world.streams.open(CHAT, opened(2), trim=False)
    assert await everything(world) == [opened(1), part(1, 1), opened(2)]
    await world.streams.open(CHAT, opened(3), trim=True)
    assert await everything(world) == [opened(3)]


@answers_refusals
async def test_a_turn_trims_the_stream_to_itself_and_a_refused_one_trims_nothing(world: World) -> None:
    await world.streams.open(CHAT, opened(1), trim=True)
    await append(world, part(1, 1))
    turn = frame(Position(1, 2), TurnFrame(7, 3))
    assert await append(world, turn, part(1, 3)) == [ADDED, ADDED]
    assert await everything(world) == [turn, part(1, 3)]
    await world.streams.open(CHAT, opened(2), trim=False)
    assert await append(world, frame(Position(1, 4), TurnFrame(8, 4))) == [REFUSED]
    assert await everything(world) == [turn, part(1, 3), opened(2)]


async def test_a_stream_that_is_gone_is_not_created_without_its_beginning(world: World) -> None:
    """P8"""
    assert await append(world, part(1, 1)) == [MISSING]
    await world.streams.open(CHAT, opened(1), trim=True)
    await append(world, part(1, 1))
    await world.lose_data()
    assert await append(world, part(1, 2), part(1, 3)) == [MISSING, MISSING]
    assert await everything(world) == []


async def test_a_stream_that_is_gone_is_restored_from_its_owners_memory(world: World) -> None:
    """P8"""
    frames = [opened(1), *(part(1, seq) for seq in range(1, 8))]
    await world.streams.restore(CHAT, frames[:5])
    assert await everything(world) == frames[:5]
    await world.streams.restore(CHAT, frames)
    assert await everything(world) == frames
    await world.lose_data()
    await world.streams.restore(CHAT, frames)
    assert await everything(world) == frames
    assert await append(world, part(1, 8)) == [ADDED]
    await world.streams.restore(CHAT, [])


async def test_a_tenure_can_open_on_a_stream_that_was_closed(world: World) -> None:
    await world.streams.open(CHAT, opened(1), trim=True)
    close = frame(Position(1, 1), CloseFrame("waiting"))
    assert await append(world, close) == [ADDED]
    assert await everything(world) == [opened(1), close]
    await world.streams.open(CHAT, opened(2), trim=True)
    assert await append(world, part(2, 1)) == [ADDED]
    assert await everything(world) == [opened(2), part(2, 1)]


# --- what is ahead of us, or foreign ----------------------------------------------------------


def opened_by(worker: str, epoch: int = 1) -> Frame:
    return frame(Position(epoch, 0), OpenFrame(worker, 1))


async def test_a_tenure_does_not_open_where_another_worker_has_the_same_epoch(world: World) -> None:
    """P2: a failover that lost a claim gives an epoch twice."""
    await world.streams.open(CHAT, opened_by("one"), trim=True)
    for opening in (opened_by("other"), opened_by("other", 0)):
        with pytest.raises(StreamFenced) as fenced:
            await world.streams.open(CHAT, opening, trim=True)
        assert fenced.value.epoch == 1
    await append(world, part(1, 1))
    with pytest.raises(StreamFenced):
        await world.streams.open(CHAT, opened_by("other"), trim=False)
    assert await everything(world) == [opened_by("one"), part(1, 1)]


async def test_a_tenure_is_not_restored_into_the_stream_of_another_worker_with_its_epoch(world: World) -> None:
    """P2, P3"""
    await world.streams.open(CHAT, opened_by("other"), trim=True)
    await append(world, part(1, 1))
    for frames in ([opened_by("one"), part(1, 1)], [opened_by("one"), part(1, 2)], [opened_by("one"), part(1, 3)]):
        with pytest.raises(StreamFenced):
            await world.streams.restore(CHAT, frames)
    assert await everything(world) == [opened_by("other"), part(1, 1)]


async def test_what_a_stranger_added_within_a_tenure_is_not_taken_for_its_own(world: World) -> None:
    """P3"""
    own = [opened(1), part(1, 1), part(1, 2)]
    await world.streams.restore(CHAT, own)
    await append(world, part(1, 9))
    with pytest.raises(StreamFenced):
        await world.streams.restore(CHAT, [*own, part(1, 3)])


async def test_a_tenure_whose_older_frames_are_forgotten_is_restored_after_a_turn(world: World) -> None:
    """P8: memory has its open frame and the attempt under way; the stream begins with the turn."""
    await world.streams.open(CHAT, opened(1), trim=True)
    turn = frame(Position(1, 2), TurnFrame(7, 3, "worker 1"))
    await append(world, part(1, 1), turn, part(1, 3))
    await world.streams.restore(CHAT, [opened(1), part(1, 4)])
    assert await everything(world) == [turn, part(1, 3), part(1, 4)]
    with pytest.raises(StreamFenced):
        await world.streams.restore(CHAT, [opened_by("other"), part(1, 5)])


@pytest.mark.parametrize(
    "foreign",
    [
        Frame(Position(1, 1), FrameKind.OPEN, b'{"type":"open"}'),
        Frame(Position(1, 1), FrameKind.ATTEMPT, b"\xff\xfe"),
        Frame(Position(1, 1), FrameKind.ATTEMPT, b'{"type":"close","outcome":"x"}'),
        Frame(Position(1, 1), FrameKind.COMMITTED, b'{"type":"committed","history_version":"many"}'),
        Frame(Position(1, 1), FrameKind.PART, b"{}\n\nevent: message\ndata: {}"),
        Frame(Position(1, 1), FrameKind.UNKNOWN, b"of another version"),
    ],
    ids=str,
)
async def test_what_is_not_what_it_says_is_passed_over(world: World, foreign: Frame) -> None:
    """P10: and counts as an entry, or a page would seem to be the last one."""
    await world.streams.open(CHAT, opened(1), trim=True)
    await append(world, foreign, part(1, 2))
    unknown = Frame(Position(1, 1), FrameKind.UNKNOWN, b"")
    assert await everything(world) == [opened(1), unknown, part(1, 2)]
    assert await world.streams.read(CHAT, after=START, limit=2) == [opened(1), unknown]


async def test_a_dropped_stream_can_be_opened_by_a_lower_epoch(world: World) -> None:
    await world.streams.open(CHAT, opened(2**60), trim=True)
    await world.streams.drop(CHAT)
    await world.streams.drop(CHAT)
    assert await everything(world) == []
    await world.streams.open(CHAT, opened(1), trim=True)
    assert await everything(world) == [opened(1)]


# --- live -------------------------------------------------------------------------------------


@answers_refusals
async def test_frames_are_published_in_the_order_in_which_they_were_added(world: World) -> None:
    """P3: a live reader that drops what is not above its last position has what the stream has."""
    with trio.fail_after(60):
        async with world.there.subscribe(live_channel(CHAT)) as subscription:
            await world.streams.open(CHAT, opened(1), trim=True)
            await append(world, part(1, 1), part(1, 2))
            await world.streams.open(CHAT, opened(2), trim=False)
            await append(world, part(1, 3))
            await append(world, part(2, 1))
            seen: list[Frame] = []
            while not seen or seen[-1] != part(2, 1):
                payload = await subscription.receive()
                assert isinstance(payload, bytes)
                received = unpack_frame(payload)
                if not seen or received.position > seen[-1].position:
                    seen.append(received)
    assert seen == await everything(world)


async def test_what_is_restored_reaches_live_readers_too(world: World) -> None:
    """P8"""
    with trio.fail_after(60):
        async with world.there.subscribe(live_channel(CHAT)) as subscription:
            await world.streams.restore(CHAT, [opened(1), part(1, 1)])
            payloads = [await subscription.receive() for _ in range(2)]
    assert [unpack_frame(payload) for payload in payloads if isinstance(payload, bytes)] == [opened(1), part(1, 1)]


async def test_without_the_server_every_operation_says_so(url: str | None) -> None:
    """P8"""
    async with open_cut_off_world(url) as world:
        for operation in (
            lambda: world.streams.open(CHAT, opened(1), trim=True),
            lambda: append(world, part(1, 1)),
            lambda: world.streams.restore(CHAT, [opened(1)]),
            lambda: everything(world),
        ):
            with pytest.raises(StreamsUnavailable):
                await operation()
