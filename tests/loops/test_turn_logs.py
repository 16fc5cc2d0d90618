"""A turn as values: the same on every replica, whenever it is asked for, whatever happened meanwhile."""

from __future__ import annotations

from typing import Any

import pytest
import trio

from chatcluster.audience import Audience
from chatcluster.chat import Busy, Deny
from chatcluster.memory.responses import MemoryResponses
from chatcluster.models import Continuation
from chatcluster.parts import Message, Role, TextPart, text_of
from chatcluster.turn_log import Attempted, Awaiting, Ended, Rested, Told, TurnLogs, TurnStart, UpToDate, Withdrawn
from chatcluster.web.doors.openai.response_fold import ResponseFold
from loops.cluster_world import OWNER, Chat, SimulatedReplica, World
from loops.test_actions import CALLS, asking


def start_of(chat: Chat) -> TurnStart:
    first = next(one for one in chat.row.messages if one.role is Role.USER)
    return TurnStart(first.id, first.revision)


class Listener:
    """A reader of a turn's log on some replica, and the events that a response has of it."""

    def __init__(self, replica: SimulatedReplica, chat: Chat, start: TurnStart | None = None) -> None:
        self.replica, self.chat, self.start = replica, chat, start or start_of(chat)
        self.told: list[Told] = []
        self.fold = ResponseFold({"id": "resp_1"}, frozenset({"ask"}))
        self.events: list[dict[str, Any]] = []
        self.over = trio.Event()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        replica = self.replica
        responses = MemoryResponses(replica.world.database)
        logs = TurnLogs(replica.feeds, replica.store, replica.streams, Audience(replica.settings.streaming), responses)
        async with logs.follow(self.chat.id, self.start, owner_id=OWNER) as log:
            task_status.started()
            while not self.fold.is_over:
                for one in await log.receive():
                    self.told.append(one)
                    self.events.extend(self.fold.tell(one))
        self.over.set()

    async def until_over(self) -> None:
        with trio.fail_after(100):
            await self.over.wait()

    @property
    def story(self) -> list[str]:
        return [line for one in self.told for line in _lines(one)]

    @property
    def text(self) -> str:
        output = self.fold.response()["output"]
        return "".join(part["text"] for item in output for part in item.get("content", ()))


def _lines(told: Told) -> list[str]:
    match told:
        case Attempted():
            return ["attempt"]
        case TextPart(text=text):
            return [f"… {text}"]
        case Message():
            return [f"{told.role}: {text_of(told.parts)}"]
        case Ended(turn=turn):
            return [turn.outcome]
        case Withdrawn() | Rested():
            return [type(told).__name__]
    return []


async def listen(world: World, replica: SimulatedReplica, chat: Chat, start: TurnStart | None = None) -> Listener:
    listener = Listener(replica, chat, start)
    await world.start(listener.run)
    return listener


async def test_a_turn_is_told_from_its_beginning_to_its_end(world: World) -> None:
    a, b = await world.cluster(2)
    chat, call, _ = await world.answering(a, "Half ")
    listeners = [await listen(world, replica, chat) for replica in (a, b)]
    await world.settle()
    call.answer("and half.")
    for listener in listeners:
        await listener.until_over()
        assert listener.text == "Half and half."
    assert listeners[0].events == listeners[1].events


async def test_the_log_of_a_turn_that_has_just_begun_reads_no_history_of_its_own(world: World) -> None:
    """The feed has it: so the first word comes through a door as soon as through our own stream."""
    a, b = await world.cluster(2)
    chat, call, _ = await world.answering(a, "Half ")
    listeners = [await listen(world, replica, chat) for replica in (a, b)]
    call.answer("and half.")
    for listener in listeners:
        await listener.until_over()
        assert listener.text == "Half and half."
        assert not listener.replica.database_wire.crossings["read_messages"]


