"""Event streams over HTTP: what a subscriber has pending goes to the socket in one write.

A stream has a task, which mostly waits: events are *pushed* past it. When the subscriber is offered something, the
stream tells the pump (``pump.py``), and the pump lets it write what is pending straight to its outlet
(``outlet.py``), without waiting. The task does what may take time: the first events, what a full socket has not taken,
heartbeats, asking about the token, and the end. It writes only while it does not wait for more, and only while it waits
there is anything pushed; so events go out in order, each once.

States of a stream: subscribed, headers sent, then events and heartbeats until it ends in one of six ways,
and only these:

``disconnected``  the client left; noticed at once, because the connection only listens for that
``cut``           the feed says that this reader must go (too slow, draining, or the feed itself failed)
``unavailable``   what the reader still lacks cannot be read from the database right now
``revoked``       the token that opened the stream is not valid any more
``stopped``       the server cuts its connections (drain), or they broke
``finished``      the subscriber says that all is told (``Finished``), on a wire whose streams have an end

None but the last is a clean end of body: the response is left unfinished, and the server then closes the
connection without the terminating chunk. A client that sees a clean end could take the answer for complete;
one that sees a broken connection resumes at its cursor.

Errors before the first byte (unknown chat, bad cursor, too many readers) are ordinary JSON answers.
"""

from __future__ import annotations

import random
from contextlib import AbstractAsyncContextManager, suppress
from typing import Any, NamedTuple, cast

import trio
from litestar.types import Receive, Scope, Send

from chatcluster import telemetry
from chatcluster.errors import StoreUnavailable, Unauthenticated, UnavailableError
from chatcluster.subscriber import Cut
from chatcluster.tokens import Credential
from chatcluster.web.auth import Authenticator
from chatcluster.web.http.outlet import OUTLET, Outlet
from chatcluster.web.http.pump import Pump
from chatcluster.web.readers import Subscriber

HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
]
OPENING = b": open\nretry: 500\n"
"""Flushes the headers through proxies at once, and tells browsers to come back soon. It is the head of the first
event rather than one of its own: not every client knows that an event without data is none."""
HEARTBEAT = b": hb\n\n"
HEARTBEATS_SPREAD = (0.75, 1.0)
"""All readers of a chat were told something last at one moment: a thousand heartbeats are not due at one."""
ASK_AGAIN_SECONDS = 300.0
"""How long a stream goes on, at most, with a token that has expired, or was revoked and nobody could say so."""
EXPIRED_SECONDS = 1.0
"""After a token should have expired its stream asks so often, until the database says so."""
ASK_SECONDS_MAX = 1.0
"""What an answer that nobody knows to be needed may delay the events by."""


class Finished(Exception):
    """Raised by a subscriber's ``receive``: all is told, and the response ends in order."""


class StreamWire(NamedTuple):
    """What a stream has besides its events: the head of the response, its first bytes, and signs of life."""

    headers: tuple[tuple[bytes, bytes], ...]
    opening: bytes
    heartbeat: bytes


NATIVE = StreamWire(tuple(HEADERS), OPENING, HEARTBEAT)


class Terms(NamedTuple):
    """What holds for whatever the caller of a request reads: how idle a stream may be, and for how long the token is
    good."""

    heartbeat_seconds: float
    pump: Pump
    authenticator: Authenticator
    token: Credential


