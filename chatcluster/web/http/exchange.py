"""One request and its response: the ASGI side of a connection.

The application runs until it returns; what it leaves to its outlet (``outlet.py``) goes on in the same task. Then
nothing of the request is kept, and the protocol is not asked any more: the connection itself is told when the body is
over.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import trio
from litestar.types import ASGIApp

from chatcluster import telemetry
from chatcluster.web.http.outlet import OUTLET, Outlet

EVENTS_MAX = 10
"""Pieces of a request's body that wait for the application."""

Put = Callable[[Any], Awaitable[None]]
_Events = tuple[trio.MemorySendChannel[Any], trio.MemoryReceiveChannel[Any]]


class Exchange:
    """One request and its response: the ASGI side of a connection."""

    __slots__ = ("_events", "_go_on", "_outlet", "_send", "streaming")

    def __init__(self, send: Put, outlet: Outlet, go_on: Callable[[], Put]) -> None:
        """``go_on`` is called when the application has returned and left the response to its outlet: then nothing is
        received any more. It returns what is told of the end, in the place of ``send``."""
        self._send = send
        self._outlet = outlet
        self._go_on = go_on
        self._events: _Events | None = trio.open_memory_channel[Any](EVENTS_MAX)
        self.streaming = False
        """A response is under way whose length nobody knows: an event stream."""

    async def run(self, app: ASGIApp, scope: Any) -> None:
        scope["extensions"][OUTLET] = self._outlet
        try:
            try:
                await app(scope, self._receive, self._answer)
            finally:
                self._close()
            if self._outlet.body is not None:
                scope.clear()  # nobody looks at it again, and the stream may stay for days
                self._send = self._go_on()
                await self._write()
        finally:
            await self._outlet.release()
        await self._send(None)

    async def _write(self) -> None:
        try:
            await self._outlet.run()
        except Exception as error:  # noqa: BLE001 - the response is left unfinished: broken off, like any such
            telemetry.event("http.crashed", error=type(error).__name__, exc_info=error)

    @property
    def looks_finished_and_is_not(self) -> bool:
        """The response was left to its outlet, which did not finish it, and nothing in its bytes says so."""
        return self._outlet.is_unframed and not self._outlet.finished

    def abandon(self) -> None:
        """The client left."""
        self._outlet.abandoned = True

    async def put(self, event: Any) -> None:
        """Hand over a piece of the request. What comes after the response is dropped: nobody reads it."""
        if event["type"] == "http.disconnect":
            self.abandon()
        if self._events is not None:
            with suppress(trio.BrokenResourceError):
                await self._events[0].send(event)

    def _close(self) -> None:
        if self._events is not None:
            self._events[1].close()
            self._events = None

    async def _receive(self) -> Any:
        if self._events is not None:
            with suppress(trio.ClosedResourceError):
                return await self._events[1].receive()
        return {"type": "http.disconnect"}

    async def _answer(self, message: Any) -> None:
        if message["type"] == "http.response.start":
            self.streaming = all(name != b"content-length" for name, _ in message["headers"])
        elif message["type"] == "http.response.body" and not message.get("more_body", False):
            self.streaming = False
            self._close()
        await self._send(message)
