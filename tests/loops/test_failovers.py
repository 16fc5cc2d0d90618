"""A standby takes over that had lost the last transactions: what was shown of them is taken back (P3, P10).

The versions of the lost transactions are not given out again, as the first write on the standby's timeline leaps. So
these hold also where nobody looked in between: a feed that was cut off, a reader that comes back late.
"""

from __future__ import annotations

import copy

import msgspec
import pytest
import trio

from chatcluster.chat import VERSIONS_FORGOTTEN_MAX
from chatcluster.parts import parse_cursor
from chatcluster.watch import POLL_SECONDS
from loops.cluster_world import Chat, SimulatedReplica, World
from loops.reader import Reader
from loops.test_watched_lists import watching


class Standby:
    """A copy of one chat, as it was when the standby had heard from its primary last."""

    def __init__(self, world: World, chat: Chat) -> None:
        self._world = world
        self._chat = chat
        self._row = copy.deepcopy(chat.row)

    def take_over(self) -> None:
        self._world.database.chats[self._chat.id] = self._row
        self._world.database.fail_over()


async def cluster(world: World) -> tuple[SimulatedReplica, SimulatedReplica]:
    """One that works, and one that only has readers."""
    return await world.replica(), await world.replica(slots=0)


async def until_same(reader: Reader, chat: Chat) -> None:
    with trio.fail_after(30):
        await reader.until(lambda each: each.history == chat.history and each.view.queue == chat.queue)


async def test_the_owner_of_a_chat_whose_creation_is_lost_ends_its_work_and_nothing_else(world: World) -> None:
    """P10: that there is no such chat any more is no bug of the replica's."""
    owner = await world.replica()
    chat, call, reader = await world.answering(owner)
    del world.database.chats[chat.id]
    world.database.fail_over()
    with trio.fail_after(3):
        await call.ended.wait()
    bystander = await world.one_turn(owner)
    assert bystander.status == "waiting"
    assert "runner.crashed" not in world.names_told()
    reader.leave()


async def test_an_owner_that_reads_the_history_of_a_chat_that_is_lost_has_nothing_to_do(world: World) -> None:
    """P10"""
    owner = await world.replica()
    reading = owner.database_wire.hold("read_history")
    chat = await owner.create()
    await reading.reached.wait()
    del world.database.chats[chat.id]
    world.database.fail_over()
    reading.release()
    await world.one_turn(owner)
    assert "runner.crashed" not in world.names_told()


async def test_a_lost_queue_is_taken_back_when_its_version_would_be_that_of_a_turns_end(world: World) -> None:
    """A feed that could not look meanwhile finds a chat that is ahead of what it knows."""
    owner, other = await cluster(world)
    chat, call, _ = await world.answering(owner)
    reader = await other.read(chat)
    standby = Standby(world, chat)
    await owner.send(chat, "lost")
    await owner.send(chat, "lost as well")
    await reader.until_line("queue ['lost', 'lost as well']")
    other.lose_database()
    standby.take_over()
    call.answer("")
    await chat.until_status("waiting")
    for number in range(3):
        await world.exchange(owner, chat, f"message {number}", "an answer")
    other.find_database()
    await until_same(reader, chat)
    assert reader.view.queue == []


async def test_lost_messages_are_taken_back_when_others_have_overtaken_them(world: World) -> None:
    owner, other = await cluster(world)
    chat = await world.one_turn(owner, "hello", "Hi there!")
    reader = await other.read(chat)
    await reader.until_line("assistant: Hi there!")
    standby = Standby(world, chat)
    await world.exchange(owner, chat, "lost", "Also lost")
    await reader.until_line("assistant: Also lost")
    other.lose_database()
    standby.take_over()
    for number in range(3):
        await world.exchange(owner, chat, f"message {number}", "an answer")
    other.find_database()
    await until_same(reader, chat)
    assert "user: lost" not in reader.history


async def test_a_cursor_from_the_lost_timeline_starts_anew_wherever_it_is_shown(world: World) -> None:
    owner, other = await cluster(world)
    chat = await world.one_turn(owner)
    standby = Standby(world, chat)
    reader = await owner.read(chat)
    await world.exchange(owner, chat, "lost", "Also lost")
    await reader.until_line("assistant: Also lost")
    lost = reader.ids()[-1]
    reader.leave()
    standby.take_over()
    for number in range(3):
        await world.exchange(owner, chat, f"message {number}", "an answer")
    assert chat.state.snapshot_version > parse_cursor(lost).version
    for replica in (owner, other):
        resumed = await replica.read(chat, lost)
        await resumed.until_line("history_reset")
        await until_same(resumed, chat)


