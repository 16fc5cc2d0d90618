"""Servers of tools that speak MCP: which there are, how they are reached, and who is signed in at them.

Who is authoritative: the rows. A replica works from a copy of them that is a few seconds old at most
(``tools/mcp_directory.py``). Secrets are sealed by the caller (``secrets.py``), so a store never sees one.

A **grant** is what an authorization server gave to one user for one server: tokens, sealed. One of several that want
to refresh it may (``claim_refresh``), because a refresh token that is used twice costs the whole grant; the claim ends
by itself, so a replica that dies with it keeps nobody out.

What users gave and allowed to a server ends with it: their grants where it is removed or is reached at another place
from then on, what they allowed to its tools for good there, and also where those get other names.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple, Protocol
from urllib.parse import urlsplit
from uuid import UUID

import msgspec

from chatcluster.errors import InvalidRequest
from chatcluster.mcp_errors import McpServerNotFound
from chatcluster.ports.administration import Deed
from chatcluster.ports.toolbox import Approval, Effect

MCP_SERVERS_MAX = 100
"""The most servers of a deployment: every replica has all of them in memory."""
CHOSEN_MAX = 32
"""Servers of one chat."""


class Transport(StrEnum):
    STREAMABLE_HTTP = "streamable-http"
    SSE = "sse"


class Availability(StrEnum):
    """``off``: nobody may choose it, chats that have it keep it. ``choice``: for chats that name it. ``always``: for
    every chat."""

    OFF = "off"
    CHOICE = "choice"
    ALWAYS = "always"


class NoAuth(msgspec.Struct, tag_field="kind", tag="none", frozen=True):
    """Everybody gets in."""


class BearerAuth(msgspec.Struct, tag_field="kind", tag="bearer", frozen=True):
    """``Authorization: Bearer`` with one token for all."""


class ApiKeyAuth(msgspec.Struct, tag_field="kind", tag="api_key", frozen=True):
    header: str


class HeadersAuth(msgspec.Struct, tag_field="kind", tag="headers", frozen=True):
    names: tuple[str, ...]


class ClientCredentialsAuth(msgspec.Struct, tag_field="kind", tag="client_credentials", frozen=True):
    """The cluster signs in as itself. Without ``token_url`` it is discovered."""

    client_id: str
    token_url: str = ""
    scope: str = ""
    issuer: str = ""
    """The authorization server that knows the client; empty until it is of use for the first time."""


class OAuthAuth(msgspec.Struct, tag_field="kind", tag="oauth", frozen=True):
    """Each user signs in. What is empty is discovered; without ``client_id`` the cluster registers itself."""

    client_id: str = ""
    authorization_url: str = ""
    token_url: str = ""
    scope: str = ""
    issuer: str = ""
    """As for ``ClientCredentialsAuth``, where there is a ``client_id``."""


Auth = NoAuth | BearerAuth | ApiKeyAuth | HeadersAuth | ClientCredentialsAuth | OAuthAuth


class ToolPolicy(msgspec.Struct, frozen=True, omit_defaults=True):
    """What an administrator says of one tool; what is None is as for the whole server."""

    approval: Approval | None = None
    effect: Effect | None = None


class McpSettings(msgspec.Struct, frozen=True, kw_only=True):
    """All that an administrator says of a server, secrets aside."""

    url: str
    transport: Transport = Transport.STREAMABLE_HTTP
    auth: Auth = NoAuth()
    description: str = ""
    enabled: bool = True
    availability: Availability = Availability.CHOICE
    trusted: bool = False
    """Whether the server's word on what its tools do (``readOnlyHint``, ``idempotentHint``) counts."""
    allow: tuple[str, ...] | None = None
    """Names of the only tools to be had; else all but those of ``deny``."""
    deny: tuple[str, ...] = ()
    approval: Approval = Approval.NEVER
    tools: dict[str, ToolPolicy] = {}
    instructions: bool = True
    """The model is told what the server says about itself."""
    idle_seconds: float = 60.0
    total_seconds: float = 600.0
    result_bytes_max: int = 10 << 20

    def has(self, tool: str) -> bool:
        """Whether a tool of that name is to be had."""
        return tool in self.allow if self.allow is not None else tool not in self.deny


class McpServer(msgspec.Struct, frozen=True, kw_only=True):
    id: UUID
    slug: str
    settings: McpSettings
    revision: int = 1
    """Grows with each change."""
    sealed: bytes | None = None
    """JSON of the secrets, by their names."""
    shown: dict[str, str] = {}
    """The secrets' names, and as much of each as may be shown."""
    secrets_at: datetime | None = None
    created_at: datetime | None = None
    updated_at: datetime | None = None

    @property
    def per_user(self) -> bool:
        """Whether each user has an own login, and perhaps other tools."""
        return isinstance(self.settings.auth, OAuthAuth)


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """A sign-in that has begun: somebody was sent to the authorization server, and comes back with the state."""

    state_digest: bytes
    server_id: UUID
    user_id: UUID
    sealed: bytes
    """JSON of what is needed to go on."""


class Grant(msgspec.Struct, frozen=True, kw_only=True):
    server_id: UUID
    user_id: UUID
    sealed: bytes
    """JSON of the tokens, and of what is needed to refresh them."""
    revision: int = 0
    refused: bool = False
    """The grant is of no use any more; the user has to sign in again."""
    seconds_left: float | None = None
    """Until the access token expires, by the database's clock; None: it was not said."""
    updated_at: datetime | None = None


