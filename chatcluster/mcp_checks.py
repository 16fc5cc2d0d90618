"""What an administrator may say of a server of tools, checked before anything is written. Pure.

Each refusal is an ``InvalidRequest`` that names the field. Secrets are in none of them.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

from chatcluster.errors import ConfigError, InvalidRequest
from chatcluster.ports import ApiKeyAuth, ClientCredentialsAuth, HeadersAuth, McpSettings, OAuthAuth, Transport
from chatcluster.setting_checks import check_http_url
from chatcluster.texts import is_visible

URL_CHARS_MAX = 2000
DESCRIPTION_CHARS_MAX = 1000
HEADERS_MAX = 20
SECRET_CHARS_MAX = 8192
ID_CHARS_MAX = 500
TOOLS_MAX = 500
TOOL_CHARS_MAX = 128
CALL_SECONDS_MAX = 3600.0
RESULT_BYTES_MIN = 1 << 10
RESULT_BYTES_MAX = 10 << 20

_SLUG = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")
_HEADER_NAME = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]{1,128}")
_HEADER_VALUE = re.compile(r"[\x21-\x7e](?:[\x20-\x7e\t]*[\x21-\x7e])?")
_OURS = re.compile(
    r"(?i)(host|content-.*|transfer-encoding|connection|keep-alive|te|trailer|upgrade|expect|accept|accept-encoding"
    r"|cookie2?|proxy-.*|mcp-.*|last-event-id)"
)
"""Headers that the protocol, or HTTP, needs for itself."""


def checked_slug(slug: str) -> str:
    if _SLUG.fullmatch(slug) is None:
        raise InvalidRequest(
            "slug must be 1 to 32 lower-case letters, digits and hyphens, and neither begin nor end with a hyphen"
        )
    return slug


def check_settings(settings: McpSettings) -> None:
    """Raises ``InvalidRequest`` for what cannot be."""
    check_url("url", settings.url)
    if len(settings.description) > DESCRIPTION_CHARS_MAX or not _is_text(settings.description):
        raise InvalidRequest(f"description must be text of at most {DESCRIPTION_CHARS_MAX} characters")
    _check_names("allow", settings.allow or ())
    _check_names("deny", settings.deny)
    _check_names("tools", tuple(settings.tools))
    for field in ("idle_seconds", "total_seconds"):
        if not 1 <= getattr(settings, field) <= CALL_SECONDS_MAX:
            raise InvalidRequest(f"{field} must be between 1 and {CALL_SECONDS_MAX:g}")
    if not RESULT_BYTES_MIN <= settings.result_bytes_max <= RESULT_BYTES_MAX:
        raise InvalidRequest(f"result_bytes_max must be between {RESULT_BYTES_MIN} and {RESULT_BYTES_MAX}")
    _check_auth(settings)


def check_url(field: str, url: str) -> None:
    try:
        if len(url) > URL_CHARS_MAX or not url.isascii() or "#" in url:
            raise ConfigError(field)
        check_http_url(field, url)
    except ConfigError:
        raise InvalidRequest(
            f"{field} must be a URL of at most {URL_CHARS_MAX} ASCII characters that begins with http:// or https://, "
            "names a host, and has no fragment"
        ) from None
    if urlsplit(url).username is not None:
        raise InvalidRequest(f"{field} must not have a user or password: those are secrets, and belong into auth")


def _check_auth(settings: McpSettings) -> None:
    match settings.auth:
        case ApiKeyAuth(header=header):
            check_header_name("auth.header", header)
        case HeadersAuth(names=names):
            if not 1 <= len(names) <= HEADERS_MAX:
                raise InvalidRequest(f"auth.headers must have 1 to {HEADERS_MAX} headers")
            if len({name.lower() for name in names}) < len(names):
                raise InvalidRequest("auth.headers has a header twice")
            for name in names:
                check_header_name("auth.headers", name)
        case ClientCredentialsAuth() as auth:
            urls = {"auth.token_url": auth.token_url, "auth.issuer": auth.issuer}
            _check_oauth(auth.client_id, auth.scope, auth_urls=urls, needs_id=True)
        case OAuthAuth() as auth:
            urls = {
                "auth.token_url": auth.token_url,
                "auth.authorization_url": auth.authorization_url,
                "auth.issuer": auth.issuer,
            }
            _check_oauth(auth.client_id, auth.scope, auth_urls=urls, needs_id=False)
            if not auth.client_id and (auth.issuer or (auth.authorization_url and auth.token_url)):
                raise InvalidRequest("auth.client_id is needed where its issuer, or both URLs, are given")
        case _:
            pass


def _check_oauth(client_id: str, scope: str, *, auth_urls: Mapping[str, str], needs_id: bool) -> None:
    if needs_id and not client_id:
        raise InvalidRequest("auth.client_id must not be empty")
    for field, text in (("auth.client_id", client_id), ("auth.scope", scope)):
        if len(text) > ID_CHARS_MAX or not (text.isascii() and text.isprintable()):
            raise InvalidRequest(f"{field} must be printable ASCII of at most {ID_CHARS_MAX} characters")
    for field, url in auth_urls.items():
        if url:
            check_url(field, url)


def check_header_name(field: str, name: str) -> None:
    if _HEADER_NAME.fullmatch(name) is None:
        raise InvalidRequest(f"{field}: this is no name of a header")
    if _OURS.fullmatch(name) is not None:
        raise InvalidRequest(f"{field}: the header {name} is not yours to set")


def checked_secret(field: str, secret: str) -> str:
    """A secret that a header can carry. It is not repeated in the error."""
    if len(secret) > SECRET_CHARS_MAX or _HEADER_VALUE.fullmatch(secret) is None:
        raise InvalidRequest(
            f"{field} must be printable ASCII of 1 to {SECRET_CHARS_MAX} characters, without blanks around it"
        )
    return secret


def _check_names(field: str, names: tuple[str, ...]) -> None:
    if len(names) > TOOLS_MAX:
        raise InvalidRequest(f"{field} has more than {TOOLS_MAX} entries")
    for name in names:
        if not 1 <= len(name) <= TOOL_CHARS_MAX or not is_visible(name):
            raise InvalidRequest(f"{field} has an entry that is no name of a tool")


def _is_text(text: str) -> bool:
    return is_visible(text.replace("\n", " "))


def default_transport(url: str) -> Transport:
    """What a URL that ends in ``/sse`` speaks, unless it is said. Takes any text, as ``check_url`` comes later."""
    try:
        path = urlsplit(url).path
    except ValueError:
        path = ""
    return Transport.SSE if path.rstrip("/").endswith("/sse") else Transport.STREAMABLE_HTTP
