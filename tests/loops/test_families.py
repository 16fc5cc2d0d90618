"""Chats that have others work for them: nobody is asked twice, nobody waits for ever, and to wait costs nothing."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest
import trio
import trio.testing

from chatcluster.chat import CallState
from chatcluster.families import OBEY_SECONDS_MAX, settle, when_obeyed
from chatcluster.parts import Role, ToolCallPart, ToolResultPart, text_of
from loops.cluster_world import Chat, SimulatedReplica, World, open_world
from loops.scripted_model import Call

AGENTS = 3
STEPS = ("claim", "commit", "spawn", "report_agents", "due_orders", "obey", "get", "open_calls")
"""What a replica asks of the database on the way of a family."""


def results_of(call: Call) -> dict[str, str]:
    """What the calls of the history gave, by their names and IDs."""
    parts = [part for message in call.request.messages for part in message.parts]
    names = {part.id: part.name for part in parts if isinstance(part, ToolCallPart)}
    given = [part for part in parts if isinstance(part, ToolResultPart)]
    return {f"{names[part.call_id]} {part.call_id}": part.text for part in sorted(given, key=lambda part: part.call_id)}


def told(text: str) -> dict[str, Any]:
    """What a result says, behind the note that it was run again."""
    said: dict[str, Any] = json.loads(text[text.index("{") :])
    return said


def is_agents(call: Call) -> bool:
    return call.request.messages[0].role is Role.SYSTEM


class Provider:
    """A model whose chats spawn agents, wait for all of them, and say what came of it."""

    def __init__(self, world: World, agents: int = AGENTS) -> None:
        self._world = world
        self._agents = agents
        self.asked: Counter[str] = Counter()
        """How often each agent was asked."""

    async def run(self) -> None:
        while True:
            self.play(await self._world.model.next_call())

    def play(self, call: Call) -> None:
        if is_agents(call):
            words = text_of(call.request.messages[1].parts)
            self.asked[words] += 1
            call.answer(f"done: {words}")
            return
        results = results_of(call)
        spawned = [told(text)["chat_id"] for name, text in results.items() if name.startswith("spawn_agent")]
        waited = [text for name, text in results.items() if name.startswith("wait_agent")]
        if not spawned:
            for number in range(self._agents):
                call.ask_for_tool(f"s{number}", "spawn_agent", json.dumps({"prompt": f"task {number}"}))
            call.finish("tool_calls")
        elif not waited:
            for number, chat_id in enumerate(spawned):
                call.ask_for_tool(f"w{number}", "wait_agent", json.dumps({"chat_id": chat_id}))
            call.finish("tool_calls")
        else:
            call.answer(" ".join(told(text)["report"] for text in waited))


REPORTS = " ".join(f"done: task {number}" for number in range(AGENTS))


def agents_of(world: World, chat: Chat) -> list[Chat]:
    return [Chat(world, each) for each in world.database.kept.families.children(chat.id)]


def agents_at_rest(world: World, chat: Chat) -> bool:
    return all(agent.status == "waiting" for agent in agents_of(world, chat))


@asynccontextmanager
async def provider(world: World, agents: int = AGENTS) -> AsyncIterator[Provider]:
    async with trio.open_nursery() as nursery:
        played = Provider(world, agents)
        nursery.start_soon(played.run)
        yield played
        nursery.cancel_scope.cancel()


async def test_two_replicas_with_one_slot_each_finish_a_parent_with_three_agents(world: World) -> None:
    a, _ = await world.cluster(2, slots=1, agents=True)
    async with provider(world) as played:
        chat = await a.create()
        await chat.until(lambda chat: chat.history[-1] == f"assistant: {REPORTS}")
    assert played.asked == {f"task {number}": 1 for number in range(AGENTS)}
    assert agents_at_rest(world, chat)
    assert len(agents_of(world, chat)) == AGENTS


class KillAt:
    """Kills the replica that is the one to take the ``number``-th step, before it has an effect or after."""

    def __init__(self, number: int, *, before: bool) -> None:
        self.left = number
        self.killed: SimulatedReplica | None = None
        self._before = before

    def watch(self, replica: SimulatedReplica) -> None:
        wire = replica.database_wire
        crossing = wire.crossing

        @asynccontextmanager
        async def watched(operation: str) -> AsyncIterator[None]:
            counts = operation in STEPS and self.killed is None
            self.left -= counts
            is_it = counts and self.left == 0
            if is_it and self._before:
                await self._kill(replica)
            async with crossing(operation):
                yield
                if is_it:
                    await self._kill(replica)

        wire.crossing = watched  # type: ignore[method-assign]

    async def _kill(self, replica: SimulatedReplica) -> None:
        self.killed = replica
        replica.kill()
        await trio.lowlevel.checkpoint()


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
async def test_whoever_is_killed_at_whatever_step_no_agent_is_made_twice_and_none_is_lost(before: bool) -> None:
    number, killed = 1, True
    while killed:
        async with open_world() as world:
            kill = KillAt(number, before=before)
            replicas = await world.cluster(3, slots=1, agents=True)
            for replica in replicas:
                kill.watch(replica)
            async with provider(world):
                chat = await replicas[0].create()
                await chat.until(lambda chat: chat.history[-1] == f"assistant: {REPORTS}")
            assert len(agents_of(world, chat)) == AGENTS, number
            await chat.until(partial(agents_at_rest, world))
            killed = kill.killed is not None
        number += 1
    assert number > 20, "there are so many steps"


async def test_who_waits_holds_no_slot_and_has_no_owner(world: World) -> None:
    (a,) = await world.cluster(1, slots=1, agents=True)
    chat = await a.create()
    played = Provider(world, 1)
    played.play(await world.model.next_call())
    played.play(await world.model.next_call())
    agents_call = await world.model.next_call()
    assert is_agents(agents_call), "the one slot there is, is the agent's"
    assert (chat.status, chat.owner) == ("running", None)
    assert [call.state for call in chat.state.open_calls] == [CallState.AGENTS]
    played.play(agents_call)
    played.play(await world.model.next_call())
    await chat.until_status("waiting")


async def test_a_report_that_nobody_lived_to_make_is_made_by_the_sweep(world: World) -> None:
    a, b = await world.cluster(2, agents=True)
    chat = await a.create()
    played = Provider(world, 1)
    played.play(await world.model.next_call())
    played.play(await world.model.next_call())
    agents_call = await world.model.next_call()
    (agent,) = agents_of(world, chat)
    owner = next(replica for replica in (a, b) if replica.worker_id == agent.owner)
    report = owner.database_wire.hold("report_agents")
    played.play(agents_call)
    await report.reached.wait()
    assert (agent.status, chat.status) == ("waiting", "running")
    owner.kill()
    played.play(await world.model.next_call())
    await chat.until_status("waiting", within=5.0)
    assert chat.results["w0"].count("done: task 0") == 1


async def test_a_wait_ends_after_its_time_and_the_agent_goes_on(world: World) -> None:
    (a,) = await world.cluster(1, agents=True)
    chat = await a.create()
    call = await world.model.next_call()
    call.ask_for_tool("s", "spawn_agent", json.dumps({"prompt": "a long task"}))
    call.finish("tool_calls")
    calls = [await world.model.next_call() for _ in range(2)]
    agents_call, call = sorted(calls, key=is_agents, reverse=True)
    (agent,) = agents_of(world, chat)
    agents_call.say("So far")
    call.ask_for_tool("w", "wait_agent", json.dumps({"chat_id": str(agent.id), "timeout_seconds": 30}))
    call.finish("tool_calls")
    began = trio.current_time()
    call = await world.model.next_call()
    assert 30 <= trio.current_time() - began < 32
    said = told(chat.results["w"])
    assert (said["timed_out"], said["status"]) == (True, "running")
    assert "goes on" in said["note"]
    call.answer("It takes long.")
    await chat.until_status("waiting")
    agents_call.answer(" and on.")
    await agent.until_status("waiting")


async def spawned(world: World, replica: SimulatedReplica) -> tuple[Chat, Chat, Call, Call]:
    """A chat with an agent, both at work, and what their model was asked."""
    chat = await replica.create()
    call = await world.model.next_call()
    call.ask_for_tool("s", "spawn_agent", json.dumps({"prompt": "a task"}))
    call.finish("tool_calls")
    calls = [await world.model.next_call() for _ in range(2)]
    agents_call, call = sorted(calls, key=is_agents, reverse=True)
    (agent,) = agents_of(world, chat)
    return chat, agent, call, agents_call


async def test_a_task_that_cannot_be_stored_as_it_is_is_stored_as_it_can_be(world: World) -> None:
    (a,) = await world.cluster(1, agents=True)
    chat = await a.create()
    call = await world.model.next_call()
    call.ask_for_tool("s", "spawn_agent", json.dumps({"prompt": "a\0task"}))
    call.finish("tool_calls")
    for _ in range(2):
        await world.model.next_call()
    (agent,) = agents_of(world, chat)
    assert agent.history[-1] == "user: a\ufffdtask"


async def test_a_stop_reaches_the_agents(world: World) -> None:
    """P5"""
    (a,) = await world.cluster(1, agents=True)
    chat, agent, _, agents_call = await spawned(world, a)
    agents_call.say("Half an ans")
    await a.interrupt(chat)
    await chat.until_status("waiting")
    await agent.until_status("waiting", within=0.5)
    assert agent.history[-1] == "assistant: Half an ans"


async def test_a_stop_reaches_the_agents_of_a_chat_that_waits_for_them(world: World) -> None:
    (a,) = await world.cluster(1, agents=True)
    chat, agent, call, _ = await spawned(world, a)
    call.ask_for_tool("w", "wait_agent", json.dumps({"chat_id": str(agent.id)}))
    call.finish("tool_calls")
    await chat.until(lambda chat: chat.owner is None)
    await a.interrupt(chat)
    assert chat.status == "waiting"
    await agent.until_status("waiting", within=0.5)
    assert "cancelled" in chat.results["w"]


@pytest.mark.parametrize("command", ["interrupt", "archive"])
async def test_a_stop_whose_replica_dies_half_way_is_carried_out_by_the_sweep(world: World, command: str) -> None:
    """P5: of a family that is half stopped nothing is left."""
    a, _ = await world.cluster(2, agents=True)
    chat, agent, _, _ = await spawned(world, a)
    front = await world.replica(slots=0, agents=True)
    order = front.database_wire.hold("due_orders")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(getattr(front, command), chat)
        await order.reached.wait()
        front.kill()
    await agent.until(lambda agent: agent.status == "waiting" and agent.owner is None, within=5.0)
    assert agent.state.archived == (command == "archive")
    await chat.until(lambda chat: chat.state.archived == (command == "archive"), within=5.0)


async def test_an_agent_speaks_for_itself_only_where_agents_are_turned_on(world: World) -> None:
    (a,) = await world.cluster(1)
    await a.create()
    call = await world.model.next_call()
    assert [tool.name for tool in call.request.tools] == []


async def test_agents_have_no_agents_unless_the_setting_says_so(world: World) -> None:
    (a,) = await world.cluster(1, agents=True)
    _, _, call, agents_call = await spawned(world, a)
    assert {"spawn_agent", "wait_agent"} <= {tool.name for tool in call.request.tools}
    assert agents_call.request.tools == ()


async def test_an_agent_for_the_screen_has_the_model_that_the_deployment_has_for_that(world: World) -> None:
    (a,) = await world.cluster(1, agents=True, computer_use_model="looker")
    await a.create()
    call = await world.model.next_call()
    (spawn,) = (tool for tool in call.request.tools if tool.name == "spawn_agent")
    assert spawn.parameters["properties"]["mode"]["enum"] == ["computer_use"]
    call.ask_for_tool("s", "spawn_agent", json.dumps({"prompt": "fill in the form", "mode": "computer_use"}))
    call.ask_for_tool("t", "spawn_agent", json.dumps({"prompt": "count"}))
    call.finish("tool_calls")
    calls = [await world.model.next_call() for _ in range(3)]
    models = {one.prompt[-1]: one.request.model for one in calls if is_agents(one)}
    assert models == {"user: fill in the form": "looker", "user: count": None}


async def test_a_mode_of_agents_is_offered_where_there_is_a_model_for_it(world: World) -> None:
    (a,) = await world.cluster(1, agents=True)
    await a.create()
    call = await world.model.next_call()
    (spawn,) = (tool for tool in call.request.tools if tool.name == "spawn_agent")
    assert "mode" not in spawn.parameters["properties"]


async def test_agents_of_agents_report_to_those_above_them(world: World) -> None:
    (a,) = await world.cluster(1, slots=1, agents=True, agents_depth_max=2)
    chat = await a.create()
    top = await world.model.next_call()
    top.ask_for_tool("s", "spawn_agent", json.dumps({"prompt": "a task"}))
    top.finish("tool_calls")
    top = await world.model.next_call()
    (agent,) = agents_of(world, chat)
    top.ask_for_tool("w", "wait_agent", json.dumps({"chat_id": str(agent.id)}))
    top.finish("tool_calls")
    middle = await world.model.next_call()
    middle.ask_for_tool("s", "spawn_agent", json.dumps({"prompt": "a smaller task"}))
    middle.finish("tool_calls")
    middle = await world.model.next_call()
    (below,) = agents_of(world, agent)
    middle.ask_for_tool("w", "wait_agent", json.dumps({"chat_id": str(below.id)}))
    middle.finish("tool_calls")
    (await world.model.next_call()).answer("It is small.")
    (await world.model.next_call()).answer("They say that it is small.")
    (await world.model.next_call()).answer("So it is.")
    await chat.until_status("waiting")
    assert "They say that it is small." in chat.results["w"]
    assert "It is small." in agent.results["w"]


async def test_an_agent_is_messaged_interrupted_and_closed(world: World) -> None:
    (a,) = await world.cluster(1, agents=True)
    chat, agent, call, agents_call = await spawned(world, a)
    agents_call.say("Half an ans")
    called = {"chat_id": str(agent.id)}
    call.ask_for_tool("m", "message_agent", json.dumps({**called, "message": "And the cats?"}))
    call.finish("tool_calls")
    call = await world.model.next_call()
    assert agent.queue == ["And the cats?"]
    call.ask_for_tool("i", "interrupt_agent", json.dumps(called))
    call.finish("tool_calls")
    calls = [await world.model.next_call() for _ in range(2)]
    _, call = sorted(calls, key=is_agents, reverse=True)
    assert agent.history[-1] == "user: And the cats?"
    call.ask_for_tool("c", "close_agent", json.dumps(called))
    call.ask_for_tool("l", "list_agents", "{}")
    call.finish("tool_calls")
    call = await world.model.next_call()
    call.answer("Enough.")
    await chat.until_status("waiting")
    await agent.until_status("waiting")
    assert json.loads(chat.results["m"])["interrupted"] is False
    assert json.loads(chat.results["i"])["interrupted"] is True
    assert json.loads(chat.results["c"])["terminated"] is True
    assert [one["chat_id"] for one in json.loads(chat.results["l"])["agents"]] == [str(agent.id)]


async def test_p5_a_message_that_meets_with_a_stop_sets_no_agent_to_work(world: World) -> None:
    """The stop reaches the agent before the message does, which was under way when it came."""
    (a,) = await world.cluster(1, agents=True)
    chat, agent, call, _ = await spawned(world, a)
    message = a.database_wire.hold("apply")
    call.ask_for_tool("m", "message_agent", json.dumps({"chat_id": str(agent.id), "message": "And the cats?"}))
    call.finish("tool_calls")
    await message.reached.wait()
    other = await world.replica()
    a.pubsub.disconnect()  # so that its owner has not heard of the stop yet
    await other.interrupt(chat)
    assert agent.status == "interrupting"
    message.release()
    await chat.until_status("waiting")
    await agent.until_status("waiting")
    await trio.sleep(10)
    assert (agent.status, agent.queue) == ("waiting", [])
    assert "user: And the cats?" not in agent.history


async def test_a_message_follows_the_stop_of_before_and_is_not_undone_by_it(world: World) -> None:
    """Whoever stopped the family died before the agent was told; the next turn has a task for it already."""
    a, _ = await world.cluster(2, agents=True)
    chat, agent, call, agents_call = await spawned(world, a)
    agents_call.say("Half an ans")
    front = await world.replica(slots=0, agents=True)
    order = front.database_wire.hold("due_orders")
    async with trio.open_nursery() as nursery:
        nursery.start_soon(front.edit, chat, "hello", "hello again")
        await order.reached.wait()
        front.kill()
    call = await world.model.next_call()
    assert text_of(call.request.messages[-1].parts) == "hello again"
    call.ask_for_tool("m", "message_agent", json.dumps({"chat_id": str(agent.id), "message": "And the cats?"}))
    call.finish("tool_calls")
    calls = [await world.model.next_call() for _ in range(2)]
    agents_call, call = sorted(calls, key=is_agents, reverse=True)
    assert agent.history[-2:] == ["assistant: Half an ans", "user: And the cats?"]
    await trio.sleep(5)
    agents_call.answer("Two cats.")
    call.answer("There.")
    await chat.until_status("waiting")
    await agent.until_status("waiting")
    assert agent.history[-1] == "assistant: Two cats."


async def test_an_order_that_cannot_be_carried_out_is_not_waited_for_without_end(
    autojump_clock: trio.testing.MockClock,
) -> None:
    """Of an agent whose row is damaged, say: whoever speaks to it is told so."""
    agent: Any = SimpleNamespace(id=1, family_id=2)

    async def due_orders(_limit: int, *, root_id: int) -> tuple[int, ...]:
        return (agent.id, root_id)

    async def obey(_agent_id: int) -> None:
        """Nothing is done, and the order stays."""

    async def get(_agent_id: int) -> Any:
        return agent

    store: Any = SimpleNamespace(due_orders=due_orders, obey=obey, get=get)
    notices: Any = None
    started = trio.current_time()
    assert await when_obeyed(store, notices, agent) is agent
    assert OBEY_SECONDS_MAX <= trio.current_time() - started < OBEY_SECONDS_MAX + 1


async def test_a_message_that_is_sent_again_by_the_next_owner_is_one_message(world: World) -> None:
    """P7."""
    a, b = await world.cluster(2, agents=True)
    chat, agent, call, agents_call = await spawned(world, a)
    owner = next(replica for replica in (a, b) if replica.worker_id == chat.owner)
    result = owner.database_wire.hold_answer("apply")
    call.ask_for_tool("m", "message_agent", json.dumps({"chat_id": str(agent.id), "message": "And the cats?"}))
    call.finish("tool_calls")
    await result.reached.wait()
    owner.kill()
    calls = [await world.model.next_call() for _ in range(2 if agents_call.ended.is_set() else 1)]
    await world.until(lambda: "m" in chat.results)
    del calls
    asked = [*agent.history, *agent.queue]
    assert sum("And the cats?" in words for words in asked) == 1


async def test_agents_of_others_are_nobodys_to_speak_to(world: World) -> None:
    """P9"""
    (a,) = await world.cluster(1, agents=True)
    stranger = await a.create()
    (await world.model.next_call()).answer("I am nobody's agent.")
    await stranger.until_status("waiting")
    chat = await a.create()
    call = await world.model.next_call()
    for name in ("message_agent", "interrupt_agent", "close_agent", "wait_agent"):
        arguments = {"chat_id": str(stranger.id), **({"message": "Hello?"} if name == "message_agent" else {})}
        call.ask_for_tool(name, name, json.dumps(arguments))
    call.ask_for_tool("nonsense", "wait_agent", json.dumps({"chat_id": "7"}))
    call.finish("tool_calls")
    (await world.model.next_call()).answer("Nobody there.")
    await chat.until_status("waiting")
    assert len(chat.results) == 5
    assert all("agent" in text for text in chat.results.values())
    assert stranger.history[-1] == "assistant: I am nobody's agent."


async def test_a_chat_rests_whatever_became_of_the_one_that_it_belongs_to(world: World) -> None:
    """The transition is committed: neither a tenure nor a request fails of what is to follow from it."""
    (a,) = await world.cluster(1, agents=True)
    chat, agent, _, agents_call = await spawned(world, a)
    agents_call.answer("Four.")
    await agent.until_status("waiting")
    rested = await a.store.get(agent.id)
    del world.database.chats[chat.id]  # as a replica of an older version deletes it
    await settle(a.store, a.notices, rested)
    assert "family.postponed" in world.names_told()
