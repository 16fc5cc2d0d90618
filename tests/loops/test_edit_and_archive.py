"""Rewriting a chat, or putting it away, while work on it is under way."""

from __future__ import annotations

import pytest
import trio

from chatcluster.chat import Edit, Fence, FinishTurn
from chatcluster.errors import ChatArchived, Fenced, MessageNotFound, MessageNotUser, Moved
from chatcluster.parts import NewMessage, Role, TextPart
from loops.cluster_world import World

# --- edit -------------------------------------------------------------------------------------


async def test_an_edit_drops_what_follows_and_answers_the_new_message(world: World) -> None:
    owner, other = await world.cluster(2)
    chat = await world.one_turn(owner, "helo", "Hi there!")
    await world.exchange(owner, chat, "and you?", "Fine.")
    reader = await other.read(chat)
    await reader.until_line("queue []")
    edited_id = chat.message_id("helo")
    await owner.edit(chat, "helo", "hello")
    (await world.model.next_call()).answer("Hello!")
    await reader.until(lambda reader: reader.status == "waiting" and reader.history[-1:] == ["assistant: Hello!"])
    assert reader.history == chat.history == ["user: hello", "assistant: Hello!"]
    assert chat.message_id("hello") > edited_id, "the edited message is a new one"
    story = reader.story[reader.story.index("history_reset") :]
    assert story[:2] == ["history_reset", "user: hello"]


async def test_an_edit_under_way_cancels_the_run_and_its_late_commit_has_no_effect(world: World) -> None:
    owner, other = await world.cluster(2)
    chat, call, reader = await world.answering(owner, "Old answ")
    commit = owner.database_wire.hold("commit")
    call.answer("er")
    await commit.reached.wait()
    await other.edit(chat, "hello", "goodbye")
    commit.release()
    fresh = await world.model.next_call()
    assert fresh.prompt == ["user: goodbye"]
    fresh.answer("Bye.")
    await reader.until_status("waiting")
    assert reader.history == chat.history == ["user: goodbye", "assistant: Bye."]


async def test_an_edit_drops_the_preview_of_the_obsolete_answer(world: World) -> None:
    owner, other = await world.cluster(2)
    chat, call, reader = await world.answering(owner, "Old")
    at_other = await other.read(chat)
    await at_other.until_preview("Old")
    await other.edit(chat, "hello", "goodbye")
    fresh = await world.model.next_call()
    assert call.ended.is_set()
    fresh.say("New")
    for each in (reader, at_other):
        await each.until_preview("New")
        assert each.story[each.story.index("history_reset") :] == [
            "history_reset",
            "user: goodbye",
            "attempt 1",
            "… New",
        ]


async def test_an_edit_empties_the_queue(world: World) -> None:
    owner = await world.replica()
    chat, _, reader = await world.answering(owner)
    await owner.send(chat, "queued")
    await owner.edit(chat, "hello", "goodbye")
    (await world.model.next_call()).answer("Bye.")
    await reader.until_status("waiting")
    assert chat.queue == []
    assert reader.view.queue == []
    assert chat.history == ["user: goodbye", "assistant: Bye."]


async def test_an_edit_of_what_cannot_be_edited_changes_nothing(world: World) -> None:
    owner = await world.replica()
    chat = await world.one_turn(owner)
    before, history = chat.state, chat.history
    with pytest.raises(MessageNotUser):
        await owner.edit(chat, "Hi there!", "Ho there!")
    with pytest.raises(MessageNotFound):
        await owner.apply(chat, Edit(999, (TextPart("?"),)))
    assert chat.state == before
    assert chat.history == history


async def test_a_cursor_from_before_an_edit_gets_the_history_anew(world: World) -> None:
    owner, other = await world.cluster(2)
    chat = await world.one_turn(owner, "helo")
    reader = await owner.read(chat)
    await reader.until_line("queue []")
    reader.leave()
    await owner.edit(chat, "helo", "hello")
    (await world.model.next_call()).answer("Hello!")
    await chat.until_status("waiting")
    resumed = await other.resume(chat, reader)
    await resumed.until_line("queue []")
    assert resumed.story == [
        "status waiting",
        "history_reset",
        "user: hello",
        "assistant: Hello!",
        "queue []",
    ]
    assert resumed.history == chat.history


async def test_a_cursor_from_after_an_edit_gets_no_reset(world: World) -> None:
    owner, other = await world.cluster(2)
    chat = await world.one_turn(owner, "helo")
    await owner.edit(chat, "helo", "hello")
    (await world.model.next_call()).answer("Hello!")
    await chat.until_status("waiting")
    reader = await owner.read(chat)
    await reader.until_line("queue []")
    resumed = await other.resume(chat, reader)
    await resumed.until_line("queue []")
    assert resumed.story == ["status waiting", "queue []"]


