"""What administrators send about servers of tools. Authentication comes with its secrets; here they part ways."""

from __future__ import annotations

from typing import Annotated, Literal, NamedTuple

from msgspec import UNSET, Meta, Struct, UnsetType
from msgspec.structs import replace

from chatcluster.mcp_checks import default_transport
from chatcluster.ports import (
    ApiKeyAuth,
    Approval,
    Auth,
    Availability,
    BearerAuth,
    ClientCredentialsAuth,
    Effect,
    HeadersAuth,
    McpSettings,
    NoAuth,
    OAuthAuth,
    ToolPolicy,
    Transport,
)
from chatcluster.web.api.bodies import Body


class AuthBody(Struct, tag_field="kind", frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How the cluster, or each user, gets in."""


class NoAuthBody(AuthBody, tag="none", frozen=True, kw_only=True):
    """Everybody gets in."""


class BearerBody(AuthBody, tag="bearer", frozen=True, kw_only=True):
    """``Authorization: Bearer`` with this token."""

    token: str


class ApiKeyBody(AuthBody, tag="api_key", frozen=True, kw_only=True):
    """One header with a secret."""

    header: str
    value: str


class HeadersBody(AuthBody, tag="headers", frozen=True, kw_only=True):
    """Headers of any names, all with secrets."""

    headers: dict[str, str]


class ClientCredentialsBody(AuthBody, tag="client_credentials", frozen=True, kw_only=True):
    """The cluster signs in as itself (OAuth). Without ``token_url`` it is discovered. ``issuer`` is the authorization
    server that knows the client, and the only one that is shown the secret; else it is the one of its first use."""

    client_id: str
    client_secret: str
    token_url: str = ""
    scope: str = ""
    issuer: str = ""


class OAuthBody(AuthBody, tag="oauth", frozen=True, kw_only=True):
    """Each user signs in. What is left away is discovered; without ``client_id`` the cluster registers itself.
    ``issuer`` as for ``client_credentials``."""

    client_id: str = ""
    client_secret: str = ""
    authorization_url: str = ""
    token_url: str = ""
    scope: str = ""
    issuer: str = ""


AnyAuthBody = NoAuthBody | BearerBody | ApiKeyBody | HeadersBody | ClientCredentialsBody | OAuthBody


class ToolPolicyBody(Body, frozen=True, kw_only=True):
    """What holds for one tool. ``effect``: read, idempotent or once; what is left away is as for the whole server."""

    approval: Approval | None = None
    effect: Literal["read", "idempotent", "once"] | None = None


class McpServerBody(Body, frozen=True, kw_only=True):
    """What may be said of a server, all of it optional."""

    transport: Annotated[Transport | UnsetType, Meta(description="Default: sse for a URL that ends in /sse")] = UNSET
    auth: AnyAuthBody | UnsetType = UNSET
    description: str | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    availability: Availability | UnsetType = UNSET
    trusted: bool | UnsetType = UNSET
    allow: list[str] | UnsetType | None = UNSET
    deny: list[str] | UnsetType = UNSET
    approval: Approval | UnsetType = UNSET
    tools: dict[str, ToolPolicyBody] | UnsetType = UNSET
    instructions: bool | UnsetType = UNSET
    idle_seconds: float | UnsetType = UNSET
    total_seconds: float | UnsetType = UNSET
    result_bytes_max: int | UnsetType = UNSET


class AddMcpServer(McpServerBody, frozen=True, kw_only=True):
    """A new server of tools."""

    slug: Annotated[str, Meta(description="1 to 32 lower-case letters, digits and hyphens; part of its tools' names")]
    url: str


class PatchMcpServer(McpServerBody, frozen=True, kw_only=True):
    """What is left away stays as it is. ``auth`` is replaced as a whole, secrets included."""

    slug: str | UnsetType = UNSET
    url: str | UnsetType = UNSET


class Split(NamedTuple):
    auth: Auth
    secrets: dict[str, str]


def new_settings(body: AddMcpServer) -> tuple[McpSettings, dict[str, str]]:
    """Settings and secrets of a new server."""
    settings, secrets = changed_settings(McpSettings(url=body.url, transport=default_transport(body.url)), body)
    return settings, secrets or {}


def changed_settings(settings: McpSettings, body: McpServerBody) -> tuple[McpSettings, dict[str, str] | None]:
    """The settings with what the body says, and the secrets if it says something of them."""
    given = {name: value for name in body.__struct_fields__ if (value := getattr(body, name)) is not UNSET}
    given.pop("slug", None)
    if "url" in given and settings.transport is default_transport(settings.url):  # nobody said another one
        given = {"transport": default_transport(given["url"]), **given}
    secrets = None
    if "auth" in given:
        given["auth"], secrets = split(given["auth"])
    for name in ("allow", "deny"):
        if given.get(name) is not None:
            given[name] = tuple(given[name])
    if "tools" in given:
        given["tools"] = {name: _policy(policy) for name, policy in given["tools"].items()}
    return replace(settings, **given), secrets


def split(body: AnyAuthBody) -> Split:
    """What may be shown, and the secrets by their names."""
    match body:
        case BearerBody(token=token):
            return Split(BearerAuth(), {"token": token})
        case ApiKeyBody(header=header, value=value):
            return Split(ApiKeyAuth(header), {"value": value})
        case HeadersBody(headers=headers):
            return Split(HeadersAuth(tuple(headers)), headers)
        case ClientCredentialsBody():
            auth = ClientCredentialsAuth(body.client_id, body.token_url, body.scope, body.issuer)
            return Split(auth, {"client_secret": body.client_secret})
        case OAuthBody():
            secrets = {"client_secret": body.client_secret} if body.client_secret else {}
            urls = (body.authorization_url, body.token_url)
            return Split(OAuthAuth(body.client_id, *urls, body.scope, body.issuer), secrets)
        case _:
            return Split(NoAuth(), {})


def _policy(body: ToolPolicyBody) -> ToolPolicy:
    return ToolPolicy(approval=body.approval, effect=None if body.effect is None else Effect(body.effect))
