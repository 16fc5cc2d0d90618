"""A message to a chat at rest claims it, where the replica that took it has a place: whatever comes between."""

from __future__ import annotations

from contextvars import ContextVar

import pytest
import trio

from chatcluster import telemetry
from chatcluster.chat import Send
from chatcluster.errors import StoreUnavailable
from chatcluster.parts import TextPart
from chatcluster.ports import Idempotency
from loops.cluster_world import OWNER, SWEEPS, Chat, Hold, SimulatedReplica, World

HOUR = 3600.0
AT_ONCE = 0.01
STRAY_SECONDS = 4.0
"""Two heartbeats, and a claim."""


async def sent_and_held(
    world: World, replica: SimulatedReplica, chat: Chat, nursery: trio.Nursery, words: str = "again"
) -> Hold:
    """A message that has claimed its chat, and the answer to that is on its way back."""
    answer = replica.database_wire.hold_answer("apply")
    nursery.start_soon(replica.send, chat, words)
    await answer.reached.wait()
    assert chat.owner == replica.worker_id
    return answer


# --- whether it claims ------------------------------------------------------------------------


async def test_a_message_to_a_chat_at_rest_claims_it(world: World) -> None:
    """No transaction is between the message and the model but its own."""
    a = await world.replica(claim_poll_seconds=HOUR)
    chat = await world.one_turn(a)
    await world.settle()
    before = a.database_wire.crossings.copy()
    await world.exchange(a, chat, "again", "Yes.")
    spent = a.database_wire.crossings - before
    assert "claim" not in spent
    assert (chat.epoch, chat.state.takeovers) == (2, 0)


async def test_a_first_message_claims_the_chat_that_it_makes(world: World) -> None:
    a = await world.replica(claim_poll_seconds=HOUR)
    await world.settle()
    before = a.database_wire.crossings["claim"]
    chat = await a.create("hello")
    assert (chat.owner, chat.epoch, chat.status) == (a.worker_id, 1, "running")
    await world.model.next_call()
    assert a.database_wire.crossings["claim"] == before


async def test_a_person_who_approves_the_last_call_has_the_turn_go_on_at_once(world: World) -> None:
    a = await world.replica(claim_poll_seconds=HOUR)
    chat = await a.create("look it up", client_tools=["ask"])
    call = await world.model.next_call()
    call.ask_for_tool("c", name="ask")
    call.finish("tool_calls")
    await chat.until_status("requires_action")
    await world.settle()
    before = a.database_wire.crossings["claim"]
    await a.submit(chat, "c", "42")
    await world.model.next_call()
    assert a.database_wire.crossings["claim"] == before


async def test_with_a_limit_per_user_whose_turn_it_is_is_for_the_claim_to_say(world: World) -> None:
    a = await world.replica(claim_poll_seconds=HOUR, user_chats_max=1)
    first, second = await a.create("one"), await a.create("two")
    call = await world.model.next_call()
    await world.settle()
    assert (first.status, second.status) == ("running", "pending")
    call.answer("Yes.")
    await second.until_status("running", within=AT_ONCE)


async def test_a_message_does_not_go_before_a_chat_that_waits(world: World) -> None:
    """P10: it is claimed with it, by turns."""
    a = await world.replica(claim_poll_seconds=HOUR, slots=2)
    chat = await world.one_turn(a)
    nobody = await world.replica(slots=0)
    world.broker.disconnect()  # nobody tells of the one that waits
    waiting = await nobody.create("first")
    await a.send(chat, "second")
    asked = {(await world.model.next_call()).prompt[-1] for _ in range(2)}
    assert asked == {"user: first", "user: second"}
    assert waiting.owner == chat.owner == a.worker_id


async def test_of_two_messages_at_once_one_has_the_last_place(world: World) -> None:
    a, b = await world.cluster(2, claim_poll_seconds=HOUR, slots=1)
    chats = [await world.one_turn(a), await world.one_turn(a)]
    async with trio.open_nursery() as nursery:
        for chat in chats:
            nursery.start_soon(a.send, chat, "again")
    for _ in chats:
        await world.model.next_call()
    assert {chat.owner for chat in chats} == {a.worker_id, b.worker_id}


# --- what comes between -----------------------------------------------------------------------


@pytest.mark.parametrize("again_on", ["a", "b"])
async def test_when_the_answer_is_lost_the_chat_is_given_back_and_answered_once(world: World, again_on: str) -> None:
    """P1, P4: the message is repeated under its key, on whatever replica."""
    a, b = await world.cluster(2)
    chat = await world.one_turn(a)
    await world.settle()
    key, command = Idempotency("key", b""), Send((TextPart("again"),))
    a.database_wire.lose_answer("apply")
    with pytest.raises(StoreUnavailable):
        await a.transitions.apply(chat.id, command, owner_id=OWNER, idempotency=key)
    assert (chat.owner, a.loop.chats) == (a.worker_id, 0)
    where = a if again_on == "a" else b
    repeated = await where.transitions.apply(chat.id, command, owner_id=OWNER, idempotency=key)
    assert repeated.replayed
    assert repeated.claimed is None
    with trio.fail_after(STRAY_SECONDS):
        (await world.model.next_call()).answer("Yes.")
        await chat.until_status("waiting")
    assert chat.history[2:] == ["user: again", "assistant: Yes."]


async def test_a_new_chat_whose_answer_is_lost_is_answered(world: World) -> None:
    """P4"""
    a = await world.replica()
    a.database_wire.lose_answer("create")
    with pytest.raises(StoreUnavailable):
        await a.create("hello")
    with trio.fail_after(STRAY_SECONDS):
        assert (await world.model.next_call()).prompt == ["user: hello"]


