"""Frames that arrive while the feed's task is at something else: each is shown once and in its place (P3).

Frames are taken in the call that delivers them, at any moment; only the database takes time. Here it takes its
time at the worst ones.
"""

from __future__ import annotations

import pytest
import trio

from chatcluster.errors import StoreUnavailable
from chatcluster.parts import AttemptFrame, PartFrame, Position, TextPart, frame
from loops.cluster_world import OWNER, Chat, Hold, SimulatedReplica, World
from loops.reader import Reader
from loops.scripted_model import Call

AT_ONCE = 0.05
"""Less than a message waits for frames that do not come."""

NEXT_TURN = ["assistant: Hi", "user: next", "queue []", "attempt 1", "… Yes.", "assistant: Yes.", "status waiting"]


async def about_to_go_on(world: World) -> tuple[SimulatedReplica, SimulatedReplica, Chat, Call, Reader]:
    """The owner is about to end a turn, and has another one queued; the reader is on another replica."""
    a, b = await world.replica(), await world.replica(slots=0)
    chat, call, _ = await world.answering(a, "Hi")
    await a.send(chat, "next")
    reader = await b.read(chat)
    await reader.until_preview("Hi")
    await world.settle()
    return a, b, chat, call, reader


async def stale_read(b: SimulatedReplica, call: Call) -> Hold:
    """The turn ends, and the reader's replica is about to hear of it, while the next one goes on."""
    held = b.database_wire.hold_answer("read")
    call.finish()
    await held.reached.wait()
    return held


async def test_an_attempt_that_begins_while_the_database_is_read_waits_for_a_read_that_knows_of_it(
    world: World,
) -> None:
    """What the read under way does not know yet came to be after it: it is no proof that there is nothing newer."""
    _, b, _, call, reader = await about_to_go_on(world)
    held = await stale_read(b, call)
    (await world.model.next_call()).answer("Yes.")
    await world.settle()
    assert reader.story[-1] == "… Hi", "nothing is shown before the history that it builds on"
    held.release()
    await reader.until_status("waiting", within=AT_ONCE)
    assert reader.story[-7:] == NEXT_TURN


async def test_a_message_and_frames_that_wait_for_each_other_do_not_wait_for_yet_another_change(world: World) -> None:
    """Frames wait for a read; it brings the message that waits for them; and by then there is something newer again."""
    a, b, chat, call, reader = await about_to_go_on(world)
    first = await stale_read(b, call)
    second = b.database_wire.hold_answer("read")
    (await world.model.next_call()).answer("Yes.")
    await chat.until_status("waiting")
    first.release()
    await second.reached.wait()
    await a.rename(chat, "Greetings")
    second.release()
    await reader.until_line("title Greetings", within=AT_ONCE)
    assert reader.story[-8:] == [*NEXT_TURN, "title Greetings"]


async def test_frames_that_wait_come_in_order_however_many_come_meanwhile(world: World) -> None:
    """More than a subscription keeps: the rest is read from the stream."""
    _, b, _, call, reader = await about_to_go_on(world)
    held = await stale_read(b, call)
    call = await world.model.next_call()
    words = [f"{number} " for number in range(300)]
    for word in words:
        call.say(word)
        await trio.sleep(b.settings.streaming.coalesce_ms / 1000)
    await world.settle()
    held.release()
    await reader.until_preview("".join(words), within=AT_ONCE)
    call.finish()
    await reader.until_status("waiting", within=AT_ONCE)


async def test_who_joins_while_frames_wait_gets_them_after_the_history_that_they_build_on(world: World) -> None:
    _, b, chat, call, reader = await about_to_go_on(world)
    held = await stale_read(b, call)
    (await world.model.next_call()).answer("Yes.")
    await world.settle()
    late = await b.read(chat)
    await late.until_preview("Hi")
    held.release()
    for each in (reader, late):
        await each.until_status("waiting", within=AT_ONCE)
        assert each.story[-7:] == NEXT_TURN


async def test_frames_wait_out_a_database_that_cannot_be_read_for_long(world: World) -> None:
    """What builds on a history that is not shown is not shown; the reads go on, five a second and no more."""
    _, b, _, call, reader = await about_to_go_on(world)
    b.database_wire.cut = True
    call.finish()
    (await world.model.next_call()).say("Ye")
    await world.settle()
    failures = world.names_told().count("feed.read_failed")
    await trio.sleep(60)
    assert reader.story[-1] == "… Hi"
    assert 295 <= world.names_told().count("feed.read_failed") - failures <= 305
    assert reader.cut is None
    b.database_wire.cut = False
    await reader.until_preview("Ye", within=0.25)
    world.model.calls[-1].answer("s.")
    await reader.until_status("waiting", within=AT_ONCE)
    assert reader.story[-7:] == NEXT_TURN


