"""As which client an authorization server knows the cluster: one that an administrator configured, one that the cluster
registered by itself, or a document of its own.

A configured client is one of a single authorization server, its *issuer*, and no other is shown its ID and secret. An
administrator says which one that is, or else it is the first one that the client was used at. A server of tools that
names another one from then on has moved, or was taken over: nobody signs in there until an administrator configures the
client anew. What the cluster registers by itself is made for each sign-in, and so is nobody else's.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any
from uuid import UUID

from msgspec.structs import replace

from chatcluster.mcp_errors import McpServerChanged, McpServerNotFound
from chatcluster.ports import ClientCredentialsAuth, McpServer, McpServers, OAuthAuth
from chatcluster.tools import mcp_oauth
from chatcluster.tools.mcp_discovery import Endpoints, Fetch, is_same_issuer
from chatcluster.tools.mcp_link import McpFailed
from chatcluster.tools.mcp_oauth import OAuthClient
from chatcluster.tools.mcp_wire import Trouble

SHOWN_CHARS = 200
KNOWN_AS_CLIENT = (ClientCredentialsAuth, OAuthAuth)


class OAuthClients:
    def __init__(self, servers: McpServers, fetch: Fetch, *, browsers_url: str) -> None:
        self._servers = servers
        self._fetch = fetch
        self.browsers_url = browsers_url

    @property
    def redirect_uri(self) -> str:
        return f"{self.browsers_url}/oauth/mcp/callback"

    @property
    def document_url(self) -> str:
        """Where the cluster says what it is as a client."""
        return f"{self.browsers_url}/oauth/mcp/client"

    def document(self) -> dict[str, Any]:
        return {"client_id": self.document_url, **mcp_oauth.description(self.redirect_uri)}

    async def client(self, server: McpServer, secrets: dict[str, str], endpoints: Endpoints) -> OAuthClient:
        """Raises ``McpFailed``."""
        auth = server.settings.auth
        if not isinstance(auth, KNOWN_AS_CLIENT) or not auth.client_id:
            return await self._own_client(endpoints)
        issuer = await self._issuer_of(server)
        if issuer and endpoints.issuer and not is_same_issuer(endpoints.issuer, issuer):
            named = endpoints.issuer[:SHOWN_CHARS]
            raise McpFailed(
                Trouble.UNAUTHORIZED,
                f"its client was configured for the authorization server {issuer}, and it names {named!r} now: "
                "if that is right, an administrator has to configure a client of that one",
            )
        return mcp_oauth.configured_client(auth.client_id, secrets.get("client_secret", ""), endpoints)

    async def _issuer_of(self, server: McpServer) -> str:
        """As the row has it: what this replica knows of it may be older than the client's first use."""
        auths = (row.settings.auth for row in await self._servers.servers() if row.id == server.id)
        return next((auth.issuer for auth in auths if isinstance(auth, KNOWN_AS_CLIENT)), "")

    async def _own_client(self, endpoints: Endpoints) -> OAuthClient:
        try:
            return await mcp_oauth.register(self._fetch, endpoints, self.redirect_uri)
        except McpFailed as failure:
            is_readable = endpoints.reads_documents and self.document_url.startswith("https://")
            if failure.trouble is Trouble.REFUSED and is_readable:
                return OAuthClient(self.document_url)
            raise

    async def was_of_use(self, server_id: UUID, client_id: str, issuer: str) -> None:
        """Keep that this authorization server knows the client, if it was configured, and nothing is kept yet."""
        for server in await self._servers.servers():
            auth = server.settings.auth
            if server.id != server_id or not isinstance(auth, KNOWN_AS_CLIENT):
                continue
            if auth.client_id == client_id and issuer and not auth.issuer:
                bound = replace(server.settings, auth=replace(auth, issuer=issuer))
                with suppress(McpServerChanged, McpServerNotFound):  # whoever was quicker knows better
                    await self._servers.change(replace(server, settings=bound))
