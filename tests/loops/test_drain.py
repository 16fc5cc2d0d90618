"""A deploy is invisible (P6): chats change hands at a step boundary, readers go on at their cursor."""

from __future__ import annotations

import pytest
import trio

from loops.cluster_world import Chat, SimulatedReplica, World
from loops.reader import Reader
from loops.scripted_model import Call


async def draining(world: World, **settings: float) -> tuple[SimulatedReplica, SimulatedReplica, Chat, Call, Reader]:
    """Two replicas, the first of which has been told to leave while it answers; the reader is on it."""
    a, b = await world.cluster(2, **settings)
    chat, call, reader = await world.answering(a, "Hi")
    a.loop.drain()
    await world.settle()
    return a, b, chat, call, reader


async def test_an_answer_under_way_is_finished_first(world: World) -> None:
    a, _, chat, call, reader = await draining(world)
    call.answer(" there!")
    await reader.until_status("waiting")
    await reader.until_cut()
    await a.stopped.wait()
    assert chat.history == ["user: hello", "assistant: Hi there!"]
    assert reader.history == chat.history, "readers get what was published before they are cut"
    assert len(world.model.calls) == 1
    assert not a.registered


async def test_the_next_turn_is_anothers(world: World) -> None:
    """The step boundary: what is queued is answered by another replica, in a tenure of its own."""
    a, b = await world.cluster(2)
    chat, call, reader = await world.answering(a, "Hi")
    await a.send(chat, "next")
    a.loop.drain()
    await world.settle()
    call.finish()
    call = await world.model.next_call()
    assert (chat.owner, chat.epoch) == (b.worker_id, 2)
    assert call.prompt == ["user: hello", "assistant: Hi", "user: next"]
    resumed = await b.resume(chat, reader)
    call.answer("Yes.")
    await resumed.until_status("waiting")
    assert resumed.history == chat.history


async def test_an_answer_that_takes_too_long_is_given_up_and_redone_elsewhere(world: World) -> None:
    """After ``drain_seconds`` the chat is given back: nothing of the attempt is kept, and nothing doubled."""
    a, b = await world.cluster(2, drain_seconds=5.0)
    chat, call, reader = await world.answering(a, "Half an")
    a.loop.drain()
    began = trio.current_time()
    fresh = await world.model.next_call()
    assert trio.current_time() - began == pytest.approx(5.0, abs=0.1)
    assert call.ended.is_set()
    assert chat.owner == b.worker_id
    fresh.say("Whole")
    await reader.until_cut()
    resumed = await b.resume(chat, reader)
    fresh.answer(".")
    await resumed.until_status("waiting")
    assert resumed.history == chat.history == ["user: hello", "assistant: Whole."]


async def test_a_draining_replica_claims_nothing_more(world: World) -> None:
    a, b, chat, call, _ = await draining(world)
    another = await a.create("who takes me?")
    await another.until(lambda chat: chat.owner is not None)
    assert another.owner == b.worker_id
    assert world.database.replicas[a.worker_id].replica.draining, "and says so in the registry"
    call.finish()
    await a.stopped.wait()
    assert chat.status == "waiting"


async def test_readers_are_cut_when_the_replica_leaves_and_resume_without_a_gap(world: World) -> None:
    """The stream ends abruptly, so that no client takes it for complete."""
    _, b, chat, _, reader = await draining(world, drain_seconds=1.0)
    await reader.until_cut()
    assert reader.cut == "drain"
    resumed = await b.resume(chat, reader)
    (await world.model.next_call()).answer("Once more.")
    await resumed.until_status("waiting")
    assert resumed.history == chat.history


async def test_a_wait_for_a_retry_is_handed_over_at_once_and_waited_out_elsewhere(world: World) -> None:
    a, b = await world.cluster(2, retry_base_seconds=20.0)
    chat, call, reader = await world.answering(a)
    failed_at = trio.current_time()
    call.fail()
    await reader.until_line("retry 1 overloaded")
    await a.drain()
    await chat.until(lambda chat: chat.owner == b.worker_id, within=0.1)
    assert trio.current_time() - failed_at < 1
    await world.model.next_call()
    assert trio.current_time() - failed_at == pytest.approx(20.0, abs=0.2)


async def test_a_completed_turn_is_not_run_again_by_a_shutdown(world: World) -> None:
    """The drain runs out while the answer is being committed: the commit counts, whoever hears of it."""
    a, b = await world.cluster(2, drain_seconds=5.0)
    chat, call, _ = await world.answering(a, "Hi")
    reader = await b.read(chat)
    a.database_wire.lose_answer("commit", times=1000)
    call.finish()
    await chat.until_status("waiting")
    await a.drain()
    await trio.sleep(20)
    assert chat.history == ["user: hello", "assistant: Hi"]
    assert chat.status == "waiting"
    assert len(world.model.calls) == 1
    await reader.until_status("waiting")
    assert reader.history == chat.history