async def test_frames_that_wait_when_their_owner_dies_are_superseded(world: World) -> None:
    """When the database is read there is another tenure: what its attempt says takes the place of the old one's words,
    which it might have gone on with."""
    a, b, _, call, reader = await about_to_go_on(world)
    held = await stale_read(b, call)
    (await world.model.next_call()).say("Half")
    await world.settle()
    await world.replica()
    a.kill()
    (await world.model.next_call()).say("Whole")
    await world.settle()
    held.release()
    await reader.until_preview("Whole", within=AT_ONCE)
    assert reader.story[-2:] == ["attempt 2", "… Whole"]


async def test_frames_that_wait_when_the_chat_is_edited_are_not_shown(world: World) -> None:
    a, b, chat, call, reader = await about_to_go_on(world)
    held = await stale_read(b, call)
    (await world.model.next_call()).say("Obsolete")
    await world.settle()
    await a.edit(chat, "next", "better")
    (await world.model.next_call()).answer("Fresh.")
    await chat.until_status("waiting")
    held.release()
    await reader.until_status("waiting", within=AT_ONCE)
    assert "Obsolete" not in "".join(reader.story)
    assert reader.history == chat.history == ["user: hello", "assistant: Hi", "user: better", "assistant: Fresh."]


async def test_an_attempt_that_began_in_a_state_that_never_came_to_be_is_shown_after_one_look(world: World) -> None:
    """A database that was set back: the attempt builds on the history shown, and that is what counts."""
    a, b = await world.replica(), await world.replica(slots=0)
    chat, _, _ = await world.answering(a, "Hi")
    reader = await b.read(chat)
    await reader.until_preview("Hi")
    await world.settle()
    reads = b.database_wire.crossings["read"]
    unheard_of = AttemptFrame(2, chat.state.history_version, chat.state.snapshot_version + 1000)
    words = [frame(Position(1, 3), unheard_of), frame(Position(1, 4), PartFrame(2, TextPart("Hello")))]
    await a.streams.append([(chat.id, each) for each in words])
    await reader.until_preview("Hello", within=AT_ONCE)
    assert b.database_wire.crossings["read"] == reads + 1


# --- readers that are ahead -------------------------------------------------------------------


async def test_a_cursor_from_after_the_read_under_way_is_waited_for_and_not_refused(world: World) -> None:
    """The read that is on its way back says that there is no such version; it is just too old to know."""
    a, b, chat, call, reader = await about_to_go_on(world)
    quick = await a.read(chat)
    held = await stale_read(b, call)
    (await world.model.next_call()).answer("Yes.")
    await quick.until_status("waiting")
    b.pubsub.disconnect()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(b.resume, chat, quick)
        await world.settle()
        held.release()
    await reader.until(lambda reader: reader.history == chat.history, within=AT_ONCE)


async def test_a_cursor_is_waited_for_only_so_long_while_the_database_cannot_be_read(world: World) -> None:
    a, b, chat, call, _ = await about_to_go_on(world)
    quick = await a.read(chat)
    b.database_wire.cut = True
    call.finish()
    (await world.model.next_call()).answer("Yes.")
    await quick.until_status("waiting")
    began = trio.current_time()
    with pytest.raises(StoreUnavailable, match="behind"):
        async with b.feeds.subscribe(chat.id, quick.view.cursor, owner_id=OWNER):
            pass
    assert trio.current_time() - began == pytest.approx(b.settings.streaming.feed_poll_seconds)


async def test_a_cursor_is_waited_for_while_its_message_waits_for_frames(world: World) -> None:
    """The message is read, but not shown yet: the reader joins when it is, and misses nothing of what follows."""
    a, b, chat, call, slow = await about_to_go_on(world)
    quick = await a.read(chat)
    held = b.redis_wire.hold("read")
    b.pubsub.disconnect()
    b.pubsub.connect()
    await held.reached.wait()
    call.say(" there")
    call.finish()
    (await world.model.next_call()).answer("Yes.")
    await quick.until_status("waiting")
    began = trio.current_time()
    resumed = await b.resume(chat, quick)
    assert 0.4 < trio.current_time() - began <= 1.0, "twice the wait for frames at most"
    await resumed.until_line("queue []")
    assert resumed.story == ["status waiting", "queue []"]
    await slow.until_status("waiting")
    assert slow.history == chat.history
