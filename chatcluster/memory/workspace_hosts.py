"""``WorkspaceHosts`` on a ``MemoryDatabase``."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime, timedelta
from uuid import UUID

from msgspec.structs import replace

from chatcluster.chat import Status, StoredPhase
from chatcluster.errors import LeaseLost
from chatcluster.memory.database import MemoryDatabase
from chatcluster.memory.link import Link
from chatcluster.memory.workspace_tables import HostRow
from chatcluster.ports.registry import Heartbeat
from chatcluster.ports.workspaces import (
    GONE_EPOCH,
    HOST_ENDED,
    HOST_LOST,
    HOST_STOPPED,
    LOG_LINES_MAX,
    REPORTED_FROM,
    ClosedCall,
    HostLease,
    LastUse,
    LogEntry,
    LogLine,
    Report,
    RunningCall,
    WorkspaceHost,
    WorkspaceRow,
    WorkspaceState,
    log_text,
)

BUILDING, STARTING, RUNNING = WorkspaceState.BUILDING, WorkspaceState.STARTING, WorkspaceState.RUNNING
STOPPING, STOPPED, LOST, DELETED = (
    WorkspaceState.STOPPING,
    WorkspaceState.STOPPED,
    WorkspaceState.LOST,
    WorkspaceState.DELETED,
)


class MemoryWorkspaceHosts:
    def __init__(self, database: MemoryDatabase, link: Link | None = None) -> None:
        self._database = database
        self._tables = database.kept.workspaces
        self._link = link or Link()

    async def hosts(self) -> tuple[WorkspaceHost, ...]:
        async with self._link.crossing("hosts"):
            rows = sorted(self._tables.hosts.values(), key=lambda row: (row.host.name, row.host.id))
            return tuple(map(self._view, rows))

    async def register(self, host: WorkspaceHost) -> tuple[WorkspaceRow, ...]:
        async with self._link.crossing("register"):
            now = self._database.clock()
            told = replace(host, alive=True, started_at=self._database.now())
            self._tables.hosts[host.id] = HostRow(told, self._database.next_token(), now)
            if host.problem:
                self._free_builds(host.id)
            ended = self._tables.of_host(host.id, STARTING, RUNNING, STOPPING, LOST)
            return tuple(self._end(row, STOPPED, HOST_ENDED) for row in ended)

    async def renew(self, lease: HostLease, *, problem: str = "") -> None:
        async with self._link.crossing("renew"):
            self._require(lease)
            row = self._tables.hosts[lease.host_id]
            row.host = replace(row.host, problem=problem)
            row.token, row.heartbeat_at = self._database.next_token(), self._database.clock()

    async def retire(self, lease: HostLease) -> None:
        async with self._link.crossing("retire"):
            if self._tables.holds(lease):
                self._set_dead(lease.host_id)
                self._free_builds(lease.host_id)
                for row in self._tables.of_host(lease.host_id, STARTING, RUNNING, STOPPING, LOST):
                    self._end(row, STOPPED, HOST_STOPPED)

    async def heartbeats(self) -> dict[UUID, Heartbeat]:
        async with self._link.crossing("heartbeats"):
            alive = {host_id: row for host_id, row in self._tables.hosts.items() if row.host.alive}
            return {host_id: Heartbeat(row.token, self._age(row)) for host_id, row in alive.items()}

    async def bury(self, host_id: UUID, token: str) -> tuple[WorkspaceRow, ...] | None:
        async with self._link.crossing("bury"):
            if not self._tables.is_alive(host_id) or self._tables.hosts[host_id].token != token:
                return None
            self._set_dead(host_id)
            self._free_builds(host_id)
            ended = self._tables.of_host(host_id, STARTING, RUNNING, STOPPING)
            return tuple(self._end(row, STOPPED if row.state is STOPPING else LOST, HOST_LOST) for row in ended)

    async def last_uses(self, lease: HostLease) -> tuple[LastUse, ...]:
        async with self._link.crossing("last_uses"):
            now = self._database.now()
            return tuple(
                LastUse(row.id, row.times.last_used_at, (row.times.expires_at - now).total_seconds())
                for row in self._tables.of_host(lease.host_id, RUNNING)
                if row.times.expires_at is not None and row.times.last_used_at is not None
            )

    async def work(self, lease: HostLease, *, places: int, idle: Collection[LastUse] = ()) -> tuple[WorkspaceRow, ...]:
        async with self._link.crossing("work"):
            self._require(lease)
            self._take(lease.host_id, places)
            last_used = {use.workspace_id: use.last_used_at for use in idle}
            self._keep_at_work(lease.host_id, last_used)
            self._stop_idle(lease.host_id, last_used)
            self._delete_orphans(lease.host_id)
            work = self._tables.of_host(lease.host_id, BUILDING, STARTING, STOPPING, DELETED)
            return tuple(sorted(work, key=lambda row: (row.times.updated_at or self._database.now(), row.id)))[:1000]

    async def report(self, lease: HostLease, report: Report) -> bool:
        async with self._link.crossing("report"):
            row = self._tables.rows.get(report.workspace_id)
            if row is None or not self._tables.holds(lease) or row.host_id != lease.host_id:
                return False
            if row.generation != report.generation or row.state not in REPORTED_FROM[report.state]:
                return False
            self._put(row, **self._reported(row, report))
            return True

    async def removed(self, lease: HostLease, workspace_id: UUID) -> bool:
        async with self._link.crossing("removed"):
            row = self._tables.rows.get(workspace_id)
            if row is None or row.state is not DELETED or row.host_id != lease.host_id or not self._tables.holds(lease):
                return False
            self._tables.drop(workspace_id)
            return True

    async def closed_calls(self, calls: Collection[RunningCall]) -> tuple[ClosedCall, ...]:
        async with self._link.crossing("closed_calls"):
            return tuple(self._closed(calls))

    async def append_log(self, workspace_id: UUID, entries: Collection[LogEntry]) -> None:
        async with self._link.crossing("append_log"):
            if workspace_id not in self._tables.rows:
                return
            lines = self._tables.logs.setdefault(workspace_id, [])
            for source, text in entries:
                number = next(self._tables.log_numbers)
                lines.append(LogLine(number, self._database.now(), source, log_text(text)))
            del lines[:-LOG_LINES_MAX]

    # rows

    def _require(self, lease: HostLease) -> None:
        if not self._tables.holds(lease):
            raise LeaseLost(f"workspace host {lease.host_id} was taken for dead, or another process took its place")

    def _view(self, row: HostRow) -> WorkspaceHost:
        count = len(self._tables.of_host(row.host.id, BUILDING, STARTING, RUNNING))
        return replace(row.host, workspaces=count, heartbeat_age_seconds=self._age(row))

    def _age(self, row: HostRow) -> float:
        return max(0.0, self._database.clock() - row.heartbeat_at)

    def _set_dead(self, host_id: UUID) -> None:
        row = self._tables.hosts[host_id]
        row.host = replace(row.host, alive=False)

    def _free_builds(self, host_id: UUID) -> None:
        for row in self._tables.of_host(host_id, BUILDING):
            self._put(row, host_id=None)

    def _put(self, row: WorkspaceRow, **fields: object) -> WorkspaceRow:
        return self._tables.put(row, updated_at=self._database.now(), **fields)

    def _end(self, row: WorkspaceRow, state: WorkspaceState, detail: str) -> WorkspaceRow:
        told = row.detail if row.state is STOPPING else detail
        return self._put(row, state=state, expires_at=None, detail=told)

    def _take(self, host_id: UUID, places: int) -> None:
        free = [row for row in self._tables.rows.values() if row.host_id is None and row.state is BUILDING]
        for row in free[: max(0, places)]:
            self._put(row, host_id=host_id)

    def _is_at_work(self, root_id: UUID) -> bool:
        """Whether a chat of the family is owned."""
        kin = self._database.kept.families.kin
        family = [root_id, *(chat_id for chat_id, one in kin.items() if one.root_id == root_id)]
        chats = (self._database.chats.get(chat_id) for chat_id in family)
        return any(chat is not None and chat.state.worker_id is not None for chat in chats)

    def _keep_at_work(self, host_id: UUID, last_used: Mapping[UUID, datetime]) -> None:
        now = self._database.now()
        for row in self._tables.of_host(host_id, RUNNING):
            if _is_idle(row, last_used) and self._is_at_work(row.chat_id):
                bump = timedelta(seconds=row.made_of.settings.activity_bump_seconds)
                self._put(row, expires_at=now + bump, last_used_at=now)

    def _stop_idle(self, host_id: UUID, last_used: Mapping[UUID, datetime]) -> None:
        for row in self._tables.of_host(host_id, STARTING, RUNNING):
            chat = self._database.chats.get(row.chat_id)
            if _is_idle(row, last_used) and not self._is_at_work(row.chat_id):
                self._put(row, state=STOPPING, detail="nobody worked in it")
            elif chat is not None and (chat.state.archived or chat.state.archiving):
                self._put(row, state=STOPPING, detail="its chat was archived")

    def _delete_orphans(self, host_id: UUID) -> None:
        for row in list(self._tables.rows.values()):
            if row.host_id in (host_id, None) and row.chat_id not in self._database.chats:
                if row.host_id is None:
                    self._tables.drop(row.id)
                elif row.state is not DELETED:
                    self._put(row, state=DELETED)

    def _reported(self, row: WorkspaceRow, report: Report) -> dict[str, object]:
        fields: dict[str, object] = {"state": report.state, "detail": report.detail}
        if report.state is STARTING:
            fields["built"] = True
        if report.state is RUNNING:
            fields["startup"] = report.startup
        if report.state is not RUNNING:
            fields["expires_at"] = None
        elif row.state is not RUNNING:
            now, idle = self._database.now(), row.made_of.settings.idle_stop_seconds
            fields |= {"started_at": now, "last_used_at": now}
            fields["expires_at"] = now + timedelta(seconds=idle) if idle else None
        return fields

    def _closed(self, calls: Collection[RunningCall]) -> Iterable[ClosedCall]:
        for chat_id, call_id in calls:
            chat = self._database.chats.get(chat_id)
            if chat is None:
                yield ClosedCall(chat_id, call_id, GONE_EPOCH)
            elif _is_stopped(chat.state) or all(call.call_id != call_id for call in chat.state.open_calls):
                yield ClosedCall(chat_id, call_id, chat.state.epoch)


def _is_idle(row: WorkspaceRow, last_used: Mapping[UUID, datetime]) -> bool:
    return row.times.expires_at is not None and last_used.get(row.id) == row.times.last_used_at


def _is_stopped(state: StoredPhase) -> bool:
    return state.archived or state.archiving or state.status is Status.INTERRUPTING
