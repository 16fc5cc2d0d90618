"""What a chat waits for, as its readers see it: told once, told anew to whoever joins, and told that it is over."""

from __future__ import annotations

import json
from uuid import uuid4

from chat_states import APPROVAL, CLIENT, assistant

from chatcluster.chat import (
    Approve,
    Busy,
    CommitStep,
    Deny,
    Fence,
    OpenCall,
    SubmitToolResults,
    ToolResult,
    claimed,
    digest_of,
)
from loops.cluster_world import Chat, SimulatedReplica, World
from loops.reader import Reader
from loops.test_families import spawned

CALLS = (OpenCall("a", "tool", APPROVAL, seconds=60.0), OpenCall("b", "tool", CLIENT, seconds=60.0))


async def asking(world: World, *calls: OpenCall) -> tuple[SimulatedReplica, Chat, Reader]:
    """A chat that comes to wait for calls, before the eyes of a reader. No replica here takes it on."""
    a = await world.replica(slots=0)
    chat = await a.create("hello")
    reader = await a.read(chat)
    await reader.until_status("pending")
    row, worker_id = chat.row, uuid4()
    world.database.change(row, claimed(row.state, worker_id))
    fence = Fence(chat.id, worker_id, row.state.epoch, row.state.history_version)
    step = CommitStep((assistant("looking", *(call.call_id for call in calls)),), calls)
    a.notices.committed((await a.store.commit(fence, step)).chat, "status")
    await reader.until_status("requires_action")
    return a, chat, reader


def actions(reader: Reader) -> list[str]:
    return [event.line for event in reader.events if event.type == "action_required"]


async def test_a_reader_is_told_what_the_chat_waits_for_and_when_it_waits_no_more(world: World) -> None:
    a, chat, reader = await asking(world, *CALLS)
    await world.settle()
    (event,) = [event for event in reader.events if event.type == "action_required"]
    approval, client = event.data["calls"]
    assert (approval["kind"], approval["arguments"], approval["digest"]) == ("approval", "{}", digest_of("{}"))
    assert (client["kind"], client["name"], client["may_have_run"]) == ("client", "tool", False)
    await a.apply(chat, Deny("a"))
    await world.settle()
    assert actions(reader) == ["action ['a', 'b']", "action ['b']"]
    await a.apply(chat, SubmitToolResults((ToolResult("b", "42"),)))
    await world.settle()
    assert actions(reader) == ["action ['a', 'b']", "action ['b']", "action []"]
    assert reader.story[-2:] == ["status pending", "action []"]


async def test_whoever_joins_or_comes_back_is_told_what_the_chat_waits_for_now(world: World) -> None:
    a, chat, reader = await asking(world, *CALLS)
    await world.settle()
    cursor = reader.events[-1].id
    await a.apply(chat, Approve("a"))
    b = await world.replica(slots=0)
    for replica in (a, b):
        for joined in (await replica.read(chat), await replica.read(chat, cursor)):
            await world.settle()
            assert actions(joined) == ["action ['b']"]
            assert joined.is_ready


async def test_a_chat_that_waits_for_nobody_tells_of_no_action(world: World) -> None:
    a = await world.replica()
    chat = await world.one_turn(a)
    reader = await a.read(chat)
    await world.settle()
    assert actions(reader) == []


async def test_a_stop_tells_that_nobody_is_waited_for_any_more(world: World) -> None:
    a, chat, reader = await asking(world, *CALLS)
    await a.interrupt(chat)
    await reader.until_status("waiting")
    await world.settle()
    assert actions(reader)[-1] == "action []"
    assert reader.turns == [f"turn {chat.message_id('hello')} interrupted"]


async def test_a_message_to_a_chat_that_waits_tells_of_no_action_again(world: World) -> None:
    a, chat, reader = await asking(world, *CALLS)
    await a.send(chat, "meanwhile", Busy.STEER)
    await world.settle()
    assert actions(reader) == ["action ['a', 'b']"]
    assert reader.events[-1].data["queue"][0]["steered"] is True


async def test_what_an_agent_waits_for_is_told_at_the_top_behind_every_status(world: World) -> None:
    """A status other than ``requires_action`` says that nothing is waited for; a chat that waits for agents runs."""
    (a,) = await world.cluster(1, agents=True)
    chat, agent, call, _ = await spawned(world, a)
    reader = await a.read(chat)
    state = agent.row.state
    assert state.worker_id is not None
    fence = Fence(agent.id, state.worker_id, state.epoch, state.history_version)
    await a.store.commit(fence, CommitStep((assistant("looking", "a"),), CALLS[:1]))
    await world.until(lambda: bool(actions(reader)))
    call.ask_for_tool("w", "wait_agent", json.dumps({"chat_id": str(agent.id)}))
    call.finish("tool_calls")
    await chat.until(lambda chat: chat.row.state.waits_for_agents)
    await world.settle()
    assert reader.story.index("action ['a']") < len(reader.story) - 1
    assert reader.story[-2:] == ["status running", "action ['a']"]
