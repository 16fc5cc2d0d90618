"""One Redis as the contract suites see it: part streams, and the pub/sub of two replicas."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass

import trio

from chatcluster.memory import MemoryBroker, MemoryPubSub, MemoryStreams
from chatcluster.ports import PartStreams, PubSub
from chatcluster.redis.connections import open_redis
from chatcluster.redis.pubsub import RedisPubSub
from chatcluster.redis.streams import RedisStreams

UNREACHABLE_URL = "redis://127.0.0.1:1/0"


@dataclass(frozen=True)
class World:
    streams: PartStreams
    here: PubSub
    there: PubSub
    """The same for another replica."""
    lose_data: Callable[[], Awaitable[None]]
    """Redis comes back empty, without anybody's connection being lost."""
    break_subscriptions: Callable[[], Awaitable[None]]
    """The connections that subscriptions use are lost. They can be made again at once."""


@asynccontextmanager
async def open_world(url: str | None) -> AsyncIterator[World]:
    """The Redis at ``url``, or one in memory."""
    if url is None:
        yield memory_world()
        return
    async with open_redis(url, cluster_id="here") as connection, trio.open_nursery() as nursery:

        async def lose_data() -> None:
            await connection.exchange([("FLUSHALL",)])

        async def break_subscriptions() -> None:
            await connection.exchange([("CLIENT", "KILL", "TYPE", "pubsub")])

        here, there = RedisPubSub(connection), RedisPubSub(connection)
        await nursery.start(here.run)
        await nursery.start(there.run)
        yield World(RedisStreams(connection), here, there, lose_data, break_subscriptions)
        nursery.cancel_scope.cancel()


@asynccontextmanager
async def open_cut_off_world(url: str | None) -> AsyncIterator[World]:
    """The same for replicas that do not reach the server."""
    if url is not None:
        async with open_world(UNREACHABLE_URL) as world:
            yield world
        return
    broker = MemoryBroker()
    broker.disconnect()
    yield memory_world(broker)


def memory_world(broker: MemoryBroker | None = None) -> World:
    broker = broker or MemoryBroker()

    async def lose_data() -> None:
        broker.flush()

    async def break_subscriptions() -> None:
        broker.disconnect()
        broker.connect()

    return World(MemoryStreams(broker), MemoryPubSub(broker), MemoryPubSub(broker), lose_data, break_subscriptions)
