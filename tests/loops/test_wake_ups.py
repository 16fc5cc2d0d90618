"""Work starts at once, wherever it comes in; polls are the safety net and no more."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest
import trio

from chatcluster.parts import NewMessage, Role, TextPart
from chatcluster.ports import NewChat
from loops.cluster_world import World

HOUR = 3600.0
AT_ONCE = 0.01


async def test_a_message_starts_at_once_on_the_same_replica(world: World) -> None:
    """With a poll once in an hour."""
    a = await world.replica(claim_poll_seconds=HOUR)
    began = trio.current_time()
    chat = await a.create()
    (await world.model.next_call()).answer("Hi.")
    await chat.until_status("waiting")
    await a.send(chat, "again")
    (await world.model.next_call()).answer("Yes.")
    await chat.until_status("waiting")
    assert trio.current_time() - began < AT_ONCE


@pytest.mark.parametrize("why", ["it serves readers only", "it is full"])
async def test_a_message_starts_at_once_on_another_replica(world: World, why: str) -> None:
    if why == "it is full":
        here = await world.replica(claim_poll_seconds=HOUR, slots=1)
        await world.answering(here)
    else:
        here = await world.replica(claim_poll_seconds=HOUR, slots=0)
    there = await world.replica(claim_poll_seconds=HOUR)
    began = trio.current_time()
    chat = await here.create("anybody?")
    (await world.model.next_call()).answer("Yes.")
    await chat.until_status("waiting")
    assert trio.current_time() - began < AT_ONCE
    assert there.database_wire.crossings["commit"] == 1


async def test_a_replica_that_only_serves_never_claims(world: World) -> None:
    passive = await world.replica(slots=0, claim_poll_seconds=0.1)
    chat = await passive.create()
    await trio.sleep(60)
    assert chat.status == "pending"
    assert world.model.calls == []
    assert passive.database_wire.crossings["claim"] == 0
    assert passive.registered


async def test_a_slot_that_becomes_free_takes_the_next_chat_at_once(world: World) -> None:
    a = await world.replica(claim_poll_seconds=HOUR, slots=1)
    first, call, _ = await world.answering(a, "Hi")
    second = await a.create("my turn?")
    await trio.sleep(10)
    assert second.status == "pending"
    began = trio.current_time()
    call.finish()
    (await world.model.next_call()).answer("Yes.")
    await second.until_status("waiting")
    assert trio.current_time() - began < AT_ONCE
    assert first.status == "waiting"


async def test_no_replica_works_on_more_chats_than_it_has_slots(world: World) -> None:
    a, b = await world.cluster(2, slots=3, claim_batch=10)
    chats = [await a.create(f"hello {number}") for number in range(10)]
    await trio.sleep(5)
    assert (a.loop.chats, b.loop.chats) == (3, 3)
    assert [chat.status for chat in chats].count("pending") == 4
    for _ in chats:
        (await world.model.next_call()).answer("Hi.")
    for chat in chats:
        await chat.until_status("waiting")
    assert len(world.model.calls) == 10


async def test_one_users_silent_models_take_all_but_some_places_and_another_user_is_answered_at_once(
    world: World,
) -> None:
    """P10"""
    a = await world.replica(claim_poll_seconds=HOUR, slots=16)
    greedy = [await a.create(f"hello {number}") for number in range(20)]
    silent = [await world.model.next_call() for _ in range(14)]
    await world.settle()
    assert a.loop.chats == 14
    began = trio.current_time()
    modest = NewChat(uuid4(), UUID(int=77), "theirs", None, (NewMessage(Role.USER, (TextPart("me too"),)),))
    await a.transitions.create(modest)
    call = await world.model.next_call()
    assert call.prompt == ["user: me too"]
    call.answer("Yes.")
    silent[0].answer("At last.")
    await world.model.next_call()
    assert trio.current_time() - began < AT_ONCE, "what becomes free is taken at once as well"
    assert [chat.status for chat in greedy].count("pending") == 5


async def test_what_is_too_much_for_one_replica_starts_at_once_on_another(world: World) -> None:
    """It had a place when each chat came in, but not for all of them."""
    a, _ = await world.cluster(2, claim_poll_seconds=HOUR, slots=3)
    began = trio.current_time()
    async with trio.open_nursery() as nursery:
        for number in range(6):
            nursery.start_soon(a.create, f"hello {number}")
    for _ in range(6):
        await world.model.next_call()
    assert trio.current_time() - began < AT_ONCE


async def test_the_oldest_chat_is_claimed_first(world: World) -> None:
    nobody = await world.replica(slots=0)
    for number in range(5):
        await nobody.create(f"hello {number}")
        await trio.sleep(1)
    await world.replica(slots=1)
    asked = []
    for _ in range(5):
        call = await world.model.next_call()
        asked += call.prompt
        call.answer("Hi.")
    assert asked == [f"user: hello {number}" for number in range(5)]


async def test_more_chats_than_a_batch_are_claimed_without_waiting_for_the_poll(world: World) -> None:
    nobody = await world.replica(slots=0)
    chats = [await nobody.create(f"hello {number}") for number in range(25)]
    await world.replica(claim_poll_seconds=HOUR, claim_batch=10)
    began = trio.current_time()
    for _ in chats:
        (await world.model.next_call()).answer("Hi.")
    assert trio.current_time() - began < AT_ONCE


async def test_without_hints_the_poll_finds_what_there_is_to_do(world: World) -> None:
    """P8: Redis is gone; a message to a replica without a place starts with the next poll of another."""
    here, _ = await world.replica(slots=0), await world.replica()
    world.broker.disconnect()
    began = trio.current_time()
    chat = await here.create()
    (await world.model.next_call()).answer("Hi.")
    await chat.until_status("waiting")
    assert trio.current_time() - began < 1.3


async def test_a_turn_with_readers_costs_few_reads_more(world: World) -> None:
    """Reads are per change and replica, not per reader; hints come in while the turn goes on."""
    a = await world.replica(claim_poll_seconds=HOUR)
    chat = await world.one_turn(a)
    readers = [await a.read(chat) for _ in range(10)]
    await world.settle()
    before = a.database_wire.crossings.copy()
    await a.send(chat, "again")
    call = await world.model.next_call()
    for word in range(50):
        call.say(f"{word} ")
        await trio.sleep(0.02)
    call.finish()
    for reader in readers:
        await reader.until(lambda reader: len(reader.history) == 4 and reader.status == "waiting")
    assert (a.database_wire.crossings - before)["read"] <= 4
