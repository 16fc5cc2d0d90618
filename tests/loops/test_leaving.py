"""A replica told to leave (SIGTERM) goes, whatever the servers do: no wait on the way out is without end (P6)."""

from __future__ import annotations

import pytest
import trio

from chatcluster.audience import Audience
from chatcluster.config import Settings
from chatcluster.errors import StoreUnavailable
from chatcluster.memory import MemoryBroker, MemoryStreams
from chatcluster.parts import BEGINNING
from chatcluster.setting_sections import Streaming
from chatcluster.subscribe import Feeds
from chatcluster.watch import Watches
from loops.cluster_world import OWNER, World

NO_TIME = 0.5


async def test_a_replica_that_cannot_join_leaves_when_told_to(world: World) -> None:
    """It waits for the database to become a member, for ever; and stops to wait at once."""
    replica = await world.outsider()
    replica.lose_database()
    await trio.sleep(60)
    assert not replica.incarnations
    with trio.fail_after(NO_TIME):
        await replica.drain()


async def test_a_replica_that_lost_its_lease_leaves_when_told_to(world: World) -> None:
    replica = await world.replica()
    replica.lose_database()
    await trio.sleep(60)
    assert "replica.incarnation_ended" in world.names_told()
    with trio.fail_after(NO_TIME):
        await replica.drain()


async def test_a_heartbeat_that_finds_the_row_retired_is_no_lost_lease(world: World) -> None:
    """Its row is gone because it left: nobody is to be told of a loss."""
    replica = await world.replica()
    retired = replica.heartbeat_wire.hold_answer("retire")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(replica.drain)
        await retired.reached.wait()
        await trio.sleep(1.5)
        retired.release()
    assert "lease.lost" not in world.names_told()


async def test_a_reader_that_comes_when_nobody_serves_any_more_is_sent_to_another_replica(world: World) -> None:
    a = await world.replica()
    chat = await world.one_turn(a)
    streams = MemoryStreams(MemoryBroker())
    readers = Audience(Streaming())
    feeds = Feeds(store=a.store, streams=streams, pubsub=a.pubsub, settings=Settings(), audience=readers)
    watches = Watches(store=a.store, pubsub=a.pubsub, settings=Settings(), audience=readers)
    with pytest.raises(StoreUnavailable, match="another"):
        async with feeds.subscribe(chat.id, BEGINNING, owner_id=OWNER):
            raise AssertionError("there is no feed to read")
    with pytest.raises(StoreUnavailable, match="another"):
        async with watches.subscribe(OWNER):
            raise AssertionError("there is no list to read")
    assert feeds.subscribers == readers.size == 0
