"""The model over HTTP: ``ChatCompletions`` is the ``Model`` port for any OpenAI-compatible server.

One attempt is one request; nothing is repeated here, because only the runner knows whether another attempt
makes sense. Every failure leaves as a ``ProviderError``:

* before the answer: no connection, a failing status, a body that is no event stream;
* in mid-stream: a lost connection, an error object, an end without the terminal event.

Connecting, sending and waiting for a connection of the pool are bounded here. Silence is not: the runner
guards it, for it knows what a sign of life is worth. Once the finish reason has come, the answer is
whole; then neither a lost connection nor a server that leaves the stream open can undo it.

A consumer may leave at any point, by cancellation as well. The connection is then closed, which is how the
provider learns that it can stop generating; only after a complete answer is it kept for the next request.
"""

from __future__ import annotations

import math
import ssl
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from types import TracebackType

import httpx
import trio

from chatcluster.config import Settings
from chatcluster.errors import ProviderError
from chatcluster.http_client import http_client
from chatcluster.llm.failures import Provider, from_response
from chatcluster.llm.openai import KEEP_ALIVE, ChunkDecoder, request_body
from chatcluster.llm.sse import EventDecoder
from chatcluster.ports import ModelEvent, ModelRequest

CONNECT_SECONDS = 10.0
SEND_SECONDS = 60.0
POOL_SECONDS = 10.0
IDLE_SECONDS = 30.0
TAIL_SECONDS = 5.0
"""For usage and the end marker, once the finish reason has come."""
DRAIN_SECONDS = 0.2
"""For the end of the body, once the end marker has come; else the connection is not kept."""
CLOSE_SECONDS = 2.0
ERROR_BODY_SECONDS = 5.0
ERROR_BODY_BYTES_MAX = 64 << 10
BODY_BYTES_MAX = 16 << 20


class ChatCompletions:
    """The ``Model`` of a replica: ``async with`` it, then ``stream`` as often as needed, concurrently."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._base_url = settings.llm_base_url.strip().rstrip("/")
        self._api_key = settings.llm_api_key.strip()
        self._provider = Provider(_server_name(self._base_url), (self._api_key,))
        self._client: httpx.AsyncClient | None = None

    def __repr__(self) -> str:
        return f"<ChatCompletions {self._provider.name} {'open' if self._client else 'closed'}>"

    async def __aenter__(self) -> ChatCompletions:
        slots = self._settings.slots
        self._client = http_client(
            self._base_url,
            # an interrupted chat's next request overlaps with the close of its last, hence twice the slots
            limits=httpx.Limits(
                max_connections=2 * slots + 16, max_keepalive_connections=slots + 8, keepalive_expiry=IDLE_SECONDS
            ),
            timeout=httpx.Timeout(None, connect=CONNECT_SECONDS, write=SEND_SECONDS, pool=POOL_SECONDS),
        )
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        client, self._client = self._client, None
        if client is not None:
            with trio.move_on_after(CLOSE_SECONDS, shield=True):
                await client.aclose()

    @asynccontextmanager
    async def stream(self, request: ModelRequest) -> AsyncIterator[AsyncIterator[ModelEvent]]:
        """One attempt; see ``ports.Model``. Entering sends the request and waits for the response's head."""
        self._check_settings(request)
        body = _Body(await self._send(request), self._provider)
        try:
            yield await self._open(body)
        finally:
            await body.close()

    def _check_settings(self, request: ModelRequest) -> None:
        """Raises what a person has to set, and how."""
        missing = self._provider.error
        if not self._base_url:
            raise missing("no model server is set: set llm-base-url (CHATCLUSTER_LLM_BASE_URL)", "config")
        if not self._api_key:
            raise missing(
                "no API key is set: set llm-api-key (CHATCLUSTER_LLM_API_KEY); any word will do for a server "
                "that needs none",
                "missing_key",
            )
        if not (request.model or self._settings.llm_model):
            raise missing("no model is named: set llm-model (CHATCLUSTER_LLM_MODEL), or the chat's model", "config")

    async def _send(self, request: ModelRequest) -> httpx.Response:
        if self._client is None:
            raise RuntimeError("stream() outside of the model's async with block")
        content = await self._content(request)
        headers = {
            "authorization": f"Bearer {self._api_key}",
            "accept": "text/event-stream",
            "accept-encoding": "identity",
            "content-type": "application/json",
            "content-length": str(content.length),
            "user-agent": "chatcluster",
        }
        try:
            to_send = self._client.build_request("POST", f"{self._base_url}/chat/completions", headers=headers)
            to_send.stream = content
            return await self._client.send(to_send, stream=True)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise _translate(self._provider, error) from None

    async def _content(self, request: ModelRequest) -> _Content:
        """The request's body. Others run between its slices, of which a long history has many."""
        settings = self._settings
        slices: deque[bytes] = deque()
        for slice_ in request_body(request, settings.llm_model, include_usage=settings.llm_include_usage):
            if slices:
                await trio.lowlevel.checkpoint()
            slices.append(slice_)
        return _Content(slices)

    async def _open(self, body: _Body) -> _Events:
        """The events of a response whose head has come."""
        provider, response = self._provider, body.response
        if response.status_code != 200:
            text = await body.read_start(ERROR_BODY_BYTES_MAX, timeout_seconds=ERROR_BODY_SECONDS)
            raise from_response(provider, response.status_code, response.headers, text, now=datetime.now(UTC))
        content_type = response.headers.get("content-type", "").partition(";")[0].strip().lower()
        if content_type == "text/html":
            raise provider.error(
                f"{provider.name} answered with a web page; check the base URL (llm-base-url)", "config"
            )
        events = _Events(body, provider)
        if content_type == "application/json":  # it did not stream, or this is an error under status 200
            events.take_whole(await body.read_start(BODY_BYTES_MAX))
        return events


