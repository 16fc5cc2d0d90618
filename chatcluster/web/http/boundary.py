"""The outermost layer of the web application: what holds for every request, whatever route it takes.

* It has an ID: the caller's ``X-Request-Id`` if it has a sane form, else a new one. It is in the answer and
  in every line that is logged while the request is served.
* Its body is bounded in size (413) and in time (408), with or without a ``Content-Length``, and is not read any
  further than that. An escaped character counts as one byte, so that no limit depends on how a client writes JSON;
  whatever a body is made of, six times the limit is the most that is read. An upload has limits of its own, counts
  as it comes, and has longer: as long as ``UPLOAD_BYTES_PER_SECOND_MIN`` takes. A body that may have files in it
  (``WITH_FILES``) has room for some; what it has besides them is counted where they are taken out
  (``web/inline_files.py``).
* Its address is bounded, in bytes and in parameters: litestar remembers what became of the last thousand, and a replica
  has to hold that.
* It may belong to a trace of its caller's (``traceparent``): see ``trace_context.py``.
* It gets an answer: an error that nobody handled is a 500 before the response has begun. After that the
  response is left unfinished, and the server breaks the connection off.
* While the replica drains, the answer says ``Connection: close``, so that the client goes elsewhere next time.
* It is reported once, as ``http.request``, with the route's template and not its path; an event stream when it begins.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from secrets import token_hex
from time import perf_counter
from typing import Any, NamedTuple

import structlog
import trio
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send
from litestar.utils import normalize_path

from chatcluster import telemetry, trace_context
from chatcluster.errors import InvalidRequest, RequestTimeout, TooLarge
from chatcluster.web.errors import answer_at

ADDRESS_BYTES_MAX = 8 << 10
"""Of path and query together, as they are written."""
PARAMETERS_MAX = 100
BODY_SECONDS_MAX = 30.0
UPLOAD = ("POST", "/api/v1/files")
UPLOAD_BYTES_PER_SECOND_MIN = 64 << 10
WITH_FILES = re.compile(r"/v1/(responses|chat/completions|conversations(/[^/]+/items)?)|/api/(ai/chat|agui)")
"""The paths, as routes are found by them, of bodies that files may come within."""
INLINE_FILES = 5
"""One body has room for so many files of the largest size."""
BASE64_BYTES = 1.5
"""So many bytes of base64 each byte takes, with line breaks and escapes."""
ESCAPED_CHARACTER_BYTES = 6
"""``\\u0041`` is one byte of text."""
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class BodyLimit(NamedTuple):
    """``wire_bytes_max``: of a body as it is written, with all its escapes."""

    bytes_max: int
    wire_bytes_max: int
    seconds_max: float


class BodyCount:
    """Counts a body as it comes. Raises ``TooLarge``."""

    def __init__(self, limit: BodyLimit) -> None:
        self._limit = limit
        self._bytes = 0
        self._escapes = 0

    def announce(self, size_bytes: int) -> None:
        self._check(size_bytes, self._limit.wire_bytes_max)

    def add(self, piece: bytes) -> None:
        """A character whose escape is cut in two by the pieces counts as it was written."""
        self._bytes += len(piece)
        self._escapes += piece.count(b"\\u")
        self._check(self._bytes, self._limit.wire_bytes_max)
        self._check(self._bytes - (ESCAPED_CHARACTER_BYTES - 1) * self._escapes, self._limit.bytes_max)

    def _check(self, size: int, bytes_max: int) -> None:
        if size > bytes_max:
            limit = self._limit.bytes_max
            raise TooLarge(f"the body is larger than {limit} bytes", bytes_max=limit)


def json_limit(bytes_max: int) -> BodyLimit:
    return BodyLimit(bytes_max, ESCAPED_CHARACTER_BYTES * bytes_max, BODY_SECONDS_MAX)


def _with_time(bytes_max: int) -> BodyLimit:
    """Without escapes, and in the time that so much takes."""
    return BodyLimit(bytes_max, bytes_max, BODY_SECONDS_MAX + bytes_max / UPLOAD_BYTES_PER_SECOND_MIN)


class Boundary:
    def __init__(
        self, app: ASGIApp, *, body_bytes_max: int, upload_bytes_max: int, draining: Callable[[], bool]
    ) -> None:
        self._app = app
        self._limit = json_limit(body_bytes_max)
        self._upload_limit = _with_time(upload_bytes_max)
        self._limit_with_files = _with_time(body_bytes_max + int(INLINE_FILES * upload_bytes_max * BASE64_BYTES))
        self._draining = draining

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        structlog.contextvars.bind_contextvars(request_id=request_id.decode())
        response = _Response(send, request_id, self._draining)
        body = _RequestBody(receive, scope, self._limit_of(scope))
        started = perf_counter()
        with trace_context.joined(_headers(scope, b"traceparent")) as joined:
            try:
                await self._serve(scope, body, response)
            finally:
                telemetry.event(
                    "http.request",
                    method=_method(scope),
                    route=scope.get("path_template") or "none",
                    status=response.status,
                    streamed=response.streamed,
                    duration_seconds=perf_counter() - started,
                    **({} if joined is None else joined.told),
                )

    def _limit_of(self, scope: HTTPScope) -> BodyLimit:
        path = normalize_path(scope["path"])  # routes are found by that one
        if (scope["method"], path) == UPLOAD:
            return self._upload_limit
        return self._limit_with_files if WITH_FILES.fullmatch(path) else self._limit

    async def _serve(self, scope: Scope, body: _RequestBody, response: _Response) -> None:
        try:
            _require_short_address(scope)
            await self._app(scope, body.receive, response.send)
        except Exception as error:  # noqa: BLE001 - every request gets an answer
            if response.status:
                telemetry.event("http.crashed", error=type(error).__name__, exc_info=error)
                return
            status, text, headers = answer_at(scope["path"], error)
            raw = [(name.lower().encode(), value.encode()) for name, value in headers.items()]
            raw += [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(text))]
            await response.send({"type": "http.response.start", "status": status, "headers": raw})
            await response.send({"type": "http.response.body", "body": text, "more_body": False})


class _RequestBody:
    """The request's side: passes events on until the body is too large or too slow."""

    def __init__(self, receive: Receive, scope: Scope, limit: BodyLimit) -> None:
        self._receive = receive
        self._announced = _content_length(scope)
        self._limit = limit
        self._count = BodyCount(limit)
        self._deadline = trio.current_time() + limit.seconds_max
        self._complete = False

    async def receive(self) -> Any:
        if self._complete:
            return await self._receive()
        self._count.announce(self._announced)
        with trio.move_on_at(self._deadline) as time:
            event = await self._receive()
        if time.cancelled_caught:
            raise RequestTimeout(f"the body did not arrive within {self._limit.seconds_max:g} s")
        if event["type"] == "http.disconnect":
            raise InvalidRequest("the connection broke before the body was complete")
        if event["type"] == "http.request":
            self._count.add(event["body"])
            self._complete = not event["more_body"]
        return event


