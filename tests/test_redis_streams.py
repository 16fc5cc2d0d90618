"""Part streams on a real Redis: the fence, the order on the live channel, expiry, and every way to lose a stream."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import suppress
from uuid import UUID, uuid4

import pytest
import trio
from redis_faults import frozen

from chatcluster.errors import Fenced, StreamRefused, StreamsUnavailable
from chatcluster.local.embedded import RedisServer
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
from chatcluster.ports import Appended, Opening, Subscription, live_channel
from chatcluster.redis import connections as redis_module
from chatcluster.redis import streams as subject
from chatcluster.redis.connections import Command, RedisConnection, Reply, open_redis
from chatcluster.redis.pubsub import RedisPubSub
from chatcluster.redis.streams import RedisStreams
from chatcluster.redis.transport import RedisAddress

ADDED, REFUSED, MISSING = Appended.ADDED, Appended.REFUSED, Appended.MISSING


@pytest.fixture
async def connection(empty_redis_url: str) -> AsyncIterator[RedisConnection]:
    async with open_redis(empty_redis_url, cluster_id="here") as opened:
        yield opened


@pytest.fixture
def streams(connection: RedisConnection) -> RedisStreams:
    return RedisStreams(connection)


@pytest.fixture
def chat_id() -> UUID:
    return uuid4()


async def test_p10_an_entry_that_somebody_put_there_and_is_very_large_costs_that_stream_alone(
    connection: RedisConnection, streams: RedisStreams, chat_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It would be in memory as a whole, twice, and in one step."""
    monkeypatch.setattr(redis_module, "REPLY_BYTES_MAX", 1 << 20)
    other = uuid4()
    await streams.open(other, opening(1), trim=False)
    await connection.exchange([("XADD", streams.key(chat_id), "1-0", "kind", "x" * (3 << 20))])
    with pytest.raises(StreamRefused):
        await everything(streams, chat_id)
    assert len(await everything(streams, other)) == 1
    for _ in range(3):
        assert await streams.append(of(other, part(1, 1))) in ([ADDED], [REFUSED])


def opening(epoch: int) -> Frame:
    return frame(Position(epoch, 0), OpenFrame(f"worker {epoch}", 1))


def part(epoch: int, seq: int) -> Frame:
    return frame(Position(epoch, seq), PartFrame(1, TextPart(f"text {seq} of tenure {epoch}")))


def of(chat_id: UUID, *frames: Frame) -> list[tuple[UUID, Frame]]:
    return [(chat_id, added) for added in frames]


async def everything(streams: RedisStreams, chat_id: UUID) -> list[Frame]:
    return await streams.read(chat_id, after=START, limit=1000)


async def seconds_left(connection: RedisConnection, chat_id: UUID) -> int:
    (seconds,) = await connection.exchange([("TTL", RedisStreams(connection).key(chat_id))])
    assert isinstance(seconds, int)
    return seconds


async def live_frames(subscription: Subscription, count: int) -> list[Frame]:
    frames = []
    with trio.fail_after(60):
        for _ in range(count):
            payload = await subscription.receive()
            assert isinstance(payload, bytes)
            frames.append(unpack_frame(payload))
    return frames


# --- what is added is read ----------------------------------------------------------------------


async def test_frames_are_read_as_they_were_added_page_by_page(streams: RedisStreams, chat_id: UUID) -> None:
    frames = [opening(7), *(part(7, seq) for seq in range(1, 6))]
    await streams.open(chat_id, frames[0], trim=False)
    assert await streams.append(of(chat_id, *frames[1:])) == [ADDED] * 5
    assert await streams.read(chat_id, after=START, limit=4) == frames[:4]
    assert await streams.read(chat_id, after=frames[3].position, limit=4) == frames[4:]
    assert await streams.read(chat_id, after=frames[-1].position, limit=4) == []


