"""OAuth as MCP servers want it: what is said to an authorization server, once it is found (``mcp_discovery.py``).
Without I/O: ``Fetch`` makes the requests.

The cluster registers itself there unless it has a client ID (RFC 7591), or where that cannot be, is known by a document
of its own, if such are read there; a user signs in with PKCE (S256), for this one resource (RFC 8707), and for as long
as the user wants, where that has to be asked for (``offline_access``).
"""

from __future__ import annotations

import hashlib
import math
from base64 import b64encode, urlsafe_b64encode
from typing import Any
from urllib.parse import quote, urlencode, urlsplit

import msgspec

from chatcluster.parts import UNDECODABLE
from chatcluster.setting_checks import is_on_this_machine
from chatcluster.tools.mcp_discovery import LASTING, Endpoints, Fetch, json_object
from chatcluster.tools.mcp_link import McpFailed
from chatcluster.tools.mcp_wire import Fetched, Trouble

LIFETIME_SECONDS_MAX = 10 * 365 * 86_400.0
NOT_NOW = ("temporarily_unavailable", "server_error", "internal_error", "slow_down", "rate_limited")
"""Errors that say nothing of the login."""


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


def check_issuer(sign_in: SignIn, issuer: str | None) -> None:
    """Raises ``McpFailed`` unless an answer that says to be from this authorization server may be one to the sign-in
    (RFC 9207). Compared is the text: what is only meant to be the same is not."""
    if issuer is None and sign_in.names_itself:
        raise McpFailed(Trouble.GARBAGE, "the answer does not say which authorization server it is from")
    if issuer is not None and sign_in.issuer and issuer != sign_in.issuer:
        raise McpFailed(Trouble.GARBAGE, "the answer comes from another authorization server")


class TokenAnswer(msgspec.Struct, frozen=True):
    access_token: str
    expires_in: float | None = None
    refresh_token: str | None = None


class Refused(McpFailed):
    """The authorization server does not accept what it was sent: a grant is of no use any more, say."""


# --- registering and signing in ---------------------------------------------------------------


async def register(fetch: Fetch, endpoints: Endpoints, redirect_uri: str) -> OAuthClient:
    """A client of this cluster's own. Raises ``McpFailed``."""
    if not endpoints.registration_url:
        raise McpFailed(Trouble.REFUSED, "the authorization server registers nobody: configure a client ID")
    method = "none" if "none" in endpoints.auth_methods else "client_secret_post"
    wanted = description(redirect_uri, method) | ({"scope": endpoints.scope} if endpoints.scope else {})
    headers = {"content-type": "application/json", "accept": "application/json"}
    answer = await fetch("POST", endpoints.registration_url, headers, msgspec.json.encode(wanted))
    registered = json_object(answer)
    client_id, secret = registered.get("client_id"), registered.get("client_secret") or ""
    if answer.status not in (200, 201) or not isinstance(client_id, str) or not isinstance(secret, str):
        raise McpFailed(Trouble.REFUSED, f"registering as a client failed: {_said(answer)}")
    method = registered.get("token_endpoint_auth_method") or ("client_secret_basic" if secret else "none")
    return OAuthClient(client_id, secret, str(method))


def description(redirect_uri: str, auth_method: str = "none") -> dict[str, Any]:
    """What the cluster says of itself as a client. An OpenID server lets no web application be at ``localhost``."""
    return {
        "client_name": "chatcluster",
        "application_type": "native" if is_on_this_machine(redirect_uri) else "web",
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
    error = json_object(answer).get("error") if answer.status == 200 else None
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


def _said(answer: Fetched) -> str:
    """What an authorization server says went wrong. It has no secret in it: only these two fields are shown."""
    found = json_object(answer)
    words = [str(found[name])[:200] for name in ("error", "error_description") if found.get(name)]
    return ": ".join(words) or f"HTTP {answer.status}"


def bearer(token: str) -> dict[str, str]:
    """The headers that a token is shown in."""
    return {"authorization": f"Bearer {token}"}
