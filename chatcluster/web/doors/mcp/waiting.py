"""``chat_wait``: until a chat is at rest, or for a while; and then what was said since a cursor.

A wait is a reader of the chat's feed, with a place in the audience, and to the event stream it is a subscriber like any
other (``services.Subscriber``). The feed tells it only *when* to answer, and what progress there is; what it answers is
one consistent read of the database. So the answer is the same on every replica. What the feed tells is looked at in the
call that tells it, so nobody is woken for each piece of an answer; and a caller that wants no progress pays for none.

A wait on a replica that leaves answers as if its time were over, within ``PROGRESS_SECONDS``, which is before its
connection is cut. What cannot be read is an error of the tool, with the advice to repeat the call.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple, Protocol

import trio

from chatcluster import events
from chatcluster.errors import CallerError, InvalidCursor, UnavailableError
from chatcluster.parts import UNDECODABLE, Frame, FrameKind, PartFrame, Role, TextPart, decode_frame
from chatcluster.ports import Chat, Store
from chatcluster.shown import Snapshot
from chatcluster.subscriber import Cut
from chatcluster.value_subscriber import ValueSubscriber
from chatcluster.web.doors.mcp.told import Cursor, Waited, is_at_rest, waited
from chatcluster.web.http.sse import Finished

PAGE_MESSAGES, PAGE_BYTES = 200, 512 << 10
LAST_MESSAGES = 50
PROGRESS_SECONDS = 1.0
TAIL_CHARS = 200
"""So much of the answer under way is told with the progress."""


class Outgoing(Protocol):
    """What is written for the client: an answer, and progress before it."""

    @property
    def tells_progress(self) -> bool: ...

    def answer(self, result: Waited | Exception) -> bytes: ...

    def progress(self, seconds: float, total_seconds: float, message: str) -> bytes: ...


class Wait(NamedTuple):
    """``chat`` is as it was when it was looked at."""

    chat: Chat
    cursor: Cursor
    seconds: float
    waited_seconds: float = 0.0
    """Of those so many are over, elsewhere."""

    @property
    def is_over(self) -> bool:
        return self.waited_seconds >= self.seconds or is_at_rest(self.chat.shown_status, self.chat.archived)


async def begin(store: Store, chat: Chat, cursor: Cursor | None, seconds: float, waited_seconds: float) -> Wait:
    """Raises ``InvalidCursor`` for one that the chat has not come to."""
    if cursor is None:
        cursor = await _last_asked(store, chat)
    if cursor.version > chat.snapshot_version:
        raise InvalidCursor("this cursor is not of this chat, or was lost in a failover; leave it away")
    return Wait(chat, cursor, seconds, waited_seconds)


async def _last_asked(store: Store, chat: Chat) -> Cursor:
    """The cursor from which the answer to the last user's message is told."""
    newest = await store.list_newest(
        chat.id, owner_id=chat.owner_id, before=2**63 - 1, limit=LAST_MESSAGES, bytes_max=PAGE_BYTES
    )
    asked = next((one for one in newest.messages if one.role is Role.USER), None)
    if asked is not None:
        return Cursor(asked.revision - 1, asked.id)
    return Cursor(min((one.revision - 1 for one in newest.messages), default=0))


async def read(store: Store, wait: Wait) -> Waited:
    """What there is to tell now. Raises ``ChatNotFound`` and ``StoreUnavailable``."""
    found = await store.read_newer(
        wait.chat.id,
        after_version=wait.cursor.version,
        after_id=wait.cursor.message_id,
        queue_version=wait.chat.queue_version,
        limit=PAGE_MESSAGES,
        bytes_max=PAGE_BYTES,
    )
    return waited(found, wait.cursor)


class Waiting:
    """A wait under way. ``receive`` gives progress, once in a while, and the answer; then it raises ``Finished``."""

    def __init__(
        self, wait: Wait, reader: ValueSubscriber, store: Store, outgoing: Outgoing, *, is_leaving: Callable[[], bool]
    ) -> None:
        self.sink: Callable[[], None] | None = None
        """Nothing is pushed: what there is to write is written by the stream's own task."""
        self.has_pending = False
        self._wait = wait
        self._reader = reader
        self._store = store
        self._outgoing = outgoing
        self._is_leaving = is_leaving
        now = trio.current_time()
        self._began_at = now - wait.waited_seconds
        self._tell_at = now + PROGRESS_SECONDS
        self._tail = ""
        self._chars = 0
        self._is_over = False
        self._is_answered = False

    def receive_nowait(self) -> bytes:
        raise trio.WouldBlock

    async def receive(self) -> bytes:
        """Raises ``Finished``. Being cancelled loses nothing."""
        if self._is_answered:
            raise Finished
        deadline = self._began_at + self._wait.seconds
        with trio.CancelScope(deadline=min(deadline, self._tell_at)):
            await self._until_over()
        now = trio.current_time()
        if not self._is_over and now < deadline and not self._is_leaving():
            self._tell_at = now + PROGRESS_SECONDS
            return self._outgoing.progress(now - self._began_at, self._wait.seconds, self._progress())
        said = await self._answer()
        self._is_answered = True
        return said

    async def _answer(self) -> bytes:
        try:
            return self._outgoing.answer(await read(self._store, self._wait))
        except (CallerError, UnavailableError) as error:
            return self._outgoing.answer(error)

    async def _until_over(self) -> None:
        try:
            while not self._is_over:
                self._take()
                if not self._is_over:
                    await self._told()
        except Cut:  # this replica leaves, or cannot follow the chat: the client asks another one
            self._is_over = True

    async def _told(self) -> None:
        """Until the wait is over, or the reader begins anew or is cut."""
        with trio.CancelScope() as waiting:

            def take() -> None:
                with suppress(Cut):  # the wait sees that as well
                    self._take()
                if self._is_over:
                    waiting.cancel()

            self._reader.sink = take
            try:
                await self._reader.wait()
            finally:
                self._reader.sink = None

    def _take(self) -> None:
        """Look at what there is. Raises ``Cut``."""
        if (joined := self._reader.joined) is not None:
            self._reader.joined = None
            self._join(joined)
        for value in self._reader.take():
            self._look(value)

    def _join(self, at: Snapshot) -> None:
        self._is_over = bool(at.actions) or is_at_rest(at.chat.shown_status, at.chat.archived)
        self._restart()
        for frame in at.preview.frames if self._outgoing.tells_progress else ():
            self._look(frame)

    def _look(self, value: object) -> None:
        match value:
            case events.StatusEvent(status=status, archived=archived):
                self._is_over = is_at_rest(status, archived)
            case events.ActionRequiredEvent(calls=calls) if calls:
                self._is_over = True
            case Frame(kind=FrameKind.ATTEMPT):
                self._restart()
            case Frame(kind=FrameKind.PART) if self._outgoing.tells_progress:
                self._add(value)

    def _restart(self) -> None:
        self._tail, self._chars = "", 0

    def _add(self, frame: Frame) -> None:
        try:
            body = decode_frame(frame.data)
        except UNDECODABLE:  # of a newer version
            return
        if isinstance(body, PartFrame) and isinstance(body.part, TextPart):
            self._chars += len(body.part.text)
            self._tail = (self._tail + body.part.text)[-TAIL_CHARS:]

    def _progress(self) -> str:
        return f"{self._chars} characters so far: …{self._tail}" if self._chars else "at work"
