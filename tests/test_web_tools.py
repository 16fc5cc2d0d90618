"""The routes of tools as a caller sees them: setting a chat up, answering its calls, and what is refused."""

from __future__ import annotations

import io
import json
from base64 import b64decode, b64encode
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from chat_states import assistant
from PIL import Image
from test_web_api import claim, create, fence_of
from test_web_bad_input import refuse
from web_world import World, client_of, error_code, unknown_chat

from chatcluster.chat import CallState, CommitStep, OpenCall, digest_of
from chatcluster.client import ApiError, Client
from chatcluster.images import SIDE_PIXELS_MAX

Json = dict[str, Any]

PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="
WEATHER: Json = {
    "name": "weather",
    "description": "The weather in a city.",
    "parameters": {"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]},
}


async def waiting_chat(world: World, client: httpx.AsyncClient, **calls: CallState) -> str:
    """The path of a chat whose calls wait for somebody."""
    chat = await create(client)
    plans = tuple(OpenCall(call_id, "tool", state) for call_id, state in calls.items())
    await world.store.commit(fence_of(await claim(world)), CommitStep((assistant("looking", *calls),), plans))
    return f"/api/v1/chats/{chat['id']}"


async def open_calls(world: World, path: str) -> dict[str, str]:
    calls = await world.store.open_calls(UUID(path.rpartition("/")[2]))
    return {call.call_id: str(call.state) for call in calls}


# --- setting up -------------------------------------------------------------------------------


async def test_a_chat_is_made_with_tools_and_servers_and_given_others() -> None:
    world = World()
    await world.have_servers("files", "web-2")
    async with client_of(world) as client:
        chat = await create(client, tools=[WEATHER, {"name": "now"}], mcp_servers=["files", "web-2"])
        assert chat["mcp_servers"] == ["files", "web-2"]
        path = f"/api/v1/chats/{chat['id']}"
        shown = (await client.get(path)).json()
        assert shown["tools"] == [
            WEATHER,
            {"name": "now", "description": "", "parameters": {"type": "object", "properties": {}}},
        ]
        assert shown["action_required"] == []
        patched = await client.patch(path, json={"mcp_servers": [], "title": "T"})
        assert (patched.json()["mcp_servers"], patched.json()["title"]) == ([], "T")
        await client.patch(path, json={"tools": []})
        shown = (await client.get(path)).json()
        assert (shown["tools"], shown["mcp_servers"], shown["title"]) == ([], [], "T")


async def test_a_message_brings_servers_with_it() -> None:
    world = World()
    await world.have_servers("files", "web")
    async with client_of(world) as client:
        chat = await create(client, mcp_servers=["files"])
        url = f"/api/v1/chats/{chat['id']}/messages"
        sent = await client.post(url, json={"content": "look it up", "mcp_servers": ["web"]})
        assert (sent.status_code, sent.json()["chat"]["mcp_servers"]) == (202, ["web"])
        sent = await client.post(url, json={"content": "and?"})
        assert sent.json()["chat"]["mcp_servers"] == ["web"]


async def test_a_steering_message_is_marked_in_the_queue() -> None:
    async with client_of(World()) as client:
        chat = await create(client)
        url = f"/api/v1/chats/{chat['id']}/messages"
        sent = await client.post(url, json={"content": "rather this", "busy": "steer"})
        assert (sent.status_code, sent.json()["queued"]["steered"]) == (202, True)
        assert (await client.post(url, json={"content": "later"})).json()["queued"].get("steered") is None
        assert [queued.get("steered") for queued in (await client.get(url)).json()["queue"]] == [True, None]


# --- answering --------------------------------------------------------------------------------


async def test_a_chat_that_waits_tells_for_what() -> None:
    world = World()
    async with client_of(world) as client:
        path = await waiting_chat(world, client, a=CallState.APPROVAL, b=CallState.CLIENT)
        chat = (await client.get(path)).json()
        assert chat["status"] == "requires_action"
        (first, second) = chat["action_required"]
        deadline = first.pop("deadline")
        assert first == {
            "call_id": "a", "name": "tool", "kind": "approval", "arguments": "{}", "digest": digest_of("{}"),
            "may_have_run": False,
        }  # fmt: skip
        assert deadline.endswith("Z")
        assert (second["call_id"], second["kind"]) == ("b", "client")


async def test_a_call_is_approved_and_the_turn_goes_on() -> None:
    world = World()
    async with client_of(world) as client:
        path = await waiting_chat(world, client, a=CallState.APPROVAL, b=CallState.APPROVAL)
        digest = (await client.get(path)).json()["action_required"][0]["digest"]
        url = f"{path}/tool-calls/a/approve"
        approved = await client.post(url, json={"digest": digest, "arguments": {"n": 1}, "remember": "chat"})
        assert (approved.status_code, approved.json()["status"]) == (200, "requires_action")
        again = await client.post(url)
        assert (again.status_code, error_code(again)) == (409, "call_answered")
        plain = await client.post(f"{path}/tool-calls/b/approve")
        assert plain.json()["status"] == "pending"
        assert await open_calls(world, path) == {"a": "pending", "b": "pending"}
        assert world.notices.told[-1][1] == "status"


async def test_an_approval_of_other_arguments_than_those_shown_is_refused() -> None:
    world = World()
    async with client_of(world) as client:
        path = await waiting_chat(world, client, a=CallState.APPROVAL)
        url = f"{path}/tool-calls/a/approve"
        await refuse(client, world, "call_changed", 409, "POST", url, json={"digest": "0" * 64})


async def test_a_call_is_denied_with_a_reason_for_the_model() -> None:
    world = World()
    async with client_of(world) as client:
        path = await waiting_chat(world, client, a=CallState.APPROVAL)
        denied = await client.post(f"{path}/tool-calls/a/deny", json={"reason": " Not today. "})
        assert denied.json()["status"] == "pending"
        last = (await client.get(f"{path}/messages")).json()["messages"][-1]
        assert last["parts"][0]["content"] == [{"type": "text", "text": "The user denied this call. Not today."}]
        assert last["parts"][0]["is_error"] is True


async def test_results_of_the_clients_tools_are_taken_together() -> None:
    world = World()
    async with client_of(world) as client:
        path = await waiting_chat(world, client, a=CallState.CLIENT, b=CallState.CLIENT)
        content = [
            {"type": "text", "text": "as of today"},
            {"type": "json", "json": '{"degrees": 21}'},
            {"type": "image", "media_type": "image/png", "data": PNG},
            {"type": "resource", "uri": "file:///report", "name": "report"},
        ]
        results = [{"call_id": "a", "content": content}, {"call_id": "b", "content": "it is down", "is_error": True}]
        sent = await client.post(f"{path}/tool-results", json={"results": results})
        assert (sent.status_code, sent.json()["status"]) == (200, "pending")
        first, second = (await client.get(f"{path}/messages")).json()["messages"][-2:]
        assert first["parts"][0]["content"] == content
        assert (second["parts"][0]["content"], second["parts"][0]["is_error"]) == (
            [{"type": "text", "text": "it is down"}],
            True,
        )
        again = await client.post(f"{path}/tool-results", json={"results": results[:1]})
        assert (again.status_code, error_code(again)) == (409, "call_answered")


async def test_images_of_the_clients_tools_are_made_fit_for_models() -> None:
    """As those of the replica's own."""
    out = io.BytesIO()
    Image.new("RGB", (3000, 1500)).save(out, "PNG")
    images = [b64encode(out.getvalue()).decode(), b64encode(b"no image").decode()]
    content = [{"type": "image", "media_type": "image/png", "data": data} for data in images]
    world = World()
    async with client_of(world) as client:
        path = await waiting_chat(world, client, a=CallState.CLIENT)
        body = {"results": [{"call_id": "a", "content": content}]}
        assert (await client.post(f"{path}/tool-results", json=body)).status_code == 200
        kept = (await client.get(f"{path}/messages")).json()["messages"][-1]["parts"][0]["content"]
    with Image.open(io.BytesIO(b64decode(kept[0]["data"]))) as image:
        assert max(image.size) == SIDE_PIXELS_MAX
    assert "left out" in kept[1]["text"]


async def test_of_a_long_result_the_model_sees_head_and_tail_and_the_whole_is_kept() -> None:
    world = World()
    async with client_of(world) as client:
        path = await waiting_chat(world, client, a=CallState.CLIENT)
        long = "head " + "x" * 100_000 + " tail"
        body = {"results": [{"call_id": "a", "content": long}]}
        assert (await client.post(f"{path}/tool-results", json=body)).status_code == 200
        (content,) = (await client.get(f"{path}/messages")).json()["messages"][-1]["parts"][0]["content"]
        assert content["text"].startswith("head ")
        assert content["text"].endswith(" tail")
        assert len(content["text"]) < 40_000
        kept = await world.store.read_result(UUID(path.rpartition("/")[2]), "a", offset=0, limit=1 << 20)
        assert kept is not None
        assert kept.data.decode() == long


async def test_an_answer_is_given_once_however_often_it_is_sent_under_one_key() -> None:
    world = World()
    async with client_of(world) as client:
        path = await waiting_chat(world, client, a=CallState.APPROVAL)
        answers = [
            await client.post(f"{path}/tool-calls/a/approve", headers={"Idempotency-Key": "once"}) for _ in range(2)
        ]
        assert [answer.status_code for answer in answers] == [200, 200]
        assert answers[0].json() == answers[1].json()


async def test_an_answer_is_for_what_the_call_waits_for() -> None:
    world = World()
    async with client_of(world) as client:
        path = await waiting_chat(world, client, a=CallState.APPROVAL, b=CallState.CLIENT)
        results = {"results": [{"call_id": "a", "content": "1"}]}
        await refuse(client, world, "not_allowed_in_status", 409, "POST", f"{path}/tool-results", json=results)
        for word in ("approve", "deny"):
            await refuse(client, world, "not_allowed_in_status", 409, "POST", f"{path}/tool-calls/b/{word}")


async def test_one_result_that_is_refused_refuses_all() -> None:
    world = World()
    async with client_of(world) as client:
        path = await waiting_chat(world, client, a=CallState.CLIENT)
        results = [{"call_id": "a", "content": "1"}, {"call_id": "b", "content": "2"}]
        url = f"{path}/tool-results"
        await refuse(client, world, "tool_call_not_found", 404, "POST", url, json={"results": results})


async def test_the_python_client_answers_calls() -> None:
    world = World()
    async with client_of(world) as http, Client(world.url, await world.token()) as client:
        path = await waiting_chat(world, http, a=CallState.APPROVAL, b=CallState.APPROVAL, c=CallState.CLIENT)
        chat_id = path.rpartition("/")[2]
        digest = (await client.chat(chat_id))["action_required"][0]["digest"]
        await client.approve(chat_id, "a", digest=digest, remember="always")
        await client.deny(chat_id, "b", "not today")
        with pytest.raises(ApiError, match="call_answered"):
            await client.deny(chat_id, "b")
        assert (await client.submit_results(chat_id, [{"call_id": "c", "content": "42"}]))["status"] == "pending"
        (permission,) = await client.tool_permissions()
        await client.delete_tool_permission(permission["id"])
        assert await client.tool_permissions() == []


# --- permissions ------------------------------------------------------------------------------


async def test_permissions_are_listed_and_taken_back() -> None:
    world = World()
    async with client_of(world) as client:
        path = await waiting_chat(world, client, a=CallState.APPROVAL)
        await client.post(f"{path}/tool-calls/a/approve", json={"remember": "always"})
        (permission,) = (await client.get("/api/v1/me/tool-permissions")).json()["permissions"]
        assert (permission["tool"], permission["chat_id"]) == ("tool", None)
        assert set(permission) == {"id", "tool", "chat_id", "created_at", "expires_at"}
        url = f"/api/v1/me/tool-permissions/{permission['id']}"
        async with world.client(await world.token("eve")) as stranger:
            assert (await stranger.get("/api/v1/me/tool-permissions")).json() == {"permissions": []}
            assert (await stranger.delete(url)).status_code == 404
        assert (await client.delete(url)).status_code == 204
        assert (await client.delete(url)).status_code == 404
        assert (await client.get("/api/v1/me/tool-permissions")).json() == {"permissions": []}


@pytest.mark.parametrize("text", ["x", "0", "%00", "0" * 36, "a" * 5000])
async def test_what_cannot_be_a_permissions_id_is_a_permission_that_is_not_there(text: str) -> None:
    world = World()
    async with client_of(world) as client:
        await refuse(client, world, "not_found", 404, "DELETE", f"/api/v1/me/tool-permissions/{text}")


# --- whatever comes in: a 4xx with a code, nothing written ---------------------------------------


def nested(depth: int) -> Json:
    """A schema with so many objects in each other."""
    schema: Json = {"type": "object"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"x": schema}}
    return schema


