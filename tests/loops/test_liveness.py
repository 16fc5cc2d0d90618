"""Who lives and who does not: clocks that step, single connections that break, locks that move, rows that are held.

Nothing that happens to a clock, to one connection or to one row makes a healthy replica lose what it does (P10),
and nothing of it keeps the chats of a dead one from going on (P4).
"""

from __future__ import annotations

import pytest
import trio
from simulation.clocks import step_clock

from loops.cluster_world import SimulatedReplica, World

TAKEOVER_SECONDS = 0.1
FREEZE_SECONDS = 6.0
HOUR = 3600.0


# --- the database's clock ---------------------------------------------------------------------


@pytest.mark.parametrize("seconds", [-HOUR, 10.0, HOUR])
async def test_a_step_of_the_databases_clock_buries_nobody(world: World, seconds: float) -> None:
    replicas = await world.cluster(3)
    chat, call, _ = await world.answering(replicas[0], "Hi")
    await trio.sleep(3)
    for _ in range(5):
        step_clock(world.database, seconds)
        await trio.sleep(0.7)
    call.finish()
    await chat.until_status("waiting")
    assert chat.epoch == 1
    assert "replica.buried" not in world.names_told()


async def test_who_has_just_come_buries_nobody_after_a_step_either(world: World) -> None:
    """It has seen no renewal yet, and the sessions are gone as well: a failover to a machine with another clock."""
    a = await world.replica()
    chat, _, _ = await world.answering(a)
    world.database.restart_sessions()
    step_clock(world.database, HOUR)
    await world.replica()
    await trio.sleep(10)
    assert (chat.epoch, chat.owner) == (1, a.worker_id)


@pytest.mark.parametrize("seconds", [-HOUR, HOUR])
async def test_a_freeze_is_over_in_time_though_the_clock_steps_meanwhile(world: World, seconds: float) -> None:
    a, b = await world.cluster(2)
    chat, _, _ = await world.answering(a)
    await trio.sleep(3)
    a.freeze()
    step_clock(world.database, seconds)
    await chat.until(lambda chat: chat.owner == b.worker_id, within=FREEZE_SECONDS)


@pytest.mark.parametrize("seconds", [-HOUR, HOUR])
async def test_a_retry_waits_no_longer_than_it_was_to_though_the_clock_steps(world: World, seconds: float) -> None:
    """P4: its time is a date in the database, and the next owner counts what is left of it."""
    a, b = await world.cluster(2, retry_base_seconds=3.0)
    chat, call, _ = await world.answering(a)
    call.fail()
    await chat.until(lambda chat: chat.state.retry is not None)
    step_clock(world.database, seconds)
    a.kill()
    await chat.until(lambda chat: chat.owner == b.worker_id, within=TAKEOVER_SECONDS)
    with trio.fail_after(3.2):
        (await world.model.next_call()).answer("Hi")
    await chat.until_status("waiting")


# --- connections ------------------------------------------------------------------------------


@pytest.mark.parametrize("lock", [0, 1])
async def test_a_connection_that_breaks_buries_nobody(world: World, lock: int) -> None:
    a, _, _ = await world.cluster(3)
    chat, call, _ = await world.answering(a, "Hi")
    for _ in range(10):
        world.database.drop_session(a.worker_id, lock)
        await trio.sleep(1.7)
    call.finish()
    await chat.until_status("waiting")
    assert chat.epoch == 1
    assert "replica.buried" not in world.names_told()


@pytest.mark.parametrize("lock", [0, 1])
async def test_the_death_after_a_broken_connection_is_known_at_once(world: World, lock: int) -> None:
    a, b = await world.cluster(2)
    chat, _, _ = await world.answering(a)
    world.database.drop_session(a.worker_id, lock)
    await trio.sleep(3)
    a.kill()
    await chat.until(lambda chat: chat.owner == b.worker_id, within=TAKEOVER_SECONDS)


# --- failover ---------------------------------------------------------------------------------


async def test_session_locks_move_with_the_primary(world: World) -> None:
    """P4: the old one still answers who only reads, so no session there would ever end by itself."""
    replicas = await world.cluster(3)
    chat, _, _ = await world.answering(replicas[0])
    world.database.fail_over()
    await trio.sleep(4)
    assert "replica.buried" not in world.names_told(), "locks that are let go of on the old primary are no deaths"
    assert {key[0] for key in world.database.locks} == {replica.worker_id for replica in replicas}
    replicas[0].kill()
    await chat.until(lambda chat: chat.epoch > 1 and chat.owner is not None, within=TAKEOVER_SECONDS)


