"""Templates and workspaces over HTTP: what administrators write, what users see, ask for and are refused."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest
from web_world import World, error_code, serving
from workspace_rows import a_host

from chatcluster.agents import agent_of
from chatcluster.memory.tables import Kinship
from chatcluster.memory.workspace_hosts import MemoryWorkspaceHosts
from chatcluster.memory.workspaces import MemoryWorkspaces
from chatcluster.ports.workspaces import HostLease, LogEntry, Report, WorkspaceState
from chatcluster.workspace_names import drawn_name

TEMPLATE = {
    "display_name": "Python",
    "description": "for tests",
    "startup": "true",
    "parameters": [{"name": "branch", "default": "main", "choices": ["main", "next"]}],
    "limits": {"memory_bytes_max": 64 << 20},
}


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with serving(World(workspaces_per_user=2)) as world:
        yield world


async def send(world: World, token: str, method: str, path: str, body: Any = None) -> httpx.Response:
    async with world.client(token) as client:
        return await client.request(method, f"/api/v1{path}", json=body)


async def host_of(world: World) -> HostLease:
    lease = HostLease(uuid4(), uuid4())
    await MemoryWorkspaceHosts(world.database).register(a_host(lease))
    return lease


async def templated(world: World, name: str = "python", **settings: Any) -> httpx.Response:
    root = await world.token("root", admin=True)
    return await send(world, root, "PUT", f"/admin/templates/{name}", TEMPLATE | settings)


async def created(world: World, token: str, **fields: Any) -> httpx.Response:
    chat = (await send(world, token, "POST", "/chats", {})).json()
    return await send(world, token, "POST", "/workspaces", {"chat_id": chat["id"], "template": "python"} | fields)


# --- templates --------------------------------------------------------------------------------


async def test_an_administrator_writes_a_template_and_users_see_what_they_may_choose(world: World) -> None:
    put = await templated(world)
    assert put.status_code == 200, put.text
    assert (put.json()["revision"], put.json()["limits"]["memory_bytes_max"]) == (1, 64 << 20)
    ada = await world.token("ada")
    (seen,) = (await send(world, ada, "GET", "/templates")).json()["templates"]
    assert (seen["name"], seen["parameters"][0]["choices"]) == ("python", ["main", "next"])
    assert "startup" not in seen
    assert (await send(world, ada, "GET", f"/templates/{seen['id']}")).json() == seen


async def test_what_is_not_offered_is_seen_by_administrators_alone(world: World) -> None:
    await templated(world, deprecated=True)
    ada, root = await world.token("ada"), await world.token("root", admin=True)
    assert (await send(world, ada, "GET", "/templates")).json() == {"templates": []}
    assert error_code(await send(world, ada, "GET", "/templates/python")) == "template_not_found"
    assert error_code(await created(world, ada)) == "template_not_found"
    assert len((await send(world, root, "GET", "/admin/templates")).json()["templates"]) == 1
    assert (await send(world, root, "GET", "/admin/templates/python")).json()["startup"] == "true"


async def test_a_template_is_changed_as_it_is_known_and_what_is_done_is_in_the_audit(world: World) -> None:
    root = await world.token("root", admin=True)
    await templated(world)
    none = await send(world, root, "PUT", f"/admin/templates/python?revision={1 << 63}", TEMPLATE)
    assert (none.status_code, error_code(none)) == (400, "invalid_request")
    stale = await send(world, root, "PUT", "/admin/templates/python?revision=2", TEMPLATE)
    assert error_code(stale) == "template_changed"
    assert (await send(world, root, "PUT", "/admin/templates/python?revision=1", TEMPLATE)).json()["revision"] == 2
    assert (await send(world, root, "DELETE", "/admin/templates/python")).status_code == 204
    assert error_code(await send(world, root, "DELETE", "/admin/templates/python")) == "template_not_found"
    entries = (await send(world, root, "GET", "/admin/audit")).json()["entries"]
    assert [entry["action"] for entry in entries if entry["target"] == "python"] == [
        "template.delete",
        "template.put",
        "template.put",
    ]


@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("Python", {}),
        ("python", {"startup": "x" * (65 << 10)}),
        ("python", {"network": ["http://example.org/"]}),
        ("python", {"limits": {"memory_bytes_max": 1}}),
        ("python", {"surprise": 1}),
        ("python", {"parameters": [{"name": "x", "description": "x" * 301}]}),
        ("python", {"parameters": [{"name": "x", "type": "integer", "default": "1"}]}),
    ],
)
async def test_a_template_that_is_none_is_refused_and_nothing_is_written(
    world: World, name: str, settings: Any
) -> None:
    answer = await templated(world, name, **settings)
    assert (answer.status_code, error_code(answer)) == (400, "invalid_request")
    assert world.database.kept.workspaces.templates == {}


async def test_routes_for_administrators_are_for_them(world: World) -> None:
    ada = await world.token("ada")
    for method, path in (
        ("GET", "/admin/templates"),
        ("PUT", "/admin/templates/python"),
        ("DELETE", "/admin/templates/python"),
        ("GET", "/admin/workspace-hosts"),
        ("GET", "/admin/workspaces"),
    ):
        assert error_code(await send(world, ada, method, path, {} if method == "PUT" else None)) == "forbidden"


# --- workspaces -------------------------------------------------------------------------------


async def test_a_user_makes_sees_stops_starts_and_deletes_a_workspace(world: World) -> None:
    await templated(world)
    lease, rows, hosts = await host_of(world), MemoryWorkspaces(world.database), MemoryWorkspaceHosts(world.database)
    ada = await world.token("ada")
    made = (await created(world, ada, parameters={"branch": "next"})).json()
    workspace = made["workspace"]
    assert (made["changed"], workspace["state"], workspace["parameters"]) == (True, "building", {"branch": "next"})
    assert workspace["name"].startswith("python-")
    workspace_id = UUID(workspace["id"])
    await hosts.work(lease, places=1)
    for state in (WorkspaceState.STARTING, WorkspaceState.RUNNING):
        await hosts.report(lease, Report(workspace_id, 1, state))
    path = f"/workspaces/{workspace_id}"
    assert (await send(world, ada, "GET", path)).json()["state"] == "running"
    stopped = await send(world, ada, "POST", f"{path}/stop")
    assert (stopped.status_code, stopped.json()["workspace"]["state"]) == (202, "stopping")
    assert error_code(await send(world, ada, "POST", f"{path}/start")) == "workspace_not_running"
    await hosts.report(lease, Report(workspace_id, 1, WorkspaceState.STOPPED))
    assert (await send(world, ada, "POST", f"{path}/start")).json()["changed"]
    await hosts.append_log(workspace_id, [LogEntry("build", "one"), LogEntry("build", "two")])
    lines = (await send(world, ada, "GET", f"{path}/logs")).json()["lines"]
    rest = (await send(world, ada, "GET", f"{path}/logs?after={lines[0]['number']}")).json()["lines"]
    assert ([line["text"] for line in lines], rest) == (["one", "two"], lines[1:])
    assert (await send(world, ada, "DELETE", path)).status_code == 204
    assert (await send(world, ada, "GET", "/workspaces")).json() == {"workspaces": []}
    assert len(await rows.workspaces()) == 0


async def test_an_agent_gets_that_of_the_chat_at_the_top_of_its_family(world: World) -> None:
    await templated(world)
    await host_of(world)
    ada = await world.token("ada")
    first = (await created(world, ada)).json()["workspace"]
    chat = await world.store.get(UUID(first["chat_id"]))
    agent = (await world.store.create(agent_of(chat, "s", "Count the birds", None))).chat
    world.database.kept.families.kin[agent.id] = Kinship(chat.id, chat.id, 1)
    body = {"chat_id": str(agent.id), "template": "python"}
    answer = (await send(world, ada, "POST", "/workspaces", body)).json()
    assert (answer["changed"], answer["workspace"]["id"]) == (False, first["id"])
    bob = await world.token("bob")
    assert error_code(await send(world, bob, "POST", "/workspaces", body)) == "chat_not_found"


async def test_a_chat_gets_one_and_a_user_no_more_than_allowed(world: World) -> None:
    await templated(world)
    await host_of(world)
    ada = await world.token("ada")
    first = (await created(world, ada)).json()["workspace"]
    again = {"chat_id": first["chat_id"], "template": "python"}
    answer = (await send(world, ada, "POST", "/workspaces", again)).json()
    assert (answer["changed"], answer["workspace"]["id"]) == (False, first["id"])
    await created(world, ada)
    assert error_code(await created(world, ada)) == "too_many_workspaces"


async def test_without_a_host_it_is_said_at_once_and_why(world: World) -> None:
    await templated(world)
    ada, root = await world.token("ada"), await world.token("root", admin=True)
    assert error_code(await created(world, ada)) == "no_workspace_host"
    await MemoryWorkspaceHosts(world.database).register(
        a_host(HostLease(uuid4(), uuid4()), problem="bubblewrap is missing")
    )
    refused = await created(world, ada)
    assert "bubblewrap is missing" in refused.json()["error"]["message"]
    (host,) = (await send(world, root, "GET", "/admin/workspace-hosts")).json()["hosts"]
    assert (host["state"], host["problem"]) == ("unable", "bubblewrap is missing")
    assert "sealed" not in host


async def test_what_is_somebody_elses_or_no_id_is_not_found(world: World) -> None:
    await templated(world)
    await host_of(world)
    ada, bob = await world.token("ada"), await world.token("bob")
    workspace = (await created(world, ada)).json()["workspace"]
    for token, workspace_id in ((bob, workspace["id"]), (ada, "nonsense"), (ada, str(uuid4()))):
        for method, rest in (("GET", ""), ("DELETE", ""), ("POST", "/start"), ("POST", "/stop"), ("GET", "/logs")):
            answer = await send(world, token, method, f"/workspaces/{workspace_id}{rest}")
            assert (answer.status_code, error_code(answer)) == (404, "workspace_not_found")
    stolen = {"chat_id": workspace["chat_id"], "template": "python"}
    assert error_code(await send(world, bob, "POST", "/workspaces", stolen)) == "chat_not_found"
    root = await world.token("root", admin=True)
    assert len((await send(world, root, "GET", "/admin/workspaces")).json()["workspaces"]) == 1


@pytest.mark.parametrize(
    "body", [{}, {"parameters": {"branch": "none of them"}}, {"parameters": {"other": 1}}, {"name": "\u202e"}]
)
async def test_a_workspace_that_is_asked_for_wrongly_is_refused(world: World, body: dict[str, Any]) -> None:
    await templated(world)
    await host_of(world)
    ada = await world.token("ada")
    answer = await created(world, ada, **body) if body else await send(world, ada, "POST", "/workspaces", body)
    assert (answer.status_code, error_code(answer)) == (400, "invalid_request")
    assert world.database.kept.workspaces.rows == {}


def test_a_name_that_nobody_gave_is_the_template_s_and_four_digits() -> None:
    assert drawn_name("python").startswith("python-")
    assert len(drawn_name("x" * 80)) == 32
    assert drawn_name("Ä!").startswith("workspace-")
