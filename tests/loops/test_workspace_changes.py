"""What changes in a workspace is looked at soon after somebody touched it, kept, and told once to whoever follows the
list; a large repository is not kept busy by that."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any
from uuid import UUID, uuid4

import pytest
import trio
from contract_worlds import OWNER
from workspace_rows import RowsWorld, memory_rows

from chatcluster.memory import MemoryDatabase, MemoryPubSub
from chatcluster.memory.broker import MemoryBroker
from chatcluster.notices import lifecycle_in
from chatcluster.ports import owner_channel
from chatcluster.ports.workspaces import WorkspaceRow
from chatcluster.workspace_changes import LOOK_SECONDS_MAX, LOOKS_AT_ONCE, PAUSES, WorkspaceChanges
from chatcluster.workspace_wire import DiffAnswer
from loops.workspace_fakes import FakeAgent, FakeDirectory

TOLD_SECONDS = 2.0


class Scene:
    def __init__(
        self, world: RowsWorld, row: WorkspaceRow, directory: FakeDirectory, changes: WorkspaceChanges
    ) -> None:
        self.world, self.row, self.directory, self.changes = world, row, directory, changes
        self.agent = directory.agent
        self.told: list[tuple[float, UUID, int]] = []

    def edit(self, digest: str, **fields: Any) -> None:
        self.agent.git_says = DiffAnswer(is_repository=True, base="c1", digest=digest, **fields)

    async def version(self) -> int:
        status = await self.world.diffs.status(self.row.chat_id)
        return 0 if status is None else status.version


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with open_scene() as scene:
        yield scene


@asynccontextmanager
async def open_scene() -> AsyncIterator[Scene]:
    directory, pubsub = FakeDirectory(FakeAgent()), MemoryPubSub(MemoryBroker())
    async with memory_rows(MemoryDatabase()) as world, trio.open_nursery() as nursery:
        await world.template()
        row = await world.running(await world.host())
        changes = WorkspaceChanges(world.diffs, directory, pubsub)
        scene = Scene(world, row, directory, changes)

        async def listen() -> None:
            async with pubsub.subscribe(owner_channel(OWNER)) as told:
                while True:
                    change = lifecycle_in(await told.receive())
                    assert change is not None
                    assert change.kind == "diff_status"
                    scene.told.append((trio.current_time(), change.chat_id, change.snapshot_version))

        nursery.start_soon(listen)
        nursery.start_soon(changes.run)
        yield scene
        nursery.cancel_scope.cancel()


async def test_an_edit_is_told_within_2_s_and_once(scene: Scene) -> None:
    edited_at = trio.current_time()
    scene.edit("1")
    scene.changes.touched(scene.row)
    await trio.sleep(TOLD_SECONDS)
    ((told_at, chat_id, version),) = scene.told
    assert told_at - edited_at < TOLD_SECONDS
    assert (chat_id, version) == (scene.row.chat_id, 1)
    for _ in range(5):
        scene.changes.touched(scene.row)
        await trio.sleep(TOLD_SECONDS)
    assert len(scene.told) == 1, "only when it changed"
    scene.edit("2")
    scene.changes.touched(scene.row)
    await trio.sleep(TOLD_SECONDS)
    assert [version for *_, version in scene.told] == [1, 2]


async def test_what_is_touched_while_it_is_looked_at_is_looked_at_once_more(scene: Scene) -> None:
    scene.agent.git_takes = 0.3
    scene.changes.touched(scene.row)
    await trio.sleep(0.3)
    scene.edit("1")
    scene.changes.touched(scene.row)
    await trio.sleep(3.0)
    assert await scene.version() >= 1
    found = await scene.world.diffs.diff(scene.row.chat_id)
    assert found is not None
    assert found.diff.digest == "1"


async def test_p10_a_large_repository_is_not_kept_busy(scene: Scene) -> None:
    scene.agent.git_takes = 2.0
    for _ in range(600):
        scene.changes.touched(scene.row)
        await trio.sleep(0.1)
    assert len(scene.agent.bases) <= 60 / (2.0 * (1 + PAUSES)) + 2


async def test_p10_an_owner_s_many_slow_repositories_keep_nobody_else_s_waiting(scene: Scene) -> None:
    slow = FakeAgent()
    slow.git_takes = 4.0
    lease = await scene.world.host("another")
    stranger = uuid4()
    for _ in range(4 * LOOKS_AT_ONCE):
        row = await scene.world.running(lease, owner_id=stranger)
        scene.directory.others[row.id] = slow
        scene.changes.touched(row)
    await trio.sleep(1)
    scene.edit("1")
    scene.changes.touched(scene.row)
    await trio.sleep(TOLD_SECONDS)
    assert len(scene.told) == 1


async def test_an_agent_that_is_silent_ends_no_look_at_others(scene: Scene) -> None:
    scene.agent.silent = True
    scene.changes.touched(scene.row)
    await trio.sleep(2 * LOOK_SECONDS_MAX)
    assert not scene.told
    scene.agent.silent = False
    scene.changes.touched(scene.row)
    await trio.sleep(LOOK_SECONDS_MAX * PAUSES)
    assert len(scene.told) == 1


async def test_it_is_compared_with_the_commit_that_was_found_first_as_long_as_that_is_there(scene: Scene) -> None:
    await scene.changes.look(scene.row)
    scene.edit("1", branch="other")
    await scene.changes.look(scene.row)
    assert scene.agent.bases == ["", "c1"]
    scene.agent.forgets.add("c1")
    await scene.changes.look(scene.row)
    assert scene.agent.bases[2:] == ["c1", ""]


async def test_who_asks_against_another_commit_changes_nothing(scene: Scene) -> None:
    await scene.changes.look(scene.row, base="HEAD")
    assert scene.agent.bases == ["HEAD"]
    assert await scene.version() == 0
    assert not scene.told
