"""The outermost layer of the web application: what holds for every request, whatever route it takes.

* It has an ID: the caller's ``X-Request-Id`` if it has a sane form, else a new one. It is in the answer and
  in every line that is logged while the request is served.
* Its body is bounded in size (413) and in time (408), with or without a ``Content-Length``, and is not read any
  further than that. An escaped character counts as one byte, so that no limit depends on how a client writes JSON;
  whatever a body is made of, six times the limit is the most that is read. An upload has limits of its own, counts
  as it comes, and has longer: as long as ``UPLOAD_BYTES_PER_SECOND_MIN`` takes.
* It gets an answer: an error that nobody handled is a 500 before the response has begun. After that the
  response is left unfinished, and the server breaks the connection off.
* While the replica drains, the answer says ``Connection: close``, so that the client goes elsewhere next time.
* It is reported once, as ``http.request``, with the route's template and not its path; an event stream when it begins.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from time import perf_counter
from typing import Any, NamedTuple
from uuid import uuid4

import structlog
import trio
from litestar.enums import ScopeType
from litestar.types import ASGIApp, HTTPScope, Message, Receive, Scope, Send

from chatcluster import telemetry
from chatcluster.errors import InvalidRequest, RequestTimeout, TooLarge
from chatcluster.web.errors import answer_at

BODY_SECONDS_MAX = 30.0
UPLOAD = ("POST", "/api/v1/files")
UPLOAD_BYTES_PER_SECOND_MIN = 64 << 10
ESCAPED_CHARACTER_BYTES = 6
"""``\\u0041`` is one byte of text."""
_REQUEST_ID = re.compile(rb"[A-Za-z0-9._:/+=-]{1,128}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class BodyLimit(NamedTuple):
    """``wire_bytes_max``: of a body as it is written, with all its escapes."""

    bytes_max: int
    wire_bytes_max: int
    seconds_max: float


class Boundary:
    def __init__(
        self, app: ASGIApp, *, body_bytes_max: int, upload_bytes_max: int, draining: Callable[[], bool]
    ) -> None:
        self._app = app
        self._limit = BodyLimit(body_bytes_max, ESCAPED_CHARACTER_BYTES * body_bytes_max, BODY_SECONDS_MAX)
        upload_seconds_max = BODY_SECONDS_MAX + upload_bytes_max / UPLOAD_BYTES_PER_SECOND_MIN
        self._upload_limit = BodyLimit(upload_bytes_max, upload_bytes_max, upload_seconds_max)
        self._draining = draining

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP:
            await self._app(scope, receive, send)
            return
        request_id = _request_id(scope)
        structlog.contextvars.bind_contextvars(request_id=request_id.decode())
        response = _Response(send, request_id, self._draining)
        is_upload = (scope["method"], scope["path"]) == UPLOAD
        body = _RequestBody(receive, scope, self._upload_limit if is_upload else self._limit)
        started = perf_counter()
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
            )

    async def _serve(self, scope: Scope, body: _RequestBody, response: _Response) -> None:
        try:
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
        self._bytes = 0
        self._escapes = 0
        self._deadline = trio.current_time() + limit.seconds_max
        self._complete = False

    async def receive(self) -> Any:
        if self._complete:
            return await self._receive()
        self._check_size(self._announced, self._limit.wire_bytes_max)
        try:
            with trio.fail_at(self._deadline):
                event = await self._receive()
        except trio.TooSlowError:
            raise RequestTimeout(f"the body did not arrive within {self._limit.seconds_max:g} s") from None
        if event["type"] == "http.disconnect":
            raise InvalidRequest("the connection broke before the body was complete")
        if event["type"] == "http.request":
            self._count(event["body"])
            self._complete = not event["more_body"]
        return event

    def _count(self, piece: bytes) -> None:
        """A character whose escape is cut in two by the pieces counts as it was written."""
        self._bytes += len(piece)
        self._escapes += piece.count(b"\\u")
        self._check_size(self._bytes, self._limit.wire_bytes_max)
        self._check_size(self._bytes - (ESCAPED_CHARACTER_BYTES - 1) * self._escapes, self._limit.bytes_max)

    def _check_size(self, size: int, bytes_max: int) -> None:
        if size > bytes_max:
            limit = self._limit.bytes_max
            raise TooLarge(f"the body is larger than {limit} bytes", bytes_max=limit)


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


def _request_id(scope: Scope) -> bytes:
    value = _header(scope, b"x-request-id")
    return value if _REQUEST_ID.fullmatch(value) else uuid4().hex.encode()


def _content_length(scope: Scope) -> int:
    value = _header(scope, b"content-length")
    return int(value) if value.isdigit() else 0


def _header(scope: Scope, wanted: bytes) -> bytes:
    return next((value for name, value in scope["headers"] if name == wanted), b"")
