"""``/chats/{id}/stream?family=true``: a chat and its agents in one stream, under one cursor."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from typing import Any
from uuid import UUID

import msgspec
import pytest
import trio

from chatcluster.errors import ChatNotFound, InvalidCursor, StoreUnavailable
from chatcluster.family_stream import FamilySubscriber, parse_family_cursor
from chatcluster.feed import Feed
from chatcluster.parts import Role
from chatcluster.subscriber import Cut
from loops.cluster_world import OWNER, Chat, SimulatedReplica, World
from loops.test_families import REPORTS, agents_of, provider, spawned


class Family:
    """What a reader of a family has read: who said what, in a few words, and the cursor after each event."""

    def __init__(self, subscriber: FamilySubscriber, root: Chat) -> None:
        self.subscriber = subscriber
        self._root = root
        self.lines: list[tuple[str, str]] = []
        """The chat's ID, and what it said."""
        self.cursors: list[str] = []

    async def until(self, *wanted: tuple[str, str], within: float = 10.0) -> None:
        with trio.move_on_after(within):
            while not set(wanted) <= set(self.lines):
                self._take(await self.subscriber.receive())
        assert set(wanted) <= set(self.lines), f"not within {within:g} s; read {self.lines}"

    def _take(self, events: bytes) -> None:
        for block in events.decode().split("\n\n")[:-1]:
            place, kind, data = block.split("\n")
            told = msgspec.json.decode(data.removeprefix("data: "))
            self.cursors.append(place.removeprefix("id: "))
            chat_id = told.pop("chat_id", str(self._root.id))
            self.lines.append((chat_id, in_words(kind.removeprefix("event: "), told)))

    @property
    def messages(self) -> Counter[tuple[str, str]]:
        return Counter(line for line in self.lines if line[1].startswith("message "))


def in_words(kind: str, told: dict[str, Any]) -> str:
    assert told["type"] == kind
    match kind:
        case "message":
            return f"message {told['message']['id']} of the {told['message']['role']}"
        case "part":
            return f"part {told['part'].get('text', '')}"
        case "status":
            return f"status {told['status']}"
        case _:
            return kind


@asynccontextmanager
async def family(replica: SimulatedReplica, chat: Chat, cursor: str = "") -> AsyncIterator[Family]:
    async with replica.families.subscribe(OWNER, chat.id, parse_family_cursor(cursor)) as subscriber:
        yield Family(subscriber, chat)


def all_messages(*chats: Chat) -> Counter[tuple[str, str]]:
    shown = ((chat, one) for chat in chats for one in chat.row.messages if one.role is not Role.SYSTEM)
    return Counter((str(chat.id), f"message {one.id} of the {one.role}") for chat, one in shown)


async def test_an_agents_words_come_live_with_its_chats_id(world: World) -> None:
    a, b = await world.cluster(2, agents=True)
    chat, agent, call, agents_call = await spawned(world, a)
    async with family(b, chat) as reader:
        await reader.until((str(chat.id), "ready"), (str(agent.id), "ready"))
        agents_call.say("Four")
        await reader.until((str(agent.id), "part Four"), within=0.5)
        call.say("They count.")
        await reader.until((str(chat.id), "part They count."), within=0.5)


async def test_an_agent_that_is_new_is_told_of(world: World) -> None:
    (a,) = await world.cluster(1, agents=True)
    async with provider(world):
        chat = await a.create()
        async with family(a, chat) as reader:
            await chat.until_status("waiting")
            agents = agents_of(world, chat)
            await reader.until(*((str(agent.id), "status waiting") for agent in agents))
            await reader.until(*all_messages(chat, *agents))
    assert reader.messages == all_messages(chat, *agents)
    assert chat.history[-1] == f"assistant: {REPORTS}"


async def test_a_reader_resumes_anywhere_and_on_any_replica_and_sees_each_message_once(world: World) -> None:
    """P3, for a family."""
    a, b = await world.cluster(2, agents=True)
    async with provider(world):
        chat = await a.create()
        async with family(a, chat) as reader:
            await chat.until_status("waiting")
            agents = agents_of(world, chat)
            await reader.until(*all_messages(chat, *agents))
    for place, cursor in enumerate(reader.cursors, 1):
        seen = Counter(line for line in reader.lines[:place] if line[1].startswith("message "))
        async with family(b, chat, cursor) as rest:
            await rest.until((str(chat.id), "ready"), *((str(agent.id), "ready") for agent in agents))
        assert seen + rest.messages == all_messages(chat, *agents), cursor


