"""Limits as users meet them, and as administrators set them: what is over the limit is refused, and writes nothing."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID

import httpx
import pytest
import trio
import trio.testing
from web_world import World, serving

from chatcluster.errors import StoreUnavailable
from chatcluster.memory.tables import UsageKey, UsageRow
from chatcluster.ports import Account
from chatcluster.ports.limits import Limit, Period, Subject
from chatcluster.spending_limits import ADD_UP_SECONDS, SpendingLimits
from chatcluster.usage import Spent, SpentOutcome

LIMIT = {"subject": "default", "period": "day", "cost_micros": 10}


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with serving(World()) as world, trio.open_nursery() as nursery:
        nursery.start_soon(world.spending.run, world.pubsub)
        await trio.testing.wait_all_tasks_blocked(0.01)
        yield world
        nursery.cancel_scope.cancel()


async def send(world: World, token: str, method: str, path: str, body: Any = None) -> httpx.Response:
    async with world.client(token) as client:
        return await client.request(method, f"/api/v1{path}", json=body)


async def limited(world: World, **limit: Any) -> None:
    answer = await send(world, await world.token("root", admin=True), "PUT", "/admin/limits", LIMIT | limit)
    assert answer.status_code == 200, answer.text
    await trio.testing.wait_all_tasks_blocked(0.05)  # every replica is told


def spend(world: World, user: str, micros: int) -> None:
    account = next(account for account in world.database.accounts.values() if account.name == user)
    key = UsageKey(UUID(int=7), 1, 1 + len(world.database.kept.usage))
    spent = Spent(1, 1, 1, SpentOutcome.COMMITTED, cost_micros=micros)
    world.database.kept.usage[key] = UsageRow(account.user_id, world.database.now(), spent)


async def test_create_send_and_edit_are_refused_and_write_nothing(world: World) -> None:
    ada = await world.token("ada")
    chat = (await send(world, ada, "POST", "/chats", {"content": "hello"})).json()
    (asked,) = (await send(world, ada, "GET", f"/chats/{chat['id']}/messages")).json()["messages"]
    await limited(world)
    spend(world, "ada", 10)
    before = world.written()
    for method, path, body in (
        ("POST", "/chats", {"content": "more"}),
        ("POST", f"/chats/{chat['id']}/messages", {"content": "more"}),
        ("POST", f"/chats/{chat['id']}/messages", {"content": "more", "busy": "interrupt"}),
        ("PATCH", f"/chats/{chat['id']}/messages/{asked['id']}", {"content": "more"}),
    ):
        refusal = await send(world, ada, method, path, body)
        assert refusal.status_code == 409
        error = refusal.json()["error"]
        assert (error["code"], error["limit"], error["spent"], error["kind"]) == (
            "usage_limit_exceeded",
            10,
            10,
            "cost_micros",
        )
        assert error["resets_at"].endswith("T00:00:00Z")
    assert world.written() == before


async def test_what_is_no_new_message_is_not_refused(world: World) -> None:
    ada = await world.token("ada")
    chat = (await send(world, ada, "POST", "/chats", {"content": "hello"})).json()
    queued = (await send(world, ada, "POST", f"/chats/{chat['id']}/messages", {"content": "next"})).json()["queued"]
    await limited(world)
    spend(world, "ada", 10)
    for method, path, body in (
        ("POST", f"/chats/{chat['id']}/interrupt", None),
        ("POST", f"/chats/{chat['id']}/queue/{queued['id']}/promote", None),
        ("PATCH", f"/chats/{chat['id']}", {"title": "Other"}),
        ("POST", "/chats", {}),
    ):
        assert (await send(world, ada, method, path, body)).is_success, path


async def test_below_the_limit_and_for_others_there_is_room(world: World) -> None:
    ada, bob = await world.token("ada"), await world.token("bob")
    await limited(world)
    spend(world, "ada", 9)
    assert (await send(world, ada, "POST", "/chats", {"content": "hello"})).status_code == 201
    spend(world, "ada", 1)
    assert (await send(world, bob, "POST", "/chats", {"content": "hello"})).status_code == 201
    assert (await send(world, ada, "POST", "/chats", {"content": "hello"})).status_code == 409


async def test_a_look_up_that_fails_lets_pass(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    ada = await world.token("ada")
    await limited(world)
    spend(world, "ada", 10)

    async def fail(_: UUID) -> None:
        raise StoreUnavailable("gone")

    monkeypatch.setattr(world.limit_rows, "allowances", fail)
    assert (await send(world, ada, "POST", "/chats", {"content": "hello"})).status_code == 201


async def test_where_there_are_limits_what_is_spent_is_added_up_now_and_then(
    autojump_clock: trio.testing.MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And what cannot be, is the next time."""
    world = World()
    tries: list[float] = []
    answers: list[bool | StoreUnavailable] = [StoreUnavailable("away"), True, True, False]

    async def add_up() -> bool:
        tries.append(trio.current_time())
        answer = answers.pop(0) if answers else False
        if isinstance(answer, StoreUnavailable):
            raise answer
        return answer

    monkeypatch.setattr(world.limit_rows, "add_up", add_up)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.spending.run, world.pubsub)
        await trio.sleep(2.5 * ADD_UP_SECONDS)
        assert not tries, "without a limit"
        await world.limit_rows.put(Limit(Subject.DEFAULT, "", Period.DAY, 5), Account(UUID(int=1), "root", admin=True))
        await trio.sleep(ADD_UP_SECONDS)
        assert len(tries) == 1
        await trio.sleep(ADD_UP_SECONDS)
        assert len(tries) == 4, "as long as there is more"
        nursery.cancel_scope.cancel()


