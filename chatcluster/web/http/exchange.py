"""One request and its response: the ASGI side of a connection.

The application runs in the connection's own task. The body is read when the application asks for
it, so no more than one piece of it is here. While the application works nothing is read: a client that leaves then is
noticed when more is asked for, or sent. What the application leaves to its outlet (``outlet.py``) goes on in the same
task when the application has returned: then nothing of the request is kept, and the response ends when the client
leaves, which is watched (``departures.py``).

Of a request that anybody may make (``BY_ANYBODY``) the body has to be here before its connection counts as one that has
asked for something.

A body that is no HTTP is answered here (400, 431), and what the application says to it is dropped: to it the client has
left. An answer to a request whose body is still coming ends the connection, and has to say so: a client that took it
for idle would lose its next request.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Protocol
from urllib.parse import unquote

import trio
from litestar.types import ASGIApp

from chatcluster import telemetry
from chatcluster.web.http.outlet import OUTLET, Outlet
from chatcluster.web.http.request_body import body_of
from chatcluster.web.http.request_head import NotHttp, RequestHead
from chatcluster.web.http.response import Response

BY_ANYBODY = "chatcluster.by-anybody"
"""The name, among the scope's extensions, of what the application calls where it asks nobody who they are."""
ASGI = {"version": "3.0", "spec_version": "2.1"}
DISCONNECT = {"type": "http.disconnect"}
_AUTHORITY = re.compile(rb"\Ahttps?://[^/?#]*", re.IGNORECASE)
"""What a target begins with that says all of the address, as clients of proxies write it (RFC 9112, 3.2.2)."""
LISTENED_BYTES_MAX = 64 << 10
"""So much of further requests is taken in while one is served."""


class Link(Protocol):
    """What an exchange has of its connection."""

    buffer: bytearray
    """Received, and not taken yet."""
    socket: trio.socket.SocketType

    async def read(self) -> bool:
        """Wait until there is more in ``buffer``. False: the client left."""
        ...

    def read_nowait(self) -> None:
        """Put into ``buffer`` what is here."""
        ...

    async def send(self, data: bytes) -> None: ...

    def count(self, *, whole: bool) -> None:
        """Count as one that has asked for something, or as silent until its request is ``whole``."""
        ...

    async def refuse(self, error: NotHttp) -> None:
        """Say that this is no HTTP."""
        ...

    def watch(self, left: Callable[[], None]) -> bool:
        """Call ``left`` once the client has left. False: somebody has to read for that."""
        ...

    def unwatch(self) -> None: ...

    def drop(self) -> None:
        """End at once."""
        ...


def scope_of(head: RequestHead, *, client: Any, here: Any, state: dict[str, object]) -> dict[str, Any]:
    target = head.target if head.target.startswith(b"/") else _AUTHORITY.sub(b"", head.target)
    path, _, query = target.partition(b"?")
    text = path.decode("ascii") or "/"
    return {
        "type": "http",
        "asgi": ASGI,
        "http_version": head.version,
        "method": head.method,
        "scheme": "http",
        "path": unquote(text) if "%" in text else text,
        "raw_path": path,
        "query_string": query,
        "root_path": "",
        "headers": head.headers,
        "client": client,
        "server": here,
        "state": state,
        "extensions": {},
    }


