"""Every route of the OpenAPI document, given what it does not take: a 4xx with a code, and nothing written.

The table is made from the document, so a new route, parameter or field is in it by itself. What the document does not
say is a body that is taken, of which one thing at a time is made wrong: ``SAMPLES`` has one for each kind of body, and
a route without one fails here.
"""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from typing import Any, NamedTuple
from urllib.parse import quote
from uuid import uuid4

import httpx
from web_world import World, client_of

from chatcluster.secrets import new_key

Json = dict[str, Any]

DOORS = ("/v1/", "/api/ai/", "/api/agui", "/mcp")
"""Their clients send more than anybody reads: unknown fields and parameters are no errors there."""
ECHOED = ("/api/ai/", "/api/agui")
"""What these say back, or pass over, they do not look into."""
USER_TURN = {"role": "user", "content": "hello"}
SAMPLES: dict[str, Json] = {
    "AddMcpServer": {"slug": "new", "url": "https://example.org/mcp", "tools": {"x": {"approval": "ask"}}},
    "AnswerCall": {"answers": {"name": {"action": "accept", "content": {"name": "Ada"}}}},
    "ApproveCall": {"arguments": {"a": 1}},
    "CreateChat": {
        "content": [{"type": "text", "text": "hello"}],
        "title": "t",
        "tools": [{"name": "mine", "description": "d", "parameters": {"type": "object"}}],
        "mcp_servers": ["files"],
    },
    "CreateCompletion": {"model": "m", "messages": [USER_TURN]},
    "CreateConversation": {"metadata": {"a": "b"}},
    "CreateItems": {"items": [{"type": "message", "role": "user", "content": "hello"}]},
    "CreateResponse": {"model": "m", "input": "hello"},
    "CreateToken": {"user": "ada", "name": "n", "scopes": ["chats"]},
    "CreateWorkspace": {"chat_id": "CHAT", "template": "one", "name": "w", "parameters": {}},
    "DenyCall": {"reason": "no"},
    "EditMessage": {"content": [{"type": "text", "text": "better"}]},
    "EditQueuedMessage": {"content": "better"},
    "ForkChat": {"message_id": 1},
    "ModelChange": {"enabled": True, "prices": {"input": 1}, "options": {"temperature": 1}},
    "ModelEntry": {"name": "m2", "provider": "one", "provider_model": "m", "fallbacks": []},
    "NewProvider": {"name": "p2", "base_url": "https://example.org/v1", "key": "k", "options": {}},
    "PatchChat": {"title": "t", "tools": [{"name": "mine"}], "mcp_servers": ["files"]},
    "PatchMcpServer": {"url": "https://example.org/mcp", "auth": {"kind": "bearer", "token": "t"}},
    "Prompt": {"prompt": "be kind"},
    "ProviderChange": {"base_url": "https://example.org/v1", "options": {}},
    "PutLimit": {"subject": "user", "period": "day", "name": "ada", "tokens": 5},
    "PutMember": {"group": "g", "user": "ada"},
    "RunAgent": {"threadId": "t", "runId": "r", "messages": [{"id": "1", **USER_TURN}]},
    "SendMessage": {"content": "hello", "mcp_servers": ["files"]},
    "SignIn": {"token": "ccl_nobodys"},
    "SubmitChat": {"id": "c", "messages": [{"id": "1", "role": "user", "parts": [{"type": "text", "text": "hello"}]}]},
    "SubmitResults": {"results": [{"call_id": "c1", "content": [{"type": "text", "text": "done"}]}]},
    "Subscribe": {
        "endpoint": "https://fcm.googleapis.com/x",
        "keys": {"p256dh": "BCVxsr7N_eNgVRqvHtD0zTZsEc6-VV-JvLexhqUzORcxaOzi6-AYWXvTBHm4bjyPjs7Vd8pZGH6SRpkNtoIAiw4",
                 "auth": "BTBZMqHH6r4Tts7J_aSIgg"},
    },
    "TemplateSettings": {
        "display_name": "Small",
        "startup": "true",
        "parameters": [{"name": "branch", "default": "main", "choices": ["main", "next"]}],
        "limits": {"memory_bytes_max": 64 << 20},
    },
    "UpdateConversation": {"metadata": {"a": "b"}},
}  # fmt: skip

