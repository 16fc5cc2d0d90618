"""What is committed on a reader's own replica is shown without a read of the database, or a dial; and exactly (P3)."""

from __future__ import annotations

from typing import NamedTuple

import pytest

from chatcluster.ports import hint_channel
from loops.cluster_world import Chat, SimulatedReplica, World
from loops.reader import Reader

AT_ONCE = 0.05


class Looks(NamedTuple):
    """How often a replica has read chats, and their streams."""

    reads: int
    dials: int

    @classmethod
    def of(cls, replica: SimulatedReplica) -> Looks:
        return cls(replica.database_wire.crossings["read"], replica.redis_wire.crossings["read"])


async def resting(world: World, a: SimulatedReplica) -> tuple[Chat, Reader]:
    """A chat after its first turn, with a reader on this replica."""
    chat = await a.create("hello")
    (await world.model.next_call()).answer("Hi.")
    await chat.until_status("waiting")
    reader = await a.read(chat)
    await reader.until_status("waiting")
    await world.settle()
    return chat, reader


async def test_turns_of_the_readers_own_replica_take_no_look(world: World) -> None:
    a = await world.replica()
    chat, reader = await resting(world, a)
    before = Looks.of(a)
    for number in range(3):
        await a.send(chat, f"question {number}")
        call = await world.model.next_call()
        call.say("An")
        await reader.until_preview("An", within=AT_ONCE)
        call.say(" answer.")
        call.finish()
        await reader.until(lambda reader: reader.status == "waiting" and reader.history == chat.history, within=AT_ONCE)
    assert Looks.of(a) == before
    assert len(reader.turns) == 4


async def test_what_another_replica_committed_before_is_read(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its hint is lost, so the commit of this one is the first that the feed hears of."""
    a, b = await world.replica(), await world.replica(slots=0)
    chat, reader = await resting(world, a)
    deliver, lost = a.pubsub.deliver, hint_channel(chat.id)
    monkeypatch.setattr(a.pubsub, "deliver", lambda channel, payload: channel == lost or deliver(channel, payload))
    await b.send(chat, "from afar")
    call = await world.model.next_call()
    call.answer("Yes.")
    await chat.until_status("waiting")
    await reader.until(lambda reader: reader.status == "waiting" and reader.history == chat.history, within=AT_ONCE)
    before = Looks.of(a)
    await b.rename(chat, "another name")
    await a.send(chat, "from here")
    (await world.model.next_call()).answer("Yes.")
    await reader.until(lambda reader: len(reader.history) == 6 and reader.status == "waiting", within=AT_ONCE)
    assert reader.history == chat.history
    assert "title another name" in reader.story
    assert Looks.of(a).reads == before.reads + 1


async def test_what_is_committed_while_the_database_is_read_is_shown_once(world: World) -> None:
    """The read has it, or has it not: it began before."""
    a, b = await world.replica(), await world.replica(slots=0)
    chat, reader = await resting(world, a)
    held = a.database_wire.hold_answer("read")
    await b.rename(chat, "another name")
    await held.reached.wait()
    await a.send(chat, "next")
    (await world.model.next_call()).answer("Yes.")
    await chat.until_status("waiting")
    held.release()
    await reader.until(lambda reader: reader.status == "waiting" and len(reader.history) == 4, within=AT_ONCE)
    assert reader.history == chat.history


async def test_what_follows_a_message_that_waits_for_its_frames_is_shown_behind_it(world: World) -> None:
    a = await world.replica()
    chat, reader = await resting(world, a)
    await a.send(chat, "next")
    call = await world.model.next_call()
    call.say("So")
    await reader.until_preview("So")
    held = a.redis_wire.hold("append")
    call.say(" it is.")
    call.finish()
    await held.reached.wait()
    await chat.until_status("waiting")
    await a.send(chat, "and then")
    (await world.model.next_call()).answer("That.")
    await chat.until_status("waiting")
    held.release()
    await reader.until(lambda reader: reader.status == "waiting" and len(reader.history) == 6)
    assert reader.history == chat.history


async def test_what_is_queued_rewritten_or_waits_for_somebody_is_read(world: World) -> None:
    a = await world.replica()
    chat, reader = await resting(world, a)
    await a.send(chat, "next")
    call = await world.model.next_call()
    before = Looks.of(a)
    await a.send(chat, "behind it")
    await reader.until(lambda reader: reader.view.queue == ["behind it"], within=AT_ONCE)
    assert Looks.of(a).reads == before.reads + 1
    call.answer("Yes.")
    (await world.model.next_call()).answer("Yes.")
    await reader.until(lambda reader: reader.status == "waiting" and len(reader.history) == 6, within=AT_ONCE)
    await a.edit(chat, "behind it", "in its place")
    (await world.model.next_call()).answer("No.")
    await chat.until_status("waiting")
    await reader.until(lambda reader: reader.status == "waiting" and reader.history == chat.history, within=AT_ONCE)


async def test_turns_of_another_replica_take_a_look_for_each_commit_and_no_dial(world: World) -> None:
    a, b = await world.replica(), await world.replica(slots=0)
    chat = await world.one_turn(a)
    reader = await b.read(chat)
    await reader.until_status("waiting")
    await world.settle()
    before = Looks.of(b)
    for number in range(3):
        await a.send(chat, f"question {number}")
        (await world.model.next_call()).answer("An answer.")
        await reader.until(lambda reader: reader.status == "waiting" and reader.history == chat.history, within=AT_ONCE)
    assert Looks.of(b) == before._replace(reads=before.reads + 6)