async def test_who_comes_after_a_failover_is_watched_and_watches(world: World) -> None:
    a = await world.replica()
    world.database.fail_over()
    b = await world.replica()
    await trio.sleep(3)
    chat, _, _ = await world.answering(a)
    owner = world.owner_of(chat)
    other = b if owner is a else a
    owner.kill()
    await chat.until(lambda chat: chat.owner == other.worker_id, within=TAKEOVER_SECONDS)


async def test_a_failover_while_a_replica_is_cut_off_leaves_it_to_its_lease(world: World) -> None:
    """P2: its locks stay on the old primary, and those who watched there begin anew."""
    a, b = await world.cluster(2)
    chat, call, _ = await world.answering(a)
    world.database.fail_over()
    a.disconnect()
    with trio.fail_after(a.settings.ownership.self_fence_seconds + 0.1):
        await call.ended.wait()
    assert chat.owner == a.worker_id, "it stops before anyone takes over"
    await chat.until(lambda chat: chat.owner == b.worker_id, within=FREEZE_SECONDS)


# --- rows that somebody holds -----------------------------------------------------------------


async def test_a_chat_that_somebody_holds_delays_itself_alone(world: World) -> None:
    a, b = await world.cluster(2)
    chats = [(await world.answering(a))[0] for _ in range(4)]
    world.database.locked_rows.add(chats[1].id)
    a.kill()
    for chat in (chats[0], *chats[2:]):
        await chat.until(lambda chat: chat.owner == b.worker_id, within=TAKEOVER_SECONDS)
    await trio.sleep(30)
    assert chats[1].owner == a.worker_id
    world.database.locked_rows.clear()
    await chats[1].until(lambda chat: chat.owner == b.worker_id, within=1.0)
    assert len([name for name in world.names_told() if name == "replica.buried"]) == 2


async def test_a_chat_that_is_held_for_a_moment_waits_for_no_sweep(world: World) -> None:
    """A user's transaction is under way on it when its owner dies."""
    a, b = await world.cluster(2, sweep_seconds=3600.0)
    chat, _, _ = await world.answering(a)
    world.database.locked_rows.add(chat.id)
    a.kill()
    await trio.sleep(0.01)
    world.database.locked_rows.clear()
    await chat.until(lambda chat: chat.owner == b.worker_id, within=TAKEOVER_SECONDS)


async def test_a_row_of_a_replica_that_somebody_holds_keeps_no_chat(world: World) -> None:
    """Its owner cannot renew, and goes on as another worker; the row is deleted when it can be."""
    a, b = await world.cluster(2)
    chat, call, _ = await world.answering(a)
    first = a.worker_id
    world.database.locked_rows.add(first)
    a.heartbeat_wire.cut = True
    await call.ended.wait()
    a.heartbeat_wire.cut = False
    await world.until(lambda: len(a.incarnations) == 2, within=1.0)
    await chat.until(lambda chat: chat.epoch == 2, within=1.0)
    assert chat.owner in (a.worker_id, b.worker_id)
    told = len(world.told)
    await trio.sleep(60)
    assert first in world.database.replicas
    assert "replica.buried" not in [name for name, _ in world.told[told:]], "nobody buries in a loop"
    world.database.locked_rows.clear()
    await world.until(lambda: first not in world.database.replicas, within=1.0)


# --- what nobody thought of -------------------------------------------------------------------


async def test_an_unforeseen_error_ends_no_replica(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """P10: it is told, and what met it goes on."""
    a, b = await world.cluster(2)
    chat, call, _ = await world.answering(a, "Hi")
    for operation in ("renew", "heartbeats", "watch", "bury"):
        fail_for_a_while(a, operation, monkeypatch)
    world.database.restart_sessions()
    await trio.sleep(2.5)
    monkeypatch.undo()
    await trio.sleep(5)
    call.finish()
    await chat.until_status("waiting")
    assert {"lease.renewal_failed", "sweep.failed", "session.watch_failed"} <= set(world.names_told())
    assert [len(replica.incarnations) for replica in (a, b)] == [1, 1]
    b.kill()
    await world.until(lambda: len(world.database.replicas) == 1, within=TAKEOVER_SECONDS)


def fail_for_a_while(replica: SimulatedReplica, operation: str, monkeypatch: pytest.MonkeyPatch) -> None:
    async def fail(*_: object, **__: object) -> None:
        await trio.lowlevel.checkpoint()
        raise RuntimeError("nobody thought of this")

    monkeypatch.setattr(replica.registry, operation, fail)
