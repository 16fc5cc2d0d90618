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
guards it, for it knows what a sign of life is worth. Once the finish reason has come, the answer is
whole; then neither a lost connection nor a server that leaves the stream open can undo it.

A consumer may leave at any point, by cancellation as well. The connection is then closed, which is how the
provider learns that it can stop generating; only after a complete answer is it kept for the next request.
"""

from __future__ import annotations

import math
import zlib
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime
from types import TracebackType
from typing import Any
from urllib.parse import urlsplit

import httpx
import trio

from chatcluster.errors import ProviderError
from chatcluster.http_bodies import plain_chunks
from chatcluster.http_client import Limits, close_expired, content_of, headers_of_stream, http_transport
from chatcluster.llm.addresses import user_header
from chatcluster.llm.answers import KEEP_ALIVE, CutBefore
from chatcluster.llm.connection_errors import as_configured, translate
from chatcluster.llm.error_bodies import read_error_body
from chatcluster.llm.failures import Provider, from_response, from_stray_text
from chatcluster.llm.sent_files import SentFiles
from chatcluster.llm.sse import EventDecoder
from chatcluster.llm.wire import Decoder, Route, Target, Wire, continuation_of, output_tokens_left, require_able
from chatcluster.llm.wires import WIRES, Routing
from chatcluster.models import Continuation
from chatcluster.ports import ModelEvent, ModelRequest

TIMEOUTS = httpx.Timeout(None, connect=5.0, write=60.0, pool=10.0).as_dict()
IDLE_SECONDS = 5.0
"""A connection is kept for this long: firewalls forget idle ones without a word, the strictest after some 20 s."""
REPEATS_MAX = 3
"""Dead connections that one request may meet with."""
TAIL_SECONDS = 5.0
"""The time for usage and the end marker, once the finish reason has come."""
DRAIN_SECONDS = 0.2
"""The time for the end of the body, once the end marker has come; else the connection is not kept."""
CLOSE_SECONDS = 2.0
ERROR_BODY_SECONDS = 5.0
ERROR_BODY_BYTES_MAX = 64 << 10
BODY_BYTES_MAX = 4 << 20
PIECE_BYTES = 64 << 10
"""What is taken out of little is handed on in such pieces. After each others have their turn: all may come at once."""
CHUNK_BYTES_MIN = 2 << 10
"""What a chunk counts for, however small it is."""
FORGOTTEN_STATUSES = (404, 410)
_ENCODINGS = ("identity", "gzip", "deflate")


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
        async with self._files.inserted(request, set(route.options.input)) as whole:
            body = _Body(await self._send(whole, route, wire, wire.target), route.server)
        try:
            if request.attach is not None and body.response.status_code in FORGOTTEN_STATUSES:
                said = f"{route.server.name} has forgotten the answer that it was to go on with"
                raise route.server.error(said, "answer_forgotten", retryable=True)
            events = await _open(body, route.server, decoder)
            if request.meter is not None:
                request.meter.starts(route.name or route.model, route.server.name, route.prices)
            yield events
        finally:
            if request.meter is not None:
                request.meter.count(decoder.usage)
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
            body = _Body(await self._send(request, route, wire, wire.cancel), route.server)
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
            content = await content_of(wire.body(request, route))  # what was sent is let go, and made anew
            with as_configured(route.server):
                blank = httpx.Request(method, url, headers=headers | {"content-length": str(content.length)})
            blank.stream = content
            with suppress(_KeptConnectionBroke):
                return await _send_once(transport, blank, route.server)
        raise route.server.error(f"{route.server.name} broke {REPEATS_MAX} kept connections", "generic", retryable=True)


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


async def _open(body: _Body, server: Provider, decoder: Decoder) -> _Events:
    """The events of a response whose head has come."""
    response = body.response
    if _encoding(response) not in _ENCODINGS:
        said = f"{server.name} answered compressed ({_encoding(response)}), unasked"
        raise server.error(f"{said}: that cannot be read", "config")
    if not response.is_success:
        text = await body.read_error()
        raise from_response(server, response.status_code, response.headers, text, now=datetime.now(UTC))
    content_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
    begins_with = b"" if content_type == "text/event-stream" else await body.first_character()
    if begins_with == b"<" or "html" in content_type:
        title = read_error_body(await body.read_error()).message
        raise server.error(
            f"{server.name} answered with a web page ({title or 'no title'}); check the base URL (llm-base-url)",
            "config",
        )
    events = _Events(body, server, decoder)
    if content_type.endswith("json") or begins_with in (b"{", b"["):  # not streamed, or an error under status 200
        events.take_whole(await body.read_start(BODY_BYTES_MAX))
    return events


class _KeptConnectionBroke(Exception):
    """A connection that had been kept from an earlier request was dead."""


class _Connection:
    """What a request finds out about its connection, as httpx's ``trace`` extension tells it."""

    def __init__(self) -> None:
        self.is_new = False

    async def trace(self, event: str, _: dict[str, Any]) -> None:
        self.is_new = self.is_new or "connect_" in event


