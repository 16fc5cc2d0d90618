"""What has changed in the workspaces of chats, as it was found last: it outlives the workspace's agent, and every
replica.

Who is authoritative: the workspace. The row is a copy of what its git said when somebody looked; ``version`` grows with
each change of it, so that a reader who sees a later one knows that the one before is old. A chat's agents work in the
workspace of the chat at the top of their family, so the row is that one's.
"""

from __future__ import annotations

from datetime import datetime
from typing import Protocol
from uuid import UUID

import msgspec

from chatcluster.ports.workspaces import WorkspaceRow
from chatcluster.workspace_wire import DiffAnswer


class DiffStatus(msgspec.Struct, frozen=True, kw_only=True):
    """In short: how many ``files`` differ from the commit ``base``, by how many lines. ``is_repository`` is false where
    there is no git."""

    version: int
    is_repository: bool
    branch: str | None
    base: str | None
    files: int
    additions: int
    deletions: int
    is_truncated: bool
    updated_at: datetime


class FoundDiff(msgspec.Struct, frozen=True, kw_only=True):
    """``diff`` is all of it, as it was at ``status.updated_at``."""

    status: DiffStatus
    diff: DiffAnswer


class DiffStatuses(Protocol):
    async def status(self, chat_id: UUID) -> DiffStatus | None:
        """The status of the chat's workspace; None if it was never looked at."""
        ...

    async def statuses(self, owner_id: UUID, limit: int) -> dict[UUID, DiffStatus]:
        """The statuses of a user's chats, by their IDs: of those that changed last."""
        ...


class WorkspaceDiffs(DiffStatuses, Protocol):
    async def put(self, workspace: WorkspaceRow, diff: DiffAnswer) -> DiffStatus | None:
        """What was found now. None if that is what was known, or if the workspace is gone."""
        ...

    async def diff(self, chat_id: UUID) -> FoundDiff | None:
        """The whole diff."""
        ...


def status_of(diff: DiffAnswer, version: int, updated_at: datetime) -> DiffStatus:
    return DiffStatus(
        version=version,
        is_repository=diff.is_repository,
        branch=diff.branch,
        base=diff.base,
        files=len(diff.files),
        additions=diff.additions,
        deletions=diff.deletions,
        is_truncated=diff.is_truncated,
        updated_at=updated_at,
    )
