"""Event streams over HTTP: what a subscriber has pending goes to the socket in one write.

States of a stream: subscribed, headers sent, then events and heartbeats until it ends in one of five ways,
and only these:

``disconnected``  the client left; noticed at once, because one task only listens for that
``cut``           the feed says that this reader must go (too slow, draining, or the feed itself failed)
``unavailable``   what the reader still lacks cannot be read from the database right now
``revoked``       the token that opened the stream is not valid any more
``stopped``       the server cuts its connections (drain), or they broke

None of them is a clean end of body: the response is left unfinished, and the server then closes the
connection without the terminating chunk. A client that sees a clean end could take the answer for complete;
one that sees a broken connection resumes at its cursor.

Errors before the first byte (unknown chat, bad cursor, too many readers) are ordinary JSON answers.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

import trio
from litestar.types import Receive, Scope, Send

from chatcluster import telemetry
from chatcluster.errors import Unauthenticated, UnavailableError
from chatcluster.subscribe import Cut
from chatcluster.tokens import ParsedToken
from chatcluster.web.auth import Authenticator
from chatcluster.web.services import Subscriber

HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
]
OPENING = b": open\nretry: 500\n"
"""Flushes the headers through proxies at once, and tells browsers to come back soon. It is the head of the first
event rather than one of its own: not every client knows that an event without data is none."""
HEARTBEAT = b": hb\n\n"


class EventStream:
    """One response. An ASGI application, which is what litestar lets a route return."""

    def __init__(
        self,
        subscription: AbstractAsyncContextManager[Subscriber],
        *,
        heartbeat_seconds: float,
        authenticator: Authenticator,
        token: ParsedToken,
        resumed: bool,
    ) -> None:
        self._subscription = subscription
        self._heartbeat_seconds = heartbeat_seconds
        self._authenticator = authenticator
        self._revocations = authenticator.revocations
        self._token = token
        self._resumed = resumed

    async def __call__(self, _: Scope, receive: Receive, send: Send) -> None:
        async with self._subscription as subscriber:
            telemetry.event("stream.opened", resumed=self._resumed)
            reason = "stopped"
            try:
                await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
                await _write(send, OPENING)
                reason = await self._follow(subscriber, receive, send)
            finally:
                telemetry.event("stream.closed", reason=reason)

    async def _follow(self, subscriber: Subscriber, receive: Receive, send: Send) -> str:
        """Pass events on until the stream ends; returns why it did."""
        reason = "disconnected"
        async with trio.open_nursery() as nursery:
            nursery.start_soon(_until_disconnected, receive, nursery.cancel_scope)
            try:
                while await self._still_valid():
                    await _write(send, await self._next(subscriber))
                reason = "revoked"
            except Cut:
                reason = "cut"
            except UnavailableError:
                reason = "unavailable"
            nursery.cancel_scope.cancel()
        return reason

    async def _next(self, subscriber: Subscriber) -> bytes:
        with trio.move_on_after(self._heartbeat_seconds):
            return await subscriber.receive()
        return HEARTBEAT

    async def _still_valid(self) -> bool:
        """Whether the token may read on. Asks only after a token, any token, was revoked."""
        if self._revocations == self._authenticator.revocations:
            return True
        self._revocations = self._authenticator.revocations
        try:
            await self._authenticator.authenticate(self._token)
        except Unauthenticated:
            return False
        return True


async def _write(send: Send, data: bytes) -> None:
    await send({"type": "http.response.body", "body": data, "more_body": True})


async def _until_disconnected(receive: Receive, scope: trio.CancelScope) -> None:
    while (await receive())["type"] != "http.disconnect":
        pass
    scope.cancel()
