"""Clients of HTTP servers: the environment's proxies lead to other machines, and never to this one.

``HTTP_PROXY`` without a fitting ``NO_PROXY`` would send what is meant for a server on this machine, such as the
simulated model, to a proxy that cannot reach it.
"""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

import httpx

from chatcluster.config import is_on_this_machine
from chatcluster.errors import ConfigError


def http_client(url: str, **options: Any) -> httpx.AsyncClient:
    """A client for the server at ``url``; ``options`` are httpx's. Raises ``ConfigError`` for a proxy that is none."""
    trust_environment = not (urlsplit(url).scheme == "http" and is_on_this_machine(url))
    try:
        return httpx.AsyncClient(trust_env=trust_environment, **options)
    except (ImportError, ValueError, httpx.InvalidURL) as error:
        if not trust_environment:
            raise
        raise ConfigError(f"the proxy of HTTP_PROXY, HTTPS_PROXY or ALL_PROXY cannot be used: {error}") from None
