"""HTTP in the MCP process: one pool of connections for all servers, guarded.

* **Where to:** the address that is connected to is judged after the name was looked up (``mcp_addresses.py``). Of
  several each is tried a moment after the one before, as one that says nothing is not to cost the others their time.
  Where the environment names a proxy for a URL, it is the proxy that connects, and has to judge.
* **How much:** a response body that is no event stream has ``BODY_BYTES_MAX`` bytes, an event as many, and neither has
  more than ``VALUES_MAX`` JSON values, which cost many times their length. What all have sent that is not whole yet is
  ``HELD_BYTES_MAX`` at most, a quarter of that from one server. What comes compressed counts by what is in it.
* **What was refused** is noted (``mcp_met.py``).
* **How soon:** what was read is acknowledged at once. A server that writes head and body apart, without TCP_NODELAY,
  sends the second when it has the acknowledgement of the first, which a system puts off by 40 ms.
"""

from __future__ import annotations

import socket
import ssl
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from functools import lru_cache, partial
from typing import Any

import httpcore2
import httpx2
import trio
from httpcore2 import AsyncNetworkBackend, AsyncNetworkStream

from chatcluster.http_bodies import RECEIVE_BYTES
from chatcluster.http_client import proxy_for
from chatcluster.setting_checks import is_on_this_machine
from chatcluster.tools.mcp_addresses import is_forbidden
from chatcluster.tools.mcp_met import Met, Refusals, Sent
from chatcluster.tools.mcp_wire import TRACEPARENT_META

BODY_BYTES_MAX = 16 << 20
VALUES_MAX = 2_000_000
HELD_BYTES_MAX = 512 << 20
PIECE_BYTES = 256 << 10
httpcore2.AsyncHTTP11Connection.READ_NUM_BYTES = RECEIVE_BYTES
ENCODINGS = ("gzip", "deflate")
EVENT_ENDS = (b"\n\n", b"\r\r", b"\r\n\r\n")
END_BYTES = 3
"""So many bytes may be the beginning of an event's end."""
CONNECT_SECONDS = 10.0
STAGGER_SECONDS = 0.25
"""An address that has not answered by then has the next one tried beside it."""
WRITE_SECONDS = 30.0
CONNECTIONS_MAX = 1000
KEPT_CONNECTIONS = 50
KEPT_SECONDS = 30.0

QUICK: int | None = getattr(socket, "TCP_QUICKACK", None)

TIMEOUT = httpx2.Timeout(WRITE_SECONDS, connect=CONNECT_SECONDS, read=None)
"""Reads have no bound here, as some answers take their time: whoever waits for one bounds it."""


class ForbiddenAddress(httpcore2.ConnectError):
    """The URL leads to an address that nobody may be sent to."""


class BodyTooLarge(httpx2.StreamError):
    """The server sends more than anybody wants to hold. Of a kind that costs the request and not the session."""