def tool(**fields: Any) -> Json:
    return {"name": "t", **fields}


TOOLS: dict[str, tuple[Any, str]] = {
    "null": (None, "invalid_request"),
    "an object": ({}, "invalid_request"),
    "a list of names": (["weather"], "invalid_request"),
    "without a name": ([{"description": "x"}], "invalid_request"),
    "a name that is empty": ([tool(name="")], "invalid_request"),
    "a name with a blank": ([tool(name="a b")], "invalid_request"),
    "a name with a dot": ([tool(name="a.b")], "invalid_request"),
    "a name with a line break at its end": ([tool(name="a\n")], "invalid_request"),
    "a name of 65 letters": ([tool(name="a" * 65)], "invalid_request"),
    "a name that is not ASCII": ([tool(name="\u0430bc")], "invalid_request"),
    "a name of our own": ([tool(name="read_result")], "invalid_request"),
    "two of one name": ([tool(), tool()], "invalid_request"),
    "65 of them": ([tool(name=f"t{number}") for number in range(65)], "invalid_request"),
    "a description that is a number": ([tool(description=1)], "invalid_request"),
    "a description with a NUL": ([tool(description="\0")], "invalid_request"),
    "a long description": ([tool(description="x" * 8001)], "invalid_request"),
    "an unknown field": ([tool(strict=True)], "invalid_request"),
    "parameters that are a list": ([tool(parameters=[])], "invalid_request"),
    "parameters that are null": ([tool(parameters=None)], "invalid_request"),
    "parameters of another type": ([tool(parameters={"type": "string"})], "invalid_request"),
    "parameters of an unknown type": (
        [tool(parameters={"properties": {"x": {"type": "text"}}})],
        "invalid_request",
    ),
    "a property that is no schema": ([tool(parameters={"properties": {"x": 1}})], "invalid_request"),
    "properties that are a list": ([tool(parameters={"properties": ["x"]})], "invalid_request"),
    "required that is a word": ([tool(parameters={"required": "x"})], "invalid_request"),
    "an enum that is a word": ([tool(parameters={"properties": {"x": {"enum": "x"}}})], "invalid_request"),
    "a choice that is an object": ([tool(parameters={"anyOf": {}})], "invalid_request"),
    "a schema elsewhere": ([tool(parameters={"$ref": "https://example.com/schema"})], "invalid_request"),
    "a NUL in a schema": ([tool(parameters={"title": "\0"})], "invalid_request"),
    "a NUL in a key": ([tool(parameters={"properties": {"\0": {}}})], "invalid_request"),
    "a schema that is nested deeply": ([tool(parameters=nested(20))], "invalid_request"),
    "a schema that is large": ([tool(parameters={"title": "x" * (64 << 10)})], "request_too_large"),
}
SERVERS: dict[str, Any] = {
    "a word": "files",
    "numbers": [1],
    "an empty slug": [""],
    "a capital": ["Files"],
    "an underscore": ["a_b"],
    "a slug that begins with a hyphen": ["-a"],
    "a line break at its end": ["a\n"],
    "33 letters": ["a" * 33],
    "one twice": ["a", "a"],
    "33 of them": [f"s{number}" for number in range(33)],
}


