"""``McpServers`` on a ``MemoryDatabase``."""

from __future__ import annotations

from uuid import UUID

from msgspec.structs import replace

from chatcluster.mcp_errors import McpServerChanged, McpServerNotFound, McpServersFull, SlugTaken
from chatcluster.memory.database import MemoryDatabase
from chatcluster.memory.link import Link
from chatcluster.memory.tables import GrantRow, LoginRow
from chatcluster.ports import MCP_SERVERS_MAX, Grant, Login, McpServer
from chatcluster.ports.administration import Deed
from chatcluster.ports.mcp_servers import is_elsewhere, tools_prefix


class MemoryMcpServers:
    def __init__(self, database: MemoryDatabase, link: Link | None = None) -> None:
        self._database = database
        self._link = link or Link()

    async def servers(self) -> tuple[McpServer, ...]:
        async with self._link.crossing("servers"):
            return tuple(sorted(self._database.mcp.servers.values(), key=lambda server: server.slug))

    async def add(self, server: McpServer, deed: Deed | None = None) -> McpServer:
        async with self._link.crossing("add"):
            if len(self._database.mcp.servers) >= MCP_SERVERS_MAX:
                raise McpServersFull(f"there are {MCP_SERVERS_MAX} servers of tools already; remove one")
            self._require_free(server)
            self._database.record_deed(deed)
            return self._put(server, revision=1, created_at=self._database.now())

    async def change(self, server: McpServer, deed: Deed | None = None) -> McpServer:
        async with self._link.crossing("change"):
            known = self._database.mcp.servers.get(server.id)
            if known is None:
                raise McpServerNotFound("there is no such server of tools", slug=server.slug)
            if known.revision != server.revision:
                raise McpServerChanged("the server was changed at the same time; read it again", slug=server.slug)
            self._require_free(server)
            self._database.record_deed(deed)
            if is_elsewhere(known, server):
                self._forget(server.id)
            if is_elsewhere(known, server) or known.slug != server.slug:
                self._forget_permissions(known.slug)
            return self._put(server, revision=server.revision + 1, created_at=known.created_at)

    async def remove(self, slug: str, deed: Deed | None = None) -> bool:
        async with self._link.crossing("remove"):
            found = next((s for s in self._database.mcp.servers.values() if s.slug == slug), None)
            if found is None:
                return False
            del self._database.mcp.servers[found.id]
            self._forget(found.id)
            self._forget_permissions(slug)
            self._database.record_deed(deed)
            return True

    async def begin_login(self, login: Login, *, seconds: float) -> bool:
        async with self._link.crossing("begin_login"):
            logins, now = self._database.mcp.logins, self._database.clock()
            for digest in [digest for digest, row in logins.items() if row.expires_at < now]:
                del logins[digest]
            if login.server_id not in self._database.mcp.servers:
                raise McpServerNotFound("there is no such server of tools")
            if login.state_digest in logins:
                return False
            logins[login.state_digest] = LoginRow(login, now + seconds)
            return True

    async def take_login(self, state_digest: bytes) -> Login | None:
        async with self._link.crossing("take_login"):
            row = self._database.mcp.logins.pop(state_digest, None)
            return row.login if row is not None and row.expires_at > self._database.clock() else None

    async def grant(self, server_id: UUID, user_id: UUID) -> Grant | None:
        async with self._link.crossing("grant"):
            row = self._database.mcp.grants.get((server_id, user_id))
            return None if row is None else self._view(row)

    async def grants(self, user_id: UUID) -> tuple[Grant, ...]:
        async with self._link.crossing("grants"):
            return tuple(self._view(row) for (_, owner), row in self._database.mcp.grants.items() if owner == user_id)

    async def keep_grant(self, grant: Grant) -> bool:
        async with self._link.crossing("keep_grant"):
            known = self._database.mcp.grants.get((grant.server_id, grant.user_id))
            if grant.server_id not in self._database.mcp.servers:
                return False
            if grant.revision and (known is None or known.grant.revision != grant.revision):
                return False
            revision = 1 if known is None else known.grant.revision + 1
            left = grant.seconds_left
            self._database.mcp.grants[grant.server_id, grant.user_id] = GrantRow(
                replace(grant, revision=revision, refused=False, updated_at=self._database.now()),
                expires_at=None if left is None else self._database.clock() + left,
            )
            return True

    async def claim_refresh(self, grant: Grant, *, seconds: float) -> bool:
        async with self._link.crossing("claim_refresh"):
            row, now = self._of_revision(grant), self._database.clock()
            if row is None or (row.refreshing_until is not None and row.refreshing_until >= now):
                return False
            row.refreshing_until = now + seconds
            return True

    async def refuse_grant(self, grant: Grant) -> bool:
        async with self._link.crossing("refuse_grant"):
            row = self._of_revision(grant)
            if row is None:
                return False
            row.grant = replace(
                row.grant, refused=True, revision=row.grant.revision + 1, updated_at=self._database.now()
            )
            row.refreshing_until = None
            return True

    async def drop_grant(self, server_id: UUID, user_id: UUID) -> bool:
        async with self._link.crossing("drop_grant"):
            return self._database.mcp.grants.pop((server_id, user_id), None) is not None

    # rows

    def _require_free(self, server: McpServer) -> None:
        if any(s.slug == server.slug and s.id != server.id for s in self._database.mcp.servers.values()):
            raise SlugTaken("another server of tools has this slug", slug=server.slug)

    def _put(self, server: McpServer, **fields: object) -> McpServer:
        known, now = self._database.mcp.servers.get(server.id), self._database.now()
        kept = known is not None and known.sealed == server.sealed
        secrets_at = None if server.sealed is None else known.secrets_at if known is not None and kept else now
        put = replace(server, secrets_at=secrets_at, updated_at=now, **fields)
        self._database.mcp.servers[server.id] = put
        return put

    def _forget(self, server_id: UUID) -> None:
        """What users gave to this server."""
        grants, logins = self._database.mcp.grants, self._database.mcp.logins
        for key in [key for key in grants if key[0] == server_id]:
            del grants[key]
        for digest in [digest for digest, row in logins.items() if row.login.server_id == server_id]:
            del logins[digest]

    def _forget_permissions(self, slug: str) -> None:
        for kept in self._database.kept.permissions.values():
            for key in [key for key in kept if key[0].startswith(tools_prefix(slug))]:
                del kept[key]

    def _of_revision(self, grant: Grant) -> GrantRow | None:
        row = self._database.mcp.grants.get((grant.server_id, grant.user_id))
        return row if row is not None and row.grant.revision == grant.revision else None

    def _view(self, row: GrantRow) -> Grant:
        left = None if row.expires_at is None else row.expires_at - self._database.clock()
        return replace(row.grant, seconds_left=left)
