"""Requests at `/mcp` that are right, and that few clients send: each has the answer that its client expects."""

from __future__ import annotations

from typing import Any

import pytest
from web_world import World, client_of

from chatcluster.web.doors.mcp.wire import HANDSHAKE_VERSIONS

Json = dict[str, Any]


def asked(method: str, request_id: Any = 1, **more: Any) -> Json:
    return {"jsonrpc": "2.0", "id": request_id, "method": method, **more}


@pytest.mark.parametrize("more", [{}, {"params": None}, {"params": {}}, {"params": {"_meta": {"x": 1}}}])
@pytest.mark.parametrize("request_id", ["a", 0, 7])
async def test_a_request_may_have_nothing_to_say_and_is_answered_under_its_id(more: Json, request_id: Any) -> None:
    async with client_of(World()) as client:
        answer = await client.post("/mcp", json=asked("ping", request_id, **more))
        assert answer.json() == {"jsonrpc": "2.0", "id": request_id, "result": {}}


@pytest.mark.parametrize("version", [*HANDSHAKE_VERSIONS, "1999-01-01", "2026-07-28", None])
async def test_the_version_that_is_asked_for_is_spoken_or_else_the_newest(version: str | None) -> None:
    async with client_of(World()) as client:
        params = {} if version is None else {"params": {"protocolVersion": version, "capabilities": {}}}
        told = (await client.post("/mcp", json=asked("initialize", **params))).json()["result"]
        assert told["protocolVersion"] == (version if version in HANDSHAKE_VERSIONS else HANDSHAKE_VERSIONS[-1])
        assert told["serverInfo"]["name"] == "chatcluster"


@pytest.mark.parametrize("name", ["initialized", "cancelled", "progress", "roots/list_changed", "of/another/version"])
async def test_whatever_a_client_notifies_of_is_taken(name: str) -> None:
    async with client_of(World()) as client:
        said = {"jsonrpc": "2.0", "method": f"notifications/{name}", "params": {"requestId": 1, "progressToken": "x"}}
        answer = await client.post("/mcp", json=said)
        assert (answer.status_code, answer.content) == (202, b"")


async def test_there_is_no_session_to_listen_to_or_to_end_and_the_method_says_so() -> None:
    async with client_of(World()) as client:
        for method, headers in (("GET", {"Mcp-Session-Id": "x"}), ("DELETE", {"Mcp-Session-Id": "x"})):
            answer = await client.request(method, "/mcp", headers={"Accept": "text/event-stream", **headers})
            assert (answer.status_code, "POST" in answer.headers["allow"]) == (405, True)
            assert answer.json()["error"]["data"]["code"] == "method_not_allowed"


@pytest.mark.parametrize("path", ["/mcp/", "//mcp", "/mcp?x=1"])
async def test_an_address_with_a_slash_too_many_is_the_same(path: str) -> None:
    world = World()
    async with client_of(world) as client:
        assert (await client.post(f"{world.url}{path}", json=asked("ping"))).json()["result"] == {}
        refused = await client.post(f"{world.url}{path}", content=b"{", headers={"Content-Type": "application/json"})
        assert refused.json()["error"]["code"] == -32700


@pytest.mark.parametrize("method", ["resources/list", "prompts/list", "logging/setLevel", "completion/complete"])
async def test_what_was_not_offered_is_no_method(method: str) -> None:
    async with client_of(World()) as client:
        assert (await client.post("/mcp", json=asked(method))).json()["error"]["code"] == -32601


@pytest.mark.parametrize("path", ["/mcp", "/v1/responses", "/v1/models", "/api/ai/chat", "/api/agui"])
async def test_the_methods_of_a_door_are_told_to_those_who_may_enter(path: str) -> None:
    world = World()
    async with client_of(world) as client:
        told = await client.options(path)
        assert told.status_code == 204
        assert told.headers["allow"]
        assert (await client.options(path, headers={"Authorization": "Bearer ccl_x"})).status_code == 401
