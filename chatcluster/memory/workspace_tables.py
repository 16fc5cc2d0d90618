"""The tables of workspaces, as ``MemoryDatabase`` has them."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import count
from typing import Any
from uuid import UUID

from msgspec.structs import replace

from chatcluster.ports.workspace_diffs import FoundDiff
from chatcluster.ports.workspaces import (
    HostLease,
    LogLine,
    Template,
    WorkspaceHost,
    WorkspaceRow,
    WorkspaceState,
    WorkspaceTimes,
)


@dataclass(slots=True)
class HostRow:
    host: WorkspaceHost
    token: str
    heartbeat_at: float


@dataclass(slots=True)
class DiffRow:
    workspace_id: UUID
    owner_id: UUID
    found: FoundDiff


@dataclass(slots=True)
class WorkspaceTables:
    templates: dict[str, Template] = field(default_factory=dict)
    """Templates by name."""
    hosts: dict[UUID, HostRow] = field(default_factory=dict)
    rows: dict[UUID, WorkspaceRow] = field(default_factory=dict)
    logs: dict[UUID, list[LogLine]] = field(default_factory=dict)
    diffs: dict[UUID, DiffRow] = field(default_factory=dict)
    """Diffs by chat."""
    log_numbers: count[int] = field(default_factory=lambda: count(1))

    def is_alive(self, host_id: UUID | None) -> bool:
        return host_id is not None and host_id in self.hosts and self.hosts[host_id].host.alive

    def holds(self, lease: HostLease) -> bool:
        """Whether this process of the host is the one that counts."""
        return self.is_alive(lease.host_id) and self.hosts[lease.host_id].host.incarnation == lease.incarnation

    def of_host(self, host_id: UUID, *states: WorkspaceState) -> list[WorkspaceRow]:
        return [row for row in self.rows.values() if row.host_id == host_id and row.state in states]

    def of_chat(self, chat_id: UUID) -> WorkspaceRow | None:
        """The one that counts."""
        rows = (row for row in self.rows.values() if row.chat_id == chat_id and not row.replaced)
        return next((row for row in rows if row.state is not WorkspaceState.DELETED), None)

    def put(self, row: WorkspaceRow, **fields: Any) -> WorkspaceRow:
        """Keep the row with these of its fields; a time is one of them, by its own name."""
        times = {name: fields.pop(name) for name in WorkspaceTimes.__struct_fields__ if name in fields}
        self.rows[row.id] = put = replace(row, times=replace(row.times, **times), **fields)
        return put

    def drop(self, workspace_id: UUID) -> None:
        del self.rows[workspace_id]
        self.logs.pop(workspace_id, None)
        self.diffs = {chat_id: diff for chat_id, diff in self.diffs.items() if diff.workspace_id != workspace_id}