async def test_every_cursor_of_a_reset_can_be_resumed_at(world: World) -> None:
    """A reader that breaks off within the replay after an edit gets the rest of it, once."""
    owner, other = await world.cluster(2)
    chat = await world.one_turn(owner)
    await world.exchange(owner, chat, "two", "2")
    await world.exchange(owner, chat, "helo", "?")
    reader = await owner.read(chat)
    await reader.until_line("queue []")
    await owner.edit(chat, "helo", "hello")
    (await world.model.next_call()).answer("Hello!")
    await reader.until_line("assistant: Hello!")
    start = reader.story.index("history_reset")
    replayed = [event for event in reader.events[start:] if event.type in ("history_reset", "message")]
    assert [event.line for event in replayed[1:]] == chat.history
    for index, event in enumerate(replayed):
        resumed = await other.read(chat, event.id)
        await resumed.until_line("queue []")
        assert resumed.history == chat.history[index:], f"after {event.line}"


# --- archive ----------------------------------------------------------------------------------


async def test_archiving_a_chat_at_rest_is_done_at_once(world: World) -> None:
    owner, other = await world.cluster(2)
    chat = await world.one_turn(owner)
    reader = await other.read(chat)
    await owner.archive(chat)
    await reader.until_line("status waiting archived", within=0.1)
    with pytest.raises(ChatArchived):
        await owner.send(chat, "anybody?")


async def test_archiving_stops_the_run_and_keeps_the_queue(world: World) -> None:
    """The run is interrupted, its partial kept, nothing promoted; the queue stays for another day."""
    owner, other = await world.cluster(2)
    chat, call, reader = await world.answering(owner)
    await owner.send(chat, "queued")
    await other.archive(chat)
    await reader.until_line("status waiting archived", within=0.1)
    assert call.ended.is_set()
    await trio.sleep(10)
    assert chat.history == ["user: hello", "assistant: Half an"]
    assert chat.queue == ["queued"]
    assert world.model.idle(), "nothing is started any more"


async def test_a_chat_whose_archiving_is_under_way_takes_no_new_work(world: World) -> None:
    owner = await world.replica()
    chat, _, _ = await world.answering(owner)
    commit = owner.database_wire.hold("commit")
    await owner.archive(chat)
    await commit.reached.wait()
    with pytest.raises(ChatArchived):
        await owner.send(chat, "wait!")
    commit.release()
    await chat.until(lambda chat: chat.state.archived)


async def test_a_chat_that_nobody_owns_yet_is_not_started_after_its_archiving(world: World) -> None:
    nobody = await world.replica(slots=0)
    chat = await nobody.create()
    await nobody.archive(chat)
    await world.replica()
    await chat.until(lambda chat: chat.state.archived, within=5.0)
    assert world.model.calls == []
    assert chat.history == ["user: hello"]


async def test_an_unarchived_chat_is_as_it_was(world: World) -> None:
    owner = await world.replica()
    chat, _, reader = await world.answering(owner)
    await owner.send(chat, "queued")
    await owner.archive(chat)
    await chat.until(lambda chat: chat.state.archived)
    await owner.unarchive(chat)
    await reader.until_line("status waiting")
    assert chat.queue == ["queued"]
    await owner.send(chat, "new")
    call = await world.model.next_call()
    assert call.prompt[-1] == "user: queued", "the queue goes first, as ever"


# --- the fence --------------------------------------------------------------------------------


async def test_a_write_from_another_history_or_tenure_changes_nothing(world: World) -> None:
    """P2: the epoch tells tenures of the same worker apart, the version tells histories apart."""
    owner = await world.replica()
    chat, _, _ = await world.answering(owner)
    await owner.edit(chat, "hello", "goodbye")
    (await world.model.next_call()).say("Bye")
    before, history = chat.state, chat.history
    answer = FinishTurn((NewMessage(Role.ASSISTANT, (TextPart("late"),)),))
    stale_history = Fence(chat.id, owner.worker_id, chat.epoch, 1)
    stale_tenure = Fence(chat.id, owner.worker_id, chat.epoch - 1, chat.state.history_version)
    with pytest.raises(Moved):
        await owner.store.commit(stale_history, answer)
    with pytest.raises(Fenced):
        await owner.store.commit(stale_tenure, answer)
    assert chat.state == before
    assert chat.history == history
