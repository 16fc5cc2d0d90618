"""OAuth as MCP servers want it: how the authorization server is found, and what is said to it. Without I/O: ``Fetch``
makes the requests.

In order: the protected resource says who its authorization server is (RFC 9728); that says where its endpoints are
(RFC 8414, or OpenID's document); the cluster registers itself there unless it has a client ID (RFC 7591), or where that
cannot be, is known by a document of its own, if such are read there; a user signs in with PKCE (S256), for this one
resource (RFC 8707), and for as long as the user wants, where that has to be asked for (``offline_access``). A server
that says nothing of all that is taken for its own authorization server, at the paths that the first MCP specification
named.

URLs that a server names are not trusted: they lead to http(s) only, and to plain http only from a server that is itself
reached by it. Where they lead to is guarded besides (``mcp_http.py``), and redirects are followed within one origin. A
place where a document may be is passed over where it is none of these; whatever else is wrong is an ``McpFailed``.
"""

from __future__ import annotations

import hashlib
import math
import re
from base64 import b64encode, urlsafe_b64encode
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import quote, urlencode, urljoin, urlsplit

import msgspec

from chatcluster.errors import ConfigError
from chatcluster.parts import UNDECODABLE
from chatcluster.ports import ClientCredentialsAuth, OAuthAuth
from chatcluster.setting_checks import check_http_url
from chatcluster.tools.mcp_link import McpFailed
from chatcluster.tools.mcp_wire import Fetched, Trouble

Fetch = Callable[[str, str, dict[str, str], bytes], Awaitable[Fetched]]
"""Method, URL, headers, body."""
LIFETIME_SECONDS_MAX = 10 * 365 * 86_400.0
NOT_NOW = ("temporarily_unavailable", "server_error", "internal_error", "slow_down", "rate_limited")
"""Errors that say nothing of the login."""
PING = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'
REDIRECTS = (301, 302, 303, 307, 308)
REDIRECTS_MAX = 3
LASTING = "offline_access"
"""The scope that authorization servers give refresh tokens for, where they have it. Users have to be asked then."""

_METADATA = re.compile(r'resource_metadata\s*=\s*"?([^",\s]+)')
_SCOPE = re.compile(r'(?:^|[\s,])scope\s*=\s*(?:"([^"]*)"|([^",\s]+))')
_TOO_NARROW = re.compile(r'(?:^|[\s,])error\s*=\s*"?insufficient_scope\b')


class Endpoints(msgspec.Struct, frozen=True, kw_only=True):
    issuer: str
    authorization_url: str
    token_url: str
    registration_url: str = ""
    auth_methods: tuple[str, ...] = ()
    resource: str = ""
    scope: str = ""
    reads_documents: bool = False
    """A client may be known by the URL of a document about itself."""
    names_itself: bool = False
    """The server's answer to a sign-in says which server it is from (RFC 9207)."""


class OAuthClient(msgspec.Struct, frozen=True):
    client_id: str
    client_secret: str = ""
    auth_method: str = "none"


class SignIn(msgspec.Struct, frozen=True, kw_only=True):
    """What has to be known when the user comes back."""

    verifier: str
    redirect_uri: str
    issuer: str
    token_url: str
    client: OAuthClient
    resource: str
    scope: str = ""
    names_itself: bool = False


class Tokens(msgspec.Struct, frozen=True, kw_only=True):
    """What a grant holds."""

    access_token: str
    refresh_token: str = ""
    token_url: str
    client: OAuthClient
    resource: str
    scope: str = ""
    """What the user was asked for."""
    wanted: str = ""
    """What the server has asked for since."""


def is_given_for(tokens: Tokens, server_url: str) -> bool:
    """Whether the tokens were given for the host of this URL, as far as they say it."""
    return urlsplit(tokens.resource).hostname in (None, urlsplit(server_url).hostname)


class TokenAnswer(msgspec.Struct, frozen=True):
    access_token: str
    expires_in: float | None = None
    refresh_token: str | None = None


class Refused(McpFailed):
    """The authorization server does not accept what it was sent: a grant is of no use any more, say."""


# --- finding the way --------------------------------------------------------------------------


