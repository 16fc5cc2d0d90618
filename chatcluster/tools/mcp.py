"""All of MCP in one replica: its parts, how long they run, and what the routes use of them."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import trio

from chatcluster.arguments import load_library
from chatcluster.mcp_errors import LoginNotFound, SignInOfAnother
from chatcluster.ports import (
    MCP_LOOKS_CHANNEL,
    McpReport,
    McpServer,
    McpServers,
    McpToolReport,
    PubSub,
    SignedInAt,
)
from chatcluster.secrets import Keyring
from chatcluster.tools.mcp_credentials import Credentials, SignInNeeded
from chatcluster.tools.mcp_directory import McpDirectory
from chatcluster.tools.mcp_link import McpFailed, McpLink
from chatcluster.tools.mcp_lists import ToolLists
from chatcluster.tools.mcp_toolbox import McpToolbox, provider_name, tool_of

SERVER_ID_BYTES = 16
THERE_SECONDS_MAX = 5.0
"""The wait at the start. Chats without tools wait as well, where no other replica has a place for them."""


class McpTools:
    """``run`` has to run as long as the replica works. Where there is a server, what takes long is made beforehand: the
    process that speaks to servers, and what arguments are checked with. So a replica works on chats when it is
    ``there``, and a call that it takes over waits for neither."""

    def __init__(self, servers: McpServers, pubsub: PubSub, keyring: Keyring, *, browsers_url: str) -> None:
        self._link = McpLink()
        self._needed = trio.Event()
        self._loaded = trio.Event()
        self._servers = servers
        self._pubsub = pubsub
        self.credentials = Credentials(servers, keyring, self._link, browsers_url=browsers_url)
        self._lists = ToolLists(self._link, self.credentials)
        self._directory = McpDirectory(servers, pubsub, self._warm_up)
        self.toolbox = McpToolbox(self._directory, self._lists, self.credentials)

    async def run(self) -> None:
        """Until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._load)
            nursery.start_soon(self._link.run)
            nursery.start_soon(self._lists.run)
            nursery.start_soon(self._directory.run)
            nursery.start_soon(self._forget_looked_at)

    async def there(self) -> None:
        """Return when calls would begin at once, or ``THERE_SECONDS_MAX`` have passed."""
        with trio.move_on_after(THERE_SECONDS_MAX):
            await self._directory.read()
            if self._directory.has_any:
                await self._loaded.wait()
                await self._link.started()

    def _warm_up(self) -> None:
        if self._directory.has_any:
            self._link.want()
            self._needed.set()

    async def _load(self) -> None:
        await self._needed.wait()
        await trio.to_thread.run_sync(load_library)
        self._loaded.set()

    async def _forget_looked_at(self) -> None:
        """Read lists anew of which somebody knows better. A word that gets lost costs what ``mcp_lists.py`` says."""
        async with self._pubsub.subscribe(MCP_LOOKS_CHANNEL) as looked_at:
            while True:
                word = await looked_at.receive()
                if isinstance(word, bytes) and len(word) == SERVER_ID_BYTES:
                    self._lists.forget_server(UUID(bytes=word))

    @property
    def process_id(self) -> int:
        """The ID of the process that speaks to servers; 0 while there is none."""
        return self._link.process_id

    def knows(self, server: McpServer) -> bool:
        """Whether this replica works with this revision of the server, or a later one."""
        return self._directory.revision_of(server.id) >= server.revision

    def forget_lists(self) -> None:
        """Have every list of tools read anew."""
        self._lists.clear()

    # for routes

    async def test(self, server: McpServer, user_id: UUID) -> McpReport:
        """Connect now, and list what a chat of this user would get. What goes wrong is in the report.

        What replicas have in mind of the server is forgotten: a test follows a change there, as a rule.
        """
        self._pubsub.publish(MCP_LOOKS_CHANNEL, server.id.bytes)
        self._lists.forget_server(server.id)
        try:
            found = await self._lists.look(server, user_id)
        except McpFailed as failure:
            if isinstance(failure, SignInNeeded):
                return McpReport(ok=False, error="sign in first", trouble="sign_in")
            return McpReport(ok=False, error=failure.message, trouble=failure.trouble)
        tools = [
            McpToolReport(
                name=listed.name,
                called=provider_name(server.slug, listed.name),
                description=listed.description,
                available=server.settings.has(listed.name),
                effect=(tool := tool_of(server, listed, listed.name)).effect,
                approval=tool.approval,
            )
            for listed in found.tools
        ]
        return McpReport(ok=True, tools=tools, left_out=found.left_out, instructions=found.instructions)

    def client_document(self) -> dict[str, Any]:
        return self.credentials.clients.document()

    async def begin_sign_in(self, server: McpServer, user_id: UUID) -> str:
        return await self.credentials.begin_sign_in(server, user_id)

    async def begin_sign_in_by_link(self, ticket: str, *, visitor: UUID | None = None) -> str:
        """Raises ``LoginNotFound``, ``SignInFailed`` and ``SignInOfAnother``."""
        named = self.credentials.links.ticket(ticket)
        if visitor not in (None, named.user_id):
            raise SignInOfAnother
        server = next((s for s in await self._servers.servers() if s.id == named.server_id), None)
        if server is None:
            raise LoginNotFound("the server of tools is gone")
        url = await self.credentials.begin_sign_in(server, named.user_id)
        await self.credentials.links.use(ticket, named)  # not before: if that fails, the user may try again
        return url

    async def finish_sign_in(
        self, state: str, code: str, issuer: str | None, *, visitor: UUID | None = None
    ) -> SignedInAt:
        """Sign the user in whom the state names; where that is. Raises ``LoginNotFound``, ``SignInFailed`` and
        ``SignInOfAnother``."""
        login = await self.credentials.finish_sign_in(state, code, issuer, visitor)
        self._lists.forget_user(login.server_id, login.user_id)
        slug = next((s.slug for s in await self._servers.servers() if s.id == login.server_id), "")
        return SignedInAt(slug, login.user_id)

    async def drop_sign_in(self, state: str, issuer: str | None) -> bool:
        """The user came back without a code. Whether what else was brought back is the authorization server's word."""
        return await self.credentials.drop_sign_in(state, issuer)

    async def sign_out(self, server: McpServer, user_id: UUID) -> bool:
        """Forget what this user has been given there. False if there was nothing."""
        self._lists.forget_user(server.id, user_id)
        return await self._servers.drop_grant(server.id, user_id)
