"""Redis is never the truth (P8): without it parts pause, and everything durable goes on."""

from __future__ import annotations

import pytest
import trio

from chatcluster.chat import Busy
from loops.cluster_world import Chat, SimulatedReplica, World
from loops.reader import Reader
from loops.scripted_model import Call


async def answering_across(world: World) -> tuple[SimulatedReplica, SimulatedReplica, Chat, Call, Reader]:
    """A chat in mid-answer on one replica, read on another."""
    a, b = await world.replica(), await world.replica(slots=0)
    chat, call, _ = await world.answering(a, "Once")
    reader = await b.read(chat)
    await reader.until_preview("Once")
    return a, b, chat, call, reader


async def test_an_answer_is_completed_and_shown_without_redis(world: World) -> None:
    """Durable messages reach readers with the poll, within 2 s."""
    _, b, chat, call, reader = await answering_across(world)
    world.broker.disconnect()
    call.answer(" upon a time")
    await chat.until_status("waiting", within=0.1)
    await reader.until_status("waiting", within=b.settings.streaming.feed_poll_seconds + 0.6)
    assert reader.history == chat.history == ["user: hello", "assistant: Once upon a time"]


async def test_a_new_turn_starts_and_ends_without_redis(world: World) -> None:
    a, b, chat, call, reader = await answering_across(world)
    world.broker.disconnect()
    call.finish()
    await chat.until_status("waiting")
    for number in range(3):
        await world.exchange(a, chat, f"message {number}", f"answer {number}")
    await reader.until(lambda reader: reader.history == chat.history, within=3.0)
    late = await b.read(chat)
    await late.until_line("queue []")
    assert late.history == chat.history


async def test_an_interrupt_takes_effect_without_redis(world: World) -> None:
    """Sent through another replica: the owner's next heartbeat brings it, within 2 s. All that was said is kept."""
    _, b, chat, call, reader = await answering_across(world)
    world.broker.disconnect()
    call.say(" upon")
    await world.settle()
    await b.interrupt(chat)
    await chat.until_status("waiting", within=2.0)
    assert chat.history == ["user: hello", "assistant: Once upon"]
    await reader.until_status("waiting", within=3.0)


async def test_parts_catch_up_when_redis_comes_back_with_its_data(world: World) -> None:
    _, _, chat, call, reader = await answering_across(world)
    world.broker.disconnect()
    call.say(" upon")
    await trio.sleep(20)
    assert reader.preview == "Once", "parts pause"
    world.broker.connect()
    await reader.until_preview("Once upon", within=1.0)
    call.answer(" a time")
    await reader.until_status("waiting")
    assert reader.story.count("attempt 1") == 1
    assert reader.history == chat.history


async def test_parts_are_restored_when_redis_comes_back_empty(world: World) -> None:
    """What readers had is not shown again: the frames come back at the same positions."""
    _, b, chat, call, reader = await answering_across(world)
    world.broker.disconnect()
    call.say(" upon")
    await trio.sleep(20)
    world.broker.flush()
    world.broker.connect()
    call.say(" a time")
    await reader.until_preview("Once upon a time", within=1.0)
    assert world.frames(chat)[0] == "1-0 open"
    late = await b.read(chat)
    await late.until_preview("Once upon a time", within=1.0)
    call.finish()
    await reader.until_status("waiting")
    assert reader.story[3:] == [
        "attempt 1",
        "… Once upon a time",
        "assistant: Once upon a time",
        "status waiting",
    ]


@pytest.mark.parametrize("lost", [1, 2, 100])
async def test_what_redis_lost_while_nothing_was_said_is_there_again_for_who_comes_late(
    world: World, lost: int
) -> None:
    """It comes back with what it had saved, or with nothing; the model says its next word much later."""
    _, b, chat, call, reader = await answering_across(world)
    call.say(" upon")
    await reader.until_preview("Once upon")
    world.broker.disconnect()
    await trio.sleep(20)
    world.broker.lose_newest(lost)
    world.broker.connect()
    await world.settle()
    late = await b.read(chat)
    await late.until_preview("Once upon", within=1.0)
    other = await (await world.replica(slots=0)).read(chat)
    await other.until_preview("Once upon", within=1.0)
    call.answer(" a time")
    for each in (reader, late, other):
        await each.until_status("waiting")
        assert each.story[-3:] == ["… Once upon a time", "assistant: Once upon a time", "status waiting"]


async def test_readers_that_missed_hints_ask_the_database_together(world: World) -> None:
    """When a connection is regained each followed chat may have changed: that is one statement, not one for each."""
    a, b = await world.replica(), await world.replica(slots=0)
    chats = [await world.one_turn(a, "1", "2") for _ in range(10)]
    readers = [await b.read(chat) for chat in chats]
    for reader in readers:
        await reader.until_status("waiting")
    before = b.database_wire.crossings.copy()
    b.pubsub.disconnect()
    await a.rename(chats[3], "Greetings")
    b.pubsub.connect()
    await readers[3].until_line("title Greetings", within=0.05)
    assert b.database_wire.crossings - before == {"versions": 1, "read": 1}


async def test_a_stream_that_vanishes_is_made_anew(world: World) -> None:
    """The server lost its data, but no connection: ``MISSING`` tells the publisher."""
    _, b, chat, call, reader = await answering_across(world)
    world.broker.flush()
    call.say(" upon")
    await reader.until_preview("Once upon", within=1.0)
    late = await b.read(chat)
    await late.until_preview("Once upon", within=1.0)