ONE = "one"
"""The name of the provider, the model and the template that there are."""
OWNED = {"chat_id", "file_id", "token_id"}
"""What is somebody's, by the names of parameters."""

NOT_JSON: dict[str, bytes] = {
    "not JSON": b"{'a': 1}",
    "cut": b'{"a": ',
    "two values": b"{} {}",
    "not UTF-8": b'{"content": "\xff\xfe"}',
    "a list": b"[]",
    "a number": b"1" + b"0" * 5000,
    "deep": b'{"content": ' + b"[" * 50_000 + b"]" * 50_000 + b"}",
    "deep in an unknown field": b'{"x": ' + b'{"a":' * 50_000 + b"1" + b"}" * 50_001,
}
OF_KIND: Json = {
    "null": None,
    "boolean": True,
    "integer": 7,
    "number": 1.5,
    "string": "x",
    "array": [],
    "object": {},
}
WRONG_KINDS = 2
"""So many values of wrong kinds are tried at each place, null among them if it is wrong."""
UNSTORABLE = ("a\u0000b", "\ud800")
NO_NAMES = ("%00", "%ff", "%2e%2e", "%E2%80%AE", "a" * 3000)
NOBODYS = ("x", "9" * 19, str(uuid4()))
"""What could be a name, and is that of nothing; a PUT makes it."""
IN_QUERIES = {
    "integer": ("x", "1.5", "9" * 30, "%00"),
    "boolean": ("maybe", "%00"),
    "word": ("no-such-word", "%00"),
}
ANY_TEXT = ("%00", "%ff", "", "a" * 3000, "%E2%80%AE")
"""Of which a parameter that takes any text may take some."""


class Route(NamedTuple):
    method: str
    path: str
    operation: Json
    """What the document says of it."""

    @property
    def parameters(self) -> list[Json]:
        parameters: list[Json] = self.operation.get("parameters", [])
        return parameters

    @property
    def body(self) -> Json | None:
        """The schema of what it takes."""
        schema: Json | None = self.operation.get("requestBody", {}).get("content", {}).get("application/json")
        return None if schema is None else schema["schema"]

    def __str__(self) -> str:
        return f"{self.method} {self.path}"

    @property
    def is_door(self) -> bool:
        return self.path.startswith(DOORS)

    @property
    def sample(self) -> Json | None:
        return None if self.body is None else SAMPLES[self.body["$ref"].rpartition("/")[2]]

    def names(self, where: str) -> list[str]:
        return [each["name"] for each in self.parameters if each["in"] == where]

    def url(self, place: Json, **changed: str) -> str:
        """With the names of what is there, ``changed`` as it is to stand in a URL."""
        named = {name: quote(str(value), safe="") for name, value in place.items()} | changed
        needed = [each["name"] for each in self.parameters if each["in"] == "query" and each.get("required")]
        asked = dict.fromkeys([*needed, *changed]).keys() - set(self.names("path"))
        query = "&".join(f"{name}={named[name]}" for name in sorted(asked))
        return self.path.format_map(named) + (f"?{query}" if query else "")

    def content(self, place: Json) -> bytes | None:
        """A body that is taken."""
        if self.sample is None:
            return None
        return encoded(self.sample).replace(b"CHAT", str(place["chat_id"]).encode())


