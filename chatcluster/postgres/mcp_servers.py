"""``McpServers`` on Postgres: servers of tools, sign-ins under way, and grants.

Who is authoritative: the rows, and the database's clock for what expires. Nothing here is held across a wait for
anything but Postgres: a replica that refreshes a grant has a claim on it in the row, which ends by itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from uuid import UUID

import msgspec

from chatcluster import telemetry
from chatcluster.mcp_errors import McpServerChanged, McpServerNotFound, McpServersFull, SlugTaken
from chatcluster.parts import UNDECODABLE
from chatcluster.ports import MCP_SERVERS_MAX, Grant, Login, McpServer, McpSettings
from chatcluster.ports.administration import Deed
from chatcluster.ports.mcp_servers import is_elsewhere, tools_prefix
from chatcluster.postgres import Connection, Database, Row
from chatcluster.postgres.administration import record_deed
from chatcluster.postgres.queries import load_queries

SQL = load_queries("mcp_servers.sql")


class PostgresMcpServers:
    def __init__(self, database: Database) -> None:
        self._database = database

    async def servers(self) -> tuple[McpServer, ...]:
        return await self._database.autocommit(_servers)

    async def add(self, server: McpServer, deed: Deed | None = None) -> McpServer:
        return await self._database.transaction(_add, server, deed)

    async def change(self, server: McpServer, deed: Deed | None = None) -> McpServer:
        return await self._database.transaction(_change, server, deed)

    async def remove(self, slug: str, deed: Deed | None = None) -> bool:
        return await self._database.transaction(_remove, slug, deed)

    async def begin_login(self, login: Login, *, seconds: float) -> bool:
        return await self._database.transaction(_begin_login, login, seconds)

    async def take_login(self, state_digest: bytes) -> Login | None:
        return await self._database.transaction(_take_login, state_digest)

    async def grant(self, server_id: UUID, user_id: UUID) -> Grant | None:
        grants = await self._database.autocommit(_grants, "select_grant", server_id, user_id)
        return grants[0] if grants else None

    async def grants(self, user_id: UUID) -> tuple[Grant, ...]:
        return await self._database.autocommit(_grants, "select_grants", user_id)

    async def keep_grant(self, grant: Grant) -> bool:
        key = (grant.server_id, grant.user_id)
        if grant.revision == 0:
            return await self._write("put_grant", *key, grant.sealed, grant.seconds_left)
        return await self._write("refresh_grant", *key, grant.revision, grant.sealed, grant.seconds_left)

    async def claim_refresh(self, grant: Grant, *, seconds: float) -> bool:
        return await self._write("claim_refresh", grant.server_id, grant.user_id, grant.revision, seconds)

    async def refuse_grant(self, grant: Grant) -> bool:
        return await self._write("refuse_grant", grant.server_id, grant.user_id, grant.revision)

    async def drop_grant(self, server_id: UUID, user_id: UUID) -> bool:
        return await self._write("delete_grant", server_id, user_id)

    async def _write(self, query: str, *args: object) -> bool:
        return await self._database.transaction(_is_there, query, *args)


async def _servers(connection: Connection) -> tuple[McpServer, ...]:
    found = map(_readable, await connection.fetch(SQL["list_servers"]))
    return tuple(server for server in found if server is not None)


def _readable(row: Row) -> McpServer | None:
    """None for a row that this version cannot read: it costs that server, and no other."""
    try:
        return _server(row)
    except UNDECODABLE as error:
        telemetry.event("mcp.server_unreadable", server=row["slug"], error=str(error))
        return None


async def _add(connection: Connection, server: McpServer, deed: Deed | None) -> McpServer:
    await connection.execute(SQL["lock_count"])
    if await connection.fetchval(SQL["count_servers"]) >= MCP_SERVERS_MAX:
        raise McpServersFull(f"there are {MCP_SERVERS_MAX} servers of tools already; remove one")
    row = await connection.fetchrow(SQL["insert_server"], server.id, *_written(server))
    if row is None:
        raise slug_taken(server.slug)
    await record_deed(connection, deed)
    return _server(row)


async def _change(connection: Connection, server: McpServer, deed: Deed | None) -> McpServer:
    found = await connection.fetchrow(SQL["lock_server"], server.id)
    if found is None:
        raise McpServerNotFound("there is no such server of tools", slug=server.slug)
    known = _server(found)
    if known.revision != server.revision:
        raise McpServerChanged("the server was changed at the same time; read it again", slug=server.slug)
    if await connection.fetchval(SQL["slug_is_taken"], server.slug, server.id):
        raise slug_taken(server.slug)
    row = await connection.fetchrow(SQL["update_server"], server.id, *_written(server))
    assert row is not None, "it is locked"
    if is_elsewhere(known, server):
        await connection.execute(SQL["forget_grants"], server.id)
    if is_elsewhere(known, server) or known.slug != server.slug:
        await connection.execute(SQL["forget_permissions"], tools_prefix(known.slug))
    await record_deed(connection, deed)
    return _server(row)


async def _remove(connection: Connection, slug: str, deed: Deed | None) -> bool:
    was_there = await _is_there(connection, "delete_server", slug)
    if was_there:
        await connection.execute(SQL["forget_permissions"], tools_prefix(slug))
        await record_deed(connection, deed)
    return was_there


async def _begin_login(connection: Connection, login: Login, seconds: float) -> bool:
    await connection.execute(SQL["delete_old_logins"])
    args = (login.state_digest, login.server_id, login.user_id, login.sealed, seconds)
    is_new: bool | None = await connection.fetchval(SQL["insert_login"], *args)
    if is_new is None:
        raise McpServerNotFound("there is no such server of tools")
    return is_new


async def _take_login(connection: Connection, state_digest: bytes) -> Login | None:
    row = await connection.fetchrow(SQL["take_login"], state_digest)
    if row is None or not row["is_valid"]:
        return None
    return Login(
        state_digest=row["state_digest"], server_id=row["server_id"], user_id=row["user_id"], sealed=row["sealed"]
    )


async def _grants(connection: Connection, query: str, *args: object) -> tuple[Grant, ...]:
    return tuple(
        Grant(**{name: row[name] for name in Grant.__struct_fields__})
        for row in await connection.fetch(SQL[query], *args)
    )


async def _is_there(connection: Connection, query: str, *args: object) -> bool:
    """Whether a statement that returns the row that it wrote wrote one."""
    return await connection.fetchval(SQL[query], *args) is not None


def slug_taken(slug: str) -> SlugTaken:
    return SlugTaken("another server of tools has this slug", slug=slug)


def _written(server: McpServer) -> tuple[Any, ...]:
    encode: Callable[[object], bytes] = msgspec.json.encode
    return server.slug, encode(server.settings).decode(), server.sealed, encode(server.shown).decode()


def _server(row: Row) -> McpServer:
    values = {name: row[name] for name in McpServer.__struct_fields__}
    values["settings"] = msgspec.json.decode(row["settings"], type=McpSettings)
    values["shown"] = msgspec.json.decode(row["shown"], type=dict[str, str])
    return McpServer(**values)
