"""Messages to a chat that is busy: a queue in the order in which it was sent, each answered once (P1)."""

from __future__ import annotations

import pytest
import trio

from chatcluster.chat import QUEUE_MESSAGES_MAX, Busy, Edit, Promote
from chatcluster.errors import NotAllowedInStatus, QueuedMessageNotFound, QueueFull
from chatcluster.parts import Role, TextPart
from loops.cluster_world import World
from loops.scripted_model import Call, last_user_words


async def answer_all(world: World, count: int) -> list[str]:
    """Answer so many calls; the messages that they answer, in order."""
    asked = []
    for _ in range(count):
        call: Call = await world.model.next_call()
        asked.append(last_user_words(call))
        call.answer(f"re: {asked[-1]}")
    return asked


async def test_a_message_to_a_busy_chat_waits_and_does_not_touch_the_run(world: World) -> None:
    owner, other = await world.cluster(2)
    chat, call, reader = await world.answering(owner)
    outcome = await other.send(chat, "next")
    assert outcome.message is None
    await reader.until_line("queue ['next']", within=0.1)
    assert chat.status == "running"
    assert not call.ended.is_set()
    assert chat.history == ["user: hello"]


async def test_the_queue_is_answered_in_order_one_turn_each(world: World) -> None:
    owner = await world.replica()
    chat, call, reader = await world.answering(owner, "Hi")
    for words in ("one", "two", "three"):
        await owner.send(chat, words)
    call.finish()
    assert await answer_all(world, 3) == ["one", "two", "three"]
    await reader.until_status("waiting")
    expected = ["user: hello", "assistant: Hi"]
    for words in ("one", "two", "three"):
        expected += [f"user: {words}", f"assistant: re: {words}"]
    assert reader.history == chat.history == expected
    assert reader.view.queue == []


async def test_the_promoted_message_and_the_queue_change_together(world: World) -> None:
    """A message is never in the queue and in history at once, nor in neither."""
    owner, other = await world.cluster(2)
    chat, call, _ = await world.answering(owner, "Hi")
    reader = await other.read(chat)
    await owner.send(chat, "next")
    await reader.until_line("queue ['next']")
    call.finish()
    (await world.model.next_call()).answer("Yes.")
    await reader.until_status("waiting")
    story = [line for line in reader.story if not line.startswith(("status", "…"))]
    assert story[story.index("queue ['next']") :] == [
        "queue ['next']",
        "assistant: Hi",
        "user: next",
        "queue []",
        "attempt 1",
        "assistant: Yes.",
    ]


async def test_promotion_happens_in_the_transaction_that_ends_the_turn(world: World) -> None:
    """No claim, no poll and no other replica in between."""
    owner = await world.replica()
    chat, call, _ = await world.answering(owner, "Hi")
    await owner.send(chat, "next")
    before = owner.database_wire.crossings.copy()
    call.finish()
    await world.model.next_call()
    spent = owner.database_wire.crossings - before
    assert spent["commit"] == 2, "the end of the turn, and the first attempt of the next"
    assert spent["claim"] == 0
    assert chat.epoch == 1


async def test_the_21st_queued_message_is_refused(world: World) -> None:
    owner = await world.replica()
    chat, _, _ = await world.answering(owner)
    for number in range(QUEUE_MESSAGES_MAX):
        await owner.send(chat, f"message {number}")
    before = chat.state
    with pytest.raises(QueueFull):
        await owner.send(chat, "one too many")
    with pytest.raises(QueueFull):
        await owner.send(chat, "one too many", Busy.INTERRUPT)
    assert chat.state == before, "nothing is half applied"
    assert QUEUE_MESSAGES_MAX == 20


async def test_a_queue_that_an_error_left_behind_goes_first(world: World) -> None:
    """A new message wakes the chat, but waits its turn behind what was queued before it."""
    owner = await world.replica()
    chat, call, reader = await world.answering(owner)
    await owner.send(chat, "queued")
    call.fail("auth", retryable=False)
    await reader.until_line("error auth")
    assert chat.queue == ["queued"], "an error promotes nothing"
    await owner.send(chat, "new")
    assert await answer_all(world, 2) == ["queued", "new"]
    await reader.until_status("waiting")
    assert [line for line in chat.history if line.startswith("user")] == ["user: hello", "user: queued", "user: new"]


async def test_promoting_stops_the_answer_and_goes_first(world: World) -> None:
    """Queue A, B, C; promote B: B, A, C. What was said before is kept, and comes before B."""
    owner, other = await world.cluster(2)
    chat, call, reader = await world.answering(owner)
    for words in ("A", "B", "C"):
        await owner.send(chat, words)
    outcome = await other.promote(chat, "B")
    assert outcome.message is None, "the promotion happens when the partial is in history"
    assert await answer_all(world, 3) == ["B", "A", "C"]
    assert call.ended.is_set()
    await reader.until_status("waiting")
    assert chat.history[:3] == ["user: hello", "assistant: Half an", "user: B"]
    assert reader.history == chat.history


async def test_promoting_in_error_starts_at_once(world: World) -> None:
    owner = await world.replica()
    chat, call, reader = await world.answering(owner)
    await owner.send(chat, "A")
    await owner.send(chat, "B")
    call.fail("auth", retryable=False)
    await reader.until_line("error auth")
    outcome = await owner.promote(chat, "B")
    assert outcome.message is not None
    assert await answer_all(world, 2) == ["B", "A"]


async def test_promoting_when_the_owner_is_dead_needs_no_answer_from_it(world: World) -> None:
    owner, other = await world.cluster(2)
    chat, _, _ = await world.answering(owner)
    await owner.send(chat, "next")
    reader = await other.read(chat)
    await reader.until_preview("Half an")
    owner.kill()
    await other.promote(chat, "next")
    assert await answer_all(world, 1) == ["next"]
    await reader.until_status("waiting")
    assert reader.history == ["user: hello", "assistant: Half an", "user: next", "assistant: re: next"]