async def test_a_stop_during_the_drain_keeps_the_partial(world: World) -> None:
    a, _, chat, _, reader = await draining(world)
    await a.interrupt(chat)
    await reader.until_status("waiting", within=0.1)
    await a.stopped.wait()
    assert chat.history == ["user: hello", "assistant: Hi"]
    assert reader.history == chat.history


async def test_a_stop_at_the_very_end_of_the_drain_is_finished_by_another(world: World) -> None:
    """The last owner had no time to commit the partial: its words are on the stream."""
    a, b = await world.cluster(2, drain_seconds=1.0)
    chat, _, _ = await world.answering(a)
    reader = await b.read(chat)
    await reader.until_preview("Half an")
    a.loop.drain()
    hold = a.database_wire.hold("commit")
    await b.interrupt(chat)
    await hold.reached.wait()
    await reader.until_status("waiting", within=5.0)
    assert chat.history == ["user: hello", "assistant: Half an"]


async def test_an_idle_replica_leaves_at_once(world: World) -> None:
    a, b = await world.cluster(2)
    began = trio.current_time()
    await a.drain()
    assert trio.current_time() - began < 0.1
    assert list(world.database.replicas) == [b.worker_id]


async def test_the_last_replica_leaves_its_chats_to_whoever_comes(world: World) -> None:
    a = await world.replica(drain_seconds=1.0)
    chat, _, _ = await world.answering(a)
    await a.drain()
    assert chat.status == "pending"
    assert chat.owner is None
    await world.replica()
    (await world.model.next_call()).answer("Whole.")
    await chat.until_status("waiting")
    assert chat.history == ["user: hello", "assistant: Whole."]


async def test_many_chats_are_handed_over_within_the_bound(world: World) -> None:
    a = await world.replica(drain_seconds=3.0)
    chats = []
    for number in range(20):
        chats.append(await a.create(f"hello {number}"))
        (await world.model.next_call()).say("Half")
    b = await world.replica()
    began = trio.current_time()
    await a.drain()
    assert trio.current_time() - began < 3.2
    for chat in chats:
        await chat.until(lambda chat: chat.owner == b.worker_id, within=1.0)
        assert chat.epoch == 2


async def test_a_rolling_deploy_is_one_sequence_for_a_reader(world: World) -> None:
    """Every replica is replaced, one after the other, while a conversation goes on."""
    old = await world.cluster(3)
    chat = await old[0].create("turn 0")
    reader = await old[0].read(chat)
    for number, leaving in enumerate(old, start=1):
        call = await world.model.next_call()
        call.say("Half")
        await reader.until_preview("Half")
        fresh = await world.replica()
        await fresh.send(chat, f"turn {number}")
        leaving.loop.drain()
        await world.settle()
        call.answer(" and half.")
        if reader.cut is None:
            await reader.until(lambda reader, n=number: len(reader.history) >= 2 * n)  # type: ignore[misc]
        await leaving.stopped.wait()
        reader = await fresh.resume(chat, reader)
    (await world.model.next_call()).answer("The end.")
    await reader.until_status("waiting")
    assert reader.history == chat.history
    assert len(chat.history) == 8


async def test_a_chat_that_moves_while_it_is_given_back_goes_on_elsewhere(world: World) -> None:
    """An edit comes between the decision to hand the chat over and the write that does it: no error, no lost edit."""
    a, b = await world.cluster(2)
    chat, call, _ = await world.answering(a, "Hi")
    call.fail()
    await world.settle()
    release = a.database_wire.hold("commit")
    a.loop.drain()
    await release.reached.wait()
    await b.edit(chat, "hello", "good morning")
    release.release()
    call = await world.model.next_call()
    assert (chat.status, chat.owner) == ("running", b.worker_id)
    call.answer("Good morning!")
    await chat.until_status("waiting")
    assert chat.history == ["user: good morning", "assistant: Good morning!"]


async def test_an_administrator_drains_a_replica_as_a_signal_does(world: World) -> None:
    """P6: it learns of it with its next heartbeat."""
    a, b = await world.cluster(2)
    chat, call, _ = await world.answering(a)
    world.database.replicas[a.worker_id].drain_requested = True
    await world.until(lambda: a.loop.draining)
    call.finish()
    with trio.fail_after(10):
        await a.stopped.wait()
    await chat.until_status("waiting")
    assert not b.loop.draining