async def test_an_answer_under_way_goes_on_before_readers_who_start_anew(world: World) -> None:
    """Their preview goes with the reset, and is told again: the answer is whole, and streamed whole."""
    owner, other = await cluster(world)
    chat, call, reader = await world.answering(owner, "Half an")
    there = await other.read(chat)
    await there.until_preview("Half an")
    epoch = chat.epoch
    world.database.fail_over()
    await owner.send(chat, "next")
    for each in (reader, there):
        await each.until_line("history_reset")
        await each.until_preview("Half an")
    call.say(" answer")
    for each in (reader, there):
        await each.until_preview("Half an answer")
    call.answer("")
    (await world.model.next_call()).answer("The next one")
    await chat.until_status("waiting")
    assert chat.epoch == epoch, "the owner was not disturbed"
    for each in (reader, there):
        await until_same(each, chat)


async def test_an_answer_under_way_is_told_again_where_the_database_went_back(world: World) -> None:
    owner, other = await cluster(world)
    chat, call, _ = await world.answering(owner, "Half an")
    there = await other.read(chat)
    await there.until_preview("Half an")
    standby = Standby(world, chat)
    await owner.send(chat, "lost")
    await there.until_line("queue ['lost']")
    standby.take_over()
    await there.until(lambda each: each.view.queue == [])
    await there.until_preview("Half an")
    call.say(" answer")
    await there.until_preview("Half an answer")
    call.answer("")
    await until_same(there, chat)


async def test_an_answer_that_an_edit_ended_is_told_again_where_the_edit_is_lost(world: World) -> None:
    """P3: what was dropped for the edit is alive again, and its owner goes on with it."""
    owner, other = await cluster(world)
    chat, call, _ = await world.answering(owner, "Half an")
    there = await other.read(chat)
    await there.until_preview("Half an")
    standby = Standby(world, chat)
    owner.lose_database()
    await other.edit(chat, "hello", "lost")
    await there.until(lambda each: "user: lost" in each.history)
    standby.take_over()
    owner.find_database()
    await other.send(chat, "next")
    await there.until_preview("Half an")
    call.say(" answer")
    await there.until_preview("Half an answer")
    call.answer("")
    (await world.model.next_call()).answer("The next one")
    await chat.until_status("waiting")
    await until_same(there, chat)


async def test_a_failover_that_lost_nothing_costs_readers_a_fresh_start_and_no_more(world: World) -> None:
    owner, other = await cluster(world)
    chat = await world.one_turn(owner)
    reader = await other.read(chat)
    await reader.until_line("queue []")
    before = chat.state.snapshot_version
    world.database.fail_over()
    await trio.sleep(30)
    assert "history_reset" not in reader.story, "nothing was written"
    await world.exchange(owner, chat, "and then?", "That's it")
    assert chat.state.snapshot_version > before + VERSIONS_FORGOTTEN_MAX
    await until_same(reader, chat)
    assert reader.story.count("history_reset") == 1
    await world.exchange(owner, chat, "really?", "Yes")
    await until_same(reader, chat)
    assert reader.story.count("history_reset") == 1, "and once is enough"


async def test_a_reader_that_waits_for_its_own_answer_gets_it_from_the_leap_on(world: World) -> None:
    """As a POST that streams does: it begins just before the version that its message was given."""
    owner, _ = await cluster(world)
    chat = await world.one_turn(owner)
    world.database.fail_over()
    outcome = await owner.send(chat, "again")
    reader = await owner.read(chat, f"{outcome.chat.snapshot_version - 1}.{outcome.chat.epoch}-0")
    (await world.model.next_call()).answer("Once more")
    await reader.until_line("assistant: Once more")
    assert reader.history == ["user: again", "assistant: Once more"]
    assert "history_reset" not in reader.story


async def test_a_list_is_told_what_comes_in_place_of_a_lost_version(world: World) -> None:
    owner, other = await cluster(world)
    chat = await world.one_turn(owner)
    async with watching(other) as reader:
        standby = Standby(world, chat)
        await owner.rename(chat, "lost")
        await reader.until_line("title lost waiting", within=0.1)
        standby.take_over()
        await owner.rename(chat, "instead")
        await reader.until_line("title instead waiting", within=0.1)