class Document:
    """What is read in the OpenAPI document."""

    def __init__(self, told: Json) -> None:
        self._schemas = told["components"]["schemas"]
        self.routes = [
            Route(method.upper(), path, operation)
            for path, operations in told["paths"].items()
            for method, operation in operations.items()
        ]

    def choices(self, schema: Json) -> list[Json]:
        """What a value may be, one by one."""
        if "$ref" in schema:
            return self.choices(self._schemas[schema["$ref"].rpartition("/")[2]])
        for word in ("anyOf", "oneOf", "allOf"):
            if word in schema:
                return [choice for each in schema[word] for choice in self.choices(each)]
        return [schema]

    def kinds(self, schema: Json) -> set[str]:
        """Which of ``OF_KIND`` it may be."""
        kinds: set[str] = set()
        for choice in self.choices(schema):
            if "type" in choice:
                kinds |= {choice["type"]} if isinstance(choice["type"], str) else set(choice["type"])
            elif "const" in choice or "enum" in choice:
                kinds.add("string")
            else:
                return set(OF_KIND)
        return kinds | ({"integer"} if "number" in kinds else set())

    def is_word(self, schema: Json) -> bool:
        """Whether it is one of a few words."""
        choices = [each for each in self.choices(schema) if each.get("type", "string") == "string"]
        return bool(choices) and all("enum" in choice or "const" in choice for choice in choices)

    def kind_in_query(self, schema: Json) -> str:
        kinds = self.kinds(schema)
        return "word" if self.is_word(schema) else next((kind for kind in IN_QUERIES if kind in kinds), "string")

    def wrong(self, schema: Json, sample: Any) -> Iterator[Any]:
        """Values that it cannot be: of another kind, or ``sample`` with one thing in it that is wrong."""
        kinds = self.kinds(schema)
        yield from [value for kind, value in OF_KIND.items() if kind not in kinds][:WRONG_KINDS]
        if "string" in kinds and len(kinds) < len(OF_KIND):
            yield from UNSTORABLE
            if self.is_word(schema):
                yield "no-such-word"
        if "integer" in kinds and "number" not in kinds and len(kinds) < len(OF_KIND):
            yield 10**30
        for choice in self.choices(schema):
            if isinstance(sample, dict) and "properties" in choice and sample.keys() <= choice["properties"].keys():
                yield from self._wrong_object(choice, sample)
            elif isinstance(sample, dict) and isinstance(choice.get("additionalProperties"), dict) and sample:
                key, value = next(iter(sample.items()))
                yield from ({key: wrong} for wrong in self.wrong(choice["additionalProperties"], value))
            elif isinstance(sample, list) and sample and "items" in choice:
                yield from ([wrong] for wrong in self.wrong(choice["items"], sample[0]))

    def _wrong_object(self, schema: Json, sample: Json) -> Iterator[Json]:
        for name in schema.get("required", ()):
            yield {key: value for key, value in sample.items() if key != name}
        if schema.get("additionalProperties") is False:
            yield {**sample, "no-such-field": 1}
        for name, field in schema["properties"].items():
            yield from ({**sample, name: wrong} for wrong in self.wrong(field, sample.get(name)))


OTHERS = {
    **{name: str(uuid4()) for name in ("subscription_id", "permission_id", "workspace_id", "worker_id")},
    "call_id": "c1",
    "response_id": "resp_1",
    "conversation": "conv_1",
    "item_id": "msg_1",
    "model": "m",
    "chat": "c",
    "subject": "user",
    "period": "day",
    "group": "g",
    "user": "ada",
}
"""Names of what is not there, or of nothing that is anybody's."""


class Scene:
    """A replica on memory ports, what is there in it, and who asks: its owner, and somebody else."""

    def __init__(self, world: World, owner: httpx.AsyncClient, stranger: httpx.AsyncClient) -> None:
        self.world = world
        self.owner = owner
        self.stranger = stranger
        self.nobody = world.client(None)
        self.place: Json = {}

    async def furnish(self) -> None:
        """What a route may name: what is there of each kind, all of it the owner's."""
        chat = (await self.owner.post("/api/v1/chats", json={"content": "hello"})).json()
        message = (await self.owner.get(f"/api/v1/chats/{chat['id']}/messages")).json()["messages"][0]
        queued = await self.owner.post(f"/api/v1/chats/{chat['id']}/messages", json={"content": "more"})
        uploaded = await self.owner.post("/api/v1/files?name=a.txt", content=b"hello")
        token = await self.owner.post("/api/v1/tokens", json={"user": "ada", "name": "n"})
        self.place = OTHERS | {
            "chat_id": chat["id"],
            "message_id": message["id"],
            "queued_id": queued.json()["queued"]["id"],
            "file_id": uploaded.json()["id"],
            "token_id": token.json()["details"]["id"],
            "slug": "files",
            "name": ONE,
        }

    def written(self) -> str:
        """All that the database holds, to tell whether anything was written."""
        database = self.world.database
        tables = (database.chats, database.kept, database.accounts, database.mcp, database.model_tables)
        return repr((*tables, sorted(database.tokens)))

    async def ask(self, client: httpx.AsyncClient, route: Route, url: str, content: bytes | None) -> tuple[int, str]:
        """The status, and the code of an error. What is streamed is not read."""
        headers = {"Content-Type": "application/json"} if content is not None else {}
        async with client.stream(route.method, url, content=content, headers=headers) as response:
            if response.status_code < 400:
                return response.status_code, ""
            told = json.loads(await response.aread())
            error = told if route.is_door else told["error"]
            assert error, (str(route), url, content)
            return response.status_code, "" if route.is_door else str(error["code"])

    async def refuse(self, route: Route, url: str, content: bytes | None = None) -> None:
        status, code = await self.ask(self.owner, route, url, content)
        assert 400 <= status < 500, (status, str(route), url, (content or b"")[:300])
        assert code or route.is_door, (str(route), url)