async def test_one_append_serves_many_chats_and_says_of_each_frame_what_became_of_it(streams: RedisStreams) -> None:
    here, gone, newer = uuid4(), uuid4(), uuid4()
    await streams.open(here, opening(1), trim=False)
    await streams.open(newer, opening(2), trim=False)
    entries = [(here, part(1, 1)), (gone, part(1, 1)), (newer, part(1, 1)), (here, part(1, 2)), (here, part(1, 1))]
    assert await streams.append(entries) == [ADDED, MISSING, REFUSED, ADDED, REFUSED]
    assert await streams.append([]) == []
    assert await everything(streams, gone) == []


async def test_any_bytes_of_a_part_survive_and_none_is_more_than_one_line(streams: RedisStreams, chat_id: UUID) -> None:
    every_byte = bytes(byte for byte in range(256) if byte not in b"\r\n") + "$5 漢字".encode()
    odd = Frame(Position(1, 1), FrameKind.PART, every_byte)
    two_lines = Frame(Position(1, 2), FrameKind.PART, b"{}\n\nevent: status")
    await streams.open(chat_id, opening(1), trim=False)
    await streams.append(of(chat_id, odd, two_lines))
    unknown = Frame(Position(1, 2), FrameKind.UNKNOWN, b"")
    assert await everything(streams, chat_id) == [opening(1), odd, unknown]


# --- P2: the fence ------------------------------------------------------------------------------


async def test_p2_a_stale_owner_is_refused_once_a_newer_tenure_has_opened(streams: RedisStreams, chat_id: UUID) -> None:
    await streams.open(chat_id, opening(1), trim=False)
    await streams.append(of(chat_id, part(1, 1)))
    await streams.open(chat_id, opening(2), trim=False)
    assert await streams.append(of(chat_id, part(1, 2))) == [REFUSED]
    with pytest.raises(Fenced):
        await streams.open(chat_id, opening(1), trim=True)
    with pytest.raises(Fenced):
        await streams.restore(chat_id, [opening(1), part(1, 1), part(1, 2)])
    assert await everything(streams, chat_id) == [opening(1), part(1, 1), opening(2)]


async def test_p2_a_refused_turn_trims_nothing_and_a_refused_close_sets_no_expiry(
    streams: RedisStreams, connection: RedisConnection, chat_id: UUID
) -> None:
    await streams.open(chat_id, opening(1), trim=False)
    await streams.open(chat_id, opening(2), trim=False)
    stale = [frame(Position(1, 1), TurnFrame(5, 5)), frame(Position(1, 2), CloseFrame("finished"))]
    assert await streams.append(of(chat_id, *stale)) == [REFUSED, REFUSED]
    assert await everything(streams, chat_id) == [opening(1), opening(2)]
    assert await seconds_left(connection, chat_id) > subject.EXPIRY_SECONDS


async def test_opening_ones_own_tenure_again_does_nothing(streams: RedisStreams, chat_id: UUID) -> None:
    """The outcome of the first time may have been unknown."""
    await streams.open(chat_id, opening(1), trim=False)
    await streams.append(of(chat_id, part(1, 1)))
    await streams.open(chat_id, opening(1), trim=True)
    assert await everything(streams, chat_id) == [opening(1), part(1, 1)]


