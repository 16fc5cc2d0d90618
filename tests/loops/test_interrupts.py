"""Stop stops (P5), from any replica and whatever is under way; what was already said is kept."""

from __future__ import annotations

import pytest
import trio

from chatcluster.chat import Busy
from chatcluster.errors import NotAllowedInStatus
from chatcluster.parts import Position, ReasoningPart, SourcePart, TextPart
from loops.cluster_world import World


async def test_an_interrupt_keeps_what_was_said(world: World) -> None:
    owner = await world.replica()
    chat, call, reader = await world.answering(owner)
    await owner.interrupt(chat)
    await reader.until_status("waiting", within=0.1)
    assert chat.history == ["user: hello", "assistant: Half an"]
    assert chat.row.messages[-1].finish_reason == "interrupted"
    assert call.ended.is_set(), "the model call is cancelled"
    assert chat.owner is None, "a chat at rest has no owner"
    assert reader.story[3:] == [
        "attempt 1",
        "… Half an",
        "status interrupting",
        "assistant: Half an",
        "status waiting",
    ]


async def test_an_interrupt_keeps_the_sources_of_the_text_that_it_breaks_off(world: World) -> None:
    """They are told where a text ends, so nobody has seen them: readers see them now, before the answer is there."""
    owner = await world.replica()
    chat, call, reader = await world.answering(owner)
    source = SourcePart("https://lakes.example/", "Lakes")
    assert call.request.meter is not None
    call.request.meter.cite([source])
    call.request.meter.cite([source])  # by another connection to the same answer
    await owner.interrupt(chat)
    await reader.until_status("waiting", within=0.1)
    assert chat.row.messages[-1].parts == (TextPart("Half an"), source)
    assert [one.data["part"]["type"] for one in reader.events if one.type == "part"] == ["text", "source"]


async def test_an_interrupt_keeps_no_sources_where_nothing_was_said(world: World) -> None:
    owner = await world.replica()
    chat = await owner.create()
    call = await world.model.next_call()
    assert call.request.meter is not None
    call.request.meter.cite([SourcePart("https://lakes.example/")])
    await owner.interrupt(chat)
    await chat.until_status("waiting")
    assert chat.history == ["user: hello"]


async def test_an_interrupt_on_another_replica_is_seen_by_everybody(world: World) -> None:
    owner, other = await world.cluster(2)
    chat, _, at_owner = await world.answering(owner)
    at_other = await other.read(chat)
    await at_other.until_preview("Half an")
    await other.interrupt(chat)
    await at_other.until_status("waiting", within=0.1)
    await at_owner.until_status("waiting", within=0.1)
    assert at_other.history == at_owner.history == chat.history


async def test_an_interrupt_reaches_a_deaf_owner_with_its_next_heartbeat(world: World) -> None:
    """Without hints the heartbeat carries it (P8)."""
    owner, other = await world.cluster(2)
    chat, _, _ = await world.answering(owner)
    owner.pubsub.disconnect()
    await other.interrupt(chat)
    await chat.until_status("waiting", within=owner.settings.ownership.heartbeat_seconds + 0.1)
    assert chat.history == ["user: hello", "assistant: Half an"]


async def test_an_interrupt_reaches_an_owner_as_soon_as_it_can_hear_again(world: World) -> None:
    """What it may have missed, it looks up: no heartbeat has to come first."""
    owner, other = await world.cluster(2, heartbeat_seconds=50.0, lease_ttl_seconds=200.0)
    chat, _, _ = await world.answering(owner)
    owner.pubsub.disconnect()
    await other.interrupt(chat)
    await trio.sleep(5)
    assert chat.status == "interrupting"
    owner.pubsub.connect()
    await chat.until_status("waiting", within=0.05)


async def test_an_interrupt_reaches_an_owner_that_has_not_heard_yet_that_it_is_one(world: World) -> None:
    """The claim's answer is still on its way when the hint comes."""
    owner = await world.replica(heartbeat_seconds=50.0, lease_ttl_seconds=200.0)
    held = owner.database_wire.hold_answer("claim")
    chat = await owner.create()
    await held.reached.wait()
    await owner.interrupt(chat)
    await world.settle()
    held.release()
    await chat.until_status("waiting", within=0.05)


async def test_the_partial_is_exactly_what_readers_saw(world: World) -> None:
    """Words that wait to be coalesced are streamed before the partial is committed, and neither is lost."""
    owner, other = await world.cluster(2)
    chat, call, _ = await world.answering(owner, "a")
    reader = await other.read(chat)
    call.say("b", "c", "d")
    await world.settle()
    await other.interrupt(chat)
    await reader.until_status("waiting")
    assert chat.history[-1] == "assistant: abcd"
    assert reader.story[-4:] == ["… abcd", "status interrupting", "assistant: abcd", "status waiting"] or reader.story[
        -5:
    ] == ["… a", "status interrupting", "… bcd", "assistant: abcd", "status waiting"]
    position = chat.row.messages[-1].position
    assert position is not None
    assert Position.parse(position) == (1, 3), "the position of its last frame"


async def test_reasoning_is_kept_as_well(world: World) -> None:
    owner = await world.replica()
    chat = await owner.create()
    reader = await owner.read(chat)
    call = await world.model.next_call()
    call.think("Hm")
    call.say("Half an")
    await reader.until_preview("Half an")
    await owner.interrupt(chat)
    await chat.until_status("waiting")
    assert chat.row.messages[-1].parts == (ReasoningPart("Hm"), TextPart("Half an"))