async def test_a_turn_can_begin_before_redis_is_there_and_its_parts_follow(world: World) -> None:
    a, b = await world.replica(), await world.replica(slots=0)
    world.broker.disconnect()
    chat = await a.create()
    reader = await b.read(chat)
    call = await world.model.next_call()
    call.say("Once")
    await trio.sleep(10)
    world.broker.connect()
    await reader.until_preview("Once", within=1.0)
    call.answer(" upon a time")
    await reader.until_status("waiting")
    assert "… Once upon a time" in reader.story


async def test_a_reader_joins_without_redis(world: World) -> None:
    a = await world.replica()
    chat, call, _ = await world.answering(a, "Once")
    b = await world.replica()
    world.broker.disconnect()
    reader = await b.read(chat)
    await reader.until_line("queue []", within=0.1)
    assert reader.story == ["status running", "user: hello", "queue []"]
    call.answer(" upon a time")
    await reader.until_status("waiting", within=3.0)
    assert reader.history == chat.history


async def test_a_takeover_needs_no_redis(world: World) -> None:
    a, b = await world.cluster(2)
    chat, _, _ = await world.answering(a)
    reader = await b.read(chat)
    await reader.until_preview("Half an")
    reader.view.words_may_be_lost = True
    world.broker.disconnect()
    a.kill()
    (await world.model.next_call()).answer("Whole.")
    await chat.until_status("waiting", within=0.1)
    await reader.until_status("waiting", within=3.0)
    assert reader.history == chat.history


async def test_an_interruption_taken_over_without_redis_ends_soon_without_its_partial(world: World) -> None:
    """The words of the dead are out of reach: the stop is not kept waiting for them."""
    a, b = await world.cluster(2)
    chat, _, _ = await world.answering(a)
    reader = await b.read(chat)
    reader.view.words_may_be_lost = True
    await reader.until_preview("Half an")
    hold = a.database_wire.hold("commit")
    await b.interrupt(chat)
    await hold.reached.wait()
    world.broker.disconnect()
    a.kill()
    await chat.until_status("waiting", within=3.0)
    await reader.until_status("waiting", within=3.0)
    assert reader.history == chat.history == ["user: hello"]
    late = await b.read(chat)
    await late.until_line("queue []")
    assert late.story == ["status waiting", "user: hello", "queue []"], "no preview of what was lost"


async def test_redis_lost_and_back_again_and_again_doubles_no_text(world: World) -> None:
    _, b, chat, call, reader = await answering_across(world)
    said = "Once"
    for number in range(8):
        if number % 2:
            world.broker.flush()
        world.broker.disconnect()
        call.say(f" {number}a")
        await trio.sleep(0.3 * number)
        world.broker.connect()
        call.say(f" {number}b")
        said += f" {number}a {number}b"
        await reader.until_preview(said, within=2.0)
    late = await b.read(chat)
    await late.until_preview(said)
    call.finish()
    for each in (reader, late):
        await each.until_status("waiting")
        assert each.history == ["user: hello", f"assistant: {said}"]


async def test_one_replica_alone_without_redis_is_served_by_its_polls(world: World) -> None:
    a, b, chat, call, reader = await answering_across(world)
    b.pubsub.disconnect()
    b.redis_wire.cut = True
    call.answer(" upon a time")
    await reader.until_status("waiting", within=3.0)
    b.redis_wire.cut = False
    b.pubsub.connect()
    await a.send(chat, "again")
    call = await world.model.next_call()
    call.say("Twice")
    await reader.until_preview("Twice", within=1.0)


async def test_a_message_does_not_wait_for_frames_that_cannot_be_read(world: World) -> None:
    """Hints come through, the stream does not: what the message says is complete without its frames."""
    _, b, chat, call, reader = await answering_across(world)
    b.redis_wire.cut = True
    b.pubsub.disconnect()
    b.pubsub.connect()
    await world.settle()
    call.answer(" upon a time")
    await reader.until_status("waiting", within=0.1)
    assert reader.history == chat.history


async def test_an_owner_alone_without_redis_still_answers(world: World) -> None:
    a, b, chat, call, reader = await answering_across(world)
    a.pubsub.disconnect()
    a.redis_wire.cut = True
    call.answer(" upon a time")
    await reader.until_status("waiting", within=3.0)
    a.redis_wire.cut = False
    a.pubsub.connect()
    await trio.sleep(1)
    await b.send(chat, "again")
    call = await world.model.next_call()
    call.say("Twice")
    await reader.until_preview("Twice", within=1.0)


async def test_what_a_dead_lease_had_pending_is_forgotten(world: World) -> None:
    """A replica whose lease ran out while Redis was away does not speak for the old tenure when it is back (P2)."""
    a, b = await world.cluster(2)
    chat, call, _ = await world.answering(a, "Old")
    reader = await b.read(chat)
    await reader.until_preview("Old")
    a.disconnect()
    call.say(" words")
    fresh = await world.model.next_call()
    fresh.say("New")
    await reader.until_preview("New", within=7.0)
    frames = world.frames(chat)
    assert "pending=0" in repr(a.publisher)
    a.reconnect()
    await trio.sleep(5)
    assert world.frames(chat) == frames
    fresh.answer(" words")
    await reader.until_status("waiting")
    assert reader.history == chat.history == ["user: hello", "assistant: New words"]


@pytest.mark.parametrize("busy", [busy for busy in Busy if busy is not Busy.REJECT])
async def test_messages_are_taken_and_answered_in_order_without_redis(world: World, busy: Busy) -> None:
    """P1 does not depend on Redis."""
    _, b, chat, call, _ = await answering_across(world)
    world.broker.disconnect()
    await b.send(chat, "next", busy)
    if busy is not Busy.INTERRUPT:
        call.finish()
    (await world.model.next_call()).answer("Yes.")
    await chat.until_status("waiting")
    assert chat.history == ["user: hello", "assistant: Once", "user: next", "assistant: Yes."]