@pytest.mark.parametrize("case", TOOLS)
async def test_tools_that_no_chat_takes(case: str) -> None:
    tools, code = TOOLS[case]
    world = World()
    async with client_of(world) as client:
        chat = await create(client)
        status = 413 if code == "request_too_large" else 400
        body = {"content": "x", "tools": tools}
        await refuse(client, world, code, status, "POST", "/api/v1/chats", json=body)
        await refuse(client, world, code, status, "PATCH", f"/api/v1/chats/{chat['id']}", json={"tools": tools})


@pytest.mark.parametrize("case", SERVERS)
async def test_servers_that_no_chat_takes(case: str) -> None:
    world = World()
    async with client_of(world) as client:
        path = f"/api/v1/chats/{(await create(client))['id']}"
        for method, url in (("POST", "/api/v1/chats"), ("POST", f"{path}/messages"), ("PATCH", path)):
            content = {} if method == "PATCH" else {"content": "x"}
            body = {**content, "mcp_servers": SERVERS[case]}
            await refuse(client, world, "invalid_request", 400, method, url, json=body)


async def test_a_server_that_is_not_there_is_chosen_by_no_chat() -> None:
    world = World()
    async with client_of(world) as client:
        path = f"/api/v1/chats/{(await create(client))['id']}"
        for method, url in (("POST", "/api/v1/chats"), ("POST", f"{path}/messages"), ("PATCH", path)):
            body = {**({} if method == "PATCH" else {"content": "x"}), "mcp_servers": ["files"]}
            await refuse(client, world, "mcp_server_not_found", 404, method, url, json=body)