async def test_p3_who_was_there_and_who_comes_after_a_takeover_count_the_same(world: World) -> None:
    """The dead owner's words are told whole, and before those that take their place, on each replica."""
    a, b, c = await world.cluster(3)
    chat, call, _ = await world.answering(a, "Half an ")
    early = await listen(world, b, chat)
    await world.settle()
    call.say("answer that comes to ", "nothing at all")
    await world.settle()
    a.kill()
    call = await world.model.next_call()
    call.say("Whole ")
    await world.settle()
    middle = await listen(world, c, chat)
    call.answer("answer.")
    late = None
    for listener in (early, middle):
        await listener.until_over()
    late = await listen(world, c, chat)
    await late.until_over()
    assert early.events == middle.events == late.events
    assert early.text == "Whole answer."
    items = [event["item"]["status"] for event in early.events if event["type"] == "response.output_item.done"]
    assert items == ["incomplete", "completed"]


async def test_p3_a_failed_attempt_is_told_whole_to_those_who_join_later(world: World) -> None:
    a, b = await world.cluster(2)
    chat, call, _ = await world.answering(a, "Half an ")
    early = await listen(world, a, chat)
    await world.settle()
    call.say("answer ")
    call.fail()
    call = await world.model.next_call()
    call.answer("Whole.")
    await early.until_over()
    late = await listen(world, b, chat)
    await late.until_over()
    assert early.events == late.events
    assert "incomplete" in [event.get("item", {}).get("status") for event in late.events]


@pytest.mark.parametrize("lost", [False, True])
async def test_p8_the_count_is_the_same_from_the_history_alone(world: World, lost: bool) -> None:
    """Redis may have lost the words: what an answer says is in the database."""
    a, b = await world.cluster(2)
    chat, call, _ = await world.answering(a, "Half ")
    early = await listen(world, a, chat)
    await world.settle()
    call.answer("and", " half, word", " by word.")
    await early.until_over()
    if lost:
        world.broker.drop_stream(chat.id)
    late = await listen(world, b, chat)
    await late.until_over()
    assert early.events == late.events


async def test_what_was_said_until_an_interrupt_is_the_response(world: World) -> None:
    a, b = await world.cluster(2)
    chat, _, _ = await world.answering(a, "Half an ")
    listener = await listen(world, b, chat)
    await b.interrupt(chat)
    await listener.until_over()
    assert (listener.text, listener.fold.response()["status"]) == ("Half an ", "cancelled")


async def test_a_failed_turn_says_why(world: World) -> None:
    a = await world.replica()
    chat, call, _ = await world.answering(a)
    listener = await listen(world, a, chat)
    call.fail("auth", retryable=False)
    await listener.until_over()
    response = listener.fold.response()
    assert (response["status"], response["error"]["message"]) == ("failed", "the provider says: auth")


async def test_a_turn_whose_message_is_edited_away_is_withdrawn(world: World) -> None:
    a = await world.replica()
    chat, _, _ = await world.answering(a)
    start = start_of(chat)
    listener = await listen(world, a, chat, start)
    await world.settle()
    await a.edit(chat, "hello", "good evening")
    await listener.until_over()
    assert listener.story[-1] == "Withdrawn"
    late = await listen(world, a, chat, start)
    await late.until_over()
    assert (late.story, late.text) == (["Withdrawn"], "")


async def test_the_turn_after_is_none_of_it(world: World) -> None:
    a, b = await world.cluster(2)
    chat = await world.one_turn(a, "hello", "Hi there!")
    start = start_of(chat)
    await world.exchange(a, chat, "and?", "Nothing.")
    await a.send(chat, "more", Busy.QUEUE)
    (await world.model.next_call()).say("Well")
    listener = await listen(world, b, chat, start)
    await listener.until_over()
    assert listener.text == "Hi there!"


