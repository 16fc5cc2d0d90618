"""What an attempt cost is booked however it ends: once, and with what is known of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

from chatcluster.errors import UsageLimitExceeded
from chatcluster.parts import Usage
from chatcluster.usage import Prices
from loops.cluster_world import SimulatedReplica, World
from loops.scripted_model import Call

PRICES = Prices(input=1_000_000, output=2_000_000)


def booked(world: World) -> list[tuple[str, int | None, int | None]]:
    """The outcome, the input and the cost of each attempt that is booked, in the order of booking."""
    rows = [row.spent for row in world.database.kept.usage.values()]
    return [(str(spent.outcome), spent.input_tokens, spent.cost_micros) for spent in rows]


def starts(call: Call, read: int | None = None) -> None:
    """The model behind this call begins to answer, and says what it has read."""
    assert call.request.meter is not None
    call.request.meter.starts("large", "cloud", PRICES)
    if read is not None:
        call.request.meter.count(Usage(read))


async def test_an_answer_is_booked_with_its_price(world: World) -> None:
    owner = await world.replica()
    chat, call, reader = await world.answering(owner)
    starts(call)
    call.finish(usage=Usage(10, 5))
    await reader.until_status("waiting")
    assert booked(world) == [("committed", 10, 20)]
    (row,) = world.database.kept.usage.values()
    assert (row.spent.model, row.spent.provider, row.owner_id) == ("large", "cloud", chat.row.owner_id)
    (turn,) = [event.data for event in reader.events if event.type == "turn"]
    assert (turn["usage"]["attempts"], turn["usage"]["cost_micros"]) == (1, 20)


async def test_a_failed_attempt_is_booked_with_what_its_provider_said_until_then(world: World) -> None:
    owner = await world.replica()
    chat, call, _ = await world.answering(owner)
    starts(call, read=10)
    call.fail()
    again = await world.model.next_call()
    starts(again)
    again.finish(usage=Usage(10, 5))  # an empty answer is one that failed, and costs what it costs
    (await world.model.next_call()).answer("At last.")
    await chat.until_status("waiting")
    assert booked(world)[:2] == [("failed", 10, 10), ("failed", 10, 20)]


async def test_an_attempt_that_was_refused_costs_nothing(world: World) -> None:
    owner = await world.replica()
    chat = await owner.create("hello")
    (await world.model.next_call()).fail("auth", retryable=False)
    await chat.until_status("error")
    assert booked(world) == []


async def test_an_interrupted_attempt_is_booked_with_what_is_known(world: World) -> None:
    owner = await world.replica()
    chat, call, _ = await world.answering(owner)
    starts(call, read=10)
    await owner.interrupt(chat)
    await chat.until_status("waiting")
    assert booked(world) == [("interrupted", 10, 10)]


async def test_an_attempt_that_an_edit_overtook_is_booked_with_what_follows(world: World) -> None:
    owner = await world.replica()
    chat, call, _ = await world.answering(owner)
    starts(call, read=10)
    await owner.edit(chat, "hello", "goodbye")
    again = await world.model.next_call()
    again.say("Bye")
    again.finish(usage=Usage(3, 1))
    await chat.until_status("waiting")
    assert booked(world) == [("interrupted", 10, 10), ("committed", 3, None)]


async def test_an_answer_that_an_interrupt_came_before_is_no_answer(world: World) -> None:
    """The model was done, and the commit comes too late."""
    owner, other = await world.cluster(2)
    chat, call, _ = await world.answering(owner)
    starts(call)
    hold = owner.database_wire.hold("commit")
    call.finish(usage=Usage(10, 5))
    await world.settle()
    await other.interrupt(chat)
    hold.release()
    await chat.until_status("waiting")
    assert booked(world) == [("interrupted", 10, 20)]


async def test_a_commit_whose_answer_is_lost_books_once(world: World) -> None:
    owner = await world.replica()
    chat, call, _ = await world.answering(owner)
    owner.database_wire.lose_answer("commit", times=3)
    call.finish(usage=Usage(10, 5))
    await chat.until_status("waiting")
    assert booked(world) == [("committed", 10, None)]


async def test_a_drained_replica_books_what_it_cuts_off(world: World) -> None:
    a = await world.replica(drain_seconds=0.0)
    chat, call, _ = await world.answering(a)
    starts(call, read=10)
    b = await world.replica()
    await a.drain()
    await chat.until(lambda chat: chat.owner == b.worker_id)
    assert booked(world) == [("interrupted", 10, 10)]


async def test_the_attempt_of_an_owner_that_dies_is_booked_as_lost(world: World) -> None:
    a, _ = await world.cluster(2)
    chat, call, _ = await world.answering(a)
    starts(call, read=10)
    a.kill()
    again = await world.model.next_call()
    again.say("Anew")
    again.finish(usage=Usage(10, 5))
    await chat.until_status("waiting")
    assert booked(world) == [("lost", None, None), ("committed", 10, None)]


async def test_an_owner_that_is_fenced_books_nothing_more(world: World) -> None:
    """It froze: what it knew of its attempt is lost with its tenure, and booked by the burial."""
    a, _ = await world.cluster(2)
    chat, call, _ = await world.answering(a)
    starts(call, read=10)
    a.freeze()
    again = await world.model.next_call()
    again.say("Anew")
    again.finish(usage=Usage(10, 5))
    await chat.until_status("waiting")
    a.wake()
    call.finish(usage=Usage(10, 5))
    await world.settle()
    assert booked(world) == [("lost", None, None), ("committed", 10, None)]


class Spending:
    """A ``LimitCheck`` that a test turns on and off."""

    def __init__(self) -> None:
        self.is_reached = False

    async def excess(self, _: UUID) -> UsageLimitExceeded | None:
        return UsageLimitExceeded("the limit of this day is used up") if self.is_reached else None


async def limited(world: World, **settings: Any) -> tuple[SimulatedReplica, Spending]:
    owner, spending = await world.replica(**settings), Spending()
    owner.loop._outside = replace(owner.loop._outside, limits=spending)
    owner.loop.tenures._outside = owner.loop._outside
    return owner, spending


async def test_a_turn_stops_at_its_next_step_once_the_limit_is_reached(world: World) -> None:
    owner, spending = await limited(world)
    chat, call, reader = await world.answering(owner)
    await owner.send(chat, "and then?")
    spending.is_reached = True
    call.call_tools("c1")
    await reader.until_line("error usage_limit_exceeded")
    assert world.model.idle(), "the model is not asked again"
    assert chat.queue == ["and then?"], "what is queued waits for a message that there is room for"
    spending.is_reached = False
    await owner.send(chat, "again")
    (await world.model.next_call()).answer("Then.")
    (await world.model.next_call()).answer("Again.")
    await chat.until_status("waiting")


async def test_a_queued_message_is_answered_once_whatever_was_spent(world: World) -> None:
    owner, spending = await limited(world)
    chat, call, _ = await world.answering(owner)
    await owner.send(chat, "and then?")
    spending.is_reached = True
    call.answer(" answer.")
    (await world.model.next_call()).answer("Then.")
    await chat.until_status("waiting")


async def test_steps_need_not_be_limited(world: World) -> None:
    owner, spending = await limited(world, usage_limit_steps=False)
    chat, call, _ = await world.answering(owner)
    spending.is_reached = True
    call.call_tools("c1")
    (await world.model.next_call()).answer("Done.")
    await chat.until_status("waiting")


async def test_the_stages_of_a_turn_are_told_each_once(world: World) -> None:
    owner = await world.replica(retry_base_seconds=2.0)
    chat = await owner.create("hello")
    (await world.model.next_call()).fail()
    (await world.model.next_call()).answer("Hi!")
    await chat.until_status("waiting")
    stages = [str(fields["stage"]) for name, fields in world.told if name == "stage.ended"]
    for stage in ("queue_wait", "history", "retry_wait", "time_to_first_token", "stream"):
        assert stages.count(stage) == 1, stages
    assert stages.count("prepare") == 2, "once for each attempt"


async def test_a_summary_that_was_asked_for_twice_is_booked_with_all_that_it_cost(world: World) -> None:
    """The second question is of the same attempt: what the first one cost, or did not, hides nothing."""
    owner = await world.replica()
    chat = await owner.create("hello")
    (await world.model.next_call()).answer("long " * 4000)
    await chat.until_status("waiting")
    await owner.send(chat, "more")
    (await world.model.next_call()).fail("context_overflow", retryable=False)
    too_long = await world.model.next_call()
    starts(too_long)
    too_long.fail("context_overflow", retryable=False)
    summary = await world.model.next_call()
    starts(summary)
    summary.say("Much was said.")
    summary.finish(usage=Usage(10, 5))
    (await world.model.next_call()).answer("Here is more.")
    await chat.until_status("waiting")
    assert ("compaction", 10, 20) in booked(world)
