"""What a client has to know of a stream: when the state is complete, and each turn's end, once, wherever it resumes."""

from __future__ import annotations

from itertools import pairwise

import pytest

from chatcluster import catch_up, feed
from chatcluster.chat import Busy, Edit
from chatcluster.parts import BEGINNING, TextPart
from loops.cluster_world import Chat, SimulatedReplica, World
from loops.reader import Reader


async def test_ready_comes_after_the_state_and_the_parts_under_way(world: World) -> None:
    owner, other = await world.cluster(2)
    chat, call, _ = await world.answering(owner, "Half an")
    await owner.send(chat, "next")
    reader = await other.read(chat)
    await reader.until(lambda reader: reader.is_ready)
    kinds = [event.type for event in reader.events]
    assert kinds[:3] == ["status", "message", "queue"]
    assert kinds[-1] == "ready"
    assert reader.preview == "Half an"
    call.say(" answer")
    await reader.until_preview("Half an answer")
    assert [event.type for event in reader.events].count("ready") == 1


async def test_ready_comes_again_after_a_resume_and_after_a_reset(world: World) -> None:
    owner = await world.replica()
    chat = await world.one_turn(owner)
    reader = await owner.read(chat)
    await reader.until(lambda reader: reader.is_ready)
    resumed = await owner.resume(chat, reader)
    await resumed.until(lambda reader: reader.is_ready)
    await owner.edit(chat, "hello", "goodbye")
    await resumed.until(lambda reader: [event.type for event in reader.events].count("ready") == 2)
    kinds = [event.type for event in resumed.events]
    assert kinds[kinds.index("history_reset") : kinds.index("history_reset") + 2] == ["history_reset", "message"]
    assert kinds.index("history_reset") < len(kinds) - 1 - kinds[::-1].index("ready")


async def test_a_turn_that_ended_comes_after_its_messages_and_before_the_status(world: World) -> None:
    owner = await world.replica()
    chat, call, reader = await world.answering(owner, "Hi")
    call.finish()
    await reader.until_status("waiting")
    kinds = [event.type for event in reader.events]
    assert kinds[-3:] == ["message", "turn", "status"]
    turn = reader.events[-2].data
    assert turn == {
        "type": "turn",
        "message_id": chat.message_id("hello"),
        "outcome": "finished",
        "duration_ms": turn["duration_ms"],
        "usage": turn["usage"],
    }


async def test_a_reader_from_the_beginning_is_told_of_the_newest_turn_alone(world: World) -> None:
    owner, other = await world.cluster(2)
    chat = await world.one_turn(owner)
    await world.exchange(owner, chat, "and you?", "Fine.")
    for replica in (owner, other):
        reader = await replica.read(chat)
        await reader.until(lambda reader: reader.is_ready)
        assert reader.turns == [f"turn {chat.message_id('and you?')} finished"]


async def test_turns_that_end_between_two_reads_are_all_told(world: World) -> None:
    owner, other = await world.cluster(2)
    chat, call, _ = await world.answering(owner, "Hi")
    reader = await other.read(chat)
    await reader.until_preview("Hi")
    read = other.database_wire.hold("read")
    await owner.send(chat, "second")
    call.finish()
    (await world.model.next_call()).answer("Fine.")
    await chat.until_status("waiting")
    read.release()
    await reader.until_status("waiting")
    assert reader.turns == [turn_of(chat, "hello"), turn_of(chat, "second")]


async def test_a_turn_that_another_owner_ends_is_told_once(world: World) -> None:
    owner, _, third = await world.cluster(3)
    chat, _, _ = await world.answering(owner, "Half")
    reader = await third.read(chat)
    await reader.until_preview("Half")
    owner.kill()
    (await world.model.next_call()).answer("Whole")
    await reader.until_status("waiting")
    assert reader.turns == [turn_of(chat, "hello")]
    assert len(chat.row.turns) == 1


async def test_a_commit_that_is_repeated_ends_the_turn_once(world: World) -> None:
    owner = await world.replica()
    chat, call, reader = await world.answering(owner, "Hi")
    owner.database_wire.lose_answer("commit")
    call.finish()
    await reader.until_status("waiting")
    assert reader.turns == [turn_of(chat, "hello")]


@pytest.mark.parametrize("page_messages", [200, 2], ids=["whole", "in pages"])
async def test_each_turn_is_told_once_wherever_a_reader_resumes(
    world: World, monkeypatch: pytest.MonkeyPatch, page_messages: int
) -> None:
    """At every event of a long story, on the same replica and on another one that reads the chat for the first time."""
    for module in (feed, catch_up):
        monkeypatch.setattr(module, "PAGE_MESSAGES", page_messages)
    owner, other = await world.cluster(2)
    chat, follower = await a_long_story(world, owner)
    told = [f"turn {turn.message_id} {turn.code or turn.outcome}" for turn in chat.row.turns]
    assert [turn.split()[-1] for turn in told] == [
        "finished", "interrupted", "interrupted", "interrupted", "auth", "finished", "finished",
    ]  # fmt: skip
    assert follower.turns == told
    for replica in (owner, other):
        for index, event in enumerate(follower.events[1:], start=1):  # who leaves after the first one has read nothing
            before = [earlier.line for earlier in follower.events[: index + 1] if earlier.type == "turn"]
            await resumed_at(replica, chat, event.id, before, told)


