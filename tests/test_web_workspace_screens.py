"""The screen of a chat's workspace, over HTTP: a picture as it is now, or why there is none."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx
import pytest
from loops.workspace_fakes import PICTURE
from test_web_workspaces import created, host_of, send, templated
from web_world import World, error_code, serving

from chatcluster.memory.workspace_hosts import MemoryWorkspaceHosts
from chatcluster.memory.workspaces import MemoryWorkspaces
from chatcluster.ports.workspaces import Report, WorkspaceState


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with serving(World()) as world:
        yield world


async def running(world: World, *, desktop: bool) -> str:
    """A chat of Ada's whose workspace runs."""
    await templated(world, desktop=desktop)
    host = await host_of(world)
    made = (await created(world, await world.token("ada"))).json()["workspace"]
    hosts = MemoryWorkspaceHosts(world.database)
    (row,) = await hosts.work(host, places=1)
    for state in (WorkspaceState.STARTING, WorkspaceState.RUNNING):
        await hosts.report(host, Report(row.id, row.generation, state))
    return str(made["chat_id"])


async def screen(world: World, chat_id: str, user: str = "ada", **headers: str) -> httpx.Response:
    async with world.client(await world.token(user)) as client:
        return await client.get(f"/api/v1/chats/{chat_id}/workspace/screen", headers=headers)


async def test_it_is_a_picture_and_one_that_is_had_is_not_sent_again(world: World) -> None:
    chat_id = await running(world, desktop=True)
    seen = await screen(world, chat_id)
    assert (seen.status_code, seen.headers["content-type"], seen.content) == (200, "image/png", PICTURE)
    assert seen.headers["cache-control"] == "private, no-cache"
    again = await screen(world, chat_id, **{"If-None-Match": seen.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert (await screen(world, chat_id, **{"If-None-Match": '"other"'})).content == PICTURE


async def test_where_there_is_none_it_is_said_why(world: World) -> None:
    ada = await world.token("ada")
    chat = (await send(world, ada, "POST", "/chats", {})).json()
    assert error_code(await screen(world, chat["id"])) == "workspace_not_found"
    without = await screen(world, await running(world, desktop=False))
    assert (without.status_code, error_code(without)) == (409, "no_desktop")


async def test_a_workspace_that_does_not_run_or_answer_shows_none(world: World) -> None:
    chat_id = await running(world, desktop=True)
    world.agent.dead = True
    silent = await screen(world, chat_id)
    assert (silent.status_code, "retry-after" in silent.headers) == (503, True)
    rows = MemoryWorkspaces(world.database)
    await rows.stop((await rows.workspaces())[0].id)
    stopped = await screen(world, chat_id)
    assert (stopped.status_code, error_code(stopped)) == (409, "workspace_not_running")


async def test_p9_it_is_nobody_elses(world: World) -> None:
    chat_id = await running(world, desktop=True)
    refused = await screen(world, chat_id, "bob")
    assert (refused.status_code, error_code(refused)) == (404, "chat_not_found")
    async with world.client("none") as nobody:
        assert (await nobody.get(f"/api/v1/chats/{chat_id}/workspace/screen")).status_code == 401
    assert world.agent.looks == 0


@pytest.mark.parametrize("chat_id", ["x", "00000000-0000-0000-0000-000000000000", "%00"])
async def test_a_chat_that_is_none_has_none(world: World, chat_id: str) -> None:
    assert (await screen(world, chat_id)).status_code == 404
