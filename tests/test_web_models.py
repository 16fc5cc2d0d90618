"""Routes of models and providers: who may do what, what is answered, what is never told."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from web_world import World, serving

from chatcluster.models import ModelOptions
from chatcluster.secrets import new_key

SECRET = "sk-0123456789abcdef"
PROVIDER = {"name": "cloud", "base_url": "https://cloud.example/v1", "key": SECRET}
MODEL = {"name": "vendor/large", "provider": "cloud", "provider_model": "large-1"}


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with serving(World(encryption_keys=new_key(), llm_model="of-settings")) as world:
        yield world


async def test_an_administrator_adds_changes_and_removes_what_users_then_see(world: World) -> None:
    async with world.client(await world.token(admin=True)) as admin, world.client(await world.token("bob")) as bob:
        assert (await bob.get("/api/v1/models")).json() == {
            "models": [{"name": "of-settings", "is_default": True, "context_tokens": None}]
        }
        added = await admin.post("/api/v1/admin/providers", json=PROVIDER)
        assert added.status_code == 201
        assert (added.json()["has_key"], added.json()["key_hint"]) == (True, "cdef")
        assert (await admin.post("/api/v1/admin/models", json=MODEL)).status_code == 201
        assert [model["name"] for model in (await bob.get("/api/v1/models")).json()["models"]] == ["vendor/large"]
        changed = await admin.patch(
            "/api/v1/admin/model", params={"name": "vendor/large"}, json={"enabled": False, "prices": {"input": 3}}
        )
        assert (changed.json()["enabled"], changed.json()["prices"]["input"]) == (False, 3)
        assert (await bob.get("/api/v1/models")).json() == {"models": []}
        assert (await admin.delete("/api/v1/admin/providers/cloud")).json()["error"]["code"] == "provider_in_use"
        assert (await admin.delete("/api/v1/admin/model", params={"name": "vendor/large"})).status_code == 204
        assert (await admin.delete("/api/v1/admin/providers/cloud")).status_code == 204


async def test_a_key_is_in_no_answer(world: World) -> None:
    async with world.client(await world.token(admin=True)) as admin:
        answers = [
            await admin.post("/api/v1/admin/providers", json=PROVIDER),
            await admin.post("/api/v1/admin/providers", json=PROVIDER),
            await admin.patch("/api/v1/admin/providers/cloud", json={"key": SECRET + "\n" + SECRET}),
            await admin.patch("/api/v1/admin/providers/cloud", json={"enabled": False}),
            await admin.get("/api/v1/admin/providers"),
        ]
    assert [answer.status_code for answer in answers] == [201, 409, 400, 200, 200]
    assert not any(SECRET in answer.text for answer in answers)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/admin/providers"),
        ("POST", "/admin/providers"),
        ("PATCH", "/admin/providers/cloud"),
        ("DELETE", "/admin/providers/cloud"),
        ("GET", "/admin/models"),
        ("POST", "/admin/models"),
        ("PATCH", "/admin/model?name=a"),
        ("DELETE", "/admin/model?name=a"),
    ],
)
async def test_only_administrators_configure_models(world: World, method: str, path: str) -> None:
    body: dict[str, Any] = {"json": {}} if method in ("POST", "PATCH") else {}
    async with world.client(await world.token("bob")) as bob, world.client(None) as nobody:
        assert (await bob.request(method, f"/api/v1{path}", **body)).status_code == 403
        assert (await nobody.request(method, f"/api/v1{path}", **body)).status_code == 401


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/admin/providers", {**PROVIDER, "kind": "telepathy"}),
        ("/admin/providers", {**PROVIDER, "base_url": "nowhere"}),
        ("/admin/providers", {**PROVIDER, "name": "A B"}),
        ("/admin/providers", {**PROVIDER, "surplus": 1}),
        ("/admin/providers", {"name": "cloud"}),
        ("/admin/providers", {**PROVIDER, "options": {"surplus": 1}}),
        ("/admin/models", {**MODEL, "context_tokens": 0}),
        ("/admin/models", {**MODEL, "compaction_percent": 99}),
        ("/admin/models", {**MODEL, "prices": {"input": -1}}),
        ("/admin/models", {**MODEL, "prices": {"input": 0.5}}),
        ("/admin/models", {**MODEL, "options": {"temperature": "hot"}}),
        ("/admin/models", {**MODEL, "options": {"web_search": True}}),
        ("/admin/models", {**MODEL, "fallbacks": ["vendor/large"]}),
        ("/admin/models", {**MODEL, "continuation": "magic"}),
        ("/admin/models", {**MODEL, "name": "a//b"}),
        ("/admin/models", {**MODEL, "name": "nul\0"}),
    ],
)
async def test_what_cannot_work_is_refused_and_nothing_is_kept(world: World, path: str, body: Any) -> None:
    async with world.client(await world.token(admin=True)) as admin:
        refused = await admin.post(f"/api/v1{path}", json=body)
        assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_request")
    assert not world.database.model_tables.providers
    assert not world.database.model_tables.models


@pytest.mark.parametrize(
    ("kind", "able"), [("openai", "prefix"), ("openai-responses", "background"), ("anthropic", "none")]
)
async def test_a_takeover_does_what_the_providers_wire_can(world: World, kind: str, able: str) -> None:
    """Else every takeover would ask anew, and nobody would know why."""
    async with world.client(await world.token(admin=True)) as admin:
        await admin.post("/api/v1/admin/providers", json={**PROVIDER, "kind": kind})
        for wanted in ("none", "prefix", "background"):
            body = {**MODEL, "name": wanted, "continuation": wanted}
            is_able = wanted in ("none", able)
            added = await admin.post("/api/v1/admin/models", json=body)
            assert added.status_code == (201 if is_able else 400), added.text
            changed = await admin.patch("/api/v1/admin/model", params={"name": "none"}, json={"continuation": wanted})
            assert changed.status_code == (200 if is_able else 400)
        renamed = await admin.patch("/api/v1/admin/model", params={"name": "none"}, json={"context_tokens": 9000})
        assert renamed.status_code == 200
        reasons = {"options": {"temperature": 0.5, "reasoning_effort": "high"}}
        changed = await admin.patch("/api/v1/admin/model", params={"name": "none"}, json=reasons)
        assert changed.status_code == (200 if kind == "openai" else 400), "two that its servers refuse together"


@pytest.mark.parametrize("field", ["tools", "tool_choice", "messages", "input", "system"])
async def test_an_option_that_would_be_passed_over_is_refused_and_what_has_one_can_be_turned_off(
    world: World, field: str
) -> None:
    """Nobody would know why the model does not search the web."""
    extra: dict[str, Any] = {"options": {"extra_body": {field: []}}}
    async with world.client(await world.token(admin=True)) as admin:
        await admin.post("/api/v1/admin/providers", json=PROVIDER)
        refused = await admin.post("/api/v1/admin/models", json=MODEL | extra)
        assert (refused.status_code, field in refused.text, "web_search" in refused.text) == (400, True, True)
        await admin.post("/api/v1/admin/models", json=MODEL)
        where = "/api/v1/admin/model?name=vendor/large"
        assert (await admin.patch(where, json=extra)).status_code == 400
        models = world.database.model_tables.models
        options = ModelOptions(extra_body={field: []})
        models[MODEL["name"]] = msgspec.structs.replace(models[MODEL["name"]], options=options)
        assert (await admin.patch(where, json={"enabled": False})).status_code == 200


async def test_a_chat_and_a_message_name_a_model_that_there_is(world: World) -> None:
    async with world.client(await world.token(admin=True)) as admin:
        assert (await admin.post("/api/v1/chats", json={"content": "a", "model": "any"})).status_code == 201
        await admin.post("/api/v1/admin/providers", json=PROVIDER)
        await admin.post("/api/v1/admin/models", json=MODEL)
        before = world.written()
        chat_id = (await admin.get("/api/v1/chats")).json()["chats"][0]["id"]
        for path in ("/chats", f"/chats/{chat_id}/messages"):
            refused = await admin.post(f"/api/v1{path}", json={"content": "a", "model": "any"})
            assert (refused.status_code, refused.json()["error"]["code"]) == (400, "unknown_model")
        for path, body in ((f"/chats/{chat_id}", {}), (f"/chats/{chat_id}/queue/1", {"content": "a"})):
            refused = await admin.patch(f"/api/v1{path}", json={**body, "model": "none"})
            assert (refused.status_code, refused.json()["error"]["code"]) == (400, "unknown_model")
        assert world.written() == before
        for path in ("/chats", f"/chats/{chat_id}/messages"):
            taken = await admin.post(f"/api/v1{path}", json={"content": "a", "model": " vendor/large "})
            assert taken.status_code in (201, 202), "blanks around a name are no part of it"
            refused = await admin.post(f"/api/v1{path}", json={"content": "a", "model": ""})
            assert (refused.status_code, refused.json()["error"]["code"]) == (400, "invalid_request")


async def test_without_encryption_keys_a_key_is_not_taken() -> None:
    async with serving(World()) as world, world.client(await world.token(admin=True)) as admin:
        refused = await admin.post("/api/v1/admin/providers", json=PROVIDER)
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "encryption_keys_missing")
        assert not world.database.model_tables.providers
        free = await admin.post("/api/v1/admin/providers", json={**PROVIDER, "key": None})
        assert free.status_code == 201