@asynccontextmanager
async def scene() -> AsyncIterator[tuple[Scene, Document]]:
    world = World(content_bytes_max=4096, body_bytes_max=1 << 20, encryption_keys=new_key())
    await world.have_servers("files")
    async with client_of(world, admin=True) as owner, world.client(await world.token("eve")) as stranger:
        for method, path, name in (
            ("POST", "providers", "NewProvider"),
            ("POST", "models", "ModelEntry"),
            ("PUT", f"templates/{ONE}", "TemplateSettings"),
        ):
            body = SAMPLES[name] | ({} if method == "PUT" else {"name": ONE})
            made = await owner.request(method, f"/api/v1/admin/{path}", json=body)
            assert made.is_success, made.text
        there = Scene(world, owner, stranger)
        async with there.nobody:
            yield there, Document((await owner.get("/schema/openapi.json")).json())


def encoded(value: Any) -> bytes:
    return json.dumps(value).encode()


async def test_no_route_takes_a_body_with_one_thing_wrong_in_it() -> None:
    """And each takes the body that is made wrong here, or has something else against it."""
    async with scene() as (there, document):
        for route in document.routes:
            if route.body is None:
                continue
            await there.furnish()
            url, before = route.url(there.place), there.written()
            wrong = map(encoded, document.wrong(route.body, route.sample))
            for content in [*NOT_JSON.values(), *wrong, encoded({"content": "x" * (1 << 20)})]:
                if not (route.path.startswith(ECHOED) and (b"\\u0000" in content or b"\\ud800" in content)):
                    await there.refuse(route, url, content)
            assert there.written() == before, str(route)
            status, code = await there.ask(there.owner, route, url, route.content(there.place))
            assert status < 500, str(route)
            assert code != "invalid_request", f"{route}: its sample is wrong"


async def test_no_route_takes_a_parameter_that_is_none_of_its_own_or_has_no_value_of_its_kind() -> None:
    async with scene() as (there, document):
        await there.furnish()
        before = there.written()
        for route in document.routes:
            content = route.content(there.place)
            if not route.is_door:
                await there.refuse(route, route.url(there.place, nothing="1"), content)
            for each in route.parameters:
                if each["in"] == "query":
                    for value in IN_QUERIES.get(document.kind_in_query(each["schema"]), ()):
                        await there.refuse(route, route.url(there.place, **{each["name"]: value}), content)
        assert there.written() == before


async def test_any_text_in_an_address_is_answered_and_what_names_nothing_writes_nothing() -> None:
    async with scene() as (there, document):
        await there.furnish()
        for route in document.routes:
            before, content = there.written(), route.content(there.place)
            for name in route.names("path"):
                for value in NO_NAMES if route.method == "PUT" else (*NO_NAMES, *NOBODYS):
                    await there.refuse(route, route.url(there.place, **{name: value}), content)
            assert there.written() == before, str(route)
        for route in document.routes:
            for each in route.parameters:
                if each["in"] == "query" and document.kind_in_query(each["schema"]) == "string":
                    for value in ANY_TEXT:
                        url = route.url(there.place, **{each["name"]: value})
                        status, _ = await there.ask(there.owner, route, url, route.content(there.place))
                        assert status < 500, (str(route), url)


async def test_p9_nothing_of_somebody_elses_is_there_for_a_user_and_nothing_at_all_for_nobody() -> None:
    async with scene() as (there, document):
        await there.furnish()
        before = there.written()
        for route in document.routes:
            url, content = route.url(there.place), route.content(there.place)
            if "security" not in route.operation:
                status, _ = await there.ask(there.nobody, route, url, content)
                assert status == 401, str(route)
            if OWNED & set(route.names("path")) or "/admin/" in route.path:
                status, _ = await there.ask(there.stranger, route, url, content)
                assert status in (403, 404), str(route)
        assert there.written() == before
