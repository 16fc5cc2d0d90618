"""HTTP in the MCP process: one pool of connections for all servers, guarded.

* **Where to:** the address that is connected to is judged after the name was looked up (``mcp_addresses.py``). Where the
  environment names a proxy for a URL, it is the proxy that connects, and has to judge.
* **How much:** a response body that is no event stream has ``BODY_BYTES_MAX`` bytes, an event as many, and neither has
  more than ``VALUES_MAX`` JSON values: each costs many times its length once it is decoded.
* **What was refused:** a session knows the status of its last refusal (``Refusals``), which the SDK does not tell.
"""

from __future__ import annotations

import socket
import ssl
from collections.abc import AsyncIterator, Iterable
from contextlib import suppress
from functools import lru_cache
from typing import Any

import httpcore2
import httpx2
import trio
from httpcore2 import AsyncNetworkBackend, AsyncNetworkStream

from chatcluster.config import is_on_this_machine
from chatcluster.http_client import proxy_for
from chatcluster.tools.mcp_addresses import is_forbidden

BODY_BYTES_MAX = 16 << 20
VALUES_MAX = 2_000_000
CONNECT_SECONDS = 10.0
WRITE_SECONDS = 30.0
CONNECTIONS_MAX = 1000
KEPT_CONNECTIONS = 50
KEPT_SECONDS = 30.0

TIMEOUT = httpx2.Timeout(WRITE_SECONDS, connect=CONNECT_SECONDS, read=None)
"""Whoever waits for an answer bounds that: some answers take their time."""


class ForbiddenAddress(httpcore2.ConnectError):
    """The URL leads to an address that nobody may be sent to."""


class BodyTooLarge(httpx2.StreamError):
    """The server sends more than anybody wants to hold. Of a kind that costs the request and not the session."""


class Refusals:
    """The last refusal that a session met: its status, and what would be accepted."""

    def __init__(self) -> None:
        self.status = 0
        self.challenge = ""
        self.error: Exception | None = None
        """What the way to the server failed with last: the SDK wraps it, or says nothing of it."""
        self.happened = trio.Event()

    def note_error(self, error: Exception) -> None:
        self.error = error
        self.happened.set()

    def forget(self) -> None:
        """What was met while a protocol was agreed upon says nothing of what comes."""
        self.status, self.challenge, self.error, self.happened = 0, "", None, trio.Event()

    def note_status(self, response: httpx2.Response) -> None:
        self.status = response.status_code
        self.challenge = response.headers.get("www-authenticate", "")[:4096]
        self.happened.set()


class GuardedBackend(AsyncNetworkBackend):
    """Looks names up itself, and connects to what they stand for unless that is forbidden."""

    def __init__(self) -> None:
        self._backend = httpcore2.TrioBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> AsyncNetworkStream:
        failure: Exception = httpcore2.ConnectError(f"no address of {host} answers")
        with trio.move_on_after(timeout if timeout is not None else CONNECT_SECONDS):
            for address in await _addresses_of(host, port):
                if is_forbidden(address):
                    raise ForbiddenAddress(f"{host} leads to {address}, where nobody may be sent to")
                try:
                    return await self._backend.connect_tcp(address, port, timeout, local_address, socket_options)
                except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                    failure = error
            raise failure
        raise httpcore2.ConnectTimeout(f"no connection to {host} in time")

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)


async def _addresses_of(host: str, port: int) -> list[str]:
    try:
        found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise httpcore2.ConnectError(f"the name {host} cannot be looked up: {error}") from None
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class SharedTransport(httpx2.AsyncBaseTransport):
    """One session's way to the pool that all share: bounded, and its refusals noted."""

    def __init__(self, refusals: Refusals | None = None) -> None:
        self._refusals = refusals or Refusals()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        try:
            response = await _pool(_proxy_for(str(request.url))).handle_async_request(request)
        except httpx2.TransportError as error:
            self._refusals.note_error(error)
            raise
        if response.status_code >= 400 and request.method == "POST":  # servers may refuse the rest in good health
            self._refusals.note_status(response)
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        is_events = response.headers.get("content-type", "").lower().startswith("text/event-stream")
        response.stream = _Bounded(response.stream, self._refusals, is_events=is_events)
        return response


class _Bounded(httpx2.AsyncByteStream):
    """A body that breaks off where it becomes too much. In an event stream the count begins anew with each event."""

    def __init__(self, stream: httpx2.AsyncByteStream, refusals: Refusals, *, is_events: bool) -> None:
        self._stream = stream
        self._refusals = refusals
        self._is_events = is_events

    async def __aiter__(self) -> AsyncIterator[bytes]:
        size = values = 0
        try:
            async for chunk in self._stream:
                if self._is_events and (b"\n\n" in chunk or b"\r\n\r\n" in chunk):
                    size = values = 0
                size += len(chunk)
                values += chunk.count(b",") + chunk.count(b"[") + chunk.count(b"{")
                if size > BODY_BYTES_MAX or values > VALUES_MAX:
                    raise BodyTooLarge(f"the server sends more than {BODY_BYTES_MAX >> 20} MiB, or too many values")
                yield chunk
        except (httpx2.TransportError, BodyTooLarge) as error:
            self._refusals.note_error(error)
            raise

    async def aclose(self) -> None:
        await self._stream.aclose()


def client(headers: dict[str, str], refusals: Refusals) -> httpx2.AsyncClient:
    """A client with these headers on the shared pool. It need not be closed."""
    return httpx2.AsyncClient(
        transport=SharedTransport(refusals), headers=headers, timeout=TIMEOUT, trust_env=False, follow_redirects=False
    )


def _proxy_for(url: str) -> str | None:
    return None if is_on_this_machine(url) else proxy_for(url)


@lru_cache(maxsize=8)
def _pool(proxy: str | None) -> httpx2.AsyncHTTPTransport:
    limits = httpx2.Limits(
        max_connections=CONNECTIONS_MAX, max_keepalive_connections=KEPT_CONNECTIONS, keepalive_expiry=KEPT_SECONDS
    )
    transport = httpx2.AsyncHTTPTransport(limits=limits, proxy=proxy, verify=_tls())
    if proxy is None:
        transport._pool = httpcore2.AsyncConnectionPool(  # httpx2 has no argument for the backend
            ssl_context=_tls(),
            max_connections=CONNECTIONS_MAX,
            max_keepalive_connections=KEPT_CONNECTIONS,
            keepalive_expiry=KEPT_SECONDS,
            network_backend=GuardedBackend(),
        )
    return transport


@lru_cache(maxsize=1)
def _tls() -> ssl.SSLContext:
    return httpx2.create_ssl_context()


def warm_up() -> None:
    """Make what takes long to make."""
    with suppress(OSError):
        _pool(None)
