"""Lists of chats, pins, models, the queue and deletion, as a caller sees them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import httpx
import pytest
from test_web_api import create, finish
from web_world import World, client_of, error_code, unknown_chat


async def titles(client: httpx.AsyncClient, **query: Any) -> list[str]:
    return [chat["title"] for chat in (await client.get("/api/v1/chats", params=query)).json()["chats"]]


async def test_chats_are_found_by_their_titles_and_pins() -> None:
    async with client_of(World()) as client:
        for title in ("Shopping", "Holidays", "50% off"):
            chat = await create(client, title=title)
        await client.patch(f"/api/v1/chats/{chat['id']}", json={"pinned": True})
        assert await titles(client, q="SHOP") == ["Shopping"]
        assert await titles(client, q="%") == ["50% off"]
        assert await titles(client, q="") == await titles(client, q="  ") == ["50% off", "Holidays", "Shopping"]
        assert await titles(client, pinned="true") == ["50% off"]
        assert await titles(client, pinned="false", q="h") == ["Holidays", "Shopping"]
        for query in ({"q": "x" * 201}, {"q": "a\0"}, {"pinned": "maybe"}):
            answer = await client.get("/api/v1/chats", params=query)
            assert (answer.status_code, error_code(answer)) == (400, "invalid_request"), query


async def test_a_pin_and_a_model_are_changes_that_lists_are_told_of_once() -> None:
    world = World()
    async with client_of(world) as client:
        chat = await create(client)
        world.notices.told.clear()
        path = f"/api/v1/chats/{chat['id']}"
        for _ in range(2):
            changed = (await client.patch(path, json={"pinned": True, "model": "better"})).json()
            assert (changed["pinned"], changed["model"]) == (True, "better")
        assert [lifecycle for _, lifecycle in world.notices.told] == ["changed", "changed"]
        assert (await client.patch(path, json={"model": None})).json()["model"] is None
        for body in ({"pinned": 1}, {"pinned": None}, {"model": ""}, {"model": "x\ny"}, {"model": "x" * 201}):
            answer = await client.patch(path, json=body)
            assert (answer.status_code, error_code(answer)) == (400, "invalid_request"), body


async def test_a_queued_message_is_edited_until_it_is_history() -> None:
    world = World()
    async with client_of(world) as client:
        chat = await create(client)
        queued = (await client.post(f"/api/v1/chats/{chat['id']}/messages", json={"content": "one"})).json()["queued"]
        path = f"/api/v1/chats/{chat['id']}/queue/{queued['id']}"
        answer = await client.patch(path, json={"content": "better", "model": "m"})
        assert answer.status_code == 200
        assert answer.json()["queued"]["parts"] == [{"type": "text", "text": "better"}]
        assert answer.json()["queued"]["model"] == "m"
        assert answer.json()["chat"]["queue_version"] > chat["queue_version"]
        for body in ({}, {"content": ""}, {"content": "x", "busy": "queue"}, {"content": "\0"}):
            wrong = await client.patch(path, json=body)
            assert (wrong.status_code, error_code(wrong)) == (400, "invalid_request"), body
        await finish(world)
        late = await client.patch(path, json={"content": "late"})
        assert (late.status_code, error_code(late)) == (404, "queued_message_not_found")


async def test_a_chat_that_rests_is_deleted_and_is_not_found_after_that() -> None:
    world = World()
    async with client_of(world) as client:
        chat = await create(client)
        path = f"/api/v1/chats/{chat['id']}"
        busy = await client.delete(path)
        assert (busy.status_code, error_code(busy)) == (409, "chat_busy")
        await finish(world)
        assert (await client.delete(path)).status_code == 204
        for answer in (await client.get(path), await client.delete(path), await client.get(f"{path}/messages")):
            assert (answer.status_code, error_code(answer)) == (404, "chat_not_found")
        assert await titles(client) == []
        assert UUID(chat["id"]) not in world.database.chats


@pytest.mark.parametrize("whose", ["nobody's", "bob's"])
async def test_nobody_deletes_what_is_not_theirs(whose: str) -> None:
    """P9"""
    world = World()
    async with client_of(world) as client, world.client(await world.token("bob")) as bob:
        chat_id = unknown_chat() if whose == "nobody's" else (await create(bob))["id"]
        answer = await client.delete(f"/api/v1/chats/{chat_id}")
        assert (answer.status_code, error_code(answer)) == (404, "chat_not_found")
    assert len(world.database.chats) == (whose == "bob's")
