"""A replica told to leave (SIGTERM) goes, whatever the servers do: no wait on the way out is without end (P6)."""

from __future__ import annotations

import trio

from loops.cluster_world import World

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
