"""A turn as a stream of some door: the log of the turn, told by a narrator in that door's words.

To the event stream it is a reader like any other (``services.Subscriber``): what is there is written past its task, and
what takes time is left to it. When the narrator is done the stream ends in order (``Finished``); whatever else ends it
cuts the connection.

A long message is many events: they are made a few at a time, and others get their turn in between.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from itertools import chain, islice
from typing import Any, Protocol
from uuid import UUID

import trio
from litestar.response.base import ASGIResponse
from litestar.types import ASGIApp, Receive, Scope, Send

from chatcluster import telemetry
from chatcluster.errors import ChatclusterError, StoreUnavailable, UnavailableError
from chatcluster.parts import encode
from chatcluster.subscriber import Cut
from chatcluster.turn_log import LogKind, Told, TurnLog, TurnLogs, TurnStart
from chatcluster.web.errors import Answer, answer_at
from chatcluster.web.http.outlet import Outlet
from chatcluster.web.http.sse import EventStream, Finished

EVENTS_MAX = 200
"""So many events are made in one step."""
LEAVE_SECONDS_MAX = 5.0
HEAD = (
    (b"cache-control", b"no-cache, no-transform"),
    (b"x-accel-buffering", b"no"),
    (b"keep-alive", b"timeout=1"),
)
"""Of a response whose connection ends with it. It does not say ``connection: close``: Node would take such a response
for whole when it is cut off. So short a time keeps Node from using the connection again."""
SOON_SECONDS = 1.0
HEAD_SECONDS = 20.0
"""Proxies give up a server from which they hear nothing for half a minute, and few before."""
CONFLICT = 409
LEAVES = "this replica leaves; ask again"


def answered(value: Any) -> ASGIApp:
    """An answer of one object, from a route that may also answer with a stream."""
    return ASGIResponse(body=encode(value), media_type="application/json")


class Narrator(Protocol):
    @property
    def is_over(self) -> bool:
        """Whether nothing more will be told."""
        ...

    def tell(self, told: Told) -> Iterator[bytes]:
        """What is to be written of it."""
        ...


class DoorStream:
    def __init__(self, log: TurnLog, narrator: Narrator) -> None:
        self._log = log
        self._narrator = narrator
        self._pieces: Iterator[bytes] = iter(())
        self.has_pieces = False
        self.has_failed = False
        """Whether it was cut, or what it needs cannot be read: the client did not leave."""

    def __repr__(self) -> str:
        return f"<DoorStream of {self._log}>"

    @property
    def sink(self) -> Callable[[], None] | None:
        return self._log.sink

    @sink.setter
    def sink(self, sink: Callable[[], None] | None) -> None:
        self._log.sink = sink

    @property
    def has_pending(self) -> bool:
        """Whether there is more to send. At the end there is the end, which ``receive`` tells."""
        return self.has_pieces or self._narrator.is_over or self._log.has_pending

    @property
    def is_over(self) -> bool:
        return self._narrator.is_over and not self.has_pieces

    async def receive(self) -> bytes:
        """Raises ``Finished``, and as ``TurnLog.receive``."""
        try:
            while not (data := self._made()):
                await trio.lowlevel.checkpoint()
                if self.has_pieces:
                    continue
                if self._narrator.is_over:
                    raise Finished
                self._narrate(await self._log.receive())
        except Finished:
            raise
        except Exception:
            self.has_failed = True
            raise
        return data

    def receive_nowait(self) -> bytes:
        """Raises ``trio.WouldBlock`` for what is left to ``receive``."""
        if data := self._made():
            return data
        if self.has_pieces or self._narrator.is_over:
            raise trio.WouldBlock
        self._narrate(self._log.receive_nowait())
        return self._made()

    def _narrate(self, told: list[Told]) -> None:
        self._pieces = chain.from_iterable(map(self._narrator.tell, told))
        self.has_pieces = True

    def _made(self) -> bytes:
        """The next pieces, of which some may say nothing to this reader."""
        if not self.has_pieces:
            return b""
        pieces = list(islice(self._pieces, EVENTS_MAX))
        self.has_pieces = len(pieces) == EVENTS_MAX
        return b"".join(pieces)


class OneAnswer(Narrator, Protocol):
    """A narrator that says all of it at the end, and whether it is an error."""

    @property
    def status(self) -> int: ...

    @property
    def headers(self) -> dict[str, str]: ...


class Awaited(EventStream):
    """One object, when the turn is over. Its status is that of the answer, for as long as proxies wait for one; then
    the head of the response is sent, and signs of life behind it. What does not come at once is waited for in the
    response's own time, and not in its user's share.

    A failure that comes behind the head is told, and then the connection is broken off: else a client would take the
    failure for an answer. Where a person has to do something the body is whole all the same: behind a broken one the
    client would ask again, and the person would be asked twice."""

    def __init__(
        self, subscription: AbstractAsyncContextManager[DoorStream], narrator: OneAnswer, **options: Any
    ) -> None:
        super().__init__(subscription, **options)
        self._narrator = narrator
        self._path = ""
        self._is_late = False

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self._path = scope["path"]
        subscriber, body = await self.subscribe(scope), b""
        try:
            with trio.move_on_after(SOON_SECONDS):
                body = await subscriber.receive()
        except Cut:
            raise StoreUnavailable(LEAVES) from None
        if not body:
            await self.go_on(send)
            return
        answer = ASGIResponse(
            body=body,
            media_type="application/json",
            status_code=self._narrator.status,
            headers=self._narrator.headers,
        )
        await answer(scope, receive, send)

    async def _opened(self, outlet: Outlet) -> None:
        said = None
        try:
            with trio.move_on_after(HEAD_SECONDS):
                body = await self._subscriber.receive()
                said = Answer(self._narrator.status, body, self._narrator.headers)
        except Cut:
            said = answer_at(self._path, StoreUnavailable(LEAVES))
        except UnavailableError as error:
            said = answer_at(self._path, error)
        if said is None:
            self._is_late = True
            await outlet.write(self._wire.opening)
            return
        outlet.answer(said.status, ((name.encode(), value.encode()) for name, value in said.headers.items()))
        await outlet.write(said.body)
        raise Finished

    async def _finish(self, outlet: Outlet) -> None:
        if self._is_late and self._narrator.status not in (200, CONFLICT):
            self._reason = "cut"
            return
        await super()._finish(outlet)


Leave = Callable[[], Awaitable[object]]


@asynccontextmanager
async def narrated(
    logs: TurnLogs,
    chat_id: UUID,
    start: TurnStart,
    narrator: Narrator,
    *,
    owner_id: UUID,
    on_leave: Leave | None = None,
    kind: LogKind = TurnLog,
) -> AsyncIterator[DoorStream]:
    """A turn in a narrator's words. ``on_leave`` is called if the client leaves before its end."""
    async with logs.follow(chat_id, start, owner_id=owner_id, kind=kind) as log:
        stream = DoorStream(log, narrator)
        try:
            yield stream
        finally:
            if on_leave is not None and not (stream.is_over or stream.has_failed):
                await _left(on_leave)


async def _left(on_leave: Leave) -> None:
    with trio.move_on_after(LEAVE_SECONDS_MAX, shield=True):
        try:
            await on_leave()
        except ChatclusterError as error:
            telemetry.event("door.leave_failed", error=str(error))
