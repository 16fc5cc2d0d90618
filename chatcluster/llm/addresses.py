"""Where requests for a model go: the base URL that a person set, as the URL of each request. Pure.

A base URL is what comes before ``/chat/completions`` and its like; most end with ``/v1``. It may have a path, a query
that belongs to every request (``?api-version=...``), slashes at its end, and a user name with a password, which are
then sent instead of the key, as basic authentication. The whole URL of the end point, pasted, is understood as well.
"""

from __future__ import annotations

from base64 import b64encode
from urllib.parse import parse_qs, unquote, urlsplit, urlunsplit

from chatcluster.models import SECRET_NAME

END_POINTS = ("/chat/completions", "/messages", "/responses")


def end_point_url(base_url: str, end_point: str, *, query: str = "", without: tuple[str, ...] = ()) -> str:
    """The URL for requests to ``end_point`` below ``base_url``, which ``config.check_http_url`` has found to be one. A
    fragment is nothing that a server gets to see, and is left out, and so is what ``without`` names at the path's end.
    """
    parts = urlsplit(base_url.strip())
    path = parts.path.rstrip("/")
    for known in (*END_POINTS, *without):
        path = path.removesuffix(known).rstrip("/")
    query = "&".join(filter(None, (parts.query, query)))
    return urlunsplit((parts.scheme, parts.netloc, path + end_point, query, ""))


def key_headers(base_url: str, api_key: str) -> dict[str, str]:
    """The headers that carry the key: Azure, which one knows by the ``api-version`` in its URL, has one of its own."""
    headers = {"authorization": f"Bearer {api_key}"}
    if "api-version" in parse_qs(urlsplit(base_url).query):
        headers["api-key"] = api_key
    return headers


def user_header(base_url: str) -> dict[str, str]:
    """The header for a user name and a password in the URL, if there is one. It goes in the place of the key's."""
    parts = urlsplit(base_url.strip())
    name, password = unquote(parts.username or ""), unquote(parts.password or "")
    if not (name or password):
        return {}
    return {"authorization": "Basic " + b64encode(f"{name}:{password}".encode()).decode()}


def secrets_in(base_url: str) -> tuple[str, ...]:
    """The passwords and keys in a URL, as they stand there, as they are meant, and as they are sent."""
    parts = urlsplit(base_url.strip())
    query = parse_qs(parts.query)
    values = [value for name in query if SECRET_NAME.search(name) for value in query[name]]
    passwords = [parts.password, unquote(parts.password)] if parts.password else []
    passwords += [header.removeprefix("Basic ") for header in user_header(base_url).values()]
    return (*passwords, *values)
