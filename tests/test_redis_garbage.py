"""P10: whatever is stored in Redis or published there, each chat but the one that it concerns goes on as ever."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from uuid import UUID, uuid4

import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from chatcluster.errors import StreamsUnavailable
from chatcluster.parts import START, Frame, Position, TextPart
from chatcluster.ports import hint_channel, live_channel, owner_channel, worker_channel
from chatcluster.ports.pubsub import REPLICAS_CHANNEL, RUNNABLE_CHANNEL, TOKENS_CHANNEL
from chatcluster.publisher import Publisher
from chatcluster.redis.connections import Command, RedisConnection, open_redis
from chatcluster.redis.pubsub import RedisPubSub
from chatcluster.redis.streams import RedisStreams
from chatcluster.relay import Relay, Tenure

pytestmark = pytest.mark.redis

WORKER = UUID(int=3)
SEQ_MAX = 2**64 - 1


class Screen:
    """Where a relay's frames come out."""

    busy = False

    def __init__(self) -> None:
        self.frames: list[Frame] = []
        self.last = trio.Event()

    async def until_free(self) -> None:
        pass

    def take(self, frames: object) -> None:
        self.frames.extend(frames)  # type: ignore[arg-type]
        if any(b"the end" in frame.data for frame in self.frames):
            self.last.set()

    def newer_tenure(self) -> None:
        pass


@dataclass
class Desk:
    """A replica's publisher, pub/sub and relays, and a chat that others spoil and one that they leave alone."""

    connection: RedisConnection
    streams: RedisStreams
    pubsub: RedisPubSub
    publisher: Publisher
    nursery: trio.Nursery

    def follow(self, chat_id: UUID) -> Screen:
        screen = Screen()
        relay = Relay(chat_id, streams=self.streams, pubsub=self.pubsub, receiver=screen)
        relay.target = Tenure(1, WORKER)
        self.nursery.start_soon(relay.run)
        return screen


@asynccontextmanager
async def open_desk(url: str) -> AsyncIterator[Desk]:
    async with open_redis(url, cluster_id="here") as connection, trio.open_nursery() as nursery:
        await connection.exchange([("FLUSHALL",)])
        streams, pubsub = RedisStreams(connection), RedisPubSub(connection)
        publisher = Publisher(streams, coalesce_seconds=0)
        await nursery.start(pubsub.run)
        nursery.start_soon(publisher.run)
        yield Desk(connection, streams, pubsub, publisher, nursery)
        nursery.cancel_scope.cancel()


anything = st.binary(max_size=60)
words = st.sampled_from(
    [b"kind", b"data", b"open", b"attempt", b"part", b"turn", b"committed", b"close", b"{}", b'{"type":"attempt"}']
)
numbers = st.sampled_from([0, 1, 2, 3, 999_999, 2**53, 2**63 - 1, 2**63, SEQ_MAX])
entry_ids = st.one_of(st.just("*"), st.builds("{}-{}".format, numbers, numbers))
fields = st.lists(words | anything, min_size=1, max_size=3).map(lambda names: [*names, *names])
payloads = st.one_of(anything, st.builds(b"%d-%d %s %s".__mod__, st.tuples(numbers, numbers, words, words | anything)))


def spoilings(key: str, channels: list[str]) -> st.SearchStrategy[list[Command]]:
    """What somebody else may do to the key of one chat, and on any channel."""
    commands: st.SearchStrategy[list[Command]] = st.one_of(
        st.builds(lambda entry_id, names: [("XADD", key, entry_id, *names)], entry_ids, fields),
        st.builds(lambda value: [("SET", key, value)], anything),
        st.builds(lambda value: [("DEL", key), ("RPUSH", key, value)], anything),
        st.builds(lambda value: [("DEL", key), ("HSET", key, value, value)], anything),
        st.just([("DEL", key), ("PFADD", key, "x")]),
        st.just([("DEL", key)]),
        st.just([("PEXPIRE", key, 1)]),
        st.builds(lambda channel, payload: [("PUBLISH", channel, payload)], st.sampled_from(channels), payloads),
    )
    return st.lists(commands, min_size=1, max_size=6).map(lambda lists: [each for some in lists for each in some])


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(data=st.data())
def test_whatever_is_in_one_chats_stream_and_on_any_channel_the_other_chats_words_arrive(
    redis_url: str, data: st.DataObject
) -> None:
    """The spoiled chat's stream is told to look at Postgres, or is put right; the other's come in order."""
    trio.run(_spoil, redis_url, data)


async def _spoil(url: str, data: st.DataObject) -> None:
    spoiled, other = uuid4(), uuid4()
    async with open_desk(url) as desk:
        screens = [desk.follow(spoiled), desk.follow(other)]
        prefix = desk.connection.channel_prefix
        names = [live_channel(spoiled), hint_channel(spoiled), worker_channel(WORKER), owner_channel(WORKER)]
        names += [RUNNABLE_CHANNEL, REPLICAS_CHANNEL, TOKENS_CHANNEL, "unheard-of"]
        channels = [prefix + name for name in names]
        tenures = [desk.publisher.stream(chat_id, WORKER, 1, on_fenced=lambda: None) for chat_id in (spoiled, other)]
        for tenure in tenures:
            tenure.open(1, trim=True)
            tenure.attempt(1, 1, 1)
        for number in range(3):
            await desk.connection.exchange(data.draw(spoilings(desk.streams.key(spoiled), channels)))
            for tenure in tenures:
                tenure.part(TextPart(f"word {number}"))
        for tenure in tenures:
            tenure.part(TextPart("the end"))
        with trio.fail_after(60):
            await screens[1].last.wait()
        positions = [frame.position for frame in screens[1].frames]
        assert positions == [Position(1, seq) for seq in range(6)]
        assert await desk.streams.read(other, after=START, limit=100) == screens[1].frames
        await desk.streams.read(spoiled, after=START, limit=100)


@settings(max_examples=100, deadline=None, suppress_health_check=list(HealthCheck))
@given(replies=st.binary(max_size=200))
def test_whatever_a_server_answers_is_an_answer_or_unavailable(replies: bytes) -> None:
    """Any bytes at all, in the place of replies."""
    trio.run(_answered_with, replies)


async def _answered_with(replies: bytes) -> None:
    (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")

    async def answer(client: trio.SocketStream) -> None:
        await client.receive_some()
        await client.send_all(b"+OK\r\n" + replies)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(trio.serve_listeners, answer, [listener])
        port = listener.socket.getsockname()[1]
        async with open_redis(f"redis://127.0.0.1:{port}", cluster_id="here") as connection:
            streams = RedisStreams(connection)
            for _ in range(2):
                with suppress(StreamsUnavailable):
                    await streams.read(uuid4(), after=START, limit=10)
        nursery.cancel_scope.cancel()
