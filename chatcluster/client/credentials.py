"""Where a client asks, and with what: checked when it is made, as trying again would change nothing."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from chatcluster.errors import ConfigError
from chatcluster.setting_checks import check_header_text, check_http_url

API_PATH = "/api/v1"

_BEARER = re.compile(r"[A-Za-z0-9._~+/-]+=*")
"""What RFC 6750 lets a token be: no quotes, and no name of a variable before it."""


def checked_address(given: object) -> str:
    """Raises ``ConfigError``: httpx would take it for a server that is away, to be tried again."""
    url = given.strip() if isinstance(given, str) else ""
    check_http_url("base_url", url)
    if any(mark in url for mark in "?#") or not (url.isascii() and url.isprintable()) or " " in url:
        raise ConfigError("base_url must be the address of the cluster alone, in ASCII, without a query")
    if "@" in urlsplit(url).netloc:
        raise ConfigError("base_url must be without a name and a password: they would be sent instead of the token")
    if url.rstrip("/").endswith(API_PATH):
        raise ConfigError(f"base_url must be the address of the cluster, without {API_PATH}")
    return url


def checked_secret(given: object) -> str:
    """Raises ``ConfigError``, also for what is no text, as of a variable that is not set."""
    token = given.strip() if isinstance(given, str) else ""
    check_header_text("token", token)
    if not _BEARER.fullmatch(token):
        raise ConfigError("token must be one word without quotes, as `chatcluster token create` prints it")
    return token
