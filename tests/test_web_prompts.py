"""Prompts by the API: who may see and change which, and what is refused."""

from __future__ import annotations

from typing import Any

import httpx
import pytest
from web_world import World, client_of


async def put(client: httpx.AsyncClient, path: str, prompt: Any) -> httpx.Response:
    return await client.put(f"/api/v1{path}", json={"prompt": prompt})


async def test_an_administrator_sets_what_every_chat_begins_with() -> None:
    async with client_of(World(), admin=True) as client:
        assert (await client.get("/api/v1/config/system-prompt")).json() == {"prompt": None}
        answer = await put(client, "/config/system-prompt", "Be brief.")
        assert (answer.status_code, answer.json()) == (200, {"prompt": "Be brief."})
        assert (await client.get("/api/v1/config/system-prompt")).json() == {"prompt": "Be brief."}
        assert (await put(client, "/config/system-prompt", None)).json() == {"prompt": None}


async def test_nobody_else_sees_or_changes_it() -> None:
    async with client_of(World()) as client:
        assert (await client.get("/api/v1/config/system-prompt")).status_code == 403
        assert (await put(client, "/config/system-prompt", "x")).status_code == 403


async def test_a_user_has_a_prompt_of_ones_own() -> None:
    world = World()
    async with client_of(world) as ada, client_of(world, user="bob") as bob:
        assert (await put(ada, "/me/prompt", "I am Ada.")).json() == {"prompt": "I am Ada."}
        assert (await ada.get("/api/v1/me/prompt")).json() == {"prompt": "I am Ada."}
        assert (await bob.get("/api/v1/me/prompt")).json() == {"prompt": None}
        assert (await put(ada, "/me/prompt", " \n ")).json() == {"prompt": None}, "blank is none"


@pytest.mark.parametrize(
    ("body", "status", "code"),
    [
        (b'{"prompt": "\\u0000"}', 400, "invalid_request"),
        (b'{"prompt": 7}', 400, "invalid_request"),
        (b"{}", 400, "invalid_request"),
        (b'{"prompt": "x", "more": 1}', 400, "invalid_request"),
        (b'{"prompt": "' + b"x" * (65 << 10) + b'"}', 413, "request_too_large"),
    ],
)
async def test_what_is_no_prompt_is_refused_and_changes_nothing(body: bytes, status: int, code: str) -> None:
    world = World(content_bytes_max=1 << 20)
    async with client_of(world) as client:
        await put(client, "/me/prompt", "I am Ada.")
        response = await client.put("/api/v1/me/prompt", content=body, headers={"content-type": "application/json"})
        assert (response.status_code, response.json()["error"]["code"]) == (status, code)
        assert (await client.get("/api/v1/me/prompt")).json() == {"prompt": "I am Ada."}


async def test_a_chats_own_is_shown_to_its_owner_and_changed_by_its_owner() -> None:
    world = World()
    async with client_of(world) as ada, client_of(world, user="bob") as bob:
        body = {"content": "hello", "system_prompt": "Be brief."}
        chat = (await ada.post("/api/v1/chats", json=body)).json()
        path = f"/api/v1/chats/{chat['id']}"
        assert (await ada.get(path)).json()["system_prompt"] == "Be brief."
        assert (await bob.get(path)).status_code == 404
        assert (await bob.patch(path, json={"system_prompt": "x"})).status_code == 404
        assert (await ada.patch(path, json={"system_prompt": "Be long."})).status_code == 200
        assert (await ada.get(path)).json()["system_prompt"] == "Be long."
        assert (await ada.patch(path, json={"title": "t"})).status_code == 200
        assert (await ada.get(path)).json()["system_prompt"] == "Be long.", "what is left away stays"
        await ada.patch(path, json={"system_prompt": None})
        assert (await ada.get(path)).json()["system_prompt"] is None
        page = (await ada.get(f"{path}/messages")).json()
        assert [message["role"] for message in page["messages"]] == ["user"]