async def test_without_a_limit_nothing_is_looked_up(monkeypatch: pytest.MonkeyPatch) -> None:
    world = World()

    async def fail(_: UUID) -> None:
        raise AssertionError("asked")

    monkeypatch.setattr(world.limit_rows, "allowances", fail)
    assert await SpendingLimits(world.limit_rows).excess(UUID(int=1)) is None


async def test_administrators_set_list_and_remove_limits_and_groups(world: World) -> None:
    root = await world.token("root", admin=True)
    await world.token("ada")
    await limited(world, tokens=5)
    limits = (await send(world, root, "GET", "/admin/limits")).json()["limits"]
    assert limits == [LIMIT | {"name": "", "tokens": 5}]
    assert (await send(world, root, "DELETE", "/admin/limits?subject=default&period=day")).is_success
    assert (await send(world, root, "DELETE", "/admin/limits?subject=default&period=day")).status_code == 404
    member = {"group": "lab", "user": "ada"}
    assert (await send(world, root, "PUT", "/admin/groups", member)).json() == member
    assert (await send(world, root, "GET", "/admin/groups")).json() == {"members": [member]}
    assert (await send(world, root, "DELETE", "/admin/groups?group=lab&user=ada")).is_success
    assert (await send(world, root, "GET", "/admin/groups")).json() == {"members": []}
    actions = [entry.action for entry in world.database.kept.audit]
    assert actions == ["limit.set", "limit.remove", "group.add", "group.remove"]


@pytest.mark.parametrize(
    ("method", "path", "body", "status"),
    [
        ("PUT", "/admin/limits", LIMIT | {"cost_micros": -1}, 400),
        ("PUT", "/admin/limits", LIMIT | {"name": "ada"}, 400),
        ("PUT", "/admin/limits", LIMIT | {"subject": "user"}, 400),
        ("PUT", "/admin/limits", LIMIT | {"subject": "user", "name": "nobody"}, 404),
        ("PUT", "/admin/limits", LIMIT | {"subject": "everybody"}, 400),
        ("PUT", "/admin/limits", LIMIT | {"period": "year"}, 400),
        ("PUT", "/admin/limits", LIMIT | {"euros": 1}, 400),
        ("PUT", "/admin/limits", LIMIT | {"tokens": 2**60}, 400),
        ("DELETE", "/admin/limits?subject=all&period=day", None, 400),
        ("DELETE", "/admin/limits?subject=default&period=year", None, 400),
        ("PUT", "/admin/groups", {"group": "", "user": "ada"}, 400),
        ("PUT", "/admin/groups", {"group": "lab", "user": "nobody"}, 404),
        ("DELETE", "/admin/groups?group=lab&user=nobody", None, 404),
    ],
)
async def test_what_makes_no_sense_is_refused(world: World, method: str, path: str, body: Any, status: int) -> None:
    answer = await send(world, await world.token("root", admin=True), method, path, body)
    assert answer.status_code == status, answer.text
    assert (await send(world, await world.token("bob"), method, path, body)).status_code == 403
