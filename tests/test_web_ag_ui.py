"""AG-UI's door and what is wrong with a run: refused in words that help, and nothing is written."""

from __future__ import annotations

from typing import Any

import pytest
from web_world import World, client_of, error_code

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