async def discover(fetch: Fetch, server_url: str, auth: OAuthAuth | ClientCredentialsAuth) -> Endpoints:
    """Raises ``McpFailed``."""
    authorization_url = auth.authorization_url if isinstance(auth, OAuthAuth) else ""
    if auth.token_url and (authorization_url or isinstance(auth, ClientCredentialsAuth)):
        return Endpoints(
            issuer="",
            authorization_url=authorization_url,
            token_url=auth.token_url,
            resource=resource_of(server_url),
            scope=auth.scope,
        )
    challenge = (await fetch("POST", server_url, _MCP_HEADERS, PING)).headers.get("www-authenticate", "")
    resource = await _resource_metadata(fetch, server_url, challenge)
    issuer = _first(resource.get("authorization_servers")) or _origin(server_url)
    _check_url(issuer, server_url)
    found = await _server_metadata(fetch, issuer, is_guess=not resource)
    endpoints = Endpoints(
        issuer=issuer if found else "",
        authorization_url=authorization_url or str(found.get("authorization_endpoint") or f"{issuer}/authorize"),
        token_url=auth.token_url or str(found.get("token_endpoint") or f"{issuer}/token"),
        registration_url=str(found.get("registration_endpoint") or ("" if found else f"{issuer}/register")),
        auth_methods=_words(found.get("token_endpoint_auth_methods_supported")),
        resource=_named_resource(resource, server_url),
        scope=auth.scope
        or _lasting(_asked_scope(challenge) or " ".join(_words(resource.get("scopes_supported"))), found),
        reads_documents=found.get("client_id_metadata_document_supported") is True,
        names_itself=found.get("authorization_response_iss_parameter_supported") is True,
    )
    for url in (endpoints.authorization_url, endpoints.token_url, endpoints.registration_url):
        _check_url(url or issuer, server_url)
    return endpoints


_MCP_HEADERS = {"content-type": "application/json", "accept": "application/json, text/event-stream"}


async def _resource_metadata(fetch: Fetch, server_url: str, challenge: str) -> Mapping[str, Any]:
    named = _METADATA.search(challenge)
    path = urlsplit(server_url).path.rstrip("/")
    well_known = f"{_origin(server_url)}/.well-known/oauth-protected-resource"
    urls = [*([_joined(server_url, named[1])] if named else []), *([well_known + path] if path else []), well_known]
    for url in dict.fromkeys(urls):
        if _may_be_asked(url, server_url) and (found := await _document(fetch, url)):
            return found
    return {}


async def _server_metadata(fetch: Fetch, issuer: str, *, is_guess: bool) -> Mapping[str, Any]:
    origin, path = _origin(issuer), urlsplit(issuer).path.rstrip("/")
    urls = [
        f"{origin}/.well-known/oauth-authorization-server{path}",
        f"{origin}/.well-known/openid-configuration{path}",
        f"{origin}{path}/.well-known/openid-configuration",
    ]
    is_another = False
    for url in dict.fromkeys(urls):
        found = await _document(fetch, url)
        if found and str(found.get("issuer", issuer)).rstrip("/") == issuer.rstrip("/"):
            return found
        is_another |= bool(found)
    if is_another and not is_guess:
        raise McpFailed(Trouble.GARBAGE, "the authorization server says that it is another one")
    return {}


async def _document(fetch: Fetch, url: str) -> Mapping[str, Any]:
    for _ in range(REDIRECTS_MAX + 1):
        answer = await fetch("GET", url, {"accept": "application/json"}, b"")
        if answer.status not in REDIRECTS:
            return _json_object(answer) if answer.status == 200 else {}
        place, url = url, _joined(url, answer.headers.get("location", ""))
        if _origin(url) != _origin(place):
            break
    return {}