class EventStream:
    """One response. An ASGI application, which is what litestar lets a route return."""

    def __init__(
        self,
        subscription: AbstractAsyncContextManager[Subscriber],
        terms: Terms,
        *,
        resumed: bool = False,
        status: int = 200,
        first: bytes = b"",
        wire: StreamWire = NATIVE,
    ) -> None:
        """``first`` is an event that comes before those of the subscription."""
        self._wire = wire._replace(opening=wire.opening + first)
        self._subscription = subscription
        self._heartbeat_seconds, self._pump, self._authenticator, self._token = terms
        self._heartbeat_seconds *= random.uniform(*HEARTBEATS_SPREAD)
        self._revocations = self._authenticator.revocations
        self._ask_at = self._ask_again_at()
        self._resumed = resumed
        self._status = status
        self._subscriber: Subscriber
        self._outlet: Outlet
        self._reason = "stopped"
        self._waiting: trio.CancelScope | None = None
        """While the task waits, and the socket takes what comes: events are pushed past it."""
        self._is_due = False

    async def __call__(self, scope: Scope, _: Receive, send: Send) -> None:
        await self.subscribe(scope)
        await self.go_on(send)

    async def subscribe(self, scope: Scope) -> Subscriber:
        """Subscribe for as long as the response lasts."""
        self._outlet = outlet = cast(Outlet, cast(Any, scope["extensions"])[OUTLET])
        self._subscriber = await outlet.hold(self._subscription)
        return self._subscriber

    async def go_on(self, send: Send) -> None:
        """Send the head, and leave the rest to the outlet."""
        telemetry.event("stream.opened", resumed=self._resumed)
        self._outlet.at_end = self._report_end
        self._outlet.go_on(self._run)
        await send({"type": "http.response.start", "status": self._status, "headers": list(self._wire.headers)})

    def _report_end(self) -> None:
        left = self._reason == "stopped" and self._outlet.abandoned
        telemetry.event("stream.closed", reason="disconnected" if left else self._reason)

    async def _run(self, outlet: Outlet) -> None:
        """Pass events on until the stream ends."""
        try:
            await self._opened(outlet)
            self._subscriber.sink = self._offered
            while await self._still_valid():
                await outlet.write(await self._next())
            self._reason = "revoked"
        except Finished:
            self._reason = "finished"
            await self._finish(outlet)
        except Cut:
            self._reason = "cut"
        except UnavailableError:
            self._reason = "unavailable"

    async def _finish(self, outlet: Outlet) -> None:
        """All is told: the body is whole."""
        await outlet.finish()

    async def _opened(self, outlet: Outlet) -> None:
        """The head of the response goes out with the first bytes."""
        await outlet.write(self._wire.opening)

    async def _next(self) -> bytes:
        """What the task has to write itself, after what the outlet has left unsent."""
        idle_at = self._outlet.written_at + self._heartbeat_seconds
        try:
            with trio.CancelScope(deadline=min(idle_at, self._ask_at)) as self._waiting:
                return await self._subscriber.receive()
        finally:
            self._waiting = None
        is_idle = trio.current_time() >= self._outlet.written_at + self._heartbeat_seconds
        return self._wire.heartbeat if is_idle else b""

    def _offered(self) -> None:
        if not self._is_due:
            self._is_due = True
            self._pump.due(self)

    def push(self) -> None:
        """Write what is pending past the task. What takes more than that is left to the task."""
        self._is_due = False
        if self._waiting is None:
            return
        if not self._pushed():
            self._waiting.cancel()
            self._waiting = None
        elif self._subscriber.has_pending:
            self._offered()

    def _pushed(self) -> bool:
        if self._revocations != self._authenticator.revocations:
            return False
        try:
            data = self._subscriber.receive_nowait()
        except Exception:  # noqa: BLE001 - a cut, a large event, or a bug: the task meets it too, and answers for it
            return False
        return not data or self._outlet.push(data)

    async def _still_valid(self) -> bool:
        """Whether the token may read on. Asks after a token, any token, was revoked, and once in a while."""
        if self._revocations != self._authenticator.revocations:
            self._revocations = self._authenticator.revocations
            return await self._is_accepted()
        if trio.current_time() >= self._ask_at:
            self._ask_at = self._ask_again_at()
            with suppress(StoreUnavailable), trio.move_on_after(ASK_SECONDS_MAX):  # no answer: ask the next time
                return await self._is_accepted()
        return True

    def _ask_again_at(self) -> float:
        """When to ask again: not at once for all that came together, as after a deploy; but when the token expires."""
        left = max(EXPIRED_SECONDS, self._authenticator.seconds_left(self._token))
        return trio.current_time() + min(left, ASK_AGAIN_SECONDS * random.uniform(0.75, 1.0))

    async def _is_accepted(self) -> bool:
        try:
            await self._authenticator.authenticate(self._token)
        except Unauthenticated:
            return False
        return True
