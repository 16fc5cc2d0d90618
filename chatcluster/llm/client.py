"""The model over HTTP: ``HttpModel`` is the ``Model`` port for servers that speak any of the wires.

A request goes where its route says, and speaks the wire of that route (``wire.py``). Here is transport alone.

One attempt is one request; nothing is repeated here, because only the runner knows whether another attempt
makes sense. Every failure leaves as a ``ProviderError``:

* before the answer: no connection, a failing status, a body that is no event stream;
* in mid-stream: a lost connection, an error object, an end without the terminal event.

One thing is repeated: a request that met with a dead connection. Servers close connections that are idle, and a request
may be under way to one of those; so if a *kept* connection breaks before the response begins, the request goes out
again at once, on another. On a connection of its own it is not, for then the server has seen it and failed.

Connecting, sending and waiting for a connection of the pool are bounded here. Silence is not: the runner
guards it, for it knows what a sign of life is worth. What a response says is read by ``answer_stream.py``.

A consumer may leave at any point, by cancellation as well. The connection is then closed, which is how the
provider learns that it can stop generating; only after a complete answer is it kept for the next request.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import httpx
import trio

from chatcluster.errors import ProviderError
from chatcluster.http_client import Content, Limits, close_expired, content_of, headers_of_stream, http_transport
from chatcluster.llm.addresses import user_header
from chatcluster.llm.answer_stream import Body, open_answer
from chatcluster.llm.answers import CutBefore
from chatcluster.llm.connection_errors import as_configured, translate
from chatcluster.llm.failures import Provider
from chatcluster.llm.sent_files import SentFiles
from chatcluster.llm.wire import Route, Target, Wire, continuation_of, output_tokens_left, require_able
from chatcluster.llm.wires import WIRES, Routing
from chatcluster.models import Continuation
from chatcluster.ports import ModelEvent, ModelRequest

TIMEOUTS = httpx.Timeout(None, connect=5.0, write=60.0, pool=10.0).as_dict()
IDLE_SECONDS = 5.0
"""A connection is kept for this long: firewalls forget idle ones without a word, the strictest after some 20 s."""
REPEATS_MAX = 3
"""Dead connections that one request may meet with."""
CLOSE_SECONDS = 2.0
FORGOTTEN_STATUSES = (404, 410)


class HttpModel:
    """The ``Model`` of a replica: ``async with`` it, then ``stream`` as often as needed, concurrently.

    ``concurrent`` is how many answers are asked for at a time. ``first_url`` names a server that will surely be asked.
    ``files`` puts those of the chats into requests.
    """

    def __init__(
        self, routing: Routing, *, concurrent: int, first_url: str = "", files: SentFiles | None = None
    ) -> None:
        self._routing = routing
        self._files = files or SentFiles(None)
        self._concurrent = concurrent
        self._first_url = first_url
        self._transports: dict[tuple[str, str], httpx.AsyncHTTPTransport] = {}
        """By scheme, host and port: the environment may have a proxy for each."""
        self._making = trio.Lock()
        self._is_open = False

    def __repr__(self) -> str:
        return f"<HttpModel {len(self._transports)} servers, {'open' if self._is_open else 'closed'}>"

    async def __aenter__(self) -> HttpModel:
        """Raises ``ConfigError`` for a proxy and for certificates that cannot be used."""
        if self._first_url:
            self._transports[_server_of(self._first_url)] = self._new_transport(self._first_url)
        self._is_open = True
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._is_open = False
        with trio.move_on_after(CLOSE_SECONDS, shield=True):
            while self._transports:
                await self._transports.popitem()[1].aclose()

    @asynccontextmanager
    async def stream(self, request: ModelRequest) -> AsyncIterator[AsyncIterator[ModelEvent]]:
        """One attempt; see ``ports.Model``. Entering sends the request and waits for the response's head."""
        route = self._routing(request)
        wire = WIRES[route.kind]
        require_able(request, route)
        if request.begun and output_tokens_left(request, route) == 0:
            if request.meter is not None:
                request.meter.starts(route.name or route.model, route.server.name, route.prices)
            yield CutBefore()
            return
        decoder = wire.decoder(request, route)
        body = Body(await self._send(request, route, wire, wire.target), route.server)
        try:
            if request.attach is not None and body.response.status_code in FORGOTTEN_STATUSES:
                said = f"{route.server.name} has forgotten the answer that it was to go on with"
                raise route.server.error(said, "answer_forgotten", retryable=True)
            events = await open_answer(body, route.server, decoder)
            if request.meter is not None:
                request.meter.starts(route.name or route.model, route.server.name, route.prices)
            yield events
        finally:
            if request.meter is not None:
                request.meter.count(decoder.usage)
                request.meter.cite(decoder.cited())
            await body.close()

    def continuation(self, request: ModelRequest) -> Continuation:
        """See ``ports.Model``."""
        try:
            return continuation_of(self._routing(request))
        except ProviderError:
            return Continuation.NONE

    async def cancel(self, request: ModelRequest) -> None:
        """See ``ports.Model``."""
        route = self._routing(request)
        wire = WIRES[route.kind]
        if wire.cancel is not None and continuation_of(route) is Continuation.BACKGROUND:
            body = Body(await self._send(request, route, wire, wire.cancel), route.server)
            try:
                if not body.response.is_success:
                    raise route.server.error(f"{route.server.name} did not cancel an answer", "generic")
                body.is_whole = True
            finally:
                await body.close()

    async def close_idle(self) -> None:
        """Until cancelled: close connections that nobody uses any more."""
        await close_expired(self._transports.values, every_seconds=IDLE_SECONDS)

    async def _transport_for(self, url: str) -> httpx.AsyncHTTPTransport:
        if not self._is_open:
            raise RuntimeError("stream() outside of the model's async with block")
        server = _server_of(url)
        if server not in self._transports:
            async with self._making:
                if server not in self._transports:  # it takes long: the certificates are read
                    self._transports[server] = await trio.to_thread.run_sync(self._new_transport, url)
        return self._transports[server]

    def _new_transport(self, url: str) -> httpx.AsyncHTTPTransport:
        # an interrupted chat's next request overlaps with the close of its last, hence twice as many
        limits = Limits(2 * self._concurrent + 16, idle=self._concurrent + 8, idle_seconds=IDLE_SECONDS)
        return http_transport(url, limits)

    async def _send(
        self, request: ModelRequest, route: Route, wire: Wire, target_of: Callable[[ModelRequest, Route], Target]
    ) -> httpx.Response:
        with as_configured(route.server):
            transport = await self._transport_for(route.base_url)
            method, url = target_of(request, route)
            headers = wire.headers(route) | headers_of_stream() | user_header(route.base_url)
        for _ in range(REPEATS_MAX):
            async with AsyncExitStack() as files:  # what was sent is let go, and made anew
                content = await self._content(request, route, wire, files)
                with as_configured(route.server):
                    blank = httpx.Request(method, url, headers=headers | {"content-length": str(content.length)})
                blank.stream = content
                with suppress(_KeptConnectionBroke):
                    return await _send_once(transport, blank, route.server)
        raise route.server.error(f"{route.server.name} broke {REPEATS_MAX} kept connections", "generic", retryable=True)

    async def _content(self, request: ModelRequest, route: Route, wire: Wire, files: AsyncExitStack) -> Content:
        """The request's body, with the ``files`` in it until it is sent: the server may take long to answer then."""
        if request.attach is None:
            request = await files.enter_async_context(self._files.inserted(request, set(route.options.input)))
        return await content_of(wire.body(request, route), files.aclose)


def _server_of(url: str) -> tuple[str, str]:
    parts = urlsplit(url)
    return parts.scheme, parts.netloc.rpartition("@")[2]


async def _send_once(transport: httpx.AsyncHTTPTransport, request: httpx.Request, server: Provider) -> httpx.Response:
    """Raises ``_KeptConnectionBroke`` where the server has seen nothing of the request, as far as can be known."""
    connection = _Connection()
    request.extensions = {"timeout": TIMEOUTS, "trace": connection.trace}
    try:
        return await transport.handle_async_request(request)
    except (httpx.NetworkError, httpx.RemoteProtocolError) as error:
        if not connection.is_new:
            raise _KeptConnectionBroke from error
        raise translate(server, error) from None
    except (httpx.HTTPError, httpx.InvalidURL) as error:
        raise translate(server, error) from None


class _KeptConnectionBroke(Exception):
    """A connection that had been kept from an earlier request was dead."""


class _Connection:
    """What a request finds out about its connection, as httpx's ``trace`` extension tells it."""

    def __init__(self) -> None:
        self.is_new = False

    async def trace(self, event: str, _: dict[str, Any]) -> None:
        self.is_new = self.is_new or "connect_" in event
