"""``WorkspaceHosts`` on Postgres: leases of hosts, what they have to do, and what they report.

Who is authoritative: the host's row. What a host writes goes by its incarnation, in the condition of the statement: an
earlier process of the same machine, and one that was buried, write nothing. A burial waits for no workspace: one whose
row somebody has locked, or that its host takes at that moment, is left to a later one.
"""

from __future__ import annotations

from collections.abc import Collection
from uuid import UUID

from chatcluster.errors import LeaseLost
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
    Report,
    RunningCall,
    WorkspaceHost,
    WorkspaceRow,
    log_text,
)
from chatcluster.postgres import Connection, Database, Lane, Row
from chatcluster.postgres.queries import load_queries
from chatcluster.postgres.workspaces import rows_of

SQL = load_queries("workspace_hosts.sql")


class PostgresWorkspaceHosts:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def hosts(self) -> tuple[WorkspaceHost, ...]:
        return await self._database.autocommit(_hosts)

    async def register(self, host: WorkspaceHost) -> tuple[WorkspaceRow, ...]:
        return await self._database.transaction(_register, host, lane=Lane.CLUSTER)

    async def renew(self, lease: HostLease, *, problem: str = "") -> None:
        if await self._database.autocommit(_value, "renew", *lease, problem, lane=Lane.CLUSTER) is None:
            raise lease_lost(lease)

    async def retire(self, lease: HostLease) -> None:
        await self._database.transaction(_retire, lease, lane=Lane.CLUSTER)

    async def heartbeats(self) -> dict[UUID, Heartbeat]:
        return await self._database.autocommit(_heartbeats, lane=Lane.CLUSTER)

    async def bury(self, host_id: UUID, token: str) -> tuple[WorkspaceRow, ...] | None:
        return await self._database.transaction(_bury, host_id, token, lane=Lane.CLUSTER)

    async def last_uses(self, lease: HostLease) -> tuple[LastUse, ...]:
        return await self._database.autocommit(_last_uses, lease)

    async def work(self, lease: HostLease, *, places: int, idle: Collection[LastUse] = ()) -> tuple[WorkspaceRow, ...]:
        return await self._database.transaction(_work, lease, places, idle)

    async def report(self, lease: HostLease, report: Report) -> bool:
        return await self._database.autocommit(_report, lease, report) is not None

    async def removed(self, lease: HostLease, workspace_id: UUID) -> bool:
        return await self._database.autocommit(_value, "removed", *lease, workspace_id) is not None

    async def closed_calls(self, calls: Collection[RunningCall]) -> tuple[ClosedCall, ...]:
        return await self._database.autocommit(_closed_calls, calls) if calls else ()

    async def append_log(self, workspace_id: UUID, entries: Collection[LogEntry]) -> None:
        if entries:
            await self._database.transaction(_append_log, workspace_id, entries)


def lease_lost(lease: HostLease) -> LeaseLost:
    return LeaseLost(f"workspace host {lease.host_id} was taken for dead, or another process took its place")


async def _hosts(connection: Connection) -> tuple[WorkspaceHost, ...]:
    return tuple(map(_host_of, await connection.fetch(SQL["list_hosts"])))


def _host_of(row: Row) -> WorkspaceHost:
    return WorkspaceHost(**{name: row[name] for name in WorkspaceHost.__struct_fields__})


async def _register(connection: Connection, host: WorkspaceHost) -> tuple[WorkspaceRow, ...]:
    values = (host.name, host.address, host.version, host.provider, host.sealed, host.problem)
    await connection.execute(SQL["register"], host.id, host.incarnation, *values)
    if host.problem:
        await connection.execute(SQL["free_builds"], host.id)
    return rows_of(await connection.fetch(SQL["stop_of_host"], host.id, HOST_ENDED))


async def _retire(connection: Connection, lease: HostLease) -> None:
    if await connection.fetchval(SQL["retire"], *lease) is not None:
        await connection.execute(SQL["free_builds"], lease.host_id)
        await connection.execute(SQL["stop_of_host"], lease.host_id, HOST_STOPPED)


async def _heartbeats(connection: Connection) -> dict[UUID, Heartbeat]:
    rows = await connection.fetch(SQL["select_heartbeats"])
    return {row["id"]: Heartbeat(row["token"], row["age_seconds"]) for row in rows}


async def _bury(connection: Connection, host_id: UUID, token: str) -> tuple[WorkspaceRow, ...] | None:
    was_alive: bool | None = await connection.fetchval(SQL["bury"], host_id, token)
    if was_alive is None:
        return None
    await connection.execute(SQL["free_builds"], host_id)
    lost = rows_of(await connection.fetch(SQL["lose_of_host"], host_id, HOST_LOST))
    return lost if was_alive or lost else None


async def _last_uses(connection: Connection, lease: HostLease) -> tuple[LastUse, ...]:
    rows = await connection.fetch(SQL["select_last_uses"], lease.host_id)
    return tuple(LastUse(row["id"], row["last_used_at"], row["seconds_left"]) for row in rows)


async def _work(
    connection: Connection, lease: HostLease, places: int, idle: Collection[LastUse]
) -> tuple[WorkspaceRow, ...]:
    if await connection.fetchval(SQL["hold_lease"], *lease) is None:
        raise lease_lost(lease)
    if places > 0:
        await connection.execute(SQL["take"], lease.host_id, places)
    over = ([use.workspace_id for use in idle], [use.last_used_at for use in idle])
    if idle:
        await connection.execute(SQL["keep_at_work"], lease.host_id, *over)
    await connection.execute(SQL["stop_idle"], lease.host_id, *over)
    await connection.execute(SQL["delete_orphans"], lease.host_id)
    await connection.execute(SQL["drop_unplaced"])
    return rows_of(await connection.fetch(SQL["select_work"], lease.host_id))


async def _report(connection: Connection, lease: HostLease, report: Report) -> UUID | None:
    found: UUID | None = await connection.fetchval(
        SQL["report"],
        *lease,
        report.workspace_id,
        report.generation,
        report.state,
        report.detail,
        report.startup,
        list(REPORTED_FROM[report.state]),
    )
    return found


async def _closed_calls(connection: Connection, calls: Collection[RunningCall]) -> tuple[ClosedCall, ...]:
    chat_ids, call_ids = zip(*calls, strict=True)
    rows = await connection.fetch(SQL["closed_calls"], chat_ids, call_ids, GONE_EPOCH)
    return tuple(ClosedCall(row["chat_id"], row["call_id"], row["epoch"]) for row in rows)


async def _append_log(connection: Connection, workspace_id: UUID, entries: Collection[LogEntry]) -> None:
    sources, lines = zip(*((entry.source, log_text(entry.text)) for entry in entries), strict=True)
    await connection.execute(SQL["append_log"], workspace_id, sources, lines)
    await connection.execute(SQL["trim_log"], workspace_id, LOG_LINES_MAX)


async def _value(connection: Connection, query: str, *args: object) -> object:
    return await connection.fetchval(SQL[query], *args)