def _joined(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError:
        return ""


def resource_of(server_url: str) -> str:
    """The server's URL as a resource indicator."""
    return server_url.partition("#")[0]


def _named_resource(metadata: Mapping[str, Any], server_url: str) -> str:
    """What the server calls itself, if that is a name for the URL that we know it by."""
    named = metadata.get("resource")
    own = resource_of(server_url)
    return named if isinstance(named, str) and _leads_to(named, own) else own


def _leads_to(named: str, url: str) -> bool:
    """Whether it is the URL, or one above it on the same server: else tokens for somebody else would be sent there."""
    try:
        above, below = urlsplit(named), urlsplit(url)
    except ValueError:
        return False
    is_within = f"{below.path}/".startswith(f"{above.path.rstrip('/')}/")
    return _origin(named).lower() == _origin(url).lower() and is_within and above.query in ("", below.query)


def _lasting(scope: str, metadata: Mapping[str, Any]) -> str:
    """What is asked for, and that it lasts, where the authorization server wants that said. Without any scope it
    chooses by itself."""
    return both_scopes(scope, LASTING) if scope and LASTING in _words(metadata.get("scopes_supported")) else scope


def _asked_scope(challenge: str) -> str:
    found = _SCOPE.search(challenge)
    return (found[1] or found[2] or "") if found else ""


def wider_scope(challenge: str) -> str:
    """What a server asks for that knows the user, and wants more than this login may. No fresh token of it does."""
    return _asked_scope(challenge) if _TOO_NARROW.search(challenge) else ""


def both_scopes(one: str, other: str) -> str:
    return " ".join(dict.fromkeys([*one.split(), *other.split()]))


def _check_url(url: str, server_url: str) -> None:
    try:
        check_http_url("url", url)
    except ConfigError:
        raise McpFailed(Trouble.GARBAGE, "the server names a URL that is none of http or https") from None
    if urlsplit(url).scheme == "http" and urlsplit(server_url).scheme == "https":
        raise McpFailed(Trouble.GARBAGE, "the server is reached by https, and names a URL of plain http")


def _may_be_asked(url: str, server_url: str) -> bool:
    try:
        _check_url(url, server_url)
    except McpFailed:
        return False
    return True


def _origin(url: str) -> str:
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc}"


def _first(value: object) -> str:
    return value[0] if isinstance(value, list) and value and isinstance(value[0], str) else ""


def _words(value: object) -> tuple[str, ...]:
    return tuple(word for word in value if isinstance(word, str)) if isinstance(value, list) else ()


# --- registering and signing in ---------------------------------------------------------------


async def register(fetch: Fetch, endpoints: Endpoints, redirect_uri: str) -> OAuthClient:
    """A client of this cluster's own. Raises ``McpFailed``."""
    if not endpoints.registration_url:
        raise McpFailed(Trouble.REFUSED, "the authorization server registers nobody: configure a client ID")
    method = "none" if "none" in endpoints.auth_methods else "client_secret_post"
    wanted = description(redirect_uri, method) | ({"scope": endpoints.scope} if endpoints.scope else {})
    headers = {"content-type": "application/json", "accept": "application/json"}
    answer = await fetch("POST", endpoints.registration_url, headers, msgspec.json.encode(wanted))
    registered = _json_object(answer)
    client_id, secret = registered.get("client_id"), registered.get("client_secret") or ""
    if answer.status not in (200, 201) or not isinstance(client_id, str) or not isinstance(secret, str):
        raise McpFailed(Trouble.REFUSED, f"registering as a client failed: {_said(answer)}")
    method = registered.get("token_endpoint_auth_method") or ("client_secret_basic" if secret else "none")
    return OAuthClient(client_id, secret, str(method))


def description(redirect_uri: str, auth_method: str = "none") -> dict[str, Any]:
    """What the cluster says of itself as a client."""
    return {
        "client_name": "chatcluster",
        "redirect_uris": [redirect_uri],
        "grant_types": ["authorization_code", "refresh_token"],
        "response_types": ["code"],
        "token_endpoint_auth_method": auth_method,
    }


def configured_client(client_id: str, client_secret: str, endpoints: Endpoints) -> OAuthClient:
    methods = endpoints.auth_methods or ("client_secret_basic",)
    basic = "client_secret_basic" in methods
    return OAuthClient(
        client_id,
        client_secret,
        "none" if not client_secret else "client_secret_basic" if basic else "client_secret_post",
    )