async def test_a_turn_whose_end_was_purged_ends_before_the_next_one(world: World) -> None:
    """However the next one began: sent, or promoted from the queue by the very commit that ended it."""
    a, b = await world.cluster(2)
    chat = await a.create("hello")
    start = start_of(chat)
    call = await world.model.next_call()
    await a.send(chat, "and?", Busy.QUEUE)
    call.answer("Hi there!")
    (await world.model.next_call()).answer("Nothing.")
    await chat.until_status("waiting")
    await world.exchange(a, chat, "more", "Well.")
    second = [one for one in chat.row.messages if one.role is Role.USER][1]
    chat.row.turns.clear()
    for begins, text in ((start, "Hi there!"), (TurnStart(second.id, second.revision), "Nothing.")):
        listener = await listen(world, b, chat, begins)
        await listener.until_over()
        assert (listener.text, listener.fold.response()["status"]) == (text, "completed")
    await a.send(chat, "once more", Busy.QUEUE)
    (await world.model.next_call()).say("Half")
    late = await listen(world, b, chat, start)
    await late.until_over()
    assert late.text == "Hi there!"


async def test_what_steered_a_turn_is_a_part_of_it_also_where_its_end_was_purged(world: World) -> None:
    a, chat, _ = await asking(world, CALLS[0])
    await a.send(chat, "and hurry", Busy.STEER)
    await a.apply(chat, Deny("a"))
    await world.replica()
    (await world.model.next_call()).answer("Done.")
    await chat.until_status("waiting")
    chat.row.turns.clear()
    listener = await listen(world, await world.replica(), chat)
    await listener.until_over()
    assert listener.text.endswith("Done.")


async def test_a_log_that_is_up_to_date_says_so(world: World) -> None:
    a = await world.replica()
    chat, _, _ = await world.answering(a, "Half an ")
    listener = await listen(world, a, chat)
    await world.settle()
    assert isinstance(listener.told[-1], UpToDate)
    assert listener.story == ["attempt", "… Half an "]


async def test_with_redis_away_a_turn_is_told_by_its_messages(world: World) -> None:
    a, b = await world.cluster(2)
    chat, call, _ = await world.answering(a, "Half an ")
    b.redis_wire.cut = True
    listener = await listen(world, b, chat)
    call.answer("answer.")
    await listener.until_over()
    assert listener.text == "Half an answer."


async def test_p3_an_answer_that_is_gone_on_with_is_one_item_with_one_count(world: World) -> None:
    """Its owner died, and another one goes on behind the words that were said: nothing is said anew."""
    world.model.able = Continuation.BACKGROUND
    a, _ = await world.cluster(2)
    outside = await world.replica(slots=0)
    chat = await a.create("hello")
    call = await world.model.next_call()
    early = await listen(world, outside, chat)
    call.begin("resp_1")
    call.say_numbered(2, "Half an ")
    await world.settle()
    world.owner_of(chat).kill()
    again = await world.model.next_call()
    again.say_numbered(3, "answer.")
    again.finish()
    await early.until_over()
    late = await listen(world, outside, chat)
    await late.until_over()
    assert early.text == "Half an answer."
    items = [event["item"]["status"] for event in early.events if event["type"] == "response.output_item.done"]
    assert items == ["completed"]
    assert early.events == late.events


async def test_what_a_turn_waits_for_is_told_as_it_stands_at_the_version_that_is_asked_for(world: World) -> None:
    """Who answers a call, and follows the turn from there, is not told that it waits for that answer."""
    replica, chat, _ = await asking(world, *CALLS)
    early = await listen(world, replica, chat)
    await world.settle()
    answered = await replica.apply(chat, Deny("a"))
    late = await listen(world, replica, chat, start_of(chat)._replace(version=answered.chat.snapshot_version))
    await world.settle()
    waits = [[action.call_id for action in one.actions] for one in early.told if isinstance(one, Awaiting)]
    assert waits == [["a", "b"], ["b"]]
    assert [[action.call_id for action in one.actions] for one in late.told if isinstance(one, Awaiting)] == [["b"]]
