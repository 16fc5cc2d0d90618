"""The OpenAPI document says of each event what is in it, so that clients can be made from it."""

from __future__ import annotations

import threading
from typing import Any, get_args

import pytest
import trio
from litestar._openapi.plugin import OpenAPIPlugin
from litestar.openapi.spec import OpenAPI
from web_world import World, client_of

from chatcluster import events
from chatcluster.client.events import EVENT_TYPES

Json = dict[str, Any]


async def document() -> Json:
    async with client_of(World()) as client:
        told: Json = (await client.get("/schema/openapi.json")).json()
        return told


def described(told: Json, path: str) -> set[str]:
    """The types of the events that this stream is said to have."""
    answer = told["paths"][f"/api/v1{path}"]["get"]["responses"]["200"]["content"]["text/event-stream"]["schema"]
    names = [item["$ref"].rpartition("/")[2] for item in answer["oneOf"]]
    schemas = [told["components"]["schemas"][name] for name in names]
    assert all("type" in schema["required"] for schema in schemas)
    return {schema["properties"]["type"].get("const", "of a list") for schema in schemas}


async def test_p10_the_loop_goes_on_while_the_description_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    """Anybody may ask for it, and it takes a quarter of a second the first time."""
    threads: list[int] = []
    write = OpenAPIPlugin._build_openapi

    def written(self: OpenAPIPlugin) -> OpenAPI:
        threads.append(threading.get_ident())
        return write(self)

    monkeypatch.setattr(OpenAPIPlugin, "_build_openapi", written)
    async with client_of(World()) as client, trio.open_nursery() as nursery:
        for _ in range(3):
            nursery.start_soon(client.get, "/schema/openapi.json")
    assert len(threads) == 1
    assert threads != [threading.get_ident()]


async def test_each_event_of_a_chat_is_described_with_its_type() -> None:
    told = await document()
    of_a_chat = described(told, "/chats/{chat_id}/stream")
    all_of_them = {kind.__struct_config__.tag for kind in get_args(events.Event)} | {"attempt", "resumed", "part"}
    assert of_a_chat == all_of_them - {"chat", "list_reset"}
    assert described(told, "/watch") == all_of_them | {"of a list"}
    assert set(EVENT_TYPES) == all_of_them, "the Python client knows them all"


async def test_a_cookie_or_a_token_lets_in_and_signing_in_needs_neither() -> None:
    told = await document()
    paths = told["paths"]
    assert told["security"] == [{"token": []}, {"session": []}]
    assert "security" not in paths["/api/v1/chats"]["get"]
    assert paths["/api/v1/session"]["post"]["security"] == [{}]
    assert set(told["components"]["securitySchemes"]) == {"token", "session"}


async def test_every_route_is_there_with_how_it_refuses() -> None:
    told = await document()
    for path in ("/session", "/session/codes", "/watch", "/admin/takeovers", "/admin/replicas/{worker_id}/drain"):
        for method in told["paths"][f"/api/v1{path}"].values():
            assert {"400", "401", "403", "404", "429", "503"} <= set(method["responses"]), path
