"""What a host tells the database of one workspace: its state, and lines of its log, which are best effort."""

from __future__ import annotations

from chatcluster import telemetry
from chatcluster.errors import StoreUnavailable
from chatcluster.ports.workspaces import (
    LOG_LINES_MAX,
    HostLease,
    LogEntry,
    Report,
    Startup,
    WorkspaceHosts,
    WorkspaceRow,
    WorkspaceState,
    log_text,
)

LINES_AT_ONCE = 200


class Reports:
    def __init__(self, hosts: WorkspaceHosts, lease: HostLease) -> None:
        self._hosts = hosts
        self._lease = lease

    async def tell(
        self, row: WorkspaceRow, state: WorkspaceState, detail: str = "", *, startup: Startup = Startup.NONE
    ) -> bool:
        """False if somebody wants something else by now. Raises ``StoreUnavailable``."""
        report = Report(row.id, row.generation, state, log_text(detail), startup)
        was_told = await self._hosts.report(self._lease, report)
        telemetry.event("workspace.state", workspace_id=str(row.id), state=str(state), detail=detail, was_told=was_told)
        return was_told

    async def removed(self, row: WorkspaceRow) -> None:
        await self._hosts.removed(self._lease, row.id)
        telemetry.event("workspace.state", workspace_id=str(row.id), state="removed", detail="", was_told=True)

    async def log(self, row: WorkspaceRow, source: str, *lines: str) -> None:
        """A line that cannot be kept is lost: the workspace goes on without it."""
        entries = [LogEntry(source, line) for line in lines[-LOG_LINES_MAX:]]
        for start in range(0, len(entries), LINES_AT_ONCE):
            some = entries[start : start + LINES_AT_ONCE]
            try:
                await self._hosts.append_log(row.id, some)
            except StoreUnavailable as error:
                telemetry.event("workspace.log_lost", workspace_id=str(row.id), lines=len(some), error=str(error))
