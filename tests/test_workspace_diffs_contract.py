"""What has changed in workspaces, as it was found last: kept once per change, with the workspace, told by version."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from uuid import uuid4

import msgspec
import pytest
from contract_worlds import OWNER
from workspace_rows import RowsWorld, open_rows

from chatcluster.ports.workspaces import Report, WorkspaceState
from chatcluster.workspace_wire import DiffAnswer, DiffFile

pytest_plugins = ["contract_fixtures"]


@pytest.fixture
async def world(url: str | None) -> AsyncIterator[RowsWorld]:
    async with open_rows(url) as world:
        yield world


def diff(digest: str = "a", **fields: Any) -> DiffAnswer:
    files = (DiffFile(path="a.py", status="modified", additions=2, deletions=1),)
    told = DiffAnswer(
        is_repository=True,
        branch="main",
        base="c0ffee",
        files=files,
        additions=2,
        deletions=1,
        patch="+x",
        digest=digest,
    )
    return msgspec.structs.replace(told, **fields)


async def test_what_is_found_is_kept_and_counts_its_changes(world: RowsWorld) -> None:
    row = await world.running(await world.host())
    assert await world.diffs.diff(row.chat_id) is None
    assert await world.diffs.status(row.chat_id) is None
    first = await world.diffs.put(row, diff())
    assert first is not None
    assert (first.version, first.files, first.additions, first.deletions, first.branch) == (1, 1, 2, 1, "main")
    assert await world.diffs.put(row, diff()) is None, "nothing changed"
    second = await world.diffs.put(row, diff("b", patch="+y", additions=3))
    assert second is not None
    assert (second.version, second.additions) == (2, 3)
    found = await world.diffs.diff(row.chat_id)
    assert found is not None
    assert (found.status, found.diff) == (second, diff("b", patch="+y", additions=3))
    assert await world.diffs.status(row.chat_id) == second
    assert await world.diffs.statuses(OWNER, 10) == {row.chat_id: second}
    assert await world.diffs.statuses(uuid4(), 10) == {}


async def test_a_place_without_git_is_told_as_one(world: RowsWorld) -> None:
    row = await world.running(await world.host())
    status = await world.diffs.put(row, DiffAnswer(is_repository=False, digest="none"))
    assert status is not None
    assert (status.is_repository, status.branch, status.files) == (False, None, 0)


async def test_a_patch_may_have_any_characters(world: RowsWorld) -> None:
    row = await world.running(await world.host())
    assert await world.diffs.put(row, diff(patch="é🙂\x01")) is not None
    found = await world.diffs.diff(row.chat_id)
    assert found is not None
    assert found.diff.patch == "é🙂\x01"


async def test_it_outlives_the_stop_of_the_workspace_and_goes_with_it(world: RowsWorld) -> None:
    host = await world.host()
    row = await world.running(host)
    await world.diffs.put(row, diff())
    await world.workspaces.stop(row.id)
    await world.hosts.report(host, Report(row.id, row.generation, WorkspaceState.STOPPED))
    assert await world.diffs.status(row.chat_id) is not None
    await world.workspaces.delete(row.id)
    assert await world.diffs.put(row, diff("late")) is None, "who looked before it was deleted comes too late"
    await world.hosts.removed(host, row.id)
    assert await world.diffs.status(row.chat_id) is None