async def a_long_story(world: World, owner: SimulatedReplica) -> tuple[Chat, Reader]:
    """Turns that end in each way there is: by an answer, a stop, an edit, another message, an error."""
    chat, call, follower = await world.answering(owner, "Hi")
    await owner.send(chat, "second")
    call.finish()
    (await world.model.next_call()).say("Well")
    await follower.until_preview("Well")
    await owner.send(chat, "third", Busy.INTERRUPT)
    (await world.model.next_call()).say("Then")
    await follower.until_preview("Then")
    await owner.interrupt(chat)
    await chat.until_status("waiting")
    await owner.send(chat, "fourth")
    (await world.model.next_call()).say("Bad")
    await follower.until_preview("Bad")
    await owner.edit(chat, "fourth", "better")
    (await world.model.next_call()).fail("auth", retryable=False)
    await chat.until_status("error")
    await world.exchange(owner, chat, "fifth", "Fine")
    await world.exchange(owner, chat, "sixth", "Good")
    await follower.until(lambda reader: reader.status == "waiting" and "assistant: Good" in reader.history)
    return chat, follower


async def resumed_at(replica: SimulatedReplica, chat: Chat, cursor: str, before: list[str], told: list[str]) -> None:
    """A reader that resumes there, and again at each event that it is told of then."""
    reader = await replica.read(chat, cursor)
    await reader.until(lambda reader: reader.is_ready)
    reader.leave()
    assert before + reader.turns == told, f"resumed at {cursor}"
    for index, event in enumerate(list(reader.events)):
        known = before + [earlier.line for earlier in reader.events[: index + 1] if earlier.type == "turn"]
        again = await replica.read(chat, event.id)
        await again.until(lambda reader: reader.is_ready)
        again.leave()
        assert known + again.turns == told, f"resumed at {cursor}, and again at {event.id}"


async def test_a_reader_that_is_restarted_is_told_of_what_it_had_not_taken(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An edit of a history of many pages makes readers begin anew: also one that has taken nothing for a while."""
    for module in (feed, catch_up):
        monkeypatch.setattr(module, "PAGE_MESSAGES", 1)
    owner = await world.replica()
    chat = await world.one_turn(owner)
    async with owner.feeds.subscribe(chat.id, BEGINNING, owner_id=chat.row.owner_id) as slow:
        data = await slow.receive()
        while b"event: ready" not in data:
            data = await slow.receive()
        await world.exchange(owner, chat, "second", "Two")
        await world.settle()
        await owner.apply(chat, Edit(chat.message_id("second"), (TextPart("third"),)))
        (await world.model.next_call()).answer("Three")
        await chat.until_status("waiting")
        await world.settle()
        data = b""
        while data.count(b"event: turn") < 2:
            data += await slow.receive()
    ended = [turn.message_id for turn in chat.row.turns][1:]
    places = [data.index(b'"message_id":%d' % message_id) for message_id in ended]
    assert len(ended) == data.count(b"event: turn") == 2
    assert all(first < second for first, second in pairwise(places))


def turn_of(chat: Chat, words: str) -> str:
    return f"turn {chat.message_id(words)} finished"


# --- answers that pause -----------------------------------------------------------------------


async def test_an_answer_that_pauses_goes_on_in_the_same_turn(world: World) -> None:
    """The provider did something itself, and wants to be asked again with the answer so far as the last message."""
    owner, other = await world.cluster(2)
    chat = await owner.create()
    reader = await other.read(chat)
    first = await world.model.next_call()
    first.say("Let me search.")
    first.finish("pause")
    second = await world.model.next_call()
    assert second.prompt == ["user: hello", "assistant: Let me search."]
    second.answer("Found it.")
    await reader.until_status("waiting")
    assert reader.history == ["user: hello", "assistant: Let me search.", "assistant: Found it."] == chat.history
    assert [event.type for event in reader.events].count("turn") == 1


async def test_a_pause_outlives_its_owner(world: World) -> None:
    owner, _ = await world.cluster(2)
    chat = await owner.create()
    first = await world.model.next_call()
    first.say("Let me search.")
    first.finish("pause")
    await world.model.next_call()
    world.owner_of(chat).kill()
    second = await world.model.next_call()
    assert second.prompt == ["user: hello", "assistant: Let me search."]
    second.answer("Found it.")
    await chat.until_status("waiting")
    assert chat.history[1:] == ["assistant: Let me search.", "assistant: Found it."]


async def test_an_answer_that_pauses_and_shows_nothing_goes_on_as_well(world: World) -> None:
    owner = await world.replica()
    chat = await owner.create()
    (await world.model.next_call()).finish("pause")
    (await world.model.next_call()).answer("Found it.")
    await chat.until_status("waiting")
    assert chat.history[-1] == "assistant: Found it."