async def test_an_answer_that_takes_heartbeats_long_is_waited_for(world: World) -> None:
    a = await world.replica()
    chat = await world.one_turn(a)
    async with trio.open_nursery() as nursery:
        answer = await sent_and_held(world, a, chat, nursery)
        await trio.sleep(a.settings.ownership.self_fence_seconds - 0.5)
        assert chat.epoch == 2, "nobody gave it back"
        answer.release()
        await world.model.next_call()
    assert (chat.epoch, a.loop.chats) == (2, 1)


async def test_an_answer_that_comes_too_late_begins_nothing(world: World) -> None:
    """P2: by then the chat was given back, and is worked on in another tenure."""
    a = await world.replica()
    chat = await world.one_turn(a)
    async with trio.open_nursery() as nursery:
        answer = await sent_and_held(world, a, chat, nursery)
        call = await world.model.next_call()
        call.say("Well, ")
        assert chat.epoch == 3
        answer.release()
    await trio.sleep(1)
    call.answer("yes.")
    await chat.until_status("waiting")
    assert chat.history[2:] == ["user: again", "assistant: Well, yes."]


async def test_a_replica_that_drains_meanwhile_gives_the_chat_to_another(world: World) -> None:
    """P6"""
    a, b = await world.cluster(2)
    chat = await world.one_turn(a)
    async with trio.open_nursery() as nursery:
        answer = await sent_and_held(world, a, chat, nursery)
        a.loop.drain()
        await trio.sleep(0.5)
        assert not a.stopped.is_set(), "it knows that it may own the chat"
        answer.release()
    with trio.fail_after(1):
        await a.stopped.wait()
        (await world.model.next_call()).answer("Yes.")
    assert chat.owner == b.worker_id
    assert [name for name, _ in world.told].count("chat.attempt_failed") == 0


async def test_a_replica_that_drains_does_not_wait_for_an_answer_for_ever(world: World) -> None:
    a, b = await world.cluster(2)
    chat = await world.one_turn(a)
    async with trio.open_nursery() as nursery:
        answer = await sent_and_held(world, a, chat, nursery)
        a.loop.drain()
        with trio.fail_after(a.settings.ownership.self_fence_seconds + 1):
            await a.stopped.wait()
            await world.model.next_call()
        assert chat.owner == b.worker_id
        answer.release()
    assert a.loop.chats == 0


async def test_a_replica_that_loses_its_lease_meanwhile_begins_nothing(world: World) -> None:
    """P2"""
    a, b = await world.cluster(2)
    chat = await world.one_turn(a)
    async with trio.open_nursery() as nursery:
        await trio.sleep(1)
        a.heartbeat_wire.cut = True
        await trio.sleep(2)
        answer = await sent_and_held(world, a, chat, nursery)
        await world.until(lambda: "lease.lost" in world.names_told(), within=3)
        answer.release()
    call = await world.model.next_call()
    assert chat.owner == b.worker_id
    call.answer("Yes.")
    await chat.until_status("waiting")
    assert [call.prompt for call in world.model.calls[1:]] == [["user: hello", "assistant: Hi there!", "user: again"]]


async def test_who_is_told_to_stop_before_it_knows_that_it_began_stops(world: World) -> None:
    """P5: through another replica, whose hint comes before the answer."""
    a, b = await world.cluster(2, claim_poll_seconds=HOUR)
    chat = await world.one_turn(a)
    async with trio.open_nursery() as nursery:
        answer = await sent_and_held(world, a, chat, nursery)
        await b.interrupt(chat)
        await world.settle()
        answer.release()
    await chat.until_status("waiting", within=AT_ONCE)
    assert len(world.model.calls) == 1


async def test_a_claim_under_way_and_a_message_do_not_share_a_place(world: World) -> None:
    """A replica with one place, which a claim may be about to fill."""
    a = await world.replica(slots=1, claim_poll_seconds=HOUR)
    chat = await world.one_turn(a)
    nobody = await world.replica(slots=0)
    claim = a.database_wire.hold_answer("claim")
    other = await nobody.create("other")
    await claim.reached.wait()
    assert other.owner == a.worker_id
    await a.send(chat, "again")
    assert chat.status == "pending"
    claim.release()
    (await world.model.next_call()).answer("Yes.")
    await other.until_status("waiting")
    await chat.until_status("running", within=AT_ONCE)


async def test_a_tenure_is_no_part_of_the_request_that_it_begins_with(world: World) -> None:
    """What a request knows of itself, the trace that it belongs to say, is not what its turn knows."""
    a = await world.replica()
    request: ContextVar[str] = ContextVar("request", default="none")
    heard: dict[str, str] = {}
    listener = lambda name, _: heard.__setitem__(name, request.get())  # noqa: E731
    request.set("this")
    telemetry.subscribe(listener)
    try:
        await world.one_turn(a)
    finally:
        telemetry.unsubscribe(listener)
    assert heard["chat.turn"] == "none"


async def test_a_plain_turn_costs_two_transactions(world: World) -> None:
    """The message with its claim, and the commit of the answer, which ends the turn. The history is read once."""
    a = await world.replica(claim_poll_seconds=HOUR)
    chat = await world.one_turn(a)
    await world.settle()
    before = a.database_wire.crossings.copy()
    await world.exchange(a, chat, "again", "Yes.")
    await trio.sleep(1)
    spent = a.database_wire.crossings - before
    for sweep in SWEEPS:
        del spent[sweep]
    assert spent == {"apply": 1, "read_history": 1, "commit": 1}
