"""The answer of a model's server: a response whose head has come, as events.

Its body is read past httpx as far as that goes (``http_bodies.py``): most of what a word costs would be on the way
through it. What the body says is the business of ``sse.py``, and of the wire's decoder.

Once the finish reason has come, the answer is whole; then neither a lost connection nor a server that leaves the stream
open can undo it. A reader that leaves before that closes the connection.
"""

from __future__ import annotations

import math
import zlib
from collections import deque
from collections.abc import Sequence
from contextlib import suppress
from datetime import UTC, datetime

import httpx
import trio

from chatcluster.errors import ProviderError
from chatcluster.http_bodies import plain_chunks
from chatcluster.llm.answers import KEEP_ALIVE
from chatcluster.llm.connection_errors import translate
from chatcluster.llm.error_bodies import read_error_body
from chatcluster.llm.failures import Provider, from_response, from_stray_text
from chatcluster.llm.sse import EventDecoder
from chatcluster.llm.wire import Decoder
from chatcluster.ports import ModelEvent

TAIL_SECONDS = 5.0
"""The time for usage and the end marker, once the finish reason has come."""
DRAIN_SECONDS = 0.2
"""The time for the end of the body, once the end marker has come; else the connection is not kept."""
CLOSE_SECONDS = 2.0
ERROR_BODY_SECONDS = 5.0
ERROR_BODY_BYTES_MAX = 64 << 10
BODY_BYTES_MAX = 4 << 20
PIECE_BYTES = 8 << 10
"""What is taken out of little is handed on in such pieces. After each others have their turn: all may come at once."""
CHUNK_BYTES_MIN = 256
"""What a chunk counts for, however small it is."""
EVENTS_AT_A_TIME = 200
"""Of one chunk, before others have their turn."""
_ENCODINGS = ("identity", "gzip", "deflate")


class Body:
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
        if self._given_bytes >= PIECE_BYTES:
            self._given_bytes = 0
            if self._is_closing:
                await trio.lowlevel.cancel_shielded_checkpoint()
            else:
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


async def open_answer(body: Body, server: Provider, decoder: Decoder) -> Events:
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
    events = Events(body, server, decoder)
    if content_type.endswith("json") or begins_with in (b"{", b"["):  # not streamed, or an error under status 200
        events.take_whole(await body.read_start(BODY_BYTES_MAX))
    return events


class Events:
    """The events of one response, in the order of the wire; a failure comes after what preceded it."""

    def __init__(self, body: Body, provider: Provider, decoder: Decoder) -> None:
        self._body = body
        self._provider = provider
        self._sse = EventDecoder(provider)
        self._decoder = decoder
        self._ready: deque[ModelEvent] = deque()
        self._failure: ProviderError | None = None
        self._tail_ends_at = math.inf
        self._given = 0
        """Events since others had their turn."""

    def __aiter__(self) -> Events:
        return self

    async def __anext__(self) -> ModelEvent:
        while not self._ready:
            if self._failure is not None:
                raise self._failure
            if self._decoder.is_complete:
                raise StopAsyncIteration
            await self._read_more()
        self._given += 1
        if self._given >= EVENTS_AT_A_TIME:
            self._given = 0
            await trio.lowlevel.checkpoint()
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
