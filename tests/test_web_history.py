"""A chat's history over HTTP, from its end; and what a query may say."""

from __future__ import annotations

from uuid import UUID

import pytest
from msgspec.structs import replace
from web_world import World, client_of, error_code, serving

from chatcluster.parts import OpaquePart, TextPart, parse_cursor
from chatcluster.tab_stream import FamilyTabCursor


async def test_the_newest_page_has_a_cursor_and_older_ones_none() -> None:
    world = World()
    async with client_of(world) as client:
        chat = (await client.post("/api/v1/chats", json={"content": "one"})).json()
        for words in ("two", "three"):
            await client.post(f"/api/v1/chats/{chat['id']}/messages", json={"content": words})
        path = f"/api/v1/chats/{chat['id']}/messages"
        page = (await client.get(path, params={"before": "latest", "limit": 1})).json()
        assert [message["parts"][0]["text"] for message in page["messages"]] == ["one"]
        assert [queued["parts"][0]["text"] for queued in page["queue"]] == ["two", "three"]
        assert page["has_more"] is False
        row = world.database.chats[UUID(chat["id"])]
        assert parse_cursor(page["cursor"]).version == row.state.snapshot_version
        older = (await client.get(path, params={"before": page["messages"][-1]["id"]})).json()
        assert (older["messages"], older["cursor"]) == ([], None)
        assert (await client.get(path)).json()["cursor"] is None


async def test_what_only_a_provider_understands_is_on_no_page() -> None:
    world = World()
    async with client_of(world) as client:
        chat = (await client.post("/api/v1/chats", json={"content": "one"})).json()
        thought = OpaquePart("anthropic", "m", "thinking", "secret")
        row = world.database.chats[UUID(chat["id"])]
        row.messages[-1] = replace(row.messages[-1], parts=(thought, TextPart("shown")))
        for query in ("before=latest", "after=0"):
            page = (await client.get(f"/api/v1/chats/{chat['id']}/messages?{query}")).json()
            assert page["messages"][0]["parts"] == [{"type": "text", "text": "shown"}]


async def test_a_stream_goes_on_from_the_cursor_of_the_newest_page() -> None:
    """It is the cursor itself that is asked for: nothing is told again, and nothing left out."""
    world = World()
    async with client_of(world) as client:
        chat = (await client.post("/api/v1/chats", json={"content": "one"})).json()
        page = (await client.get(f"/api/v1/chats/{chat['id']}/messages?before=latest")).json()
        async with client.stream("GET", f"/api/v1/chats/{chat['id']}/stream", params={"cursor": page["cursor"]}):
            await world.feeds.next_reader()
            assert world.feeds.cursors == [parse_cursor(page["cursor"])]
        tab = {"chat": chat["id"], "cursor": f"~{page['cursor']}"}
        async with client.stream("GET", "/api/v1/watch", params=tab) as stream:
            assert stream.status_code == 200
            await world.tabs.next_reader()
            assert world.tabs.tab_cursor == (None, parse_cursor(page["cursor"]))


async def test_a_tab_resumes_by_its_last_event_and_is_refused_like_any_reader() -> None:
    world = World()
    async with client_of(world) as client:
        chat = (await client.post("/api/v1/chats", json={"content": "one"})).json()
        headers = {"Last-Event-ID": "1767225600000~3.1-2"}
        async with client.stream("GET", f"/api/v1/watch?chat={chat['id']}", headers=headers):
            await world.tabs.next_reader()
        assert str(world.tabs.tab_cursor.chat) == "3.1-2"
        async with client.stream("GET", f"/api/v1/watch?chat={chat['id']}&family=true", headers=headers):
            await world.tabs.next_reader()
        assert isinstance(world.tabs.tab_cursor, FamilyTabCursor)
        assert str(world.tabs.tab_cursor.chat) == "3.1-2"
        for query, status, code in (
            (f"chat={chat['id']}&cursor=x", 400, "invalid_cursor"),
            ("chat=x", 404, "chat_not_found"),
            ("cursor=1.1-1", 400, "invalid_request"),
            ("family=true", 400, "invalid_request"),
            (f"chat={chat['id']}&family=true&cursor=5~1.1-1~x", 400, "invalid_cursor"),
            ("chat=x&family=true", 404, "chat_not_found"),
        ):
            refused = await client.get(f"/api/v1/watch?{query}")
            assert (refused.status_code, error_code(refused)) == (status, code), query


@pytest.mark.parametrize(
    "before", ["", "x", "-1", "1.5", "9" * 19, "9" * 400, "0" * 5000, "Latest", "%00", "\u0661", "1e3"]
)
async def test_what_is_no_place_in_a_history_is_refused(before: str) -> None:
    async with client_of(World()) as client:
        chat = (await client.post("/api/v1/chats", json={"content": "one"})).json()
        answer = await client.get(f"/api/v1/chats/{chat['id']}/messages?before={before}")
        assert (answer.status_code, error_code(answer)) == (400, "invalid_request")


async def test_a_query_has_what_its_route_knows_once_each_and_nothing_else() -> None:
    async with client_of(World(), admin=True) as client:
        chat = (await client.post("/api/v1/chats", json={"content": "one"})).json()
        path = f"/api/v1/chats/{chat['id']}"
        for method, url in (
            ("GET", "/api/v1/chats?archive=true"),
            ("GET", "/api/v1/chats?limit=1&limit=2"),
            ("GET", f"{path}?x=1"),
            ("GET", f"{path}/messages?before=1&after=1"),
            ("GET", f"{path}/messages?chat_id={chat['id']}"),
            ("GET", f"{path}/stream?last_event_id=1"),
            ("GET", "/api/v1/me?request=x"),
            ("POST", "/api/v1/chats?data=x"),
            ("POST", f"{path}/interrupt?force=1"),
            ("GET", "/api/v1/replicas?x"),
        ):
            answer = await client.request(method, url, json={} if method == "POST" else None)
            assert (answer.status_code, error_code(answer)) == (400, "invalid_request"), url
        assert (await client.get("/api/v1/chats?")).status_code == 200


async def test_sign_in_takes_no_query() -> None:
    async with serving(World()) as world, world.client(None) as client:
        token = await world.token()
        answer = await client.post("/api/v1/session?next=/", json={"token": token})
        assert (answer.status_code, error_code(answer)) == (400, "invalid_request")
