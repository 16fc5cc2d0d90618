"""What is wrong with a request, at every door: refused in the terms of that door's clients, in words that say what to
do, and nothing is written. One table for all doors; what OpenAI's client makes of its own ones is asked of it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from functools import partial

import httpx
import httpx2
import openai
import pytest
from door_errors import DOORS, LIMITS, Door, Json, Wrong, call, everywhere, response
from web_world import World, client_of, serving

from chatcluster.errors import UsageLimitExceeded
from chatcluster.models import Kind, ModelEntry, Provider
from chatcluster.ports import TokenScope

OPENAI_CODES = {
    "invalid_token": "invalid_api_key",
    "unknown_model": "model_not_found",
    "too_many": "rate_limit_exceeded",
    "usage_limit_exceeded": "insufficient_quota",
}
OPENAI_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "invalid_request_error",
    405: "invalid_request_error",
    409: "conflict_error",
    413: "invalid_request_error",
    429: "rate_limit_error",
}
CLASSES: Mapping[int, type[openai.APIStatusError]] = {
    400: openai.BadRequestError,
    401: openai.AuthenticationError,
    403: openai.PermissionDeniedError,
    404: openai.NotFoundError,
    409: openai.ConflictError,
    429: openai.RateLimitError,
}


class Scene:
    """A world with a busy chat of Ada's and one of Eve's, and tokens that are wrong in every way."""

    def __init__(self, world: World, door: Door) -> None:
        self.world = world
        self.door = door
        self.tokens: dict[str, str | None] = {"none": None, "bad": "ccl_wrong"}
        self.chats: dict[str, str] = {}
        self.http = httpx.AsyncClient(base_url=world.url, timeout=60)

    async def __aenter__(self) -> Scene:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.http.aclose()

    async def prepare(self) -> None:
        provider = Provider(name="cloud", kind=Kind.OPENAI, base_url="http://127.0.0.1:9/v1")
        await self.world.models.add_provider(provider)
        await self.world.models.add_model(ModelEntry(name="large", provider="cloud", provider_model="large-1"))
        for scope in TokenScope:
            self.tokens[str(scope)] = await self.world.token("ada", scopes=(scope,))
        self.tokens["right"] = self.tokens[str(self.door.scope)]
        self.tokens["expired"] = await self.world.token("ada", expires_at=datetime(2020, 1, 1, tzinfo=UTC))
        for name, user in (("BUSY", "ada"), ("HERS", "eve")):
            headers = {"Authorization": f"Bearer {await self.world.token(user)}"}
            made = await self.http.post("/api/v1/chats", json={"content": "hello"}, headers=headers)
            self.chats[name] = made.json()["id"]

    def placed(self, text: str) -> str:
        """With the IDs of the chats in it, as this door writes them."""
        for name, chat_id in self.chats.items():
            text = text.replace(name, chat_id.replace("-", "") if self.door.scope is TokenScope.OPENAI else chat_id)
        return text

    async def ask(self, wrong: Wrong) -> httpx.Response:
        body = self.door.right if wrong.body is None else wrong.body
        content = body if isinstance(body, bytes) else self.placed(json.dumps(body)).encode()
        path = self.placed(wrong.path or self.door.path)
        is_get, token = wrong.method == "GET", self.tokens[wrong.token]
        headers = {} if is_get else {"Content-Type": "application/json"}
        if token is not None:
            headers["Authorization"] = f"Bearer {token}"
        return await self.http.request(wrong.method, path, content=b"" if is_get else content, headers=headers)

    def told(self, answer: httpx.Response) -> tuple[str, str]:
        """The code and the message, which have the form that this door's clients know."""
        assert answer.headers["x-request-id"]
        body = answer.json()
        if self.door.scope is TokenScope.OPENAI:
            assert set(body) == {"error"}
            assert set(body["error"]) == {"message", "type", "param", "code"}
            assert body["error"]["type"] == OPENAI_TYPES[answer.status_code]
            return body["error"]["code"], body["error"]["message"]
        if self.door.scope is not TokenScope.MCP:
            return body["error"]["code"], body["error"]["message"]
        assert body["jsonrpc"] == "2.0"
        if "error" in body:
            error = body["error"]
            return (error.get("data") or {}).get("code", str(error["code"])), error["message"]
        assert body["result"]["isError"]
        text = body["result"]["content"][0]["text"]
        return text.partition("(")[2].partition(")")[0], text


def code_of(door: Door, wrong: Wrong) -> str:
    if door.scope is TokenScope.OPENAI:
        return OPENAI_CODES.get(wrong.code, wrong.code)
    if door.scope is TokenScope.MCP and isinstance(wrong.body, bytes) and wrong.status == 400:
        return "-32700" if wrong.what.startswith("no ") and wrong.what != "no object" else "-32600"
    return wrong.code


