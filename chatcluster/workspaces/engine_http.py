"""How a container engine is spoken to: JSON over HTTP, bounded, and its errors translated in one place.

What happens on failure: no answer in time, one that comes drop by drop, or none at all, is ``EngineUnreachable``; an
answer of 4xx or 5xx is ``EngineRefused`` with what the engine said, so are more than ``ANSWER_BYTES_MAX`` of it.
Nothing is tried again here.
"""

from __future__ import annotations

import ssl
from collections.abc import AsyncIterator, Callable, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import trio

from chatcluster.parts import UNDECODABLE
from chatcluster.workspace_errors import EngineRefused, EngineUnreachable

ANSWER_BYTES_MAX = 8 << 20
SECONDS_MAX = 30.0
SAID_CHARACTERS_MAX = 300

Json = dict[str, Any]


def _no_headers() -> Mapping[str, str]:
    return {}


class EngineHttp:
    """``name`` is for messages. ``headers`` are asked for before each request: a token may have been renewed."""

    def __init__(
        self, name: str, client: httpx.AsyncClient, headers: Callable[[], Mapping[str, str]] = _no_headers
    ) -> None:
        self._name = name
        self._client = client
        self._headers = headers

    async def ask(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Json | None = None,
        seconds_max: float = SECONDS_MAX,
    ) -> Json:
        """The object of the answer; an empty one where there is no body. Raises ``EngineRefused`` and so on."""
        content = await self.read(method, path, query=query, body=body, seconds_max=seconds_max)
        try:
            found = msgspec.json.decode(content or b"{}")
        except UNDECODABLE:
            raise EngineRefused(200, f"{self._name} answers what is no JSON to {method} {path}") from None
        return found if isinstance(found, dict) else {"items": found}

    async def read(
        self,
        method: str,
        path: str,
        *,
        query: Mapping[str, str] | None = None,
        body: Json | None = None,
        seconds_max: float = SECONDS_MAX,
    ) -> bytes:
        """The body of the answer. Raises ``EngineRefused`` and ``EngineUnreachable``."""
        headers = {} if body is None else {"content-type": "application/json"}
        content = None if body is None else msgspec.json.encode(body)
        try:
            request = self._client.build_request(
                method, path, params=query, content=content, headers={**headers, **self._headers()}, timeout=seconds_max
            )
            with trio.fail_after(2 * seconds_max):
                response = await self._client.send(request, stream=True)
                try:
                    found = await self._body(response)
                finally:
                    await response.aclose()
        except trio.TooSlowError:
            raise EngineUnreachable(f"{self._name} does not answer within {2 * seconds_max:g} s") from None
        except (httpx.HTTPError, OSError) as error:  # of the file that has the token, too
            said = str(error) or type(error).__name__
            raise EngineUnreachable(f"{self._name} does not answer: {said}") from None
        if response.status_code >= 400:
            raise EngineRefused(response.status_code, f"{self._name}: {_message(found) or response.reason_phrase}")
        return found

    async def _body(self, response: httpx.Response) -> bytes:
        found = bytearray()
        async for piece in response.aiter_bytes():
            found += piece
            if len(found) > ANSWER_BYTES_MAX:
                raise EngineRefused(response.status_code, f"{self._name} answers more than {ANSWER_BYTES_MAX} bytes")
        return bytes(found)


@asynccontextmanager
async def open_engine(
    name: str,
    url: str,
    *,
    socket: Path | None = None,
    authorities: ssl.SSLContext | None = None,
    headers: Callable[[], Mapping[str, str]] = _no_headers,
) -> AsyncIterator[EngineHttp]:
    """The engine at ``url``, or on a Unix ``socket``. No proxy of the environment stands between."""
    uds = None if socket is None else str(socket)
    transport = httpx.AsyncHTTPTransport(uds=uds, verify=True if authorities is None else authorities)
    async with httpx.AsyncClient(transport=transport, base_url=url, trust_env=False) as client:
        yield EngineHttp(name, client, headers)


def _message(content: bytes) -> str:
    try:
        said = msgspec.json.decode(content)["message"]
    except (KeyError, TypeError, *UNDECODABLE):
        said = content.decode("utf-8", "replace")
    return " ".join(str(said).split())[:SAID_CHARACTERS_MAX]
