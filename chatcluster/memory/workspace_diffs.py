"""``WorkspaceDiffs`` on a ``MemoryDatabase``."""

from __future__ import annotations

from uuid import UUID

from chatcluster.memory.database import MemoryDatabase
from chatcluster.memory.link import Link
from chatcluster.memory.workspace_tables import DiffRow
from chatcluster.ports.workspace_diffs import DiffStatus, FoundDiff, status_of
from chatcluster.ports.workspaces import WorkspaceRow, WorkspaceState
from chatcluster.workspace_wire import DiffAnswer


class MemoryWorkspaceDiffs:
    def __init__(self, database: MemoryDatabase, link: Link | None = None) -> None:
        self._database = database
        self._tables = database.kept.workspaces
        self._link = link or Link()

    async def put(self, workspace: WorkspaceRow, diff: DiffAnswer) -> DiffStatus | None:
        async with self._link.crossing("put_diff"):
            row = self._tables.rows.get(workspace.id)
            if row is None or row.state is WorkspaceState.DELETED or row.replaced:
                return None
            known = self._tables.diffs.get(row.chat_id)
            if known is not None and (known.workspace_id, known.found.diff.digest) == (row.id, diff.digest):
                return None
            version = 1 if known is None else known.found.status.version + 1
            status = status_of(diff, version, self._database.now())
            self._tables.diffs[row.chat_id] = DiffRow(row.id, row.owner_id, FoundDiff(status=status, diff=diff))
            return status

    async def diff(self, chat_id: UUID) -> FoundDiff | None:
        async with self._link.crossing("diff"):
            row = self._tables.diffs.get(chat_id)
            return None if row is None else row.found

    async def status(self, chat_id: UUID) -> DiffStatus | None:
        found = await self.diff(chat_id)
        return None if found is None else found.status

    async def statuses(self, owner_id: UUID, limit: int) -> dict[UUID, DiffStatus]:
        async with self._link.crossing("diff_statuses"):
            found = [
                (chat_id, row.found.status) for chat_id, row in self._tables.diffs.items() if row.owner_id == owner_id
            ]
            found.sort(key=lambda one: one[1].updated_at, reverse=True)
            return dict(found[:limit])