class McpServers(Protocol):
    """A ``deed`` is logged with what was done, and not where that is refused."""

    async def servers(self) -> tuple[McpServer, ...]:
        """All, by slug."""
        ...

    async def add(self, server: McpServer, deed: Deed | None = None) -> McpServer:
        """Raises ``SlugTaken`` and ``McpServersFull``."""
        ...

    async def change(self, server: McpServer, deed: Deed | None = None) -> McpServer:
        """Replace the row that has this ID and revision, with what ends by that (``is_elsewhere``). Raises
        ``McpServerChanged`` if it has another revision, ``McpServerNotFound``, ``SlugTaken``."""
        ...

    async def remove(self, slug: str, deed: Deed | None = None) -> bool:
        """Remove a server with its grants, and what was allowed to its tools. False if there is none."""
        ...

    async def begin_login(self, login: Login, *, seconds: float) -> bool:
        """Keep it for so long; False if there is one with this state already, which stays. What is past its time goes
        at the same occasion. Raises ``McpServerNotFound``."""
        ...

    async def take_login(self, state_digest: bytes) -> Login | None:
        """Once, and within its time."""
        ...

    async def grant(self, server_id: UUID, user_id: UUID) -> Grant | None: ...

    async def grants(self, user_id: UUID) -> tuple[Grant, ...]: ...

    async def keep_grant(self, grant: Grant) -> bool:
        """Keep a grant, in the place of any other, with a new revision. ``grant.revision`` 0 is a new login, and always
        kept; another one is a refresh of that revision. False if that is not there any more, or its server."""
        ...

    async def claim_refresh(self, grant: Grant, *, seconds: float) -> bool:
        """Whether the caller may refresh the grant, of this revision: nobody else does for so many seconds."""
        ...

    async def refuse_grant(self, grant: Grant) -> bool:
        """The authorization server, or the MCP server, does not accept it. False if there is a newer revision."""
        ...

    async def drop_grant(self, server_id: UUID, user_id: UUID) -> bool: ...


class McpToolReport(msgspec.Struct, frozen=True, kw_only=True):
    """A tool as a test finds it. ``called`` is what the model calls it, ``available`` whether a chat gets it."""

    name: str
    called: str
    description: str
    effect: Effect
    approval: Approval
    available: bool


class McpReport(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a test of a server found: its tools, or what is the ``trouble`` with it."""

    ok: bool
    tools: list[McpToolReport] = []
    left_out: int = 0
    instructions: str = ""
    trouble: str = ""
    error: str = ""


class SignedInAt(NamedTuple):
    """``slug`` of the server; empty if it is gone by now."""

    slug: str
    user_id: UUID


class McpClient(Protocol):
    """What routes use of the part that speaks to the servers."""

    async def test(self, server: McpServer, user_id: UUID) -> McpReport:
        """Connect now, and list what a chat of this user would get. What goes wrong is in the report."""
        ...

    def client_document(self) -> dict[str, Any]:
        """What the cluster says of itself to authorization servers that read that instead of registering it."""
        ...

    async def begin_sign_in(self, server: McpServer, user_id: UUID) -> str:
        """The URL that the user's browser has to go to. Raises ``SignInFailed``, and ``NoEncryptionKeys``."""
        ...

    async def begin_sign_in_by_link(self, ticket: str, *, visitor: UUID | None = None) -> str:
        """Begin a sign-in for the user that the link names. Raises ``LoginNotFound`` besides, and ``SignInOfAnother``
        if that is not the ``visitor``: who is signed in on the page in the browser that follows the link, if known."""
        ...

    async def finish_sign_in(
        self, state: str, code: str, issuer: str | None, *, visitor: UUID | None = None
    ) -> SignedInAt:
        """The user came back with a code. Raises ``LoginNotFound``, ``SignInFailed``, ``SignInOfAnother``."""
        ...

    async def drop_sign_in(self, state: str, issuer: str | None) -> bool:
        """The user came back without a code. Whether what else was brought back is the authorization server's word."""
        ...

    async def sign_out(self, server: McpServer, user_id: UUID) -> bool:
        """Forget what this user has been given there. False if there was nothing."""
        ...


MCP_SERVERS_CHANNEL = "mcp-servers"
"""A server of tools was added, changed or removed: read them again."""
MCP_LOOKS_CHANNEL = "mcp-looks"
"""Somebody looks at the server of this ID: what is known of its tools may be old."""


def is_elsewhere(before: McpServer, after: McpServer) -> bool:
    """Whether a change makes another server of it: one at another place, by scheme, host and port."""
    return _place_of(before) != _place_of(after)


def _place_of(server: McpServer) -> tuple[str, str]:
    parts = urlsplit(server.settings.url)
    return parts.scheme, parts.netloc.lower()


def tools_prefix(slug: str) -> str:
    """What the names of its tools begin with, and those of no other server's."""
    return f"{slug}__"


def usable(servers: Sequence[McpServer]) -> tuple[McpServer, ...]:
    """The servers that a user may choose or has anyway."""
    return tuple(s for s in servers if s.settings.enabled and s.settings.availability is not Availability.OFF)


async def checked_choice(servers: McpServers, slugs: Sequence[str], *, had: Collection[str] = ()) -> tuple[str, ...]:
    """The slugs that a chat is to have, without repeats, in their order. It keeps what it ``had``.

    Raises ``InvalidRequest`` for more than ``CHOSEN_MAX``, and ``McpServerNotFound`` for one that the chat's owner may
    not use: whether it exists is not told.
    """
    chosen = tuple(dict.fromkeys(slugs))
    if len(chosen) > CHOSEN_MAX:
        raise InvalidRequest(f"mcp_servers has more than {CHOSEN_MAX} entries")
    new = [slug for slug in chosen if slug not in had]
    there = {server.slug for server in usable(await servers.servers())} if new else set()
    for slug in new:
        if slug not in there:
            raise McpServerNotFound(f"there is no server of tools {slug[:80]!r}, or not for you", slug=slug[:80])
    return chosen
