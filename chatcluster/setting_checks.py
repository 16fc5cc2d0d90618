"""What a setting must not be, one by one. Each check raises ``ConfigError`` that names the flag, and never a secret."""

from __future__ import annotations

import math
from ipaddress import ip_address
from typing import Any
from urllib.parse import urlsplit
from uuid import UUID

from chatcluster.errors import ConfigError


def flag_name(name: str) -> str:
    return name.replace("_", "-")


def check_range(name: str, value: Any, minimum: float | None, maximum: float | None) -> None:
    if isinstance(value, float) and not math.isfinite(value):
        raise ConfigError(f"{flag_name(name)} must be finite, not {value:g}")
    if minimum is not None and value < minimum:
        raise ConfigError(f"{flag_name(name)} must be at least {minimum:g}, not {value:g}")
    if maximum is not None and value > maximum:
        raise ConfigError(f"{flag_name(name)} must be at most {maximum:g}, not {value:g}")


def check_worker_id(text: str) -> None:
    try:
        UUID(text)
    except ValueError:
        raise ConfigError("replaces must be a worker ID, as `chatcluster replicas` lists them") from None


def check_http_url(flag: str, url: str) -> None:
    """Raises ``ConfigError``. The URL is not repeated in it, as it may have a password."""
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        usable = usable and url.isprintable() and not set(parts.netloc) & set(' \\"<>^`{|}')
    except ValueError:
        usable = False
    if not usable:
        raise ConfigError(f"{flag} must be a URL that begins with http:// or https:// and names a host")


def is_on_this_machine(url: str) -> bool:
    """Whether an http URL, one that has been checked, names this machine by its loopback address."""
    host = urlsplit(url).hostname or ""
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def check_header_text(flag: str, text: str) -> None:
    """A secret that no header can carry would fail with each request. Raises ``ConfigError``, without the secret."""
    if not (text.isascii() and text.isprintable()):
        raise ConfigError(f"{flag} must be printable ASCII")