APPROVALS: dict[str, bytes] = {
    "not JSON": b"{",
    "a list": b"[]",
    "an unknown field": b'{"approved": true}',
    "a digest that is none": b'{"digest": "abc"}',
    "a digest that is a number": b'{"digest": 1}',
    "arguments null": b'{"arguments": null}',
    "arguments a list": b'{"arguments": []}',
    "arguments a text": b'{"arguments": "{}"}',
    "arguments with a NUL": b'{"arguments": {"x": "\\u0000"}}',
    "arguments that are nested deeply": b'{"arguments": {"x": ' + b"[" * 80 + b"]" * 80 + b"}}",
    "arguments that are nested very deeply": b'{"arguments": {"x": ' + b"[" * 50_000 + b"]" * 50_000 + b"}}",
    "remember for ever": b'{"remember": "forever"}',
    "remember true": b'{"remember": true}',
}
DENIALS: dict[str, bytes] = {
    "a list": b"[]",
    "an unknown field": b'{"why": "x"}',
    "a reason that is a number": b'{"reason": 1}',
    "a reason with a NUL": b'{"reason": "\\u0000"}',
    "a long reason": json.dumps({"reason": "x" * 2001}).encode(),
}
RESULTS: dict[str, bytes] = {
    "no body": b"",
    "none": b'{"results": []}',
    "null": b'{"results": null}',
    "without a call": b'{"results": [{"content": "x"}]}',
    "without content": b'{"results": [{"call_id": "a"}]}',
    "content a number": b'{"results": [{"call_id": "a", "content": 1}]}',
    "content with a NUL": b'{"results": [{"call_id": "a", "content": "\\u0000"}]}',
    "a part with a NUL": b'{"results": [{"call_id": "a", "content": [{"type": "text", "text": "\\u0000"}]}]}',
    "a part of another kind": b'{"results": [{"call_id": "a", "content": [{"type": "opaque"}]}]}',
    "a part with more fields": b'{"results": [{"call_id": "a", "content": [{"type": "text", "text": "x", "x": 1}]}]}',
    "an image that is no base64": (
        b'{"results": [{"call_id": "a", "content": [{"type": "image", "media_type": "image/png", "data": "!"}]}]}'
    ),
    "an image that is empty": (
        b'{"results": [{"call_id": "a", "content": [{"type": "image", "media_type": "image/png", "data": ""}]}]}'
    ),
    "an image of another type": (
        b'{"results": [{"call_id": "a", "content": [{"type": "image", "media_type": "text/html", "data": "aGk="}]}]}'
    ),
    "json that is none": b'{"results": [{"call_id": "a", "content": [{"type": "json", "json": "{"}]}]}',
    "one call twice": b'{"results": [{"call_id": "a", "content": "1"}, {"call_id": "a", "content": "2"}]}',
    "is_error a word": b'{"results": [{"call_id": "a", "content": "1", "is_error": "no"}]}',
    "an unknown field": b'{"results": [{"call_id": "a", "content": "1", "name": "tool"}]}',
    "too many": json.dumps({"results": [{"call_id": f"c{n}", "content": ""} for n in range(65)]}).encode(),
    "too many parts": json.dumps(
        {"results": [{"call_id": "a", "content": [{"type": "text", "text": ""}] * 101}]}
    ).encode(),
}


