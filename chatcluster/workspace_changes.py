"""What changes in the workspaces of this replica's chats: looked at soon after something may have changed,
kept, and told to the readers of the list.

A tool says that it has touched a workspace (``touched``, which never waits). After ``SETTLE_SECONDS`` its git is asked;
what is touched meanwhile is asked for once more, but no sooner than ``PAUSES`` times as long as asking took: a large
repository is not kept busy by being looked at. If what it says is not what was known, it is kept, and its owner's list
is told ``diff_status``, with the payload.

What is compared with stays the commit that was found first; if that is gone, it is the one that is checked out.

What happens on failure: nothing is told, and the next touch looks again. At most ``LOOKS_AT_ONCE`` workspaces are
looked at at a time, of each user by turns, and ``LOOKS_OF_USER_MAX`` of one: each may take long, or say nothing.
"""

from __future__ import annotations

from typing import Protocol
from uuid import UUID

import trio

from chatcluster import telemetry
from chatcluster.errors import CallerError, Conflict, StoreUnavailable
from chatcluster.fair_places import FairPlaces
from chatcluster.notices import diff_changed
from chatcluster.ports import PubSub
from chatcluster.ports.workspace import SILENCE_SECONDS, Workspace
from chatcluster.ports.workspace_diffs import DiffStatus, FoundDiff, WorkspaceDiffs
from chatcluster.ports.workspaces import WorkspaceRow
from chatcluster.workspace_errors import WorkspaceRefused, WorkspaceUnreachable
from chatcluster.workspace_wire import Code, DiffAnswer

SETTLE_SECONDS = 0.2
PAUSES = 5
LOOKS_AT_ONCE = 8
LOOKS_OF_USER_MAX = 2
TOUCHED_MAX = 10_000
LOOK_SECONDS_MAX = 2 * SILENCE_SECONDS


class NoDiff(Conflict):
    """Nothing can be said now of what changed in the workspace; the message says why."""

    code = "no_diff"


class Directory(Protocol):
    async def workspace(self, workspace_id: UUID) -> Workspace: ...


class WorkspaceChanges:
    """One for a replica; ``run`` looks."""

    def __init__(self, diffs: WorkspaceDiffs, directory: Directory, pubsub: PubSub) -> None:
        self._diffs = diffs
        self._directory = directory
        self._pubsub = pubsub
        self._touched: dict[UUID, WorkspaceRow] = {}
        """The workspaces that nobody has looked at since they were touched."""
        self._looking: set[UUID] = set()
        self._woken = trio.Event()
        self._places = FairPlaces(LOOKS_AT_ONCE, each=LOOKS_OF_USER_MAX)

    def __repr__(self) -> str:
        return f"<WorkspaceChanges touched={len(self._touched)} looking={len(self._looking)}>"

    def touched(self, workspace: WorkspaceRow) -> None:
        """The workspace's files may have changed."""
        if workspace.id in self._touched or len(self._touched) < TOUCHED_MAX:
            self._touched[workspace.id] = workspace
            self._woken.set()

    async def run(self) -> None:
        async with trio.open_nursery() as nursery:
            while True:
                await self._woken.wait()
                self._woken = trio.Event()
                for workspace_id in self._touched.keys() - self._looking:
                    self._looking.add(workspace_id)
                    nursery.start_soon(self._look_while_touched, workspace_id)

    async def _look_while_touched(self, workspace_id: UUID) -> None:
        try:
            await trio.sleep(SETTLE_SECONDS)
            while (workspace := self._touched.pop(workspace_id, None)) is not None:
                async with self._places.taken(workspace.owner_id):
                    began_at = trio.current_time()
                    await self._look_in_time(workspace)
                await trio.sleep(max(SETTLE_SECONDS, PAUSES * (trio.current_time() - began_at)))
        finally:
            self._looking.discard(workspace_id)
            if workspace_id in self._touched:
                self._woken.set()

    async def _look_in_time(self, workspace: WorkspaceRow) -> None:
        try:
            with trio.move_on_after(LOOK_SECONDS_MAX):
                await self.look(workspace)
        except (WorkspaceUnreachable, WorkspaceRefused, StoreUnavailable, CallerError) as error:
            telemetry.event("workspace.diff_failed", workspace_id=str(workspace.id), error=str(error))
        except Exception as error:  # noqa: BLE001 - one workspace is no end of the others
            telemetry.event("workspace.diff_failed", workspace_id=str(workspace.id), error=repr(error), exc_info=error)

    async def look(self, workspace: WorkspaceRow, base: str | None = None) -> DiffAnswer:
        """What has changed, as it is now; against ``base`` alone it is not kept. Raises ``WorkspaceUnreachable``,
        ``WorkspaceRefused``, ``StoreUnavailable``."""
        agent = await self._directory.workspace(workspace.id)
        if base is not None:
            return await agent.diff(base=base)
        known = await self._diffs.diff(workspace.chat_id)
        diff = await _against_the_first(agent, known)
        status = await self._diffs.put(workspace, diff)
        if status is not None:
            diff_changed(self._pubsub, workspace.owner_id, workspace.chat_id, status.version)
        return diff

    async def found(self, chat_id: UUID) -> FoundDiff | None:
        """What was found last."""
        return await self._diffs.diff(chat_id)

    async def status(self, chat_id: UUID) -> DiffStatus | None:
        """What was found last, in short."""
        return await self._diffs.status(chat_id)

    async def statuses(self, owner_id: UUID, limit: int) -> dict[UUID, DiffStatus]:
        """The statuses of a user's chats that changed last."""
        return await self._diffs.statuses(owner_id, limit)


async def _against_the_first(agent: Workspace, known: FoundDiff | None) -> DiffAnswer:
    base = None if known is None else known.diff.base
    if base is None:
        return await agent.diff()
    try:
        return await agent.diff(base=base)
    except WorkspaceRefused as refused:
        if refused.code != Code.NO_COMMIT:
            raise
        return await agent.diff()  # the commit is gone, or the repository is another one