async def test_p3_on_the_live_channel_an_open_comes_before_all_that_was_refused_because_of_it(
    streams: RedisStreams, connection: RedisConnection, chat_id: UUID
) -> None:
    """So a reader that drops what is below the last position that it saw shows only what is in the stream."""
    pubsub = RedisPubSub(connection)
    frames_each = 40
    verdicts: dict[Position, Appended] = {}

    async def stale_owner() -> None:
        for seq in range(1, frames_each + 1):
            (verdicts[Position(1, seq)],) = await streams.append(of(chat_id, part(1, seq)))

    async def successors() -> None:
        for epoch in range(2, 5):
            await streams.open(chat_id, opening(epoch), trim=False)

    async with trio.open_nursery() as nursery:
        await nursery.start(pubsub.run)
        async with pubsub.subscribe(live_channel(chat_id)) as subscription:
            await streams.open(chat_id, opening(1), trim=False)
            async with trio.open_nursery() as owners:
                owners.start_soon(stale_owner)
                owners.start_soon(successors)
            seen = await live_frames(subscription, 1 + frames_each + 3)
        nursery.cancel_scope.cancel()

    shown = [START]
    for live in seen:
        if live.position > shown[-1]:
            shown.append(live.position)
    assert REFUSED in verdicts.values()
    assert REFUSED not in {verdicts.get(position) for position in shown}
    assert shown[-3:] == [Position(epoch, 0) for epoch in (2, 3, 4)]


# --- how long a stream lives --------------------------------------------------------------------


async def test_opening_with_trim_and_a_turn_drop_what_came_before(streams: RedisStreams, chat_id: UUID) -> None:
    await streams.open(chat_id, opening(1), trim=False)
    await streams.append(of(chat_id, part(1, 1)))
    await streams.open(chat_id, opening(2), trim=True)
    assert await everything(streams, chat_id) == [opening(2)]
    turn = frame(Position(2, 2), TurnFrame(9, 3))
    await streams.append(of(chat_id, part(2, 1), turn, part(2, 3)))
    assert await everything(streams, chat_id) == [turn, part(2, 3)]


async def test_a_stream_expires_after_its_close_and_work_takes_that_back(
    streams: RedisStreams, connection: RedisConnection, chat_id: UUID
) -> None:
    await streams.open(chat_id, opening(1), trim=False)
    assert subject.EXPIRY_SECONDS < await seconds_left(connection, chat_id) <= subject.SAFETY_EXPIRY_SECONDS
    await streams.append(of(chat_id, frame(Position(1, 1), CloseFrame("finished"))))
    assert 0 < await seconds_left(connection, chat_id) <= subject.EXPIRY_SECONDS
    await streams.append(of(chat_id, frame(Position(1, 2), AttemptFrame(1, 2))))
    assert await seconds_left(connection, chat_id) > subject.EXPIRY_SECONDS
    await streams.append(of(chat_id, frame(Position(1, 3), CloseFrame("finished"))))
    await streams.open(chat_id, opening(2), trim=True)
    assert await seconds_left(connection, chat_id) > subject.EXPIRY_SECONDS


# --- P8: Redis is never the truth ---------------------------------------------------------------


async def test_p8_a_server_that_comes_back_empty_says_missing_and_is_restored(
    own_redis: RedisServer, chat_id: UUID
) -> None:
    tenure = [opening(3), part(3, 1), part(3, 2)]
    async with open_redis(own_redis.start(), cluster_id="here") as connection:
        streams = RedisStreams(connection)
        await streams.open(chat_id, tenure[0], trim=False)
        await streams.append(of(chat_id, tenure[1]))
        own_redis.kill()
        with pytest.raises(StreamsUnavailable):
            await streams.append(of(chat_id, tenure[2]))
        own_redis.start()
        assert await streams.append(of(chat_id, tenure[2])) == [MISSING]
        assert await everything(streams, chat_id) == []
        await streams.restore(chat_id, tenure)
        assert await everything(streams, chat_id) == tenure
        assert await streams.append(of(chat_id, part(3, 3))) == [ADDED]