async def test_promoting_what_is_not_there_is_refused(world: World) -> None:
    owner = await world.replica()
    chat, _, _ = await world.answering(owner)
    await owner.send(chat, "next")
    queued_id = chat.queued_id("next")
    await owner.delete_queued(chat, "next")
    with pytest.raises(QueuedMessageNotFound):
        await owner.apply(chat, Promote(queued_id))
    assert chat.status == "running"


async def test_a_deleted_queued_message_is_never_answered(world: World) -> None:
    owner, other = await world.cluster(2)
    chat, call, reader = await world.answering(owner, "Hi")
    await owner.send(chat, "A")
    await owner.send(chat, "B")
    await other.delete_queued(chat, "A")
    await reader.until_line("queue ['B']", within=0.1)
    call.finish()
    assert await answer_all(world, 1) == ["B"]
    await reader.until_status("waiting")
    assert "user: A" not in chat.history


async def test_two_messages_at_once_to_a_chat_at_rest_start_one_turn_each(world: World) -> None:
    """The row lock decides: one starts the turn, the other waits."""
    a, b = await world.cluster(2)
    chat = await world.one_turn(a)
    outcomes = [await a.send(chat, "from a"), await b.send(chat, "from b")]
    assert [outcome.queued is None for outcome in outcomes] == [True, False]
    assert await answer_all(world, 2) == ["from a", "from b"]
    await chat.until_status("waiting")
    assert len(world.model.calls) == 3


async def test_each_queued_turn_is_answered_by_the_model_that_was_asked_with_it(world: World) -> None:
    """A model per message, in the order of the queue; a message that names none is answered by the chat's model."""
    owner, other = await world.cluster(2)
    chat = await owner.create("hello", model="the chat's")
    first = await world.model.next_call()
    await owner.send(chat, "one", model="large")
    await other.send(chat, "two")
    await owner.send(chat, "three", model="small")
    first.answer("Hi")
    asked = []
    for _ in range(3):
        call = await world.model.next_call()
        asked.append((last_user_words(call), call.request.model))
        call.answer("Yes.")
    await chat.until_status("waiting")
    assert (first.request.model, asked) == ("the chat's", [("one", "large"), ("two", "the chat's"), ("three", "small")])
    assert [message.model for message in chat.row.messages if message.role is Role.USER] == [
        None,
        "large",
        None,
        "small",
    ]


async def test_the_model_of_a_turn_outlives_its_owner(world: World) -> None:
    """The next owner asks whom the first one asked; what an interrupt keeps says whose words it is."""
    a, b = await world.cluster(2)
    chat = await world.one_turn(a)
    await a.send(chat, "again", model="large")
    await world.model.next_call()
    owner, other = (a, b) if chat.owner == a.worker_id else (b, a)
    owner.kill()
    call = await world.model.next_call()
    assert call.request.model == "large"
    reader = await other.read(chat)
    call.say("Half")
    await reader.until_preview("Half")
    await other.interrupt(chat)
    await chat.until_status("waiting")
    assert [message.model for message in chat.row.messages[-2:]] == ["large", "large"]


async def test_an_edited_message_keeps_its_model_unless_another_is_asked(world: World) -> None:
    owner = await world.replica()
    chat = await world.one_turn(owner)
    await owner.send(chat, "again", model="large")
    (await world.model.next_call()).answer("Yes.")
    await chat.until_status("waiting")
    for better, model, expected in (("once more", None, "large"), ("and again", "small", "small")):
        message_id = chat.row.messages[-2].id
        await owner.apply(chat, Edit(message_id, (TextPart(better),), model))
        call = await world.model.next_call()
        assert (last_user_words(call), call.request.model) == (better, expected)
        call.answer("Yes.")
        await chat.until_status("waiting")


async def test_a_takeover_goes_on_with_the_queue(world: World) -> None:
    """What a crash left in the queue of a running chat is answered by the next owner."""
    a, b = await world.cluster(2)
    chat, _, _ = await world.answering(a)
    await a.send(chat, "next")
    a.kill()
    assert await answer_all(world, 2) == ["hello", "next"]
    await chat.until_status("waiting")
    assert b.worker_id not in (None, a.worker_id)
    assert chat.history == ["user: hello", "assistant: re: hello", "user: next", "assistant: re: next"]


async def test_an_idle_chat_has_nothing_to_delete_or_promote(world: World) -> None:
    owner = await world.replica()
    chat = await world.one_turn(owner)
    with pytest.raises(QueuedMessageNotFound):
        await owner.apply(chat, Promote(7))
    assert chat.status == "waiting"
    with pytest.raises(NotAllowedInStatus):
        await owner.interrupt(chat)


async def test_a_queue_that_never_gets_empty_keeps_no_place_in_a_full_replica(world: World) -> None:
    """After each turn the others who wait have their turn, and nothing of the queue is lost (P10)."""
    owner = await world.replica(slots=1)
    busy, call, _ = await world.answering(owner, "Hi")
    for words in ("one", "two"):
        await owner.send(busy, words)
    other = await owner.create("me too")
    await trio.sleep(1)
    call.finish()
    assert await answer_all(world, 3) == ["me too", "one", "two"]
    await busy.until_status("waiting")
    assert other.history == ["user: me too", "assistant: re: me too"]
    assert busy.history == [
        "user: hello",
        "assistant: Hi",
        "user: one",
        "assistant: re: one",
        "user: two",
        "assistant: re: two",
    ]