class _Body:
    """A response's body: chunks as they come, and an orderly end at any point."""

    def __init__(self, response: httpx.Response, provider: Provider) -> None:
        self.response = response
        self._provider = provider
        self._plain_chunks = plain_chunks(response)
        self._chunks = response.aiter_raw()
        # of gzip and of deflate; httpx's own decoding would leave its generators behind where it fails
        self._decompressor = None if _encoding(response) == "identity" else zlib.decompressobj(zlib.MAX_WBITS + 32)
        self._pieces: deque[bytes] = deque()
        self._given_bytes = 0
        self._has_ended = self._is_closing = False
        self.is_whole = False
        """What matters has come. From then on a lost connection is an end like another."""

    async def first_character(self) -> bytes:
        """What the body begins with, a mark and space aside. Nothing is taken of it."""
        first = await self.next_chunk()
        if first:
            self._pieces.appendleft(first)
        return first.removeprefix(b"\xef\xbb\xbf").lstrip()[:1]

    async def next_chunk(self) -> bytes:
        """Some bytes, no more than take a moment; ``b""`` at the end."""
        if self._given_bytes >= PIECE_BYTES and not self._is_closing:
            self._given_bytes = 0
            await trio.lowlevel.checkpoint()
        while not self._pieces and not self._has_ended:
            await self._receive()
        chunk = self._pieces.popleft() if self._pieces else b""
        self._given_bytes += max(len(chunk), CHUNK_BYTES_MIN)
        return chunk

    async def _receive(self) -> None:
        try:
            raw_chunk = await self._next_raw()
        except httpx.HTTPError as error:
            if not self.is_whole:
                raise translate(self._provider, error, in_answer=True) from None
            raw_chunk = b""
        if not raw_chunk:
            self._has_ended = True
            return
        text = self._decompressed(raw_chunk)
        self._pieces.extend(text[start : start + PIECE_BYTES] for start in range(0, len(text), PIECE_BYTES))

    async def _next_raw(self) -> bytes:
        """As it comes, empty at the end: past httpx, as far as that goes."""
        if self._plain_chunks is not None:
            if chunk := await self._plain_chunks.receive():
                return chunk
            self._plain_chunks = None
        return await anext(self._chunks, b"")

    def _decompressed(self, chunk: bytes) -> bytes:
        if self._decompressor is None:
            return chunk
        try:
            text = self._decompressor.decompress(chunk, BODY_BYTES_MAX)
        except zlib.error as error:
            raise self._unreadable(str(error)) from None
        if self._decompressor.unconsumed_tail:
            raise self._unreadable(f"it has more than {BODY_BYTES_MAX} bytes")
        return text

    def _unreadable(self, why: str) -> ProviderError:
        name = self._provider.name
        return self._provider.error(f"{name} sent a body that cannot be decompressed: {why}", "generic", retryable=True)

    async def read_start(self, bytes_max: int) -> bytes:
        """The whole body, or what comes of it within the limit."""
        body = bytearray()
        while len(body) < bytes_max and (chunk := await self.next_chunk()):
            body += chunk
        return bytes(body)

    async def read_error(self) -> bytes:
        """The body of a response that is a failure whatever it says: what came of it soon, and before it was cut."""
        body = bytearray()
        with trio.move_on_after(ERROR_BODY_SECONDS), suppress(ProviderError):
            while len(body) < ERROR_BODY_BYTES_MAX and (chunk := await self.next_chunk()):
                body += chunk
        return bytes(body)

    async def close(self) -> None:
        """Let go of the connection: kept if the body's end comes at once, closed otherwise.

        Reading on under a cancelled scope is what unwinds httpx's nested generators; to drop them would
        leave that to the garbage collector.
        """
        with trio.CancelScope(deadline=trio.current_time() + CLOSE_SECONDS, shield=True):
            with trio.move_on_after(DRAIN_SECONDS if self.is_whole else 0):
                self.is_whole = self._is_closing = True
                self._decompressor = None  # what is read now is thrown away
                while not self._has_ended:
                    await self.next_chunk()
            await self.response.aclose()


class _Events:
    """The events of one response, in the order of the wire; a failure comes after what preceded it."""

    def __init__(self, body: _Body, provider: Provider, decoder: Decoder) -> None:
        self._body = body
        self._provider = provider
        self._sse = EventDecoder(provider)
        self._decoder = decoder
        self._ready: deque[ModelEvent] = deque()
        self._failure: ProviderError | None = None
        self._tail_ends_at = math.inf

    def __aiter__(self) -> _Events:
        return self

    async def __anext__(self) -> ModelEvent:
        while not self._ready:
            if self._failure is not None:
                raise self._failure
            if self._decoder.is_complete:
                raise StopAsyncIteration
            await self._read_more()
        return self._ready.popleft()

    def take_whole(self, body: bytes) -> None:
        """Take a body that is no stream but one JSON value."""
        self._take([body], at_end=True)

    async def _read_more(self) -> None:
        if self._body.is_whole:
            chunk = b""
            with trio.move_on_at(self._tail_ends_at):
                chunk = await self._body.next_chunk()
        else:
            chunk = await self._body.next_chunk()
        self._take(self._sse.feed(chunk) if chunk else self._sse.finish(), at_end=not chunk)

    def _take(self, payloads: Sequence[bytes | None], *, at_end: bool) -> None:
        try:
            for payload in payloads:
                self._ready.extend((KEEP_ALIVE,) if payload is None else self._decoder.feed(payload))
            if at_end:
                self._ready.extend(self._decoder.end())
        except ProviderError as error:
            self._failure = error
            if at_end and error.kind == "stream_incomplete" and self._sse.stray_text:
                self._failure = from_stray_text(self._provider, self._sse.stray_text)
        if self._decoder.has_finish_reason and not self._body.is_whole:
            self._body.is_whole = True
            self._tail_ends_at = trio.current_time() + TAIL_SECONDS


def _encoding(response: httpx.Response) -> str:
    return response.headers.get("content-encoding", "").strip().lower() or "identity"
