"""What administrators see of the whole cluster, and what they do, over HTTP."""

from __future__ import annotations

from uuid import UUID, uuid4

import pytest
from test_web_api import claim, create
from web_world import World, client_of, error_code, unknown_chat

from chatcluster.ports import Replica

LISTS = ("/admin/takeovers", "/admin/chats", "/admin/users", "/admin/audit", "/admin/replicas", "/admin/tokens")


async def test_each_is_for_administrators() -> None:
    """P9"""
    world = World()
    async with client_of(world) as ada, world.client(None) as nobody:
        worker = await registered(world)
        calls = [("GET", url) for url in LISTS] + [
            ("POST", f"/admin/replicas/{worker}/drain"),
            ("POST", "/admin/tokens"),
        ]
        for method, url in calls:
            refused = await ada.request(method, f"/api/v1{url}", json={"user": "eve", "admin": True})
            assert (refused.status_code, error_code(refused)) == (403, "forbidden"), url
            refused = await nobody.request(method, f"/api/v1{url}", json={})
            assert (refused.status_code, error_code(refused)) == (401, "invalid_token"), url
        assert not world.database.replicas[worker].drain_requested


async def test_a_takeover_is_listed_with_whom_it_went_from_and_to() -> None:
    world = World()
    async with client_of(world, admin=True) as admin:
        chat = await create(admin)
        first = (await claim(world)).chat.worker_id
        assert first is not None
        await world.registry.bury(first, None)
        second = (await claim(world)).chat.worker_id
        listed = (await admin.get("/api/v1/admin/takeovers")).json()
        assert listed["has_more"] is False
        (one,) = listed["takeovers"]
        assert (one["chat_id"], one["cause"], one["from_worker"], one["to_worker"]) == (
            chat["id"], "takeover", str(first), str(second),
        )  # fmt: skip
        assert one["gap_ms"] >= 0
        shown = (await admin.get(f"/api/v1/chats/{chat['id']}")).json()
        assert (shown["status"], shown["cause"]) == ("running", "takeover")
        for query, count in (
            (f"chat={unknown_chat()}", 0),
            (f"worker={first}", 1),
            ("cause=drain", 0),
            ("before=1", 0),
        ):
            answer = await admin.get(f"/api/v1/admin/takeovers?{query}")
            assert len(answer.json()["takeovers"]) == count, query


async def test_chats_of_all_users_and_the_users_are_listed() -> None:
    world = World()
    async with client_of(world, "root", admin=True) as admin, world.client(await world.token("ada")) as ada:
        mine, hers = await create(admin, title="mine"), await create(ada, title="hers")
        listed = (await admin.get("/api/v1/admin/chats")).json()
        assert [(one["chat"]["id"], one["user"]) for one in listed["chats"]] == [
            (hers["id"], "ada"),
            (mine["id"], "root"),
        ]
        page = (await admin.get("/api/v1/admin/chats?limit=1")).json()
        assert (len(page["chats"]), page["has_more"]) == (1, True)
        for query, titles in (("user=ada", ["hers"]), ("status=pending&q=MI", ["mine"]), ("archived=true", [])):
            found = (await admin.get(f"/api/v1/admin/chats?{query}")).json()["chats"]
            assert [one["chat"]["title"] for one in found] == titles, query
        users = (await admin.get("/api/v1/admin/users")).json()["users"]
        assert [(user["name"], user["admin"], user["chats"], user["tokens"]) for user in users] == [
            ("ada", False, 1, 1),
            ("root", True, 1, 1),
        ]


async def test_a_drain_is_asked_for_and_everything_that_is_done_stands_in_the_audit() -> None:
    world = World()
    async with client_of(world, "root", admin=True) as admin:
        worker = await registered(world)
        asked = await admin.post(f"/api/v1/admin/replicas/{worker}/drain")
        assert (asked.status_code, asked.json()["worker_id"]) == (202, str(worker))
        assert (await world.registry.renew(worker, draining=False)).drain
        made = (await admin.post("/api/v1/admin/tokens", json={"user": "bob", "name": "laptop"})).json()
        assert (await admin.delete(f"/api/v1/admin/tokens/{made['details']['id']}")).status_code == 204
        for unknown in (str(uuid4()), "x", "%00"):
            missing = await admin.post(f"/api/v1/admin/replicas/{unknown}/drain")
            assert (missing.status_code, error_code(missing)) == (404, "not_found")
        entries = (await admin.get("/api/v1/admin/audit")).json()["entries"]
        assert [(entry["user"], entry["action"]) for entry in entries] == [
            ("root", "token.revoke"),
            ("root", "token.create"),
            ("root", "replica.drain"),
        ]
        assert made["token"] not in str(entries)


@pytest.mark.parametrize(
    "query",
    [
        "takeovers?chat=x", "takeovers?worker=1", "takeovers?cause=death", "takeovers?limit=0", "takeovers?before=0",
        "takeovers?before=x", "chats?status=busy", "chats?worker=x", "chats?limit=201", "chats?archived=maybe",
        "chats?x=1", "users?after=%00", "audit?before=1e3", "audit?limit=x",
    ],
)  # fmt: skip
async def test_what_is_no_choice_is_refused(query: str) -> None:
    async with client_of(World(), admin=True) as admin:
        answer = await admin.get(f"/api/v1/admin/{query}")
        assert (answer.status_code, error_code(answer)) == (400, "invalid_request")


async def registered(world: World) -> UUID:
    replica = Replica(uuid4(), "one", "one:1", "1", slots=4)
    await world.registry.register(replica)
    return replica.worker_id
