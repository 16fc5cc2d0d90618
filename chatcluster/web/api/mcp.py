"""Routes about servers of tools: administrators manage them, users see which they may use and sign in at them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

import msgspec
from litestar import delete, get, patch, post
from litestar.params import FromPath, JSONBody
from msgspec import UNSET

from chatcluster.mcp_errors import McpServerNotFound, SignInFailed
from chatcluster.ports import Grant, McpReport, McpServer, usable
from chatcluster.web.api.answers import REFUSALS
from chatcluster.web.api.mcp_bodies import AddMcpServer, PatchMcpServer, changed_settings, new_settings
from chatcluster.web.auth import require_admin
from chatcluster.web.request import ApiRequest


class SecretAnswer(msgspec.Struct, frozen=True):
    """``last4`` is empty where four characters would be much of the secret."""

    last4: str
    set_at: datetime | None


class McpSettingsAnswer(msgspec.Struct, frozen=True, kw_only=True):
    """What an administrator said of a server."""

    url: str
    transport: str
    auth: dict[str, Any]
    description: str
    enabled: bool
    availability: str
    trusted: bool
    allow: list[str] | None
    deny: list[str]
    approval: str
    tools: dict[str, Any]
    instructions: bool
    idle_seconds: float
    total_seconds: float
    result_bytes_max: int


class McpServerAnswer(McpSettingsAnswer, frozen=True, kw_only=True):
    """A server as administrators see it. ``auth`` is without secrets: ``secrets`` has as much as may be seen."""

    slug: str
    secrets: dict[str, SecretAnswer]
    revision: int
    created_at: datetime | None
    updated_at: datetime | None


class McpServersAnswer(msgspec.Struct, frozen=True):
    mcp_servers: list[McpServerAnswer]


class UsableServer(msgspec.Struct, frozen=True):
    """``availability``: ``choice``, for chats that name it; ``always``. ``sign_in``: each user signs in."""

    slug: str
    description: str
    availability: str
    sign_in: bool


class UsableServersAnswer(msgspec.Struct, frozen=True):
    mcp_servers: list[UsableServer]


class MyServer(msgspec.Struct, frozen=True):
    """``signed_in``: the login is good, as far as is known. ``refused``: it was, and the user has to sign in again."""

    slug: str
    description: str
    signed_in: bool
    refused: bool
    since: datetime | None


class MyServersAnswer(msgspec.Struct, frozen=True):
    mcp_servers: list[MyServer]


class LoginAnswer(msgspec.Struct, frozen=True):
    """``url`` is for the user's browser, within ten minutes."""

    url: str


# --- administrators ---------------------------------------------------------------------------


@get("/admin/mcp-servers", guards=[require_admin], responses=REFUSALS)
async def list_mcp_servers(request: ApiRequest) -> McpServersAnswer:
    """All servers of tools."""
    return McpServersAnswer([server_answer(server) for server in await request.services.mcp.admin.list()])


@post("/admin/mcp-servers", guards=[require_admin], responses=REFUSALS)
async def add_mcp_server(request: ApiRequest, data: JSONBody[AddMcpServer]) -> McpServerAnswer:
    """Add a server. Nothing is connected to: test it for that."""
    settings, secrets = new_settings(data)
    return server_answer(await request.services.mcp.admin.add(data.slug, settings, secrets, by=request.user))


@get("/admin/mcp-servers/{slug:str}", guards=[require_admin], responses=REFUSALS)
async def get_mcp_server(request: ApiRequest, slug: FromPath[str]) -> McpServerAnswer:
    """One server."""
    return server_answer(await request.services.mcp.admin.get(slug))


@patch("/admin/mcp-servers/{slug:str}", guards=[require_admin], responses=REFUSALS)
async def patch_mcp_server(request: ApiRequest, slug: FromPath[str], data: JSONBody[PatchMcpServer]) -> McpServerAnswer:
    """Change a server, on every replica within a few seconds."""
    known = await request.services.mcp.admin.get(slug)
    settings, secrets = changed_settings(known.settings, data)
    new_slug = known.slug if data.slug is UNSET else data.slug
    changed = await request.services.mcp.admin.change(
        known, slug=new_slug, settings=settings, secrets=secrets, by=request.user
    )
    return server_answer(changed)


