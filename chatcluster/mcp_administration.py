"""Servers of tools: what administrators do with them. Check, seal, write, then tell the replicas.

The row is authoritative. A hint tells every replica to read the rows again; where it is lost, a poll finds the change
within a few seconds. What is done for somebody (``by``) is logged with it: which settings changed, and no secret.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit
from uuid import uuid4

import msgspec
from msgspec import structs
from msgspec.structs import replace

from chatcluster.mcp_checks import check_settings, checked_secret, checked_slug
from chatcluster.mcp_errors import McpServerNotFound
from chatcluster.ports import MCP_SERVERS_CHANNEL, Account, McpServer, McpServers, McpSettings
from chatcluster.ports.administration import Deed
from chatcluster.secrets import Keyring, last_four, place_of

Publish = Callable[[str, bytes], None]


class McpAdministration:
    """``publish`` is that of ``PubSub``."""

    def __init__(self, servers: McpServers, keyring: Keyring, publish: Publish) -> None:
        self.servers = servers
        self._keyring = keyring
        self._publish = publish

    async def list(self) -> tuple[McpServer, ...]:
        return await self.servers.servers()

    async def get(self, slug: str) -> McpServer:
        """Raises ``McpServerNotFound``."""
        for server in await self.servers.servers():
            if server.slug == slug:
                return server
        raise McpServerNotFound("there is no such server of tools", slug=slug[:80])

    async def add(
        self, slug: str, settings: McpSettings, secrets: Mapping[str, str], *, by: Account | None = None
    ) -> McpServer:
        """Raises ``InvalidRequest``, ``SlugTaken``, ``McpServersFull``; with secrets ``NoEncryptionKeys`` as well."""
        check_settings(settings)
        server = self._with_secrets(McpServer(id=uuid4(), slug=checked_slug(slug), settings=settings), secrets)
        added = await self.servers.add(server, _deed(by, "mcp_server.create", slug, _told(settings, bool(secrets))))
        self._tell()
        return added

    async def change(
        self,
        known: McpServer,
        *,
        slug: str,
        settings: McpSettings,
        secrets: Mapping[str, str] | None,
        by: Account | None = None,
    ) -> McpServer:
        """Replace what was read as ``known``; ``secrets`` None: those stay. Raises as ``add``, ``McpServerNotFound``,
        and ``McpServerChanged`` if somebody else was quicker."""
        check_settings(settings)
        server = replace(known, slug=checked_slug(slug), settings=settings)
        deed = _deed(by, "mcp_server.change", known.slug, _changes(known, server, secrets is not None))
        changed = await self.servers.change(server if secrets is None else self._with_secrets(server, secrets), deed)
        self._tell()
        return changed

    async def remove(self, slug: str, *, by: Account | None = None) -> None:
        """Remove a server with all that its users have been given there. Raises ``McpServerNotFound``."""
        if not await self.servers.remove(slug, _deed(by, "mcp_server.delete", slug, {})):
            raise McpServerNotFound("there is no such server of tools", slug=slug[:80])
        self._tell()

    def _with_secrets(self, server: McpServer, secrets: Mapping[str, str]) -> McpServer:
        if not secrets:
            return replace(server, sealed=None, shown={})
        checked = {name: checked_secret(f"auth.{name}", secret) for name, secret in secrets.items()}
        sealed = self._keyring.seal(msgspec.json.encode(checked), place_of("mcp_servers", "sealed", server.id))
        return replace(server, sealed=sealed, shown={name: last_four(secret) for name, secret in checked.items()})

    def _tell(self) -> None:
        self._publish(MCP_SERVERS_CHANNEL, b"")


def _deed(by: Account | None, action: str, slug: str, details: dict[str, Any]) -> Deed | None:
    return None if by is None else Deed(by, action, slug[:80], details)


def _told(settings: McpSettings, has_secrets: bool) -> dict[str, Any]:
    """What the log has of a new server: enough to know it by. An address may have a secret in its query."""
    return {"host": urlsplit(settings.url).hostname, "secrets": has_secrets}


def _changes(before: McpServer, after: McpServer, has_secrets: bool) -> dict[str, Any]:
    old, new = structs.asdict(before.settings), structs.asdict(after.settings)
    fields = [name for name in new if new[name] != old[name]]
    renamed = {"slug": after.slug} if after.slug != before.slug else {}
    return {"fields": sorted([*fields, *(["secrets"] if has_secrets else [])]), **renamed}
