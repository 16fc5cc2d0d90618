"""AG-UI's door and what is wrong with a run: refused in words that help, and nothing is written."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from test_web_api import claim, fence_of, finish
from web_world import World, client_of, error_code

from chatcluster.chat import CallState, CommitStep, OpenCall
from chatcluster.parts import NewMessage, Role, ToolCallPart

ASKED = {"id": "m1", "role": "user", "content": "hello"}
RUN: dict[str, Any] = {"threadId": "t", "runId": "r", "messages": [ASKED], "tools": [], "context": []}


@pytest.mark.parametrize(
    ("changed", "says"),
    [
        ({"threadId": 1}, "threadId"),
        ({"threadId": ""}, "id of a chat"),
        ({"runId": ""}, "runId"),
        ({"messages": []}, "no message of a user"),
        ({"messages": [{"role": "assistant", "content": "hi"}]}, "no message of a user"),
        ({"messages": [ASKED, {"role": "assistant", "content": "hi"}]}, "no such chat yet"),
        ({"messages": [{"role": "user"}]}, "a text or a list of parts"),
        ({"messages": [{"role": "user", "content": ""}]}, "must not be empty"),
        ({"messages": [{"role": "user", "content": [{"type": "hologram"}]}]}, "hologram"),
        ({"tools": [{"name": "a b"}]}, "name of a tool"),
        ({"context": "here"}, "context"),
        ({"forwardedProps": {"model": 1}}, "forwardedProps"),
        ({"forwardedProps": {"mcpServers": "all"}}, "mcpServers"),
        ({"forwardedProps": {"onDisconnect": "stop"}}, "onDisconnect"),
    ],
)
async def test_a_run_that_is_wrong_is_refused_and_writes_nothing(changed: dict[str, Any], says: str) -> None:
    world = World()
    async with client_of(world) as client:
        before = world.written()
        answer = await client.post("/api/agui", json={**RUN, **changed})
        assert (answer.status_code, error_code(answer)) == (400, "invalid_request")
        assert says in answer.json()["error"]["message"]
        assert world.written() == before


async def test_a_busy_chat_refuses_another_message() -> None:
    world = World()
    async with client_of(world) as client:
        chat_id = (await client.post("/api/v1/chats", json={"content": "hello"})).json()["id"]
        answer = await client.post("/api/agui", json={**RUN, "threadId": chat_id})
        assert (answer.status_code, error_code(answer)) == (409, "chat_busy")


async def run(client: httpx.AsyncClient, *messages: dict[str, Any], **more: Any) -> None:
    async with client.stream("POST", "/api/agui", json={**RUN, "messages": messages, **more}) as answer:
        assert answer.status_code == 200, await answer.aread()


def user(message_id: str, text: str) -> dict[str, Any]:
    return {"id": message_id, "role": "user", "content": text}


async def prompt(world: World) -> str | None:
    *_, row = world.database.chats.values()
    return await world.services().models.prompts.own(row.id)


async def test_what_the_application_says_of_its_user_is_told_to_the_model_for_as_long_as_it_says_it() -> None:
    world = World()
    system = {"id": "s", "role": "system", "content": "Be kind."}
    here = [{"description": "The page", "value": "orders"}, {"description": "", "value": {"open": 3}}]
    async with client_of(world) as client:
        await run(client, system, user("m1", "one"), context=here)
        first = await prompt(world)
        assert first is not None
        assert first.startswith("Be kind.\n\n")
        assert first.endswith('The page: orders\n\n{"open":3}')
        await finish(world)
        await run(client, user("m2", "two"), context=[{"description": "The page", "value": "invoices"}])
        second = await prompt(world)
        assert second is not None
        assert second.startswith("Be kind.\n\n")
        assert second.endswith("The page: invoices")
        await finish(world)
        await run(client, user("m3", "three"))
        assert await prompt(world) == "Be kind."


async def test_a_message_brings_the_results_before_it_along() -> None:
    world = World()
    async with client_of(world) as client:
        await run(client, user("m1", "the weather?"), tools=[{"name": "ask"}])
        call, plan = ToolCallPart("c1", "ask", "{}"), OpenCall("c1", "ask", CallState.CLIENT)
        said = NewMessage(Role.ASSISTANT, (call,), "tool_calls")
        await world.store.commit(fence_of(await claim(world)), CommitStep((said,), (plan,)))
        result = {"id": "r1", "role": "tool", "toolCallId": "c1", "content": "12 degrees"}
        await run(client, user("m1", "the weather?"), result, user("m2", "well?"))
        *_, row = world.database.chats.values()
        assert [str(one.role) for one in row.messages] == ["user", "assistant", "tool", "user"]
        assert row.state.claimable
