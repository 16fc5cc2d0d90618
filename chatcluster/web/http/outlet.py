"""An outlet: the body of a response without an end, written to the socket past ASGI.

An event passes a dozen functions between an application's ``send`` and the socket, and an open stream keeps all that
served its request. So our server offers the application another way, as an extension of the scope: it starts the
response with ``send``, leaves with ``go_on`` the function that writes the body, and returns. Then the request is
forgotten, and that function runs in its place until it returns or the client leaves. What it needs until then is held
by the outlet, and left at the end.

When the function is done, the server breaks the connection off, as it does with any response that is left unfinished;
the protocol's state knows of the response's head, and that its body is open. A function whose body has an end says so
before it returns (``finish``): then the connection is closed in order.

Who writes: ``push`` never waits, and keeps what the socket did not take; ``write`` sends that first, then its data,
and waits as long as the connection's stall limit allows. Nobody pushes while somebody writes.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Awaitable, Callable, Iterable
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any, TypeVar

import trio

LARGE_BYTES = 256 << 10
HOLD_BACK: int = getattr(socket, "TCP_CORK", 4)
"""Until the connection is closed, or 200 ms are over. Where Linux is not, it is called TCP_NOPUSH, and is 4."""
OUTLET = "chatcluster.outlet"
"""The name of the outlet among the scope's extensions."""

T = TypeVar("T")


class Outlet:
    """The body of one response. The application may use it from the start of the response on."""

    __slots__ = (
        "_frame",
        "_resource",
        "_send",
        "_socket",
        "_unsent",
        "abandoned",
        "at_end",
        "body",
        "finished",
        "written_at",
    )

    def __init__(
        self, stream_socket: trio.socket.SocketType, send: Callable[[bytes], Awaitable[None]], method: str, version: str
    ) -> None:
        self.at_end: Callable[[], None] | None = None
        """Called when the response is over, however it ended."""
        self.body: Callable[[Outlet], Awaitable[None]] | None = None
        self.abandoned = False
        """Whether the client left."""
        self.finished = False
        """Whether the body is whole."""
        self.written_at = trio.current_time()
        """When something was written last."""
        self._socket = stream_socket
        self._send = send
        self._frame = _frame_for(method, version)
        self._unsent = b""
        self._resource: AbstractAsyncContextManager[Any] | None = None

    def __repr__(self) -> str:
        return f"<Outlet unsent={len(self._unsent)}{' abandoned' if self.abandoned else ''}>"

    async def hold(self, resource: AbstractAsyncContextManager[T]) -> T:
        """Enter what the response needs. It is left when the response is over, however it ended."""
        held = await resource.__aenter__()
        self._resource = resource
        return held

    def go_on(self, body: Callable[[Outlet], Awaitable[None]]) -> None:
        """Let ``body`` write the rest of the response, once the application has returned. Said before the response is
        started, it has its head sent with the first ``write``."""
        self.body = body

    def push(self, data: bytes) -> bool:
        """Write without waiting. False: not all of it is written, and ``write`` has to send the rest."""
        unsent = self._frame(data)
        if self._unsent:
            unsent = self._unsent + unsent
        self.written_at = trio.current_time()
        try:
            sent = os.write(self._socket.fileno(), unsent)
        except OSError:  # full, or broken: sending the rest shows which
            sent = 0
        self._unsent = unsent[sent:]
        return not self._unsent

    def answer(self, status: int, headers: Iterable[tuple[bytes, bytes]] = ()) -> None:
        """Another status than that of the head, and more fields, while nothing is written."""
        _, _, fields = self._unsent.partition(b"\r\n")
        lines = [b"HTTP/1.1 %d " % status, *(b"%b: %b" % field for field in headers)]
        self._unsent = b"\r\n".join([*lines, fields])

    async def write(self, data: bytes) -> None:
        """Write what is unsent, and then all of ``data``. A reader that takes nothing for too long, or is gone, ends it
        by cancellation."""
        if len(data) > LARGE_BYTES:
            await self._write_large(data)
        elif self._unsent:
            self._unsent += self._frame(data)
        elif data:
            self.push(data)
        if self._unsent:
            unsent, self._unsent = self._unsent, b""
            await self._send(unsent)
            self.written_at = trio.current_time()

    async def finish(self) -> None:
        """The body is whole: write what is unsent, and its end. The end of the connection goes in the same packet: so
        nobody takes the connection for one that can be used again."""
        with suppress(OSError):
            self._socket.setsockopt(socket.IPPROTO_TCP, HOLD_BACK, 1)
        end = b"0\r\n\r\n" if self._frame is _chunk else b""
        unsent, self._unsent = self._unsent + end, b""
        if unsent:
            await self._send(unsent)
        self.finished = True

    async def _write_large(self, data: bytes) -> None:
        """Write a large one without a copy of it."""
        if self._frame is _nothing:
            return
        head, tail = (b"%x\r\n" % len(data), b"\r\n") if self._frame is _chunk else (b"", b"")
        unsent, self._unsent = self._unsent, b""
        for piece in (unsent + head, data, tail):
            await self._send(piece)
        self.written_at = trio.current_time()

    # what the server calls

    def begin(self, head: bytes) -> None:
        """The head of the response goes out with what is written first."""
        self._unsent = head

    async def run(self) -> None:
        """Write the body, until it is done. If the client leaves, this is cancelled."""
        if self.body is not None and not self.abandoned:
            await self.body(self)

    async def release(self) -> None:
        """The response is over."""
        try:
            if self.at_end is not None:
                self.at_end()
        finally:
            if self._resource is not None:
                await self._resource.__aexit__(None, None, None)


def _frame_for(method: str, version: str) -> Callable[[bytes], bytes]:
    if method == "HEAD":
        return _nothing
    return _plain if version < "1.1" else _chunk


def _chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data) if data else b""


def _plain(data: bytes) -> bytes:
    return data


def _nothing(_: bytes) -> bytes:
    return b""
