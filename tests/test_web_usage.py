"""What users and administrators are told of what models cost, from the socket to the (memory) store."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import pytest
from chat_states import assistant
from contract_worlds import fence_of
from web_world import World, serving

from chatcluster.chat import FinishTurn
from chatcluster.ports import Replica
from chatcluster.usage import Spent, SpentOutcome

BILL = {
    "attempts": 1,
    "input_tokens": 10,
    "cached_input_tokens": 0,
    "cache_write_tokens": 0,
    "output_tokens": 5,
    "reasoning_tokens": 0,
    "cost_micros": 7,
    "unpriced": 0,
    "searches": 0,
}


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with serving(World()) as world:
        yield world


async def answered(world: World, token: str) -> str:
    """The ID of a new chat that was answered, at a price."""
    async with world.client(token) as client:
        chat_id = str((await client.post("/api/v1/chats", json={"content": "hello"})).json()["id"])
    worker_id = UUID(int=1)
    await world.registry.register(Replica(worker_id, "a", "127.0.0.1:1", "1", slots=4))
    (claimed,) = await world.store.claim(worker_id, free_slots=1, batch=1)
    chat = claimed.chat
    spent = Spent(
        chat.history_version,
        chat.attempt,
        chat.epoch,
        SpentOutcome.COMMITTED,
        "large",
        input_tokens=10,
        output_tokens=5,
        cost_micros=7,
    )
    await world.store.commit(fence_of(chat), FinishTurn((assistant("hi"),)), spent=(spent,))
    return chat_id


async def got(world: World, token: str, path: str, status: int = 200) -> Any:
    async with world.client(token) as client:
        answer = await client.get("/api/v1" + path)
    assert answer.status_code == status, answer.text
    return answer.json()


async def test_a_chat_tells_what_it_cost(world: World) -> None:
    token = await world.token()
    chat_id = await answered(world, token)
    assert (await got(world, token, f"/chats/{chat_id}"))["usage"] == BILL


async def test_a_user_is_told_of_what_is_the_users_own(world: World) -> None:
    ada, bob = await world.token("ada"), await world.token("bob")
    chat_id = await answered(world, ada)
    usage = await got(world, ada, "/usage?group_by=chat&from=2026-01-01")
    assert usage["total"] == BILL
    assert usage["groups"] == [BILL | {"key": chat_id, "name": "hello"}]
    assert (usage["group_by"], usage["has_more"]) == ("chat", False)
    assert (await got(world, bob, "/usage?from=2026-01-01"))["total"]["attempts"] == 0


async def test_administrators_are_told_of_all_users(world: World) -> None:
    admin = await world.token("root", admin=True)
    await answered(world, await world.token("ada"))
    usage = await got(world, admin, "/admin/usage?from=2026-01-01")
    (group,) = usage["groups"]
    assert (group["name"], group["attempts"], usage["total"]) == ("ada", 1, BILL)
    assert (await got(world, admin, f"/admin/usage?from=2026-01-01&user={UUID(int=9)}"))["total"]["attempts"] == 0
    await got(world, await world.token("bob"), "/admin/usage", 403)


async def test_days_are_whole_and_moments_are_moments(world: World) -> None:
    token = await world.token()
    await answered(world, token)
    today = world.database.now().date().isoformat()
    usage = await got(world, token, f"/usage?from={today}&to={today}")
    assert usage["from"] == f"{today}T00:00:00Z"
    assert usage["to"] > f"{today}T23:59:59Z"
    assert usage["total"] == BILL
    assert [group["key"] for group in usage["groups"]] == [today]
    early = await got(world, token, "/usage?from=2025-01-01T00:00:00%2B02:00&to=2025-01-02T00:00:00Z")
    assert (early["from"], early["total"]["attempts"]) == ("2024-12-31T22:00:00Z", 0)


@pytest.mark.parametrize(
    "query",
    [
        "from=yesterday",
        "to=2026-13-01",
        "from=2026-02-01&to=2026-01-01",
        "from=2026-W01-01",
        "to=0001-01-01",
        "to=9999-12-31",
        "from=2026-01-01T99:00:00Z",
        "group_by=user",
        "group_by=",
        "form=2026-01-01",
        "from=%00",
    ],
)
async def test_a_query_that_means_nothing_is_refused(world: World, query: str) -> None:
    refusal = await got(world, await world.token(), f"/usage?{query}", 400)
    assert refusal["error"]["code"] == "invalid_request"


async def test_administrators_name_users_by_their_ids(world: World) -> None:
    await got(world, await world.token("root", admin=True), "/admin/usage?user=ada", 400)