@pytest.mark.parametrize("name", DOORS)
async def test_what_is_wrong_is_refused_in_the_doors_own_form_and_nothing_is_written(name: str) -> None:
    door, world = DOORS[name], World(**LIMITS)
    async with serving(world), Scene(world, door) as scene:
        await scene.prepare()
        for wrong in (*everywhere(door.scope), *door.wrong):
            before = world.written()
            answer = await scene.ask(wrong)
            assert answer.status_code == wrong.status, (wrong.what, answer.text)
            code, message = scene.told(answer)
            assert code == code_of(door, wrong), (wrong.what, answer.text)
            assert scene.placed(wrong.says) in message, (wrong.what, message)
            assert world.written() == before, wrong.what
            if wrong.status == 409:
                assert answer.headers["x-should-retry"] == "false", wrong.what


@pytest.mark.parametrize("name", [name for name, door in DOORS.items() if door.scope is TokenScope.OPENAI])
async def test_openais_client_has_a_class_of_its_own_for_it(name: str) -> None:
    door, world = DOORS[name], World(**LIMITS)
    async with serving(world), Scene(world, door) as scene, httpx2.AsyncClient(trust_env=False) as http:
        await scene.prepare()
        for wrong in (*everywhere(door.scope), *door.wrong):
            if isinstance(wrong.body, bytes) or wrong.token == "none" or wrong.method in ("PUT", "DELETE"):
                continue  # the client writes its bodies and headers itself
            client = openai.AsyncOpenAI(
                base_url=f"{world.url}/v1", api_key=scene.tokens[wrong.token] or "", max_retries=2, http_client=http
            )
            path = scene.placed(wrong.path or door.path).removeprefix("/v1")
            body = json.loads(scene.placed(json.dumps(door.right if wrong.body is None else wrong.body)))
            asked = client.get if wrong.method == "GET" else partial(client.post, body=body)
            with pytest.raises(CLASSES.get(wrong.status, openai.APIStatusError)) as refused:
                await asked(path, cast_to=object)
            assert refused.value.code == code_of(door, wrong), wrong.what
            assert scene.placed(wrong.says) in refused.value.message, wrong.what
            assert refused.value.request_id, wrong.what
            taken = refused.value.response.request.headers["x-stainless-retry-count"]
            assert taken == "0", (wrong.what, "the client does not ask again for what stays wrong")


@pytest.mark.parametrize("name", DOORS)
async def test_a_rate_is_429_with_a_time_that_clients_wait_for(name: str) -> None:
    door, world = DOORS[name], World(requests_per_second_per_user=0.001, requests_per_user=0)
    async with serving(world), Scene(world, door) as scene:
        scene.tokens["right"] = await world.token("ada", scopes=(door.scope,))
        nothing = Wrong("the first one", 400, "", "", b"[]")
        assert (await scene.ask(nothing)).status_code == 400
        answer = await scene.ask(nothing)
        assert answer.status_code == 429
        assert 0 < int(answer.headers["retry-after"]) <= 120
        code, message = scene.told(answer)
        assert (code, "a second" in message) == (code_of(door, Wrong("", 429, "too_many", "")), True)


@pytest.mark.parametrize("name", ["responses", "completions", "ai-sdk", "ag-ui", "mcp"])
async def test_who_has_spent_all_is_told_so_and_no_client_asks_again_at_once(name: str) -> None:
    door, world = DOORS[name], World()
    spent = UsageLimitExceeded("the limit of this month is used up; there is room again from May on")

    async def excess(_: object) -> UsageLimitExceeded:
        return spent

    world.spending.excess = excess  # type: ignore[method-assign, assignment]
    async with serving(world), Scene(world, door) as scene:
        scene.tokens["right"] = await world.token("ada", scopes=(door.scope,))
        before = world.written()
        asked = call("chat_create", content="hello") if name == "mcp" else None
        answer = await scene.ask(Wrong("", 409, "", "", asked))
        is_openai = door.scope is TokenScope.OPENAI
        assert answer.status_code == (200 if name == "mcp" else 429)
        code, message = scene.told(answer)
        assert code == ("insufficient_quota" if is_openai else "usage_limit_exceeded")
        assert "used up" in message
        if name != "mcp":
            assert (answer.headers["x-should-retry"], answer.headers["retry-after"]) == ("false", "120")
        assert world.written() == before


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/responses", response(background=True, frob=1, include=["x"], temperature=0.3)),
        ("/v1/conversations", {"frob": 1}),
    ],
)
async def test_fields_that_a_newer_client_sends_are_passed_over(path: str, body: Json) -> None:
    async with client_of(World()) as client:
        assert (await client.post(path, json=body)).status_code == 200