class _Response:
    """The response's side: adds what every answer has, and remembers how it went."""

    def __init__(self, send: Send, request_id: bytes, draining: Callable[[], bool]) -> None:
        self._send = send
        self._request_id = request_id
        self._draining = draining
        self.status = 0
        self.streamed = False

    async def send(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            self.status = message["status"]
            message["headers"] = self._headers([(name.lower(), value) for name, value in message["headers"]])
        await self._send(message)

    def _headers(self, headers: list[tuple[bytes, bytes]]) -> list[tuple[bytes, bytes]]:
        names = {name for name, _ in headers}
        self.streamed = b"content-length" not in names
        headers += [(b"x-request-id", self._request_id), (b"x-content-type-options", b"nosniff")]
        if b"cache-control" not in names:
            headers.append((b"cache-control", b"no-store"))
        if self._draining() and not self.streamed:  # Node takes a stream that closes for whole when it is cut
            headers.append((b"connection", b"close"))
        return headers


def _method(scope: HTTPScope) -> str:
    return scope["method"] if scope["method"] in _METHODS else "other"


def _require_short_address(scope: Scope) -> None:
    """Raises ``TooLarge``, and ``InvalidRequest``."""
    query = scope["query_string"]
    if len(scope["raw_path"]) + len(query) > ADDRESS_BYTES_MAX:
        raise TooLarge(f"the address is longer than {ADDRESS_BYTES_MAX} bytes", bytes_max=ADDRESS_BYTES_MAX)
    if query.count(b"&") >= PARAMETERS_MAX:
        raise InvalidRequest(f"there are more than {PARAMETERS_MAX} parameters in the query")


def _request_id(scope: Scope) -> bytes:
    value = _header(scope, b"x-request-id")
    return value if _REQUEST_ID.fullmatch(value) else token_hex(16).encode()


def _content_length(scope: Scope) -> int:
    value = _header(scope, b"content-length")
    return int(value) if value.isdigit() else 0


def _headers(scope: Scope, wanted: bytes) -> list[bytes]:
    return [value for name, value in scope["headers"] if name == wanted]


def _header(scope: Scope, wanted: bytes) -> bytes:
    return next((value for name, value in scope["headers"] if name == wanted), b"")