@delete("/admin/mcp-servers/{slug:str}", guards=[require_admin], responses=REFUSALS)
async def remove_mcp_server(request: ApiRequest, slug: FromPath[str]) -> None:
    """Remove a server, and all logins at it. Chats that name it go on without it."""
    await request.services.mcp.admin.remove(slug, by=request.user)


@post("/admin/mcp-servers/{slug:str}/test", guards=[require_admin], status_code=200, responses=REFUSALS)
async def test_mcp_server(request: ApiRequest, slug: FromPath[str]) -> McpReport:
    """Connect to a server now, as the caller, and list its tools; what is wrong is in the answer."""
    return await request.services.mcp.client.test(await request.services.mcp.admin.get(slug), request.user.user_id)


# --- users ------------------------------------------------------------------------------------


@get("/mcp-servers", responses=REFUSALS)
async def list_usable_servers(request: ApiRequest) -> UsableServersAnswer:
    """The servers that the caller's chats may use."""
    servers = usable(await request.services.mcp.admin.list())
    return UsableServersAnswer(
        [UsableServer(s.slug, s.settings.description, s.settings.availability, s.per_user) for s in servers]
    )


@get("/me/mcp-servers", responses=REFUSALS)
async def list_my_servers(request: ApiRequest) -> MyServersAnswer:
    """The servers at which the caller signs in, and whether the login is good."""
    servers = [server for server in await request.services.mcp.admin.list() if server.per_user and is_known(server)]
    grants = {g.server_id: g for g in await request.services.mcp.admin.servers.grants(request.user.user_id)}
    return MyServersAnswer([_my_server(server, grants.get(server.id)) for server in servers])


@post("/me/mcp-servers/{slug:str}/login", status_code=200, responses=REFUSALS)
async def begin_login(request: ApiRequest, slug: FromPath[str]) -> LoginAnswer:
    """Begin to sign in at a server: where the caller's browser has to go."""
    server = await _known_server(request, slug)
    return LoginAnswer(await request.services.mcp.client.begin_sign_in(server, request.user.user_id))


@delete("/me/mcp-servers/{slug:str}/login", responses=REFUSALS)
async def end_login(request: ApiRequest, slug: FromPath[str]) -> None:
    """Forget the caller's login at a server."""
    server = await _known_server(request, slug)
    if not await request.services.mcp.client.sign_out(server, request.user.user_id):
        raise SignInFailed("you are not signed in there")


async def _known_server(request: ApiRequest, slug: str) -> McpServer:
    server = await request.services.mcp.admin.get(slug)
    if not is_known(server):
        raise McpServerNotFound("there is no such server of tools, or not for you", slug=slug[:80])
    return server


def is_known(server: McpServer) -> bool:
    """Whether users may know of it: also one that is not chosen any more, for chats that have it."""
    return server.settings.enabled


def _my_server(server: McpServer, grant: Grant | None) -> MyServer:
    return MyServer(
        slug=server.slug,
        description=server.settings.description,
        signed_in=grant is not None and not grant.refused,
        refused=grant is not None and grant.refused,
        since=None if grant is None else grant.updated_at,
    )


def server_answer(server: McpServer) -> McpServerAnswer:
    settings = msgspec.convert(msgspec.to_builtins(server.settings), McpSettingsAnswer)
    return McpServerAnswer(
        slug=server.slug,
        secrets={name: SecretAnswer(last4, server.secrets_at) for name, last4 in server.shown.items()},
        revision=server.revision,
        created_at=server.created_at,
        updated_at=server.updated_at,
        **msgspec.structs.asdict(settings),
    )


ROUTES = [
    list_mcp_servers,
    add_mcp_server,
    get_mcp_server,
    patch_mcp_server,
    remove_mcp_server,
    test_mcp_server,
    list_usable_servers,
    list_my_servers,
    begin_login,
    end_login,
]
