"""``/watch?chat=&family=true``: a user's list, a chat and its agents in one stream, under one cursor."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import pytest

from chatcluster.errors import ChatNotFound, InvalidCursor, TooMany
from chatcluster.tab_stream import parse_family_tab_cursor
from loops.cluster_world import OWNER, Chat, SimulatedReplica, World
from loops.test_families import agents_of, provider, spawned
from loops.test_family_streams import Family, all_messages


@asynccontextmanager
async def tab(replica: SimulatedReplica, chat: Chat, cursor: str = "") -> AsyncIterator[Family]:
    place = parse_family_tab_cursor(cursor)
    async with replica.tabs.subscribe_family(OWNER, chat.id, place) as subscriber:
        yield Family(subscriber, chat)


async def test_one_stream_tells_of_the_list_the_chat_and_its_agents(world: World) -> None:
    a, b = await world.cluster(2, agents=True)
    chat, agent, call, agents_call = await spawned(world, a)
    async with tab(b, chat) as reader:
        await reader.until((str(chat.id), "ready"), (str(agent.id), "ready"))
        agents_call.say("Four")
        await reader.until((str(agent.id), "part Four"), within=0.5)
        call.say("They count.")
        await reader.until((str(chat.id), "part They count."), within=0.5)
        other = await a.create()
        await reader.until((str(other.id), "chat"), within=0.5)
        for cursor in reader.cursors:
            parse_family_tab_cursor(cursor)


async def test_a_tab_resumes_anywhere_and_on_any_replica_and_sees_each_message_once(world: World) -> None:
    """P3, for a tab with a family."""
    a, b = await world.cluster(2, agents=True)
    async with provider(world):
        chat = await a.create()
        async with tab(a, chat) as reader:
            await chat.until_status("waiting")
            agents = agents_of(world, chat)
            await reader.until(*all_messages(chat, *agents))
    assert reader.messages == all_messages(chat, *agents)
    for place, cursor in enumerate(reader.cursors, 1):
        seen = Counter(line for line in reader.lines[:place] if line[1].startswith("message "))
        async with tab(b, chat, cursor) as rest:
            await rest.until((str(chat.id), "ready"), *((str(agent.id), "ready") for agent in agents))
        assert seen + rest.messages == all_messages(chat, *agents), cursor


async def test_the_cursor_of_a_tab_without_its_family_will_do(world: World) -> None:
    (a,) = await world.cluster(1, agents=True)
    async with provider(world, 1):
        chat = await a.create()
        await chat.until_status("waiting")
        (agent,) = agents_of(world, chat)
        async with tab(a, chat) as reader:
            await reader.until((str(chat.id), "ready"))
            place = next(cursor for cursor in reversed(reader.cursors) if cursor.count("~") == 1)
        async with tab(a, chat, place) as reader:
            await reader.until((str(agent.id), "ready"))
    assert reader.messages == all_messages(agent)


async def test_changes_of_the_list_look_for_no_agents(world: World) -> None:
    """P10: what happens in other chats costs the database nothing for this one."""
    (a,) = await world.cluster(1, agents=True)
    async with provider(world, 1):
        chat = await a.create()
        await chat.until_status("waiting")
        async with tab(a, chat) as reader:
            await reader.until(*((str(agent.id), "ready") for agent in agents_of(world, chat)))
            before = a.database_wire.crossings["family"]
            for name in ("one", "two", "three"):
                await a.rename(chat, name)
                await reader.until((str(chat.id), "chat"), within=0.5)
                reader.lines.clear()
            assert a.database_wire.crossings["family"] == before


async def test_a_tab_has_one_place_and_belongs_to_one_user(world: World) -> None:
    """P9, P10."""
    (a,) = await world.cluster(1, agents=True, subscribers_max=2, subscribers_per_user=1)
    async with provider(world):
        chat = await a.create()
        await chat.until_status("waiting")
        async with tab(a, chat) as reader:
            await reader.until(*((str(agent.id), "ready") for agent in agents_of(world, chat)))
            with pytest.raises(TooMany):
                async with tab(a, chat):
                    pass
            with pytest.raises(ChatNotFound):
                async with a.tabs.subscribe_family(chat.id, chat.id, parse_family_tab_cursor("")):
                    pass


@pytest.mark.parametrize("text", ["x", "x~", "1.1-1~" + "0" * 12 + ":1.1-1", "5~1.1-1~x", "5~x", "-5~", "5~~1.1-1"])
def test_what_is_no_cursor_is_refused(text: str) -> None:
    with pytest.raises(InvalidCursor):
        parse_family_tab_cursor(text)