async def test_bodies_that_no_answer_takes() -> None:
    world = World()
    async with client_of(world) as client:
        path = await waiting_chat(world, client, a=CallState.APPROVAL, b=CallState.CLIENT)
        for bodies, tail in (
            (APPROVALS, "tool-calls/a/approve"),
            (DENIALS, "tool-calls/a/deny"),
            (RESULTS, "tool-results"),
        ):
            for body in bodies.values():
                await refuse(client, world, "invalid_request", 400, "POST", f"{path}/{tail}", content=body)
        assert await open_calls(world, path) == {"a": "approval", "b": "client"}


async def test_answers_that_are_too_large() -> None:
    world = World(content_bytes_max=2048, body_bytes_max=8192)
    async with client_of(world) as client:
        path = await waiting_chat(world, client, a=CallState.APPROVAL, b=CallState.CLIENT)
        large = "x" * 2049
        for tail, body in (
            ("tool-calls/a/approve", {"arguments": {"x": large}}),
            ("tool-results", {"results": [{"call_id": "b", "content": large}]}),
        ):
            await refuse(client, world, "request_too_large", 413, "POST", f"{path}/{tail}", json=body)


async def test_calls_that_are_not_there_and_chats_of_others() -> None:
    world = World()
    async with client_of(world) as client, world.client(await world.token("eve")) as stranger:
        path = await waiting_chat(world, client, a=CallState.APPROVAL, b=CallState.CLIENT)
        answers: tuple[tuple[str, Json], ...] = (
            ("tool-calls/a/approve", {}),
            ("tool-calls/a/deny", {}),
            ("tool-results", {"results": [{"call_id": "b", "content": "1"}]}),
        )
        for tail, body in answers:
            await refuse(stranger, world, "chat_not_found", 404, "POST", f"{path}/{tail}", json=body)
            await refuse(
                client, world, "chat_not_found", 404, "POST", f"/api/v1/chats/{unknown_chat()}/{tail}", json=body
            )
        for call_id in ("c", str(uuid4()), "%00", "%0a", "\u0661", "x" * 201, "a%20"):
            for word in ("approve", "deny"):
                url = f"{path}/tool-calls/{call_id}/{word}"
                await refuse(client, world, "tool_call_not_found", 404, "POST", url)
        body = {"results": [{"call_id": "c\n", "content": "1"}]}
        await refuse(client, world, "tool_call_not_found", 404, "POST", f"{path}/tool-results", json=body)
        await refuse(stranger, world, "chat_not_found", 404, "PATCH", path, json={"tools": [WEATHER]})


async def test_a_chat_that_waits_for_nobody_takes_no_answer() -> None:
    world = World()
    async with client_of(world) as client:
        path = f"/api/v1/chats/{(await create(client))['id']}"
        for tail, body in (
            ("tool-calls/a/approve", {}),
            ("tool-calls/a/deny", {}),
            ("tool-results", {"results": [{"call_id": "a", "content": "1"}]}),
        ):
            await refuse(client, world, "tool_call_not_found", 404, "POST", f"{path}/{tail}", json=body)
