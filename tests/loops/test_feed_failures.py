"""What readers notice of trouble behind their feed: a delay, or a cut that they resume from. Never a gap (P3)."""

from __future__ import annotations

from uuid import uuid4

import pytest
import trio

from chatcluster.errors import ChatNotFound, StoreUnavailable
from chatcluster.feed import FIRST_BYTES
from chatcluster.memory import MemoryStore
from chatcluster.parts import BEGINNING
from loops.cluster_world import OWNER, World


async def test_a_chat_that_does_not_exist_is_said_to_be_so(world: World) -> None:
    a = await world.replica()
    with pytest.raises(ChatNotFound):
        async with a.feeds.subscribe(uuid4(), BEGINNING, owner_id=OWNER):
            pass
    await world.settle()
    assert "chats=0 subscribers=0" in repr(a.feeds), "and nothing is kept of it"


async def test_a_reader_that_comes_while_the_database_is_away_is_told_to_come_again(world: World) -> None:
    a = await world.replica()
    chat = await world.one_turn(a)
    a.database_wire.cut = True
    with pytest.raises(StoreUnavailable):
        async with a.feeds.subscribe(chat.id, BEGINNING, owner_id=OWNER):
            pass
    a.database_wire.cut = False
    reader = await a.read(chat)
    await reader.until_line("queue []")


async def test_a_reader_does_not_wait_for_a_silent_database_for_ever(world: World) -> None:
    a = await world.replica()
    chat = await world.one_turn(a)
    a.database_wire.freeze()
    with trio.fail_after(11), pytest.raises(StoreUnavailable):
        async with a.feeds.subscribe(chat.id, BEGINNING, owner_id=OWNER):
            pass


async def test_a_poll_leaves_a_feed_alone_that_waits_for_its_first_read(world: World) -> None:
    """On a slow database a poll comes before it; that used to end the whole replica."""
    a, b = await world.replica(), await world.replica(slots=0)
    chat = await world.one_turn(a)
    held = b.database_wire.hold("read")
    before = b.database_wire.crossings["versions"]
    async with trio.open_nursery() as nursery:
        nursery.start_soon(b.read, chat)
        await world.until(lambda: b.database_wire.crossings["versions"] > before)
        held.release()
    assert b.registered


async def test_parts_go_on_while_the_readers_replica_cannot_read_the_database(world: World) -> None:
    a, b = await world.replica(), await world.replica(slots=0)
    chat, call, _ = await world.answering(a, "Once")
    reader = await b.read(chat)
    await reader.until_preview("Once")
    b.database_wire.cut = True
    call.say(" upon")
    await reader.until_preview("Once upon", within=0.1)
    call.answer(" a time")
    await chat.until_status("waiting")
    await trio.sleep(2)
    assert reader.status == "running"
    b.database_wire.cut = False
    await reader.until_status("waiting", within=0.5)
    assert reader.history == chat.history


async def test_a_page_of_the_replay_that_cannot_be_read_breaks_the_stream_and_the_cursor_stands(world: World) -> None:
    a, b = await world.cluster(2)
    chat = await world.one_turn(a)
    await a.send(chat, "more than comes with the state of a chat".ljust(FIRST_BYTES))
    async with b.feeds.subscribe(chat.id, BEGINNING, owner_id=OWNER) as subscriber:
        b.database_wire.cut = True
        assert b"event: status" in await subscriber.receive(), "which is known here"
        with pytest.raises(StoreUnavailable):
            await subscriber.receive()
        b.database_wire.cut = False
        assert b"Hi there!" in await subscriber.receive(), "nothing was lost by the failure"


async def test_a_feed_with_a_bug_cuts_its_readers_and_the_next_feed_serves_them(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    a, b = await world.replica(), await world.replica(slots=0)
    chat = await world.one_turn(a)
    reader, other = await b.read(chat), await b.read(await world.one_turn(a))
    await reader.until_line("queue []")
    with monkeypatch.context() as broken:

        async def read(*_: object, **__: object) -> None:
            raise ZeroDivisionError

        broken.setattr(MemoryStore, "read_newer", read)
        await a.rename(chat, "Greetings")
        await reader.until_cut()
    assert "feed.crashed" in world.names_told()
    resumed = await b.resume(chat, reader)
    await resumed.until_line("queue []")
    assert other.cut is None, "the readers of other chats notice nothing"
    assert b.registered, "and the replica lives"


async def test_a_reader_that_leaves_while_it_joins_leaves_nothing_behind(world: World) -> None:
    a = await world.replica()
    chat = await world.one_turn(a)
    hold = a.database_wire.hold("read")
    with trio.CancelScope() as scope:
        async with trio.open_nursery() as nursery:

            async def join() -> None:
                async with a.feeds.subscribe(chat.id, BEGINNING, owner_id=OWNER):
                    raise AssertionError("the feed is not ready")

            nursery.start_soon(join)
            await hold.reached.wait()
            scope.cancel()
    hold.release()
    await trio.sleep(10)
    assert "chats=0 subscribers=0" in repr(a.feeds)


async def test_a_reader_of_a_past_incarnations_words_sees_them_end_in_a_new_attempt(world: World) -> None:
    """The replica that serves the reader is the one that lost its lease and takes the chat again."""
    a = await world.replica()
    chat, _, reader = await world.answering(a)
    a.heartbeat_wire.cut = True
    await trio.sleep(5)
    a.heartbeat_wire.cut = False
    call = await world.model.next_call()
    call.say("Whole")
    await reader.until_preview("Whole")
    call.answer(".")
    await reader.until_status("waiting")
    assert chat.epoch == 2
    assert len(a.incarnations) == 2
    assert reader.history == chat.history == ["user: hello", "assistant: Whole."]
