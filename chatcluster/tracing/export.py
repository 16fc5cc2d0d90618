"""Sends spans to an endpoint of OTLP over HTTP, and never keeps anybody waiting for it.

A span is encoded when it ends, and waits in a queue of bounded length and size. One task sends what is there every
``EVERY_SECONDS``, or as soon as it fills a request. What happens on failure:

* the endpoint is not there, takes too long, or is overloaded: what was to be sent goes back into the queue, and is sent
  after a wait that grows up to ``WAIT_SECONDS_MAX``. Where there is no room for a new span, the oldest is dropped;
* the endpoint refuses what it was sent: that is dropped, as it would refuse it again;
* the process ends: what is there is sent, within ``FLUSH_SECONDS_MAX``.

Each span that is dropped is counted (``spans.dropped``), and why is said now and then (``spans.not_exported``).
"""

from __future__ import annotations

import time
import zlib
from collections import deque
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from enum import Enum, auto
from functools import partial

import httpx
import trio

from chatcluster import __version__, telemetry, trace_context
from chatcluster.backoff import grown_seconds
from chatcluster.http_client import http_client
from chatcluster.tracing import otlp
from chatcluster.tracing.environment import Endpoint
from chatcluster.tracing.spans import Value, context_of, span_of, wants

QUEUE_SPANS_MAX = 4096
QUEUE_BYTES_MAX = 4 << 20
REQUEST_SPANS_MAX = 512
REQUEST_BYTES_MAX = 256 << 10
EVERY_SECONDS = 2.0
WAIT_SECONDS = 2.0
WAIT_SECONDS_MAX = 60.0
FLUSH_SECONDS_MAX = 2.0
ANSWER_BYTES_MAX = 64 << 10
"""The most that is read of an answer; the connection of a longer one is closed."""
OVERLOADED = (429, 502, 503, 504)
GZIP = zlib.MAX_WBITS + 16


class Sent(Enum):
    TAKEN = auto()
    REFUSED = auto()
    AWAY = auto()


@asynccontextmanager
async def exporting(endpoint: Endpoint, instance: str) -> AsyncIterator[SpanExport]:
    """Tell ``endpoint`` of what this process does while the block runs. ``instance`` is its name among its like.

    Raises ``ConfigError`` for a proxy and for certificates that cannot be used.
    """
    async with http_client(endpoint.url, timeout=endpoint.timeout_seconds) as client:
        export = SpanExport(endpoint, client, instance)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(export.run)
            telemetry.subscribe(export.listen)
            try:
                with trace_context.telling(partial(context_of, share=endpoint.share)):
                    yield export
            finally:
                telemetry.unsubscribe(export.listen)
            export.end()
            nursery.cancel_scope.deadline = trio.current_time() + FLUSH_SECONDS_MAX


class SpanExport:
    """``run`` sends until ``end``; ``listen`` is what ``telemetry`` calls."""

    def __init__(self, endpoint: Endpoint, client: httpx.AsyncClient, instance: str) -> None:
        self._endpoint = endpoint
        self._client = client
        self._resource: dict[str, Value] = {
            "service.name": "chatcluster",
            "service.version": __version__,
            "service.instance.id": instance,
            **endpoint.resource,
        }
        self._queue: deque[bytes] = deque()
        self._queue_bytes = 0
        self._is_full = trio.Event()
        """Set when there is enough for a request."""
        self._ending = trio.Event()
        self._not_exported = telemetry.Seldom("spans.not_exported")

    def __repr__(self) -> str:
        return f"<SpanExport {len(self._queue)} spans, {self._queue_bytes} bytes>"

    def listen(self, name: str, fields: dict[str, object]) -> None:
        """Take one event, if a span is made of it."""
        if wants(name, fields, self._endpoint.share):
            self._put(otlp.encoded(span_of(name, fields, time.time_ns())))

    def _put(self, span: bytes) -> None:
        self._queue.append(span)
        self._queue_bytes += len(span)
        self._make_room()
        if len(self._queue) >= REQUEST_SPANS_MAX or self._queue_bytes >= REQUEST_BYTES_MAX:
            self._is_full.set()

    def _make_room(self) -> None:
        """The oldest are dropped: the cause of a failure is looked for among the newest."""
        dropped = 0
        while len(self._queue) > QUEUE_SPANS_MAX or self._queue_bytes > QUEUE_BYTES_MAX:
            self._queue_bytes -= len(self._queue.popleft())
            dropped += 1
        if dropped:
            telemetry.event("spans.dropped", count=dropped)

    # --- sending ------------------------------------------------------------------------------

    def end(self) -> None:
        """Send what is there, and return."""
        self._ending.set()
        self._is_full.set()

    async def run(self) -> None:
        failures = 0
        while True:
            await self._due(failures)
            failures = 0 if await self._send_all() else failures + 1
            if self._ending.is_set() and (failures or not self._queue):
                return

    async def _due(self, failures: int) -> None:
        if failures:
            with trio.move_on_after(grown_seconds(WAIT_SECONDS, failures - 1, WAIT_SECONDS_MAX)):
                await self._ending.wait()
        else:
            with trio.move_on_after(EVERY_SECONDS):
                await self._is_full.wait()

    async def _send_all(self) -> bool:
        """False: the endpoint is away, and the rest waits."""
        if not self._ending.is_set():
            self._is_full = trio.Event()
        while self._queue:
            batch = self._take()
            sent = await self._sent(batch)
            if sent is Sent.AWAY:
                self._put_back(batch)
                return False
            telemetry.event("spans.exported" if sent is Sent.TAKEN else "spans.dropped", count=len(batch))
        return True

    def _take(self) -> list[bytes]:
        batch: list[bytes] = []
        size = 0
        while self._queue and len(batch) < REQUEST_SPANS_MAX and size < REQUEST_BYTES_MAX:
            batch.append(self._queue.popleft())
            size += len(batch[-1])
        self._queue_bytes -= size
        return batch

    def _put_back(self, batch: list[bytes]) -> None:
        self._queue.extendleft(reversed(batch))
        self._queue_bytes += sum(map(len, batch))
        self._make_room()

    async def _sent(self, batch: list[bytes]) -> Sent:
        """What became of a request. Nothing that an endpoint does ends more than that."""
        try:
            with trio.fail_after(self._endpoint.timeout_seconds):
                status = await self._post(otlp.request(self._resource, batch))
        except (httpx.HTTPError, trio.TooSlowError) as error:
            self._not_exported.event(error=type(error).__name__)
            return Sent.AWAY
        except Exception as error:  # noqa: BLE001 - traces are for those who look, and no reason to end a replica
            telemetry.event("spans.crashed", error=repr(error), exc_info=error)
            return Sent.REFUSED
        if 200 <= status < 300:
            return Sent.TAKEN
        self._not_exported.event(status=status)
        return Sent.AWAY if status in OVERLOADED else Sent.REFUSED

    async def _post(self, body: bytes) -> int:
        headers = self._endpoint.headers | {"content-type": "application/x-protobuf", "user-agent": "chatcluster"}
        if self._endpoint.gzip:
            headers["content-encoding"] = "gzip"
            body = _gzipped(body)
        async with self._client.stream("POST", self._endpoint.url, content=body, headers=headers) as response:
            length = response.headers.get("content-length", "")
            if length.isdecimal() and int(length) <= ANSWER_BYTES_MAX:
                await response.aread()  # then the connection is kept
            return response.status_code


def _gzipped(body: bytes) -> bytes:
    compressor = zlib.compressobj(level=1, wbits=GZIP)
    return compressor.compress(body) + compressor.flush()