class _Content(httpx.AsyncByteStream):
    """A request's body. Not httpx's own: that is an async generator, which a cancelled request would drop.

    Servers that read no chunked requests exist, so it is there as a whole before it is sent. What is sent is let go.
    """

    def __init__(self, slices: deque[bytes]) -> None:
        self.length = sum(map(len, slices))
        self._slices = slices

    def __aiter__(self) -> _Content:
        return self

    async def __anext__(self) -> bytes:
        if not self._slices:
            raise StopAsyncIteration
        return self._slices.popleft()


class _Body:
    """A response's body: chunks as they come, and an orderly end at any point."""

    def __init__(self, response: httpx.Response, provider: Provider) -> None:
        self.response = response
        self._provider = provider
        self._chunks = response.aiter_bytes()
        self._has_ended = False
        self.is_whole = False
        """What matters has come. From then on a lost connection is an end like another."""

    async def next_chunk(self) -> bytes:
        """Some bytes; ``b""`` at the end."""
        try:
            async for chunk in self._chunks:
                if chunk:
                    return chunk
        except httpx.HTTPError as error:
            if not self.is_whole:
                raise _translate(self._provider, error, in_answer=True) from None
        self._has_ended = True
        return b""

    async def read_start(self, bytes_max: int, *, timeout_seconds: float = math.inf) -> bytes:
        """The whole body, or what came of it within the limits."""
        body = bytearray()
        with trio.move_on_after(timeout_seconds):
            while len(body) < bytes_max and (chunk := await self.next_chunk()):
                body += chunk
        return bytes(body)

    async def close(self) -> None:
        """Let go of the connection: kept if the body's end comes at once, closed otherwise.

        Reading on under a cancelled scope is what unwinds httpx's nested generators; to drop them would
        leave that to the garbage collector.
        """
        with trio.CancelScope(deadline=trio.current_time() + CLOSE_SECONDS, shield=True):
            with trio.move_on_after(DRAIN_SECONDS if self.is_whole else 0):
                self.is_whole = True
                while not self._has_ended:
                    await self.next_chunk()
            await self.response.aclose()


class _Events:
    """The events of one response, in the order of the wire; a failure comes after what preceded it."""

    def __init__(self, body: _Body, provider: Provider) -> None:
        self._body = body
        self._sse = EventDecoder(provider)
        self._decoder = ChunkDecoder(provider)
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
        if self._decoder.has_finish_reason and not self._body.is_whole:
            self._body.is_whole = True
            self._tail_ends_at = trio.current_time() + TAIL_SECONDS


def _server_name(base_url: str) -> str:
    """Host and port for people; never user names or passwords."""
    try:
        return httpx.URL(base_url).netloc.decode("ascii") or "the model's server"
    except httpx.InvalidURL:
        return "the model's server"


def _translate(provider: Provider, error: Exception, *, in_answer: bool = False) -> ProviderError:
    """httpx's errors, as what they mean for another attempt."""
    name, text = provider.name, str(error) or type(error).__name__
    if isinstance(error, httpx.InvalidURL | httpx.UnsupportedProtocol | httpx.LocalProtocolError):
        return provider.error(f"the request to {name} cannot be made: {text}", "config")
    if isinstance(error, httpx.PoolTimeout):
        return provider.error(f"too many requests to {name} at a time on this replica", "overloaded", retryable=True)
    if isinstance(error, httpx.TimeoutException):
        return provider.error(f"{name} did not take the request in time", "timeout", retryable=True)
    if _is_untrusted(error):
        return provider.error(f"the certificate of {name} is not trusted: {text}", "config")
    if in_answer:
        return provider.error(
            f"the connection to {name} was lost in the middle of its answer: {text}",
            "stream_incomplete",
            retryable=True,
        )
    return provider.error(f"no connection to {name}: {text}", "generic", retryable=True)


def _is_untrusted(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, ssl.SSLCertVerificationError):
            return True
        error = error.__cause__ or error.__context__
    return False