async def test_nothing_said_means_no_empty_message(world: World) -> None:
    owner = await world.replica()
    chat = await owner.create()
    reader = await owner.read(chat)
    await world.model.next_call()
    await reader.until_line("attempt 1")
    await owner.interrupt(chat)
    await reader.until_status("waiting", within=0.1)
    assert chat.history == ["user: hello"]


async def test_an_interrupt_that_races_with_the_end_keeps_the_whole_answer_once(world: World) -> None:
    """The commit finds the chat interrupting: the answer becomes the partial, with all its words."""
    owner = await world.replica()
    chat, call, _ = await world.answering(owner, "Hi")
    commit = owner.database_wire.hold("commit")
    call.answer(" there!")
    await commit.reached.wait()
    await owner.interrupt(chat)
    commit.release()
    await chat.until_status("waiting")
    assert chat.history == ["user: hello", "assistant: Hi there!"]


async def test_an_interrupt_that_races_with_a_failure_keeps_what_was_said(world: World) -> None:
    """The attempt failed, but the stop came before anybody scheduled another one."""
    owner = await world.replica()
    chat, call, reader = await world.answering(owner)
    commit = owner.database_wire.hold("commit")
    call.fail()
    await commit.reached.wait()
    await owner.interrupt(chat)
    commit.release()
    await reader.until_status("waiting")
    assert chat.history == ["user: hello", "assistant: Half an"]


async def test_an_interrupt_ends_the_wait_for_a_retry_at_once(world: World) -> None:
    owner = await world.replica(retry_base_seconds=50.0)
    chat, call, reader = await world.answering(owner)
    call.fail()
    await reader.until_line("retry 1 overloaded")
    began = trio.current_time()
    await owner.interrupt(chat)
    await reader.until_status("waiting", within=0.1)
    assert trio.current_time() - began < 0.1
    assert chat.history == ["user: hello"], "a failed attempt leaves nothing"


async def test_a_second_interrupt_and_one_at_rest_are_refused(world: World) -> None:
    owner = await world.replica()
    chat = await world.one_turn(owner)
    with pytest.raises(NotAllowedInStatus):
        await owner.interrupt(chat)
    assert chat.status == "waiting"


async def test_a_chat_without_owner_is_interrupted_even_by_a_full_replica(world: World) -> None:
    """What is to be stopped needs no slot."""
    owner = await world.replica(slots=1)
    await world.answering(owner)
    waiting = await owner.create("me too")
    await trio.sleep(3)
    assert waiting.status == "pending"
    await owner.interrupt(waiting)
    await waiting.until_status("waiting", within=0.1)
    assert waiting.history == ["user: me too"]


async def test_a_message_with_interrupt_is_answered_after_the_partial(world: World) -> None:
    """It waits in the queue until the partial is in history: never before it."""
    owner, other = await world.cluster(2)
    chat, _, reader = await world.answering(owner)
    outcome = await other.send(chat, "stop, rather this", Busy.INTERRUPT)
    assert outcome.queued is not None
    assert chat.history == ["user: hello"]
    call = await world.model.next_call()
    assert call.prompt == ["user: hello", "assistant: Half an", "user: stop, rather this"]
    call.answer("Sure.")
    await reader.until_status("waiting")
    assert reader.history == chat.history == [*call.prompt, "assistant: Sure."]
    assert chat.epoch == 1, "the tenure goes on to the promoted message"


async def test_a_message_sent_while_the_interruption_is_finished_comes_after_the_partial(world: World) -> None:
    """There is no moment in which the chat looks at rest but its partial is not in history yet."""
    owner = await world.replica()
    chat, _, reader = await world.answering(owner)
    commit = owner.database_wire.hold("commit")
    await owner.interrupt(chat)
    await commit.reached.wait()
    outcome = await owner.send(chat, "and now?")
    assert outcome.queued is not None
    commit.release()
    (await world.model.next_call()).answer("Now this.")
    await reader.until_status("waiting")
    assert chat.history == ["user: hello", "assistant: Half an", "user: and now?", "assistant: Now this."]


async def test_a_stop_ends_the_answer_that_follows_it_no_sooner_than_it_began(world: World) -> None:
    """A hint of the last turn, come late, does not cancel the fresh run: the database says what is true."""
    owner = await world.replica()
    chat, _, _ = await world.answering(owner)
    await owner.interrupt(chat)
    interrupting = world.database.view(chat.row)
    await chat.until_status("waiting")
    await owner.send(chat, "again")
    call = await world.model.next_call()
    call.say("Fresh")
    for _ in range(3):
        owner.notices.committed(interrupting)
        await world.settle()
    assert not call.ended.is_set()
    call.answer(" run")
    await chat.until_status("waiting")
    assert chat.history[-1] == "assistant: Fresh run"


async def test_a_wake_up_of_a_past_transition_does_not_cancel_a_run(world: World) -> None:
    """Every notice of the chat's past, told again to its present owner, changes nothing."""
    _, other = await world.cluster(2)
    chat = await other.create("hello")
    pending = world.database.view(chat.row)
    call = await world.model.next_call()
    running = world.database.view(chat.row)
    call.say("Hi")
    for notice in (pending, running, pending):
        other.notices.committed(notice)
        await world.settle()
    call.answer(" there!")
    await chat.until_status("waiting")
    assert chat.history == ["user: hello", "assistant: Hi there!"]
    assert len(world.model.calls) == 1
