"""``/watch``: the list of a user's chats, live."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from itertools import groupby
from uuid import UUID, uuid4

import msgspec
import pytest
import trio
from chat_states import user

from chatcluster import watch
from chatcluster.errors import ChatNotFound, TooMany
from chatcluster.notices import Lifecycle
from chatcluster.parts import BEGINNING, encode
from chatcluster.ports import NewChat, owner_channel
from chatcluster.subscriber import Cut, Subscriber
from chatcluster.watch import NEWEST_CHATS, POLL_SECONDS
from loops.cluster_world import OWNER, SimulatedReplica, World


class ListReader:
    """What a client of ``/watch`` has read: ``kind title status`` of each event."""

    def __init__(self, subscriber: Subscriber) -> None:
        self._subscriber = subscriber
        self.lines: list[str] = []

    async def until_line(self, line: str, *, within: float = 10.0) -> None:
        with trio.move_on_after(within):
            while line not in self.lines:
                self.lines.extend(map(_line, (await self._subscriber.receive()).decode().split("\n\n")[:-1]))
        assert line in self.lines, f"not within {within:g} s; read {self.lines}"


def _line(block: str) -> str:
    kind, data = block.splitlines()
    event = msgspec.json.decode(data.removeprefix("data: "))
    assert kind == f"event: {event['type']}"
    return f"{event['type']} {event['chat']['title']} {event['chat']['status']}"


@asynccontextmanager
async def watching(replica: SimulatedReplica, owner_id: UUID = OWNER) -> AsyncIterator[ListReader]:
    async with replica.watches.subscribe(owner_id) as subscriber:
        yield ListReader(subscriber)


async def test_the_life_of_a_chat_is_seen_on_every_replica(world: World) -> None:
    a, b = await world.cluster(2)
    async with watching(a) as here, watching(b) as there:
        chat = await world.one_turn(a)
        for reader in (here, there):
            await reader.until_line("status a chat waiting", within=0.1)
        await a.rename(chat, "Greetings")
        await a.archive(chat)
        await a.unarchive(chat)
        for reader in (here, there):
            await reader.until_line("unarchived Greetings waiting", within=0.1)
            kinds = [kind for kind, _ in groupby(line.split()[0] for line in reader.lines)]
            assert kinds == ["created", "status", "title", "archived", "unarchived"]


async def test_an_event_that_is_published_twice_is_told_once(world: World) -> None:
    """P3: what a replica publishes reaches its own readers at once, and comes back from Redis."""
    a = await world.replica()
    async with watching(a) as reader:
        chat = await world.one_turn(a)
        await a.rename(chat, "Greetings")
        version = (await a.store.get(chat.id)).snapshot_version
        for _ in range(2):
            a.pubsub.publish(owner_channel(OWNER), encode(Lifecycle("title", chat.id, version)))
        await a.archive(chat)
        await reader.until_line("archived Greetings waiting")
    assert [line.split()[0] for line in reader.lines if line.startswith(("created", "title"))] == ["created", "title"]


async def test_nobody_sees_the_chats_of_another(world: World) -> None:
    """P9."""
    a = await world.replica()
    async with watching(a) as mine, watching(a, UUID(int=7)) as theirs:
        await world.one_turn(a)
        await mine.until_line("status a chat waiting")
        with pytest.raises(AssertionError, match="read \\[\\]"):
            await theirs.until_line("anything", within=5.0)


async def test_after_a_gap_the_newest_chats_are_told_again(world: World) -> None:
    a, b = await world.cluster(2)
    async with watching(b) as reader:
        chat = await world.one_turn(a)
        await reader.until_line("status a chat waiting")
        b.pubsub.disconnect()
        await a.rename(chat, "Greetings")
        b.pubsub.connect()
        await reader.until_line("status Greetings waiting", within=0.1)


async def test_what_nobody_published_is_told_once_by_the_poll(world: World) -> None:
    """P8: without Redis, or when a replica dies between its commit and the word of it."""
    a, b = await world.cluster(2)
    async with watching(b) as reader:
        chat = await world.one_turn(a)
        await reader.until_line("status a chat waiting", within=0.1)
        b.pubsub.disconnect()
        await a.rename(chat, "Greetings")
        await reader.until_line("status Greetings waiting", within=POLL_SECONDS + 0.1)
        told = len(reader.lines)
        with pytest.raises(AssertionError, match="not within"):
            await reader.until_line("anything", within=5 * POLL_SECONDS)
        assert len(reader.lines) == told


async def test_no_chat_is_too_old_to_be_told_of(world: World) -> None:
    """However many chats their user made since, and whether anybody publishes the change."""
    a, b = await world.cluster(2)
    old = await world.one_turn(a)
    for _ in range(NEWEST_CHATS + 5):
        await a.store.create(NewChat(uuid4(), OWNER, "newer", None, (user("x"),)))
    async with watching(b) as reader:
        b.pubsub.disconnect()
        await trio.sleep(10 * POLL_SECONDS)
        await a.rename(old, "Greetings")
        await reader.until_line("status Greetings waiting", within=POLL_SECONDS + 0.1)


async def test_who_comes_back_finds_the_list_listened_to_and_it_ends_when_nobody_does(world: World) -> None:
    a = await world.replica()
    async with watching(a):
        (followed,) = a.watches._watches.values()
    await trio.sleep(0.5 * POLL_SECONDS)
    async with watching(a) as reader:
        assert list(a.watches._watches.values()) == [followed]
        await trio.sleep(3 * POLL_SECONDS)
        await world.one_turn(a)
        await reader.until_line("status a chat waiting", within=0.1)
    await trio.sleep(3 * POLL_SECONDS)
    assert not a.watches._watches


async def test_who_comes_back_is_told_of_a_chat_whose_name_was_given_anew_meanwhile(world: World) -> None:
    a = await world.replica()
    chat = await world.one_turn(a)

    async def until(subscriber: Subscriber, words: bytes) -> None:
        told = b""
        with trio.fail_after(1):
            while words not in told:
                told = await subscriber.receive()

    async with a.watches.subscribe(OWNER) as first:
        await a.transitions.delete(chat.id, owner_id=OWNER)
        await until(first, b"event: deleted")
    await a.transitions.create(NewChat(chat.id, OWNER, "again", None, (user("hello"),)))
    await trio.sleep(0.1)  # nobody is told of it
    async with a.watches.subscribe(OWNER) as second:
        await a.rename(chat, "Greetings")
        await until(second, b"Greetings")


async def test_what_is_remembered_of_a_user_is_bounded(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(watch, "KNOWN_CHATS_MAX", 3)
    monkeypatch.setattr(watch, "POLL_CHATS", 2)
    a = await world.replica()
    async with watching(a) as reader:
        for number in range(10):
            await a.store.create(NewChat(uuid4(), OWNER, f"chat {number}", None, (user("x"),)))
        a.pubsub.disconnect()
        for number in range(10):
            await reader.until_line(f"status chat {number} running", within=POLL_SECONDS + 0.1)
        (followed,) = a.watches._watches.values()
        assert len(followed._told) <= 3
        assert len(followed._kinds) <= 3


async def test_a_poll_that_failed_is_made_up_for_by_the_next_one(world: World) -> None:
    a, b = await world.cluster(2)
    async with watching(b) as reader:
        chat = await world.one_turn(a)
        await reader.until_line("status a chat waiting", within=0.1)
        b.pubsub.disconnect()
        b.database_wire.cut = True
        await a.rename(chat, "Greetings")
        await trio.sleep(10 * POLL_SECONDS)
        b.database_wire.cut = False
        await reader.until_line("status Greetings waiting", within=POLL_SECONDS + 0.1)


async def test_lists_of_many_users_cost_one_statement_per_poll(world: World) -> None:
    a = await world.replica()
    async with watching(a), watching(a, UUID(int=7)):
        await world.one_turn(a)
        await world.settle()
        before = a.database_wire.crossings.copy()
        await trio.sleep(10 * POLL_SECONDS)
        spent = a.database_wire.crossings - before
    assert spent["list_chats"] == spent["get"] == 0
    assert 9 <= spent["list_changed"] <= 14


async def test_a_database_that_is_away_delays_the_list_and_no_more(world: World) -> None:
    a, b = await world.cluster(2)
    async with watching(b) as reader:
        b.database_wire.cut = True
        await world.one_turn(a)
        await trio.sleep(2)
        assert reader.lines == []
        b.database_wire.cut = False
        await reader.until_line("status a chat waiting", within=1.0)


async def test_a_takeover_is_seen_in_the_list(world: World) -> None:
    a, b = await world.cluster(2)
    chat, _, _ = await world.answering(a)
    async with watching(b) as reader:
        a.kill()
        await chat.until(lambda chat: chat.owner == b.worker_id)
        await reader.until_line("status a chat running", within=0.1)


async def test_readers_of_lists_are_cut_when_the_replica_leaves(world: World) -> None:
    a = await world.replica()
    async with a.watches.subscribe(OWNER) as reader:
        a.loop.drain()
        with pytest.raises(Cut):
            await reader.receive()


async def test_a_reader_of_the_list_that_falls_behind_is_cut(world: World) -> None:
    a = await world.replica(subscriber_buffer_bytes=16 << 10)
    chat = await world.one_turn(a)
    async with a.watches.subscribe(OWNER) as slow:
        for number in range(100):
            await a.rename(chat, f"title {number}")
            await trio.sleep(0.1)
        with pytest.raises(Cut, match="slow"):
            await slow.receive()


async def test_lists_count_as_streams(world: World) -> None:
    a = await world.replica(subscribers_max=1)
    chat = await world.one_turn(a)
    async with a.watches.subscribe(OWNER):
        with pytest.raises(TooMany):
            async with a.watches.subscribe(OWNER):
                pass
        with pytest.raises(TooMany):
            async with a.feeds.subscribe(chat.id, BEGINNING, owner_id=OWNER):
                pass
    async with watching(a) as reader:
        await world.one_turn(a)
        await reader.until_line("status a chat waiting")


async def test_a_chat_that_is_deleted_leaves_every_list_and_its_readers(world: World) -> None:
    """Also where no word of it comes: then with the next poll, once."""
    a, b = await world.cluster(2)
    chat = await world.one_turn(a)
    async with a.watches.subscribe(OWNER) as here, b.watches.subscribe(OWNER) as there:
        reader = await b.read(chat)
        await a.transitions.delete(chat.id, owner_id=OWNER)
        for subscriber in (here, there):
            told = b""
            with trio.fail_after(1):
                while b"event: deleted" not in told:
                    told = await subscriber.receive()
            assert str(chat.id).encode() in told
        with trio.fail_after(5):
            await reader.until_cut()
        with trio.move_on_after(2 * POLL_SECONDS):
            assert b"deleted" not in await here.receive()
    with pytest.raises(ChatNotFound):
        async with b.feeds.subscribe(chat.id, BEGINNING, owner_id=OWNER):
            raise AssertionError("there is no such chat any more")


async def test_a_new_chat_of_the_name_of_a_deleted_one_is_in_the_lists_again(world: World) -> None:
    """Clients of some front doors name their chats: the same name is the same ID."""
    a, b = await world.cluster(2)
    chat = await world.one_turn(a)
    async with a.watches.subscribe(OWNER) as here, b.watches.subscribe(OWNER) as there:

        async def until(word: bytes) -> None:
            for subscriber in (here, there):
                told = b""
                with trio.fail_after(1):
                    while word not in told:
                        told = await subscriber.receive()

        await a.transitions.delete(chat.id, owner_id=OWNER)
        await until(b"event: deleted")
        await a.transitions.create(NewChat(chat.id, OWNER, "again", None, (user("hello"),)))
        await until(b"event: created")
        with trio.move_on_after(2 * POLL_SECONDS):
            while True:
                assert b"event: deleted" not in await here.receive()
