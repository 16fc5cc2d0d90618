"""The short way to a route: which requests go it, and that nobody sees which way they went."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from litestar.routes import HTTPRoute
from web_world import World, client_of

JSON = {"Content-Type": "application/json"}


@pytest.fixture
def litestars(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The requests that litestar made the arguments of."""
    went: list[str] = []
    call = HTTPRoute._call_handler_function

    async def noted(self: HTTPRoute, scope: Any, **others: Any) -> Any:
        went.append(f"{scope['method']} {scope['path_template']}")
        return await call(self, scope, **others)

    monkeypatch.setattr(HTTPRoute, "_call_handler_function", noted)
    return went


@pytest.fixture
async def client() -> AsyncIterator[httpx.AsyncClient]:
    async with client_of(World(), admin=True) as client:
        yield client


async def new_chat(client: httpx.AsyncClient) -> str:
    answer = await client.post("/api/v1/chats", json={})
    assert answer.status_code == 201
    chat_id: str = answer.json()["id"]
    return chat_id


async def test_the_requests_of_a_turn_go_the_short_way(client: httpx.AsyncClient, litestars: list[str]) -> None:
    path = f"/api/v1/chats/{await new_chat(client)}"

    assert (await client.get(path)).status_code == 200
    assert (await client.post(f"{path}/messages", json={"content": "hello"})).status_code == 201
    assert (await client.get(f"{path}/messages")).status_code == 200
    assert litestars == []


async def test_what_has_to_be_converted_a_header_that_is_there_twice_and_a_guard_are_litestars(
    client: httpx.AsyncClient, litestars: list[str]
) -> None:
    path = f"/api/v1/chats/{await new_chat(client)}"

    assert (await client.get(f"{path}/messages", params={"limit": 1})).status_code == 200
    assert (await client.get(f"{path}/stream", params={"family": "perhaps"})).status_code == 400
    twice = [("Last-Event-ID", "no"), ("Last-Event-ID", "cursor")]
    assert (await client.get(f"{path}/stream", headers=twice)).status_code == 400
    assert (await client.get("/api/v1/admin/tokens")).status_code == 200
    assert litestars == [
        "GET /api/v1/chats/{chat_id}/messages",
        *["GET /api/v1/chats/{chat_id}/stream"] * 2,
        "GET /api/v1/admin/tokens",
    ]


async def test_texts_of_a_query_and_of_headers_go_the_short_way(
    client: httpx.AsyncClient, litestars: list[str]
) -> None:
    """As those of a tab of the page do, when it comes and when it comes back."""
    path, chat_id = "/api/v1/watch", await new_chat(client)
    for query, headers in (
        (f"chat={chat_id}&cursor=a%7Eb%20c&family=", {}),
        (f"chat={chat_id}&family=", {"Last-Event-ID": "1.2-x"}),
        ("chat=none&family=", {}),
        ("cursor=a&family=", {}),
    ):
        litestars.clear()
        short = await client.get(f"{path}?{query}true", headers=headers)
        assert litestars == []
        long = await client.get(f"{path}?{query}1", headers=headers)
        assert litestars == ["GET /api/v1/watch"]
        assert short.status_code in (400, 404)
        assert short.json() == long.json()


async def test_both_ways_give_the_same_answer(client: httpx.AsyncClient, litestars: list[str]) -> None:
    path = f"/api/v1/chats/{await new_chat(client)}/messages"
    await client.post(path, json={"content": "hello"})

    short, long = await client.get(path), await client.get(path, params={"limit": 100})

    assert len(litestars) == 1
    assert short.json() == long.json()
    assert set(short.headers) == set(long.headers)


async def test_what_is_wrong_with_a_body_is_said_as_ever(client: httpx.AsyncClient) -> None:
    path = f"/api/v1/chats/{await new_chat(client)}/messages"

    answers = [
        await client.post(path),
        await client.post(path, headers=JSON, content=b"{"),
        await client.post(path, headers=JSON, content=b'{"content":1}'),
        await client.post(path, headers={"Content-Type": "text/plain"}, content=b"{}"),
    ]

    assert [answer.status_code for answer in answers] == [400, 400, 400, 415]
    assert "this needs a JSON object as its body" in answers[0].json()["error"]["message"]
