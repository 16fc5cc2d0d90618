"""Chats whose model has asked for tools, and what is done with them, for the tests of tool steps."""

from __future__ import annotations

from typing import Any

from chatcluster.ports import Effect, Tool
from loops.cluster_world import Chat, SimulatedReplica, World
from loops.scripted_tools import Run, tool


async def calling(
    world: World, replica: SimulatedReplica, *call_ids: str, tools: tuple[Tool, ...] = (), name: str = "tool"
) -> Chat:
    """A chat whose model has asked for these calls."""
    world.tools.offered = list(tools) or [tool(name)]
    chat = await replica.create("hello")
    call = await world.model.next_call()
    call.say("Let me see.")
    call.call_tools(*call_ids, name=name)
    return chat


async def running(
    world: World, replica: SimulatedReplica, effect: Effect = Effect.READ, **fields: Any
) -> tuple[Chat, Run]:
    """A chat one of whose calls runs."""
    chat = await calling(world, replica, "c1", tools=(tool("tool", effect, **fields),))
    return chat, await world.tools.next_run()


async def two_runs(world: World) -> list[Run]:
    """The runs of two calls, in the order in which the model asked for them."""
    return sorted([await world.tools.next_run() for _ in range(2)], key=lambda run: run.call.call_id)


async def finish(world: World, chat: Chat, words: str = "There.") -> None:
    (await world.model.next_call()).answer(words)
    await chat.until_status("waiting")
