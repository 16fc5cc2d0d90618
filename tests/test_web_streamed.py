"""POST with ``Accept: text/event-stream``: the answer goes on as the chat's stream, from just before what was done."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import pytest
import trio
from test_web_api import claim, create, fence_of, finish, history
from web_world import World, client_of, connect, error_code, read_until, serving

from chatcluster.chat import FinishTurn
from chatcluster.errors import TooMany
from chatcluster.parts import START, Cursor, parse_cursor

Json = dict[str, Any]
STREAM = {"Accept": "text/event-stream"}


@asynccontextmanager
async def asking(world: World, path: str, body: Json, **headers: str) -> AsyncIterator[tuple[int, str, Json]]:
    """The status of the answer, and the ID and data of its first event, while the stream is open."""
    content = msgspec.json.encode(body)
    lines = {
        "Host": "here",
        "Authorization": f"Bearer {await world.token()}",
        "Accept": "text/event-stream",
        "Content-Length": str(len(content)),
        **headers,
    }
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    async with await connect(world.url) as stream:
        await stream.send_all(f"POST {path} HTTP/1.1\r\n{head}\r\n".encode() + content)
        with trio.fail_after(60):
            answer = (await read_until(stream, b"\n\n\r\n")).decode()
        assert "content-type: text/event-stream" in answer
        event = answer[answer.index("\nid: ") + 1 :].partition("\n\n")[0]
        fields = dict(line.split(": ", 1) for line in event.split("\n"))
        data = msgspec.json.decode(fields["data"])
        assert (fields["event"], data["type"]) == ("accepted", "accepted")
        yield int(answer.split()[1]), fields["id"], data


async def test_a_new_chat_is_told_first_and_its_stream_begins_before_its_first_message() -> None:
    world = World()
    async with (
        client_of(world) as client,
        asking(world, "/api/v1/chats", {"content": "hello"}) as (status, cursor, data),
    ):
        assert status == 201
        shown = (await client.get(f"/api/v1/chats/{data['chat']['id']}")).json()
        assert shown == {
            **data["chat"],
            "tools": [],
            "action_required": [],
            "usage": shown["usage"],
            "family_usage": None,
            "system_prompt": None,
            "workspace": None,
        }
        assert data["message"]["parts"] == [{"type": "text", "text": "hello"}]
        assert world.feeds.cursors == [parse_cursor(cursor)] == [Cursor(1, START, 0)]
        assert [lifecycle for _, lifecycle in world.notices.told] == ["created"]


async def test_a_message_is_told_first_and_the_stream_begins_before_it() -> None:
    world = World()
    async with client_of(world) as client:
        chat = await create(client)
        await finish(world)
        path = f"/api/v1/chats/{chat['id']}/messages"
        async with asking(world, path, {"content": "more"}) as (status, cursor, data):
            assert status == 201
            assert data["message"] == (await history(client, chat["id"]))["messages"][-1]
            assert "queued" not in data
            assert parse_cursor(cursor) == Cursor(data["chat"]["snapshot_version"] - 1, START)
            assert world.feeds.cursors == [parse_cursor(cursor)]


async def test_a_message_that_waits_is_told_as_queued() -> None:
    world = World()
    async with client_of(world) as client:
        chat = await create(client)
        path = f"/api/v1/chats/{chat['id']}/messages"
        async with asking(world, path, {"content": "more"}) as (status, _, data):
            assert status == 202
            assert [data["queued"]] == (await history(client, chat["id"]))["queue"]
            assert "message" not in data


async def test_a_repeat_attaches_to_what_the_first_one_made_from_the_same_place_on() -> None:
    world = World()
    async with client_of(world) as client:
        body, key = {"content": "hello"}, {"Idempotency-Key": "k"}
        async with asking(world, "/api/v1/chats", body, **key) as (_, cursor, data):
            pass
        claimed = await claim(world)
        await world.store.commit(fence_of(claimed), FinishTurn())
        async with asking(world, "/api/v1/chats", body, **key) as (status, again, same):
            assert (status, again, same) == (201, cursor, data)
        plain = await client.post("/api/v1/chats", json=body, headers=key)
        assert plain.json() == data["chat"]
        assert len(world.database.chats) == 1


@pytest.mark.parametrize("accept", ["", "*/*", "application/json", "application/json, text/event-stream;q=0.5"])
async def test_whoever_does_not_ask_for_a_stream_gets_json(accept: str) -> None:
    async with client_of(World()) as client:
        response = await client.post("/api/v1/chats", json={"content": "x"}, headers={"Accept": accept})
        assert response.headers["content-type"] == "application/json"
        assert response.status_code == 201


async def test_errors_before_the_first_byte_are_json() -> None:
    async with client_of(World()) as client:
        refused = await client.post("/api/v1/chats", json={"content": ""}, headers=STREAM)
        assert (refused.status_code, error_code(refused)) == (400, "invalid_request")
        unknown = await client.post(
            "/api/v1/chats/00000000-0000-0000-0000-000000000000/messages", json={"content": "x"}, headers=STREAM
        )
        assert (unknown.status_code, error_code(unknown)) == (404, "chat_not_found")


async def test_nothing_is_written_for_a_reader_that_there_is_no_place_for() -> None:
    world = World()
    async with client_of(world) as client:
        before = world.written()
        world.feeds.full = TooMany("no place", retry_after_seconds=5)
        refused = await client.post("/api/v1/chats", json={"content": "x"}, headers=STREAM)
        assert (refused.status_code, refused.headers["retry-after"]) == (429, "5")
        assert world.written() == before


# --- chats without a message ------------------------------------------------------------------


async def test_a_chat_without_content_rests_until_it_is_asked() -> None:
    world = World()
    async with client_of(world) as client:
        response = await client.post("/api/v1/chats", json={"model": "m", "system_prompt": "Be brief."})
        chat = response.json()
        assert (response.status_code, chat["status"], chat["model"], chat["title"]) == (201, "waiting", "m", "New chat")
        sent = await client.post(f"/api/v1/chats/{chat['id']}/messages", json={"content": "hello"})
        assert (sent.status_code, sent.json()["chat"]["status"]) == (201, "pending")
        assert [message["role"] for message in (await history(client, chat["id"]))["messages"]] == ["user"]
        assert (await client.get(f"/api/v1/chats/{chat['id']}")).json()["system_prompt"] == "Be brief."


async def test_an_empty_chat_may_have_no_field_at_all_and_can_be_followed_at_once() -> None:
    world = World()
    async with serving(world), asking(world, "/api/v1/chats", {}) as (status, _, data):
        assert (status, data["chat"]["status"]) == (201, "waiting")
        assert "message" not in data