class Exchange:
    __slots__ = (
        "_ahead",
        "_body",
        "_is_told",
        "_is_uncounted",
        "_link",
        "_listening",
        "_outlet",
        "_refused",
        "_response",
    )

    def __init__(self, link: Link, head: RequestHead, *, is_last: bool) -> None:
        self._link = link
        self._body = body_of(head.body_bytes)
        self._ahead = b""
        """What is here of the body and nobody has asked for."""
        self._is_told = False
        """The application has the end of the body."""
        self._is_uncounted = False
        """Its connection counts as silent."""
        self._response = Response(head)
        self._response.closes |= is_last
        self._outlet = Outlet(link.socket, link.send, head.method, head.version)
        self._listening: trio.CancelScope | None = None
        self._refused = False

    @property
    def is_endless(self) -> bool:
        """An event stream, or another response whose end nobody knows."""
        return self._response.is_endless

    @property
    def is_over(self) -> bool:
        """Whether all is said, and the next request may come."""
        return self._response.complete and self._body.complete and not (self._response.closes or self._body.is_last)

    @property
    def looks_complete_and_is_not(self) -> bool:
        """The response was left unfinished, and nothing in its bytes says so."""
        return self._response.looks_complete_and_is_not and not self._outlet.finished

    async def run(self, app: ASGIApp, scope: Any) -> None:
        scope["extensions"] |= {OUTLET: self._outlet, BY_ANYBODY: self._is_by_anybody}
        try:
            await app(scope, self._receive, self._answer)
            if self._outlet.body is not None and self._response.started:
                scope.clear()  # nobody looks at it again, and the stream may stay for days
                await self._go_on()
            elif not (self._response.started or self._refused):
                await self._send(self._response.failed())
        finally:
            await self._outlet.release()

    async def _go_on(self) -> None:
        """What the client says behind its request is not answered."""
        self._link.buffer.clear()
        if self._link.watch(self._left):
            try:
                await self._write()
            finally:
                self._link.unwatch()
            return
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._listen)
            await self._write()
            nursery.cancel_scope.cancel()

    async def _write(self) -> None:
        try:
            await self._outlet.run()
        except Exception as error:  # noqa: BLE001 - the response is left unfinished: broken off, like any such
            telemetry.event("http.crashed", error=type(error).__name__, exc_info=error)

    async def _listen(self) -> None:
        while await self._link.read():
            self._link.buffer.clear()
        self._left()

    def _left(self) -> None:
        self._outlet.abandoned = True
        self._link.drop()

    # what the application asks for

    async def _receive(self) -> Any:
        if not (self._refused or self._response.complete):
            try:
                return await self._until_left() if self._is_told else await self._next_piece()
            except NotHttp as error:
                self._refused = True
                if not self._response.started:
                    await self._link.refuse(error)
        return DISCONNECT.copy()

    async def _next_piece(self) -> Any:
        piece, self._ahead = self._ahead, b""
        while not (piece or self._body.complete):
            piece = self._body.take(self._link.buffer)
            if not (piece or self._body.complete) and not await self._link.read():
                self._outlet.abandoned = True
                return DISCONNECT.copy()
        self._is_told = self._body.complete
        if self._is_told and self._is_uncounted:
            self._is_uncounted = False
            self._link.count(whole=True)
        return {"type": "http.request", "body": piece, "more_body": not self._is_told}

    async def _until_left(self) -> Any:
        """Until the client leaves, or has its answer, or has sent so much more that it will not be read before that."""
        with trio.CancelScope() as self._listening:
            while len(self._link.buffer) < LISTENED_BYTES_MAX:
                if not await self._link.read():
                    self._outlet.abandoned = True
                    return DISCONNECT.copy()
            await trio.sleep_forever()
        return DISCONNECT.copy()

    def _is_by_anybody(self) -> None:
        if not self._has_whole_body():
            self._is_uncounted = True
            self._link.count(whole=False)

    def _has_whole_body(self) -> bool:
        """Whether it is here, asked for or not."""
        if not self._body.complete and not self._refused:
            self._link.read_nowait()
            try:
                self._ahead += self._body.take(self._link.buffer)
            except NotHttp:
                return False
        return self._body.complete

    # what the application answers

    async def _answer(self, message: Any) -> None:
        if self._refused:
            return
        if message["type"] == "http.response.start":
            closes = not self._has_whole_body() or self._body.is_last
            head = self._response.start(message["status"], message.get("headers", ()), closes=closes)
            if self._outlet.body is not None:
                self._outlet.begin(head)
            elif head:
                await self._link.send(head)
            return
        more = message.get("more_body", False)
        await self._send(self._response.write(message.get("body", b""), more=more))
        if more:
            await trio.lowlevel.checkpoint()  # others get their turn, however fast the client takes it
        elif self._listening is not None:
            self._listening.cancel()

    async def _send(self, pieces: list[bytes]) -> None:
        for piece in pieces:
            await self._link.send(piece)
