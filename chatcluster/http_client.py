"""Clients of HTTP servers: the environment's proxies lead to other machines, and never to this one.

``HTTP_PROXY`` without a fitting ``NO_PROXY`` would send what is meant for a server on this machine, such as the
simulated model, to a proxy that cannot reach it.

A peer that vanishes without a word is found out by the kernel, for the connections of ``http_transport``: within two
seconds nothing that was sent is acknowledged, or an idle or waiting connection does not answer its probes. A peer that
is alive and takes nothing at all for two seconds, with all its buffers full, counts as gone as well.

Cookies are nobody's: a client is shared by the chats of many users, and what one's answer sets would go out with
another's request, and all of a replica to whichever server behind a load balancer it names.

The body of a large request is made in slices between which others run, and let go as it is sent.
"""

from __future__ import annotations

import socket
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator
from contextlib import contextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any, NamedTuple, cast
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

import httpcore
import httpx
import trio

from chatcluster import trace_context
from chatcluster.errors import ConfigError
from chatcluster.h11_patterns import read_in_one_go
from chatcluster.http_bodies import RECEIVE_BYTES, Network
from chatcluster.http_pool import Pool
from chatcluster.setting_checks import is_on_this_machine

read_in_one_go()  # for all who speak HTTP to others, whoever makes their client
# What is taken at a time may be thousands of heads that say "100 Continue", and is read before others have their turn.
httpcore.AsyncHTTP11Connection.READ_NUM_BYTES = RECEIVE_BYTES

PROBE_SECONDS = 1
PEER_SILENCE_MS_MAX = 2000


class Limits(NamedTuple):
    """Of the connections to one server."""

    connections: int = 100
    idle: int = 20
    idle_seconds: float = 5.0


def http_client(url: str, **options: Any) -> httpx.AsyncClient:
    """A client for the server at ``url``; ``options`` are httpx's.

    Raises ``ConfigError`` for a proxy that is none, and for certificates that cannot be read.
    """
    with _as_configured(url) as trust_environment:
        no_cookies = CookieJar(DefaultCookiePolicy(allowed_domains=()))
        return httpx.AsyncClient(trust_env=trust_environment, cookies=no_cookies, **options)


def http_transport(url: str, limits: Limits | None = None) -> httpx.AsyncHTTPTransport:
    """The connections to the server at ``url``, which are watched. A client does more with each request: it keeps
    cookies, puts defaults into it, and is ready for redirections, which costs as much as to send it.

    Raises ``ConfigError`` as ``http_client``. httpx has no arguments for what else it is told here. Its own pool makes
    the connections, and keeps none.
    """
    limits = limits or Limits()
    with _as_configured(url) as trust_environment:
        transport = httpx.AsyncHTTPTransport(
            trust_env=trust_environment,
            proxy=proxy_for(url) if trust_environment else None,
            socket_options=_watching_options(),
            limits=httpx.Limits(keepalive_expiry=limits.idle_seconds),
        )
    own: Any = transport._pool
    own._network_backend = Network()
    pool = Pool(own.create_connection, connections_max=limits.connections, idle_max=limits.idle)
    transport._pool = cast(Any, pool)
    return transport


@contextmanager
def _as_configured(url: str) -> Iterator[bool]:
    """Whether the environment counts for ``url``. What is wrong with it is a ``ConfigError``."""
    trust_environment = not (urlsplit(url).scheme == "http" and is_on_this_machine(url))
    try:
        yield trust_environment
    except OSError as error:  # those of ssl are such, too
        raise ConfigError(f"the certificates of SSL_CERT_FILE or SSL_CERT_DIR cannot be read: {error}") from None
    except (ImportError, ValueError, httpx.InvalidURL) as error:
        if not trust_environment:
            raise
        raise ConfigError(f"the proxy of HTTP_PROXY, HTTPS_PROXY or ALL_PROXY cannot be used: {error}") from None


async def close_expired(transports: Callable[[], Iterable[httpx.AsyncHTTPTransport]], *, every_seconds: float) -> None:
    """Close the connections that were idle for longer than their limits say, or that the server has closed.

    Else that is done when something is asked, so the last ones of a busy time would be kept for good.
    """
    while True:
        await trio.sleep(every_seconds)
        for transport in tuple(transports()):
            pool: Any = transport._pool
            await pool.close_expired()


def headers_of_stream() -> dict[str, str]:
    """Of a request in JSON that is answered by an event stream; with the span which it is made for, if it is told."""
    return {
        "accept": "text/event-stream",
        "accept-encoding": "identity",
        "content-type": "application/json",
        "user-agent": "chatcluster",
        **trace_context.headers(),
    }


def proxy_for(url: str) -> str | None:
    """The environment's proxy for ``url``; httpx looks for one only where it makes the transport itself."""
    parts = urlsplit(url)
    proxies = getproxies()
    proxy = proxies.get(parts.scheme) or proxies.get("all")
    if not proxy or not parts.hostname or proxy_bypass(parts.netloc.rpartition("@")[2]):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _watching_options() -> list[tuple[int, int, int]]:
    """Socket options, as far as the system has them."""
    wanted = {
        "TCP_KEEPIDLE": PROBE_SECONDS,
        "TCP_KEEPINTVL": PROBE_SECONDS,
        "TCP_KEEPCNT": PEER_SILENCE_MS_MAX // (1000 * PROBE_SECONDS),
        "TCP_USER_TIMEOUT": PEER_SILENCE_MS_MAX,
    }
    options = [(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    for name, value in wanted.items():
        if hasattr(socket, name):
            options.append((socket.IPPROTO_TCP, getattr(socket, name), value))
    return options


class Content(httpx.AsyncByteStream):
    """A request's body. Not httpx's own: that is an async generator, which a cancelled request would drop.

    Servers that read no chunked requests exist, so it is there as a whole before it is sent. What is sent is let go,
    and once all of it is, ``sent`` is called.
    """

    def __init__(self, slices: deque[bytes], sent: Callable[[], Awaitable[None]]) -> None:
        self.length = sum(map(len, slices))
        self._slices = slices
        self._sent = sent

    def __aiter__(self) -> Content:
        return self

    async def __anext__(self) -> bytes:
        if not self._slices:
            await self._sent()
            raise StopAsyncIteration
        return self._slices.popleft()


async def content_of(body: Iterable[bytes], sent: Callable[[], Awaitable[None]]) -> Content:
    """The request's body. Others run between its slices, of which a long history has many, some of them empty."""
    slices: deque[bytes] = deque()
    for slice_ in body:
        if slice_:
            slices.append(slice_)
        await trio.lowlevel.checkpoint()
    return Content(slices, sent)