async def test_p3_after_an_append_with_unknown_outcome_restoring_doubles_nothing(
    own_redis: RedisServer, chat_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server takes the commands, but its replies come too late."""
    tenure = [opening(1), part(1, 1), part(1, 2), part(1, 3)]
    async with open_redis(own_redis.start(), cluster_id="here") as connection:
        streams = RedisStreams(connection)
        await streams.open(chat_id, tenure[0], trim=False)
        monkeypatch.setattr(redis_module, "COMMANDS_SECONDS", 0.1)
        with frozen(own_redis), pytest.raises(StreamsUnavailable):
            await streams.append(of(chat_id, *tenure[1:3]))
        monkeypatch.undo()
        assert await everything(streams, chat_id) == tenure[:3]
        await streams.restore(chat_id, tenure)
        assert await everything(streams, chat_id) == tenure


async def test_restoring_appends_and_publishes_only_what_the_stream_lacks(
    streams: RedisStreams, connection: RedisConnection, chat_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "RESTORE_FRAMES_MAX", 2)
    tenure = [opening(4), *(part(4, seq) for seq in range(1, 8))]
    await streams.open(chat_id, tenure[0], trim=False)
    await streams.append(of(chat_id, tenure[1]))
    pubsub = RedisPubSub(connection)
    async with trio.open_nursery() as nursery:
        await nursery.start(pubsub.run)
        async with pubsub.subscribe(live_channel(chat_id)) as subscription:
            await streams.restore(chat_id, tenure)
            assert await live_frames(subscription, 6) == tenure[2:]
        nursery.cancel_scope.cancel()
    assert await everything(streams, chat_id) == tenure
    await streams.restore(chat_id, tenure)
    await streams.restore(chat_id, [])
    assert await everything(streams, chat_id) == tenure


@pytest.mark.parametrize(("last", "expiry"), [(part(1, 1), "long"), (frame(Position(1, 1), CloseFrame("")), "short")])
async def test_a_restored_stream_expires_as_if_it_had_never_been_gone(
    streams: RedisStreams, connection: RedisConnection, chat_id: UUID, last: Frame, expiry: str
) -> None:
    await streams.restore(chat_id, [opening(1), last])
    seconds = await seconds_left(connection, chat_id)
    assert 0 < seconds <= subject.SAFETY_EXPIRY_SECONDS
    assert (seconds <= subject.EXPIRY_SECONDS) is (expiry == "short")


class Interrupted(RedisConnection):
    """A connection on which something happens just before the batch of a given number."""

    def __init__(self, inner: RedisConnection, before_batch: int, happening: Callable[[], Awaitable[object]]) -> None:
        self._inner = inner
        super().__init__(RedisAddress(), "here")
        self._countdown = before_batch
        self._happening = happening

    async def exchange(self, commands: Sequence[Command]) -> list[Reply]:
        if self._countdown == 0:
            await self._happening()
        self._countdown -= 1
        return await self._inner.exchange(commands)


@pytest.mark.parametrize("before_batch", [1, 2])
async def test_p2_a_tenure_that_opens_while_an_older_one_restores_wins(
    streams: RedisStreams,
    connection: RedisConnection,
    chat_id: UUID,
    before_batch: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(subject, "RESTORE_FRAMES_MAX", 2)

    async def succession() -> None:
        await streams.open(chat_id, opening(2), trim=False)

    late = RedisStreams(Interrupted(connection, before_batch, succession))
    with pytest.raises(Fenced):
        await late.restore(chat_id, [opening(1), part(1, 1), part(1, 2), part(1, 3)])
    assert (await everything(streams, chat_id))[-1] == opening(2)


async def test_p3_a_stream_that_vanishes_while_it_is_restored_is_not_left_without_its_beginning(
    streams: RedisStreams, connection: RedisConnection, chat_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(subject, "RESTORE_FRAMES_MAX", 2)

    async def loss() -> None:
        await connection.exchange([("DEL", streams.key(chat_id))])

    interrupted = RedisStreams(Interrupted(connection, 2, loss))
    with pytest.raises(StreamsUnavailable, match="vanished"):
        await interrupted.restore(chat_id, [opening(1), part(1, 1), part(1, 2), part(1, 3)])
    assert await everything(streams, chat_id) == []


# --- a server that refuses ----------------------------------------------------------------------


async def test_errors_that_are_not_about_the_position_are_never_taken_for_a_verdict(
    streams: RedisStreams, connection: RedisConnection, chat_id: UUID
) -> None:
    """P8: what is no stream is as good as none, whatever it is, until its owner puts one in its place."""
    for put in (open_again, restore_again):
        await connection.exchange([("SET", streams.key(chat_id), "not a stream")])
        assert await streams.append(of(chat_id, part(1, 1))) == [MISSING]
        assert await everything(streams, chat_id) == []
        await put(streams, chat_id)
        assert await everything(streams, chat_id) == [opening(1)]
        assert await streams.append(of(chat_id, part(1, 1))) == [ADDED]


async def test_a_frame_that_may_not_be_published_is_an_error(own_redis: RedisServer, chat_id: UUID) -> None:
    async with open_redis(own_redis.start(), cluster_id="here") as connection:
        streams = RedisStreams(connection)
        await streams.open(chat_id, opening(1), trim=False)
        await connection.exchange([("ACL", "SETUSER", "default", "-publish")])
        with pytest.raises(StreamsUnavailable, match="publish"):
            await streams.append(of(chat_id, part(1, 1)))


async def open_again(streams: RedisStreams, chat_id: UUID) -> None:
    await streams.open(chat_id, opening(1), trim=False)


async def restore_again(streams: RedisStreams, chat_id: UUID) -> None:
    await streams.restore(chat_id, [opening(1)])


async def test_tenures_of_many_chats_open_in_one_round_trip_and_a_bad_key_stops_no_other(
    streams: RedisStreams, connection: RedisConnection, chat_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    bad = uuid4()
    await connection.exchange([("SET", streams.key(bad), "not a stream")])
    exchange, exchanges = connection.exchange, 0

    async def count(commands: Sequence[Command]) -> list[Reply]:
        nonlocal exchanges
        exchanges += 1
        return await exchange(commands)

    monkeypatch.setattr(connection, "exchange", count)
    good = [chat_id, uuid4(), uuid4()]
    outcomes = await streams.open_all([Opening(each, opening(1), trim=True) for each in (bad, *good)])
    assert exchanges == 3, "one for all, and two to put a stream in the place of what was none"
    assert outcomes == [None] * 4
    for each in (bad, *good):
        assert await everything(streams, each) == [opening(1)]


async def test_stream_and_live_channel_of_a_chat_are_in_one_slot(streams: RedisStreams, chat_id: UUID) -> None:
    tag = f"{{{chat_id}}}"
    assert tag in streams.key(chat_id)
    assert tag in live_channel(chat_id)


async def test_p2_the_stand_in_for_redis_fences_as_well(
    own_redis: RedisServer, chat_id: UUID, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Older versions of fakeredis's server close the connection after an error, so a stale owner learns its state by
    restoring; newer ones answer, as Redis does.
    """
    monkeypatch.setattr("chatcluster.local.embedded.redis_server.find_redis", lambda: None)
    turn = frame(Position(1, 2), TurnFrame(9, 3))
    async with open_redis(own_redis.start(), cluster_id="here") as connection:
        streams = RedisStreams(connection)
        await streams.open(chat_id, opening(1), trim=True)
        assert await streams.append(of(chat_id, part(1, 1), turn)) == [ADDED, ADDED]
        assert await streams.append([(uuid4(), part(1, 1))]) == [MISSING]
        await streams.open(chat_id, opening(2), trim=False)
        with pytest.raises(Fenced):
            await streams.open(chat_id, opening(1), trim=False)
        with suppress(StreamsUnavailable):
            assert await streams.append(of(chat_id, part(1, 3))) == [REFUSED]
        with pytest.raises(Fenced):
            await streams.restore(chat_id, [opening(1), part(1, 1), turn, part(1, 3)])
        await streams.restore(chat_id, [opening(2), part(2, 1)])
        assert await everything(streams, chat_id) == [turn, opening(2), part(2, 1)]
