"""What has changed in a chat's workspace, over HTTP: as it is now, as it was found last, or why nothing can be said."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
from test_web_workspaces import created, host_of, send, templated
from web_world import World, error_code, serving

from chatcluster.memory.workspace_hosts import MemoryWorkspaceHosts
from chatcluster.memory.workspaces import MemoryWorkspaces
from chatcluster.ports.workspaces import HostLease, Report, WorkspaceState
from chatcluster.workspace_wire import DiffAnswer, DiffFile


@pytest.fixture
async def world() -> AsyncIterator[World]:
    async with serving(World()) as world:
        yield world


class Place:
    """A chat of Ada's, with a workspace that runs."""

    def __init__(self, world: World, token: str, made: dict[str, Any], host: HostLease) -> None:
        self.world, self.token, self.host, self.chat_id = world, token, host, made["chat_id"]
        self._made = made

    async def get(self, path: str = "/diff") -> httpx.Response:
        return await send(self.world, self.token, "GET", f"/chats/{self.chat_id}{path}")

    async def is_(self, state: WorkspaceState) -> None:
        rows = MemoryWorkspaces(self.world.database)
        (row,) = await rows.workspaces()
        if state is WorkspaceState.STOPPED:
            await rows.stop(row.id)
        await MemoryWorkspaceHosts(self.world.database).report(self.host, Report(row.id, row.generation, state))


@pytest.fixture
async def place(world: World) -> Place:
    await templated(world)
    host, token = await host_of(world), await world.token("ada")
    made = (await created(world, token)).json()["workspace"]
    place = Place(world, token, made, host)
    await MemoryWorkspaceHosts(world.database).work(host, places=1)
    for state in (WorkspaceState.STARTING, WorkspaceState.RUNNING):
        await place.is_(state)
    world.agent.git_says = DiffAnswer(
        is_repository=True,
        branch="main",
        base="c1",
        files=(DiffFile(path="a.py", status="modified", additions=2, deletions=1),),
        additions=2,
        deletions=1,
        patch="+x\n",
        digest="1",
    )
    return place


async def test_it_is_what_the_workspace_says_now(place: Place) -> None:
    told = (await place.get()).json()
    assert (told["is_live"], told["branch"], told["patch"]) == (True, "main", "+x\n")
    assert told["files"] == [{"path": "a.py", "status": "modified", "old_path": None, "additions": 2, "deletions": 1}]
    assert (await place.get("/diff?base=HEAD")).json()["is_live"]
    assert place.world.agent.bases == ["", "HEAD"]


async def test_of_a_workspace_that_does_not_run_or_answer_it_is_what_was_found_last(place: Place) -> None:
    await place.get()
    place.world.agent.dead = True
    told = (await place.get()).json()
    assert (told["is_live"], told["patch"]) == (False, "+x\n")
    await place.is_(WorkspaceState.STOPPED)
    told = (await place.get()).json()
    assert (told["is_live"], told["patch"], told["updated_at"] is not None) == (False, "+x\n", True)
    assert error_code(await place.get("/diff?base=HEAD")) == "no_diff"
    status = (await place.get("/diff-status")).json()["diff_status"]
    assert (status["files"], status["additions"], status["deletions"], status["version"]) == (1, 2, 1, 1)


async def test_before_anybody_looked_there_is_nothing_to_tell(place: Place) -> None:
    assert (await place.get("/diff-status")).json() == {"chat_id": place.chat_id, "diff_status": None}
    await place.is_(WorkspaceState.STOPPED)
    assert error_code(await place.get()) == "no_diff"


async def test_a_chat_without_a_workspace_has_none(world: World) -> None:
    ada = await world.token("ada")
    chat = (await send(world, ada, "POST", "/chats", {})).json()
    assert error_code(await send(world, ada, "GET", f"/chats/{chat['id']}/diff")) == "workspace_not_found"


async def test_p9_it_is_nobody_elses(place: Place) -> None:
    bob = await place.world.token("bob")
    for path in ("/diff", "/diff-status"):
        refused = await send(place.world, bob, "GET", f"/chats/{place.chat_id}{path}")
        assert error_code(refused) == "chat_not_found"
