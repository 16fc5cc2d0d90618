"""A worker that lost its lease writes nothing any more: not in Postgres, and not on the stream (P2)."""

from __future__ import annotations

import trio

from chatcluster.config import Settings
from chatcluster.memory.database import HeldLock
from loops.cluster_world import SimulatedReplica, World


async def test_what_was_said_but_not_sent_when_the_lease_was_lost_is_never_sent(world: World) -> None:
    owner = await world.replica()
    chat, call, reader = await world.answering(owner, "Half")
    held = owner.redis_wire.hold("append")
    call.say(" an answer")
    await held.reached.wait()
    call.say(", and more")
    await trio.sleep(1)
    owner.lose_database()
    await world.until(lambda: "lease.lost" in world.names_told())
    await world.settle()
    held.release()
    await reader.until_preview("Half an answer")
    await trio.sleep(1)
    assert reader.preview == "Half an answer"
    assert world.frames(chat) == ["1-0 open", "1-1 attempt", "1-2 part", "1-3 part"]


async def test_a_lock_that_a_dead_connection_holds_does_not_keep_a_replica_out(world: World) -> None:
    """The answer to its request was lost, and the server holds on to the connection: it joins under a new ID."""
    replica = SimulatedReplica(world, "a", Settings())
    unlucky = replica.worker_id
    world.database.locks[unlucky, 1] = HeldLock(world.database.server)
    await world.start(replica.run)
    await world.until(lambda: replica.registered, within=replica.settings.ownership.lease_ttl_seconds + 1)
    assert replica.worker_id != unlucky


async def test_a_claim_that_ends_after_the_lease_is_the_last_one(world: World) -> None:
    """P10: it is given back, and is there to be claimed again, by anybody else."""
    owner, nobody = await world.replica(claim_batch=1), await world.replica(slots=0)
    owner.heartbeat_wire.cut = True
    await trio.sleep(owner.settings.ownership.self_fence_seconds / 2)
    claim = owner.database_wire.hold_answer("claim")
    chats = [await nobody.create() for _ in range(9)]
    await claim.reached.wait()
    await world.until(lambda: "lease.lost" in world.names_told())
    claim.release()
    claims = owner.database_wire.crossings["claim"]
    for _ in range(500):
        await trio.lowlevel.checkpoint()
    assert owner.database_wire.crossings["claim"] == claims
    assert all(chat.owner is None for chat in chats)
