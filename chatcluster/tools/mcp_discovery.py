"""How an MCP server's authorization server is found, and what it can do. Without I/O: ``Fetch`` makes the requests.

In order: the protected resource says who its authorization server is (RFC 9728); that says where its endpoints are
(RFC 8414, or OpenID's document). A server that says nothing of all that is taken for its own authorization server, at
the paths that the first MCP specification named.

URLs that a server names are not trusted: they lead to http(s) only, and to plain http only from a server that is itself
reached by it. Where they lead to is guarded besides (``mcp_http.py``), and redirects are followed within one origin. A
place where a document may be is passed over where it is none of these; whatever else is wrong is an ``McpFailed``.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any
from urllib.parse import urljoin, urlsplit

import msgspec

from chatcluster.errors import ConfigError
from chatcluster.parts import UNDECODABLE
from chatcluster.ports import ClientCredentialsAuth, OAuthAuth
from chatcluster.setting_checks import check_http_url, is_on_this_machine
from chatcluster.tools.mcp_link import McpFailed
from chatcluster.tools.mcp_wire import Fetched, Trouble

Fetch = Callable[[str, str, dict[str, str], bytes], Awaitable[Fetched]]
"""Method, URL, headers, body."""
PING = b'{"jsonrpc":"2.0","id":1,"method":"ping"}'
REDIRECTS = (301, 302, 303, 307, 308)
REDIRECTS_MAX = 3
LASTING = "offline_access"
"""The scope that authorization servers give refresh tokens for, where they have it. Users have to be asked then."""

_MCP_HEADERS = {"content-type": "application/json", "accept": "application/json, text/event-stream"}
_METADATA = re.compile(r'resource_metadata\s*=\s*"?([^",\s]+)')
_SCOPE = re.compile(r'(?:^|[\s,])scope\s*=\s*(?:"([^"]*)"|([^",\s]+))')
_TOO_NARROW = re.compile(r'(?:^|[\s,])error\s*=\s*"?insufficient_scope\b')


class Endpoints(msgspec.Struct, frozen=True, kw_only=True):
    issuer: str
    """Empty where an administrator configured the endpoints. A server that describes none is its own: else one could
    send the user on to another server, and be given that one's code."""
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
    named = _named_resource(resource, server_url)
    issuer = _named_issuer(resource, auth.issuer) or _origin(server_url)
    _check_url(issuer, server_url)
    found = await _server_metadata(fetch, issuer, is_guess=not resource)
    if found and isinstance(auth, OAuthAuth):
        _check_challenges(found, is_vouched_for=bool(auth.client_id))
    endpoints = Endpoints(
        issuer=str(found.get("issuer") or issuer),
        authorization_url=authorization_url or str(found.get("authorization_endpoint") or f"{issuer}/authorize"),
        token_url=auth.token_url or str(found.get("token_endpoint") or f"{issuer}/token"),
        registration_url=str(found.get("registration_endpoint") or ("" if found else f"{issuer}/register")),
        auth_methods=_words(found.get("token_endpoint_auth_methods_supported")),
        resource=named,
        scope=auth.scope
        or _lasting(_asked_scope(challenge) or " ".join(_words(resource.get("scopes_supported"))), found),
        reads_documents=found.get("client_id_metadata_document_supported") is True,
        names_itself=found.get("authorization_response_iss_parameter_supported") is True,
    )
    for url in (endpoints.authorization_url, endpoints.token_url, endpoints.registration_url):
        _check_url(url or issuer, server_url)
    return endpoints


def _check_challenges(metadata: Mapping[str, Any], *, is_vouched_for: bool) -> None:
    """Raises ``McpFailed`` where a stolen code may be of use, as nothing says that PKCE is looked at. Of a server where
    an administrator has registered a client, silence is taken for a yes: some say nothing."""
    said = metadata.get("code_challenge_methods_supported")
    if "S256" in _words(said) or (said is None and is_vouched_for):
        return
    way_out = "" if is_vouched_for else ": configure a client ID if it does"
    raise McpFailed(Trouble.REFUSED, f"the authorization server does not say that it takes PKCE with S256{way_out}")


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
        if found and is_same_issuer(str(found.get("issuer", issuer)), issuer):
            return found
        is_another |= bool(found)
    if is_another and not is_guess:
        raise McpFailed(Trouble.GARBAGE, "the authorization server says that it is another one")
    return {}


async def _document(fetch: Fetch, url: str) -> Mapping[str, Any]:
    for _ in range(REDIRECTS_MAX + 1):
        answer = await fetch("GET", url, {"accept": "application/json"}, b"")
        if answer.status not in REDIRECTS:
            return json_object(answer) if answer.status == 200 else {}
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
    """What the server calls itself, if that is a name for the URL that we know it by. Raises ``McpFailed`` for a name
    on another machine: what it says is about somebody else."""
    named, own = metadata.get("resource"), resource_of(server_url)
    if not isinstance(named, str):
        return own
    if _is_of_another(named, own):
        raise McpFailed(
            Trouble.GARBAGE, "the server says that it is another one: its URL is to be the one that it names"
        )
    return named if _leads_to(named, own) else own


def _is_of_another(named: str, url: str) -> bool:
    try:
        host = urlsplit(named).hostname
    except ValueError:
        return False
    is_here = is_on_this_machine(named) if host else False
    return host not in (None, urlsplit(url).hostname) and not (is_here and is_on_this_machine(url))


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


def is_same_issuer(one: str, other: str) -> bool:
    """Some say their name with a slash at its end in one place, and without it in another."""
    return one.rstrip("/") == other.rstrip("/")


def _named_issuer(resource: Mapping[str, Any], wanted: str) -> str:
    """Of several the one that knows the configured client; else the first."""
    named = _words(resource.get("authorization_servers"))
    return next((issuer for issuer in named if is_same_issuer(issuer, wanted)), named[0] if named else "")


def _words(value: object) -> tuple[str, ...]:
    return tuple(word for word in value if isinstance(word, str)) if isinstance(value, list) else ()


def json_object(answer: Fetched) -> Mapping[str, Any]:
    try:
        found = msgspec.json.decode(answer.body)
    except UNDECODABLE:
        return {}
    return found if isinstance(found, dict) else {}
