"""Where a client asks, and with what: checked when it is made, as trying again would change nothing."""

from __future__ import annotations

from chatcluster.errors import ConfigError
from chatcluster.setting_checks import check_header_text, check_http_url


def checked_address(text: str) -> str:
    """Raises ``ConfigError``: httpx would take it for a server that is away, to be tried again."""
    url = text.strip()
    check_http_url("base_url", url)
    if any(mark in url for mark in "?#") or not (url.isascii() and url.isprintable()) or " " in url:
        raise ConfigError("base_url must be the address of the cluster alone, in ASCII, without a query")
    return url


def checked_secret(text: str) -> str:
    token = text.strip()
    check_header_text("token", token)
    if not token or " " in token:
        raise ConfigError("token must be one word, as `chatcluster token create` prints it")
    return token