async def test_a_cursor_of_the_chat_alone_will_do(world: World) -> None:
    (a,) = await world.cluster(1, agents=True)
    async with provider(world, 1):
        chat = await a.create()
        await chat.until_status("waiting")
        (agent,) = agents_of(world, chat)
        view = await a.read(chat)
        await world.until(lambda: view.view.cursor is not None)
        async with family(a, chat, str(view.view.cursor)) as reader:
            await reader.until((str(agent.id), "ready"))
    assert set(all_messages(agent)) <= set(reader.lines)


async def test_a_family_has_one_place_in_the_audience_and_belongs_to_one_user(world: World) -> None:
    """P9, P10."""
    (a,) = await world.cluster(1, agents=True, subscribers_max=2, subscribers_per_user=1)
    async with provider(world):
        chat = await a.create()
        await chat.until_status("waiting")
        async with family(a, chat) as reader:
            await reader.until(*((str(agent.id), "ready") for agent in agents_of(world, chat)))
            with pytest.raises(ChatNotFound):
                async with a.families.subscribe(chat.id, chat.id, parse_family_cursor("")):
                    pass


@pytest.mark.parametrize("text", ["x", "1.1-1~", "1.1-1~abc:1.1-1", "1.1-1~" + "0" * 12 + ":x", "~:", "1.1-1~~1.1-1"])
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(InvalidCursor):
        parse_family_cursor(text)


async def test_words_that_come_while_agents_are_looked_for_do_not_begin_the_look_anew(world: World) -> None:
    """However busy a family is, its reader gets on."""
    a, b = await world.cluster(2, agents=True)
    chat, agent, call, _ = await spawned(world, a)
    async with family(b, chat) as reader:
        subscriber = reader.subscriber
        held = b.database_wire.hold("family")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(reader.until, (str(agent.id), "ready")))
            await held.reached.wait()
            call.say("They")
            await world.settle()
            assert subscriber.receive_nowait() == b""
            assert not subscriber.has_pending
            held.release()
        await reader.until((str(chat.id), "part They"), within=0.5)


async def test_p10_an_agent_that_cannot_be_read_hides_no_other(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    (a,) = await world.cluster(1, agents=True)
    async with provider(world):
        chat = await a.create()
        await chat.until_status("waiting")
        bad, *good = agents_of(world, chat)
        joined = a.feeds._joined

        async def fails(chat_id: UUID) -> Feed:
            if chat_id == bad.id:
                raise StoreUnavailable("the chat's feed failed; resume")
            return await joined(chat_id)

        monkeypatch.setattr(a.feeds, "_joined", fails)
        async with family(a, chat) as reader:
            await reader.until((str(chat.id), "ready"), *((str(agent.id), "ready") for agent in good), within=1)


async def test_a_family_that_is_deleted_cuts_its_reader(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    (a,) = await world.cluster(1, agents=True)
    async with provider(world, 1):
        chat = await a.create()
        await chat.until_status("waiting")
        async with family(a, chat) as reader:
            await reader.until((str(chat.id), "ready"))
            await a.store.delete(chat.id, owner_id=OWNER)
            with pytest.raises(Cut):
                await reader.until((str(chat.id), "what never comes"), within=60)


async def test_to_follow_a_family_at_rest_costs_next_to_nothing(world: World) -> None:
    (a,) = await world.cluster(1, agents=True)
    async with provider(world, 1):
        chat = await a.create()
        await chat.until_status("waiting")
    async with family(a, chat) as reader:
        await reader.until(*((str(each.id), "ready") for each in (chat, *agents_of(world, chat))))
        before = a.database_wire.crossings["family"]
        with trio.move_on_after(600):
            while True:
                with trio.move_on_after(15):  # a heartbeat
                    await reader.subscriber.receive()
        assert a.database_wire.crossings["family"] - before <= 20