class PromptStream(AsyncNetworkStream):
    """A connection that acknowledges what it reads at once, where the system can."""

    def __init__(self, stream: AsyncNetworkStream) -> None:
        self._stream = stream
        self._socket = stream.get_extra_info("socket")

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data = await self._stream.read(max_bytes, timeout)
        if QUICK is not None:
            with suppress(OSError):  # the connection is gone: the next use tells
                self._socket.setsockopt(socket.IPPROTO_TCP, QUICK, 1)  # it lasts until the next sending
        return data

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        await self._stream.write(buffer, timeout)

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> AsyncNetworkStream:
        return PromptStream(await self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        return self._stream.get_extra_info(info)


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
        with trio.move_on_after(timeout if timeout is not None else CONNECT_SECONDS):
            addresses = await _allowed_addresses_of(host, port)
            args = (port, timeout, local_address, socket_options)
            ways = [partial(self._backend.connect_tcp, address, *args) for address in addresses]
            return PromptStream(await _first_of(ways))
        raise httpcore2.ConnectTimeout(f"no connection to {host} in time")

    async def sleep(self, seconds: float) -> None:
        await trio.sleep(seconds)


async def _first_of(ways: Iterable[Callable[[], Awaitable[AsyncNetworkStream]]]) -> AsyncNetworkStream:
    """The connection that is there first. Raises what went wrong last."""
    found: list[AsyncNetworkStream] = []
    failure: Exception = httpcore2.ConnectError("there is no address")
    async with trio.open_nursery() as nursery:

        async def go(way: Callable[[], Awaitable[AsyncNetworkStream]], failed: trio.Event) -> None:
            nonlocal failure
            try:
                stream = await way()
            except (httpcore2.ConnectError, httpcore2.ConnectTimeout) as error:
                failure = error
                failed.set()
                return
            found.append(stream)
            nursery.cancel_scope.cancel()

        for way in ways:
            nursery.start_soon(go, way, failed := trio.Event())
            with trio.move_on_after(STAGGER_SECONDS):
                await failed.wait()
    if not found:
        raise failure
    for late in found[1:]:
        await late.aclose()
    return found[0]


async def _allowed_addresses_of(host: str, port: int) -> list[str]:
    found = await _addresses_of(host, port)
    allowed = [address for address in found if not is_forbidden(address)]
    if found and not allowed:
        raise ForbiddenAddress(f"{host} leads to {found[0]}, where nobody may be sent to")
    return allowed


async def _addresses_of(host: str, port: int) -> list[str]:
    try:
        found = await trio.socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise httpcore2.ConnectError(f"the name {host} cannot be looked up: {error}") from None
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


class SharedTransport(httpx2.AsyncBaseTransport):
    """One session's way to the pool that all share: bounded, and what it meets noted."""

    def __init__(self, refusals: Refusals | None = None) -> None:
        self._refusals = refusals or Refusals()

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        sents = self._refusals.sent_by(await request.aread()) if request.method == "POST" else ()
        if sents is None:
            return httpx2.Response(202, request=request)
        for sent in sents:
            sent.begin()
            if sent.traceparent:
                request.headers[TRACEPARENT_META] = sent.traceparent
        met = (self._refusals, *sents)
        response = await _answer(request, met)
        response.stream = _Bounded(response, met, request.url.netloc.decode())
        return response


async def _answer(request: httpx2.Request, met: Sequence[Met]) -> httpx2.Response:
    try:
        response = await _pool(_proxy_for(str(request.url))).handle_async_request(request)
    except httpx2.TransportError as error:
        _note_error(met, error)
        raise
    if request.method == "POST":  # servers may refuse the rest in good health
        if response.status_code == 200:
            response.headers.setdefault("content-type", "application/json")
        for each in met:
            if response.status_code >= 400 or (response.is_redirect and isinstance(each, Sent)):
                each.note_status(response)
    return response


def _note_error(met: Sequence[Met], error: Exception) -> None:
    for each in met:
        each.note_error(error)


class Held:
    """How much all bodies have that are not whole yet."""

    def __init__(self) -> None:
        self._of_servers: Counter[str] = Counter()

    def take(self, server: str, size: int) -> None:
        """Raises ``BodyTooLarge``."""
        if self._of_servers.total() + size > HELD_BYTES_MAX or self._of_servers[server] + size > HELD_BYTES_MAX // 4:
            raise BodyTooLarge("too much comes in at the same time")
        self._of_servers[server] += size

    def give_back(self, server: str, size: int) -> None:
        self._of_servers[server] -= size
        if not self._of_servers[server]:
            del self._of_servers[server]


_held = Held()


class _Bounded(httpx2.AsyncByteStream):
    """A body that breaks off where it becomes too much. In an event stream the count begins anew with each event."""

    def __init__(self, response: httpx2.Response, met: Sequence[Met], server: str) -> None:
        assert isinstance(response.stream, httpx2.AsyncByteStream)
        self._stream = response.stream
        self._met = met
        self._server = server
        self._is_events = response.headers.get("content-type", "").lower().startswith("text/event-stream")
        self._encoding = response.headers.pop("content-encoding", "identity").strip().lower()  # it is taken out here
        self._inflater = zlib.decompressobj(zlib.MAX_WBITS + 32) if self._encoding in ENCODINGS else None
        self._size = self._values = 0
        self._end = b""
        """The last bytes that were counted: an event's end may come in pieces."""

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for received in self._stream:
                for chunk in self._inflated(received):
                    self._count(chunk)
                    yield chunk
        except (httpx2.TransportError, BodyTooLarge) as error:
            _note_error(self._met, error)
            raise
        finally:
            self._begin_anew()

    def _inflated(self, received: bytes) -> Iterator[bytes]:
        if self._inflater is None:
            if self._encoding != "identity":
                raise httpx2.RemoteProtocolError(f"the body is compressed by {self._encoding[:80]}, unasked")
            yield received
        while self._inflater is not None and received:
            try:
                yield self._inflater.decompress(received, PIECE_BYTES)
            except zlib.error as error:
                raise httpx2.RemoteProtocolError(f"the body cannot be decompressed: {error}") from None
            received = self._inflater.unconsumed_tail

    def _count(self, chunk: bytes) -> None:
        if self._is_events:
            seen = self._end + chunk
            self._end = seen[-END_BYTES:]
            if any(end in seen for end in EVENT_ENDS):
                self._begin_anew()
        _held.take(self._server, len(chunk))
        self._size += len(chunk)
        self._values += chunk.count(b",") + chunk.count(b"[") + chunk.count(b"{")
        if self._size > BODY_BYTES_MAX or self._values > VALUES_MAX:
            raise BodyTooLarge(f"the server sends more than {BODY_BYTES_MAX >> 20} MiB, or too many values")

    def _begin_anew(self) -> None:
        _held.give_back(self._server, self._size)
        self._size = self._values = 0

    async def aclose(self) -> None:
        await self._stream.aclose()


def client(headers: dict[str, str], refusals: Refusals) -> httpx2.AsyncClient:
    """A client with these headers on the shared pool. It need not be closed."""
    headers = {"accept-encoding": ", ".join(ENCODINGS), **headers}
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
