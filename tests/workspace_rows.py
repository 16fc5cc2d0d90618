"""Rows of workspaces as their contract suites see them: in memory or on Postgres, with the means to let time pass."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any
from uuid import UUID, uuid4

import trio
from chat_states import user
from conftest import execute_sql
from contract_worlds import OWNER, fence_of

from chatcluster.chat import Fence
from chatcluster.config import Settings
from chatcluster.memory import MemoryDatabase, MemoryRegistry, MemoryStore
from chatcluster.memory.accounts import MemoryAccounts
from chatcluster.memory.workspace_diffs import MemoryWorkspaceDiffs
from chatcluster.memory.workspace_hosts import MemoryWorkspaceHosts
from chatcluster.memory.workspaces import MemoryWorkspaces
from chatcluster.ports import Accounts, NewChat, Registry, Replica, Store
from chatcluster.ports.workspace_diffs import WorkspaceDiffs
from chatcluster.ports.workspaces import (
    Asked,
    HostLease,
    NewWorkspace,
    Report,
    WorkspaceHost,
    WorkspaceHosts,
    WorkspaceRow,
    Workspaces,
    WorkspaceState,
)
from chatcluster.postgres import open_database
from chatcluster.postgres.accounts import PostgresAccounts
from chatcluster.postgres.registry import PostgresRegistry
from chatcluster.postgres.store import PostgresStore
from chatcluster.postgres.workspace_diffs import PostgresWorkspaceDiffs
from chatcluster.postgres.workspace_hosts import PostgresWorkspaceHosts
from chatcluster.postgres.workspaces import PostgresWorkspaces
from chatcluster.workspace_templates import TemplateSettings


@dataclass(frozen=True)
class RowsWorld:
    workspaces: Workspaces
    hosts: WorkspaceHosts
    diffs: WorkspaceDiffs
    store: Store
    registry: Registry
    later: Callable[[float], Awaitable[None]]
    """Let so many seconds pass for the times in the rows of workspaces."""
    accounts: Accounts

    async def user(self, name: str) -> UUID:
        return (await self.accounts.ensure_user(name, admin=False)).user_id

    async def chat(self, owner_id: UUID = OWNER) -> UUID:
        outcome = await self.store.create(NewChat(uuid4(), owner_id, "a chat", None, (user("hello"),)))
        return outcome.chat.id

    async def template(self, name: str = "plain", **settings: Any) -> None:
        await self.workspaces.put_template(name, TemplateSettings(**settings))

    async def host(self, name: str = "host", *, host_id: UUID | None = None, **fields: Any) -> HostLease:
        lease = HostLease(host_id or uuid4(), uuid4())
        await self.hosts.register(a_host(lease, name, **fields))
        return lease

    async def create(
        self, chat_id: UUID | None = None, *, owner_id: UUID = OWNER, per_user_max: int = 0, **fields: Any
    ) -> Asked:
        new = {"template": "plain", "name": "plain-0000"} | fields
        chat_id = chat_id or await self.chat(owner_id)
        asked = NewWorkspace(owner_id=owner_id, chat_id=chat_id, **new)
        return await self.workspaces.create(asked, per_user_max=per_user_max)

    async def running(self, lease: HostLease, **fields: Any) -> WorkspaceRow:
        """A workspace that this host has built and started."""
        made = (await self.create(**fields)).workspace
        assert made.id in [row.id for row in await self.hosts.work(lease, places=10)]
        for state in (WorkspaceState.STARTING, WorkspaceState.RUNNING):
            assert await self.hosts.report(lease, Report(made.id, made.generation, state))
        return await self.workspaces.workspace(made.id)

    async def look(self, lease: HostLease) -> tuple[WorkspaceRow, ...]:
        """What a host has to do that has seen its workspaces run, and stops those whose time is over."""
        idle = [use for use in await self.hosts.last_uses(lease) if use.seconds_left <= 0]
        return await self.hosts.work(lease, places=0, idle=idle)

    async def work_on_chats(self) -> tuple[UUID, dict[UUID, Fence]]:
        """A worker that has taken every chat that there is to work on, and their fences."""
        worker_id = uuid4()
        await self.registry.register(Replica(worker_id, "replica", "127.0.0.1:8100", "0.1.0", slots=10))
        claimed = await self.store.claim(worker_id, free_slots=10, batch=10)
        return worker_id, {one.chat.id: fence_of(one.chat) for one in claimed}

    async def state(self, row: WorkspaceRow) -> WorkspaceState:
        return (await self.workspaces.workspace(row.id)).state

    async def bury(self, lease: HostLease) -> tuple[WorkspaceRow, ...]:
        """The host is taken for dead."""
        token = (await self.hosts.heartbeats())[lease.host_id].token
        lost = await self.hosts.bury(lease.host_id, token)
        assert lost is not None
        return lost


def a_host(lease: HostLease, name: str = "host", **fields: Any) -> WorkspaceHost:
    known = {"address": "127.0.0.1:8200", "version": "0.1.0", "provider": "process", "sealed": b"sealed"} | fields
    return WorkspaceHost(id=lease.host_id, incarnation=lease.incarnation, name=name, **known)


@asynccontextmanager
async def open_rows(url: str | None) -> AsyncIterator[RowsWorld]:
    """The database at ``url``, or one in memory; with a template ``plain``."""
    async with memory_rows() if url is None else postgres_rows(url) as world:
        await world.template()
        yield world


@asynccontextmanager
async def memory_rows(database: MemoryDatabase | None = None) -> AsyncIterator[RowsWorld]:
    database = database or MemoryDatabase()
    tables = database.kept.workspaces

    async def later(seconds: float) -> None:
        ago = timedelta(seconds=seconds)
        for row in list(tables.rows.values()):
            expires_at = None if row.times.expires_at is None else row.times.expires_at - ago
            last_used_at = None if row.times.last_used_at is None else row.times.last_used_at - ago
            tables.put(row, expires_at=expires_at, last_used_at=last_used_at)

    yield RowsWorld(
        MemoryWorkspaces(database),
        MemoryWorkspaceHosts(database),
        MemoryWorkspaceDiffs(database),
        MemoryStore(database, settings=Settings()),
        MemoryRegistry(database),
        later,
        MemoryAccounts(database),
    )


@asynccontextmanager
async def postgres_rows(url: str) -> AsyncIterator[RowsWorld]:
    async def later(seconds: float) -> None:
        ago = f"interval '{seconds} seconds'"
        statement = f"update workspaces set expires_at = expires_at - {ago}, last_used_at = last_used_at - {ago}"
        await trio.to_thread.run_sync(execute_sql, url, statement)

    async with open_database(Settings.of(database_url=url)) as database:
        yield RowsWorld(
            PostgresWorkspaces(database),
            PostgresWorkspaceHosts(database),
            PostgresWorkspaceDiffs(database),
            PostgresStore(database),
            PostgresRegistry(database),
            later,
            PostgresAccounts(database),
        )