def authorization_url(endpoints: Endpoints, sign_in: SignIn, state: str) -> str:
    """The address that the user's browser is sent to."""
    challenge = urlsafe_b64encode(hashlib.sha256(sign_in.verifier.encode()).digest()).rstrip(b"=").decode()
    query = {
        "response_type": "code",
        "client_id": sign_in.client.client_id,
        "redirect_uri": sign_in.redirect_uri,
        "state": state,
        "code_challenge": challenge,
        "code_challenge_method": "S256",
        "resource": sign_in.resource,
    } | ({"scope": endpoints.scope} if endpoints.scope else {})
    if LASTING in endpoints.scope.split():
        query["prompt"] = "consent"  # else OpenID's servers leave it out
    separator = "&" if urlsplit(endpoints.authorization_url).query else "?"
    return f"{endpoints.authorization_url}{separator}{urlencode(query)}"


# --- tokens -----------------------------------------------------------------------------------


async def exchange(fetch: Fetch, sign_in: SignIn, code: str) -> TokenAnswer:
    """Raises ``McpFailed``, ``Refused`` among them."""
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": sign_in.redirect_uri,
        "code_verifier": sign_in.verifier,
        "resource": sign_in.resource,
    }
    return await _ask_for_token(fetch, sign_in.token_url, sign_in.client, form)


async def refresh(fetch: Fetch, tokens: Tokens) -> TokenAnswer:
    """Raises ``McpFailed``, ``Refused`` among them."""
    form = {"grant_type": "refresh_token", "refresh_token": tokens.refresh_token, "resource": tokens.resource}
    return await _ask_for_token(fetch, tokens.token_url, tokens.client, form)


async def client_token(fetch: Fetch, endpoints: Endpoints, client: OAuthClient) -> TokenAnswer:
    """A token of the cluster's own. Raises ``McpFailed``, ``Refused`` among them."""
    form = {"grant_type": "client_credentials", "resource": endpoints.resource}
    form |= {"scope": endpoints.scope} if endpoints.scope else {}
    return await _ask_for_token(fetch, endpoints.token_url, client, form)


async def _ask_for_token(fetch: Fetch, url: str, client: OAuthClient, form: dict[str, str]) -> TokenAnswer:
    headers = {"content-type": "application/x-www-form-urlencoded", "accept": "application/json"}
    if client.auth_method == "client_secret_basic":
        pair = f"{quote(client.client_id, safe='')}:{quote(client.client_secret, safe='')}"
        headers["authorization"] = f"Basic {b64encode(pair.encode()).decode()}"
    else:
        form = {**form, "client_id": client.client_id}
        form |= {"client_secret": client.client_secret} if client.client_secret else {}
    answer = await fetch("POST", url, headers, urlencode(form).encode())
    error = _json_object(answer).get("error") if answer.status == 200 else None
    if answer.status in (400, 401, 403) or (error and error not in NOT_NOW):
        raise Refused(Trouble.UNAUTHORIZED, f"no token: {_said(answer)}")
    try:
        if answer.status != 200 or error:
            raise McpFailed(Trouble.UNREACHABLE, f"no token: {_said(answer)}")
        token = msgspec.json.decode(answer.body, type=TokenAnswer, strict=False)
    except UNDECODABLE:
        raise McpFailed(Trouble.GARBAGE, "the authorization server's answer is no token") from None
    if not (token.access_token.isascii() and token.access_token.isprintable() and token.access_token):
        raise McpFailed(Trouble.GARBAGE, "the authorization server's token cannot be sent")
    return msgspec.structs.replace(token, expires_in=_lifetime(token.expires_in))


def _lifetime(seconds: float | None) -> float | None:
    """None for what is no number of seconds: such a token is used until it is refused."""
    if seconds is None or math.isnan(seconds):
        return None
    return min(max(seconds, 0.0), LIFETIME_SECONDS_MAX)


def _json_object(answer: Fetched) -> Mapping[str, Any]:
    try:
        found = msgspec.json.decode(answer.body)
    except UNDECODABLE:
        return {}
    return found if isinstance(found, dict) else {}


def _said(answer: Fetched) -> str:
    """What an authorization server says went wrong. It has no secret in it: only these two fields are shown."""
    found = _json_object(answer)
    words = [str(found[name])[:200] for name in ("error", "error_description") if found.get(name)]
    return ": ".join(words) or f"HTTP {answer.status}"