async def test_a_list_is_told_what_is_left_where_nothing_comes_in_its_place(world: World) -> None:
    owner, other = await cluster(world)
    chat = await world.one_turn(owner)
    async with watching(other) as reader:
        await trio.sleep(2 * POLL_SECONDS)
        standby = Standby(world, chat)
        await owner.rename(chat, "lost")
        await reader.until_line("title lost waiting", within=0.1)
        reader.lines.clear()
        standby.take_over()
        await reader.until_line("status a chat waiting", within=POLL_SECONDS + 0.1)
        await trio.sleep(3 * POLL_SECONDS)
        await owner.rename(chat, "a title")
        await reader.until_line("title a title waiting", within=0.1)
        assert reader.lines == ["status a chat waiting", "title a title waiting"], "and once is enough"


async def test_a_long_chat_that_goes_back_to_the_same_number_is_told_anew(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Where the server does not tell its timeline, and the chat is longer than a page."""
    monkeypatch.setattr("chatcluster.feed.PAGE_MESSAGES", 1)
    world.database.timeline = None
    owner, other = await cluster(world)
    chat = await world.one_turn(owner)
    reader = await other.read(chat)
    await reader.until_line("queue []")
    before = copy.deepcopy(chat.row)
    await owner.rename(chat, "lost")
    await reader.until_line("title lost")
    version = chat.state.snapshot_version
    world.database.chats[chat.id] = before
    before.state = msgspec.structs.replace(before.state, snapshot_version=version, queue_version=version)
    await reader.until_line("history_reset")
    await until_same(reader, chat)


async def test_who_is_told_anew_in_the_middle_of_its_first_events_keeps_its_cursor(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What it was given counts, and no more: a cursor that goes back would repeat it."""
    monkeypatch.setattr("chatcluster.catch_up.PAGE_MESSAGES", 1)
    monkeypatch.setattr("chatcluster.shown.RECENT_BYTES_MAX", 0)
    owner, other = await cluster(world)
    chat = await world.one_turn(owner)
    await world.exchange(owner, chat, "again", "An answer")
    hold = other.database_wire.hold_answer("read_messages")
    reader = await other.read(chat)
    await hold.reached.wait()
    second = other.database_wire.hold_answer("read_messages")
    hold.release()
    await second.reached.wait()
    world.database.fail_over()
    await world.exchange(owner, chat, "and more", "Another answer")
    second.release()
    await until_same(reader, chat)
    versions = [parse_cursor(cursor).version for cursor in reader.ids()]
    assert versions == sorted(versions)


async def test_one_epoch_given_twice_to_one_worker_is_told_apart(world: World) -> None:
    """P3: the frames of its first claim, which is lost, are not taken for those of its second."""
    owner = await world.replica()
    chat = await world.one_turn(owner)
    standby = Standby(world, chat)
    await owner.send(chat, "lost")
    lost = await world.model.next_call()
    lost.say("Nobody asked")
    lost.say(" for this")
    reader = await owner.read(chat)
    await reader.until_preview("Nobody asked for this")
    epoch = chat.epoch
    standby.take_over()
    await owner.send(chat, "instead")
    call = await world.model.next_call()
    for word in ("This", " was", " asked"):
        call.say(word)
    await reader.until_preview("This was asked")
    assert chat.epoch > epoch, "it was raised above the one in the stream"
    call.answer(" for")
    await chat.until_status("waiting")
    await until_same(reader, chat)


@pytest.mark.parametrize("streams_too", [False, True])
async def test_the_answer_of_a_tenure_below_a_lost_one_is_streamed(world: World, streams_too: bool) -> None:
    """P3: what readers were shown of the lost tenure has higher positions, or the very same where the part streams are
    lost as well. It hides nothing of what comes in its place."""
    owner, other = await cluster(world)
    chat = await world.one_turn(owner)
    standby = Standby(world, chat)
    await owner.send(chat, "lost")
    (await world.model.next_call()).say("Nobody asked for this")
    reader = await other.read(chat)
    await reader.until_preview("Nobody asked for this")
    owner.kill()
    other.lose_database()
    standby.take_over()
    if streams_too:
        world.broker.flush()
    second = await world.replica()
    await second.send(chat, "instead")
    call = await world.model.next_call()
    call.say("This")
    other.find_database()
    await reader.until_preview("This")
    call.say(" was")
    await reader.until_preview("This was")
    call.answer("")
    await chat.until_status("waiting")
    await until_same(reader, chat)
