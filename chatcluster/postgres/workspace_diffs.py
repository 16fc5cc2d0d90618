"""``WorkspaceDiffs`` on Postgres. A row that this version cannot read is one that nobody has written yet."""

from __future__ import annotations

from uuid import UUID

import msgspec

from chatcluster import telemetry
from chatcluster.parts import UNDECODABLE
from chatcluster.ports.workspace_diffs import DiffStatus, FoundDiff, status_of
from chatcluster.ports.workspaces import WorkspaceRow
from chatcluster.postgres import Connection, Database, Row
from chatcluster.postgres.queries import load_queries
from chatcluster.postgres.rows import json_of
from chatcluster.workspace_wire import DiffAnswer

SQL = load_queries("workspace_diffs.sql")

_diff: msgspec.json.Decoder[DiffAnswer] = msgspec.json.Decoder(DiffAnswer)


class PostgresWorkspaceDiffs:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def put(self, workspace: WorkspaceRow, diff: DiffAnswer) -> DiffStatus | None:
        return await self._database.autocommit(_put, workspace.id, storable(diff))

    async def diff(self, chat_id: UUID) -> FoundDiff | None:
        return await self._database.autocommit(_find, chat_id)

    async def status(self, chat_id: UUID) -> DiffStatus | None:
        return await self._database.autocommit(_status, chat_id)

    async def statuses(self, owner_id: UUID, limit: int) -> dict[UUID, DiffStatus]:
        return await self._database.autocommit(_statuses, owner_id, limit)


def storable(diff: DiffAnswer) -> DiffAnswer:
    """What no column takes is left out of the patch."""
    return msgspec.structs.replace(diff, patch=diff.patch.replace("\0", "\ufffd"))


async def _put(connection: Connection, workspace_id: UUID, diff: DiffAnswer) -> DiffStatus | None:
    row = await connection.fetchrow(SQL["put_diff"], workspace_id, diff.digest, json_of(short(diff)), json_of(diff))
    return None if row is None else status_of(diff, row["version"], row["updated_at"])


async def _find(connection: Connection, chat_id: UUID) -> FoundDiff | None:
    row = await connection.fetchrow(SQL["select_diff"], chat_id)
    if row is None:
        return None
    try:
        diff = _diff.decode(row["diff"])
    except UNDECODABLE as error:
        _tell_unreadable(chat_id, error)
        return None
    return FoundDiff(status=status_of(diff, row["version"], row["updated_at"]), diff=diff)


async def _status(connection: Connection, chat_id: UUID) -> DiffStatus | None:
    row = await connection.fetchrow(SQL["select_status"], chat_id)
    return None if row is None else _status_of(chat_id, row)


async def _statuses(connection: Connection, owner_id: UUID, limit: int) -> dict[UUID, DiffStatus]:
    rows = await connection.fetch(SQL["list_statuses"], owner_id, limit)
    found = {row["chat_id"]: _status_of(row["chat_id"], row) for row in rows}
    return {chat_id: status for chat_id, status in found.items() if status is not None}


def short(diff: DiffAnswer) -> dict[str, object]:
    """What a status is made of, apart from when."""
    return {
        "is_repository": diff.is_repository,
        "branch": diff.branch,
        "base": diff.base,
        "files": len(diff.files),
        "additions": diff.additions,
        "deletions": diff.deletions,
        "is_truncated": diff.is_truncated,
    }


def _status_of(chat_id: UUID, row: Row) -> DiffStatus | None:
    try:
        told = msgspec.json.decode(row["status"], type=dict[str, object])
        return msgspec.convert(told | {name: row[name] for name in ("version", "updated_at")}, DiffStatus)
    except UNDECODABLE as error:
        _tell_unreadable(chat_id, error)
        return None


def _tell_unreadable(chat_id: UUID, error: Exception) -> None:
    telemetry.event("workspace.row_unreadable", chat_id=str(chat_id), error=str(error))
