"""A turn as typed values, from the message that begins it on: what front doors with a wire of their own fold over.

A log is a reader of the chat's feed like any other, with a place in the audience, the same bounded buffer, and the same
end when it is cut. But it is told values and not bytes, and always from the beginning of the turn: a door whose wire
numbers its events, or replays them, counts from there. So what it tells is the same on every replica, whenever it is
asked:

* each message and the end of the turn once, in order, as the database has them. Where that end was purged, the turn
  ends before the next message of the user that did not come with results of its calls;
* of each attempt what was said, before the message that it became, as far as the feed or the stream has it. What a
  message says is complete without that;
* an attempt that came to nothing **whole**, before what takes its place. A feed drops the rest of such an attempt once
  it knows better, at another frame on each replica; so where one may have been left behind, the part stream itself is
  read, up to what is to be told next. If it cannot be read, or has forgotten, what was told before is all.

History that is rewritten is read anew, and what was told is not told again: messages are known by their IDs, frames by
their positions. If the message that begins the turn is gone, that is told (``Withdrawn``), and nothing after it.

What may take time is left to ``receive``: ``receive_nowait`` raises ``trio.WouldBlock`` for it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import NamedTuple
from uuid import UUID

import msgspec
import trio
from msgspec import UNSET

from chatcluster import events
from chatcluster.audience import Audience
from chatcluster.chat import ErrorInfo
from chatcluster.errors import StreamsUnavailable
from chatcluster.next_turn import NextTurn
from chatcluster.parts import (
    START,
    UNDECODABLE,
    AttemptFrame,
    Cursor,
    EndedTurn,
    Frame,
    FrameKind,
    Message,
    Part,
    PartFrame,
    Position,
    decode_frame,
    in_order,
    resumes_behind,
)
from chatcluster.ports import VERSION_MAX, Action, Chat, NewerMessages, PartStreams, Store
from chatcluster.ports.ledger import Waits
from chatcluster.ports.responses import Responses
from chatcluster.shown import Snapshot, Value
from chatcluster.subscribe import Feeds
from chatcluster.value_subscriber import ValueSubscriber

PAGE_MESSAGES = 200
PAGE_BYTES = 512 << 10
PAGE_FRAMES = 500
TELL_MAX = 200
"""Values that are told at a time."""
TOLD = (FrameKind.ATTEMPT, FrameKind.PART)
SAID = (*TOLD, FrameKind.RESUMED)
"""Frames of attempts."""
AT_REST = ("waiting", "error")


class Attempted(NamedTuple):
    """A new attempt at a step begins. What was said of the one before, if it is no message by now, counts no more."""


class Ended(NamedTuple):
    """The turn is over. ``error`` says more of one that failed, where it is still known."""

    turn: EndedTurn
    error: ErrorInfo | None = None


class Rested(NamedTuple):
    """The turn is over, and nobody knows any more how it ended."""


class Withdrawn(NamedTuple):
    """The message that the turn began with was edited away."""


class Awaiting(NamedTuple):
    """The chat requires action: these calls of its own wait for somebody."""

    actions: tuple[Action, ...]


class Waited(NamedTuple):
    """What the calls of the step under way have waited for, each time that the chat came to rest: ``times`` of them,
    before what is told next. Only some logs tell it (``turn_waits.py``)."""

    waits: Waits
    times: int


class UpToDate(NamedTuple):
    """What was there at the moment of joining is told. What follows is new."""


Told = Attempted | Part | Message | Awaiting | Waited | Ended | Rested | Withdrawn | UpToDate


class TurnStart(NamedTuple):
    """The message that a turn, or what follows the results of its calls, begins with; and its revision.

    What is told is how it stands at ``version`` of the chat, or later."""

    message_id: int
    revision: int
    version: int = 0


class TurnLog:
    """The values of one turn, for one reader."""

    def __init__(
        self, reader: ValueSubscriber, chat_id: UUID, start: TurnStart, *, store: Store, streams: PartStreams
    ) -> None:
        self._reader = reader
        self._chat_id = chat_id
        self._start = start
        self._store = store
        self._streams = streams
        self._joined_at: Snapshot
        self._read: deque[Value | UpToDate] = deque()
        """What was read of history, and not told yet."""
        self._waiting: deque[Value | UpToDate] = deque()
        """What came from the feed, and was not told yet."""
        self._looked_before: Value | UpToDate | None = None
        """The value before which the stream was read, or could not be."""
        self._history_after: int | None = None
        """History is being read: the last message of the page before."""
        self._message_id = start.message_id
        """The last message that was told."""
        self._position = START
        """The last frame that was told, or passed."""
        self._said = START
        """The last frame of an attempt among those."""
        self._tells_parts = False
        """The attempt at this place of the stream is one of ours."""
        self._next = NextTurn(start.revision)

    def __repr__(self) -> str:
        return f"<TurnLog of {self._chat_id} at message {self._message_id}, {self._position}>"

    @property
    def sink(self) -> Callable[[], None] | None:
        """See ``Subscriber``."""
        return self._reader.sink

    @sink.setter
    def sink(self, sink: Callable[[], None] | None) -> None:
        self._reader.sink = sink

    @property
    def has_pending(self) -> bool:
        return bool(self._waiting or self._read) or self._reader.has_pending

    async def receive(self) -> list[Told]:
        """What comes next; waits while there is nothing. Raises ``Cut``, ``StoreUnavailable``, ``ChatNotFound``."""
        told: list[Told] = []
        while not told:
            if self._reader.joined is not None:
                self._begin(self._reader.joined)
            elif queue := self._queue:
                told = await self._look(queue[0]) if self._lacks(queue[0]) else self._advance()
            elif self._history_after is not None:
                told = await self._read_page(self._history_after)
            else:
                await self._reader.wait()
                self._waiting.extend(self._reader.take())
        return told

    def receive_nowait(self) -> list[Told]:
        """What comes next, if it is there. Raises ``Cut``, and ``trio.WouldBlock`` for what takes time."""
        if self._reader.joined is not None or self._history_after is not None or self._read:
            raise trio.WouldBlock
        self._waiting.extend(self._reader.take())
        if self._waiting and self._lacks(self._waiting[0]):
            raise trio.WouldBlock
        return self._advance()

    @property
    def _queue(self) -> deque[Value | UpToDate]:
        """What was read of history comes before what the feed told since."""
        return self._read if self._read or self._history_after is not None else self._waiting

    # --- history ------------------------------------------------------------------------------

    def _begin(self, snapshot: Snapshot) -> None:
        self._joined_at, self._reader.joined = snapshot, None
        self._waiting.clear()
        self._read_anew()

    def _read_anew(self) -> None:
        self._read.clear()
        self._history_after = self._start.message_id - 1

    async def _read_page(self, after: int) -> list[Told]:
        """A page of history; the last one goes on with what was being said at the moment of joining."""
        page = self._remembered() if after < self._start.message_id else None
        page = page or await self._store.read_messages(
            self._chat_id,
            after_version=self._start.revision - 1,
            after_id=after,
            up_to_version=VERSION_MAX,
            limit=PAGE_MESSAGES,
            bytes_max=PAGE_BYTES,
            turns_after=self._start.revision,
        )
        if after < self._start.message_id and not (page.messages and page.messages[0].id == self._start.message_id):
            self._history_after = None
            return [Withdrawn()]
        self._read.extend(in_order(page.messages, page.turns, before=page.next_revision))
        self._history_after = None if page.next_revision is None else page.messages[-1].id
        if self._history_after is None:
            self._read.extend(self._joined_at.preview.frames)
            state = events.status_event(self._joined_at.chat), events.ActionRequiredEvent(self._joined_at.actions)
            self._read.extend((*state, UpToDate()))
        return []

    def _remembered(self) -> NewerMessages | None:
        """All from the turn's beginning to the moment of joining, if the feed has that: mostly the turn has just begun.
        Whether its beginning is gone only the database says."""
        found, start = self._joined_at.remembered(self._start.revision - 1), self._start
        messages = () if found is None else tuple(one for one in found.messages if one.id >= start.message_id)
        if found is None or not (messages and messages[0].id == start.message_id):
            return None
        return NewerMessages(messages, turns=tuple(one for one in found.turns if one.revision > start.revision))

    # --- one value after the other ------------------------------------------------------------

    def _advance(self) -> list[Told]:
        told, queue = list[Told](), self._queue
        while queue and len(told) < TELL_MAX and not self._lacks(queue[0]):
            told.extend(self._tell(queue.popleft()))
        return told

    def _lacks(self, value: Value | UpToDate) -> bool:
        """Whether there may be something in the stream that is to be told before this, or history is to be read."""
        if value is self._looked_before or self._next.has_begun(value):
            return False
        match value:
            case Frame(kind=FrameKind.ATTEMPT, position=position):
                return position > self._position and self._may_leave_behind(value)
            case Frame(kind=FrameKind.RESUMED):
                return not resumes_behind(value, self._said)
            case Message(id=message_id, position=str(position)):
                return message_id > self._message_id and Position.parse(position) > self._position
            case EndedTurn(outcome="error"):
                return True
            case events.HistoryResetEvent():
                return True
        return False

    def _may_leave_behind(self, frame: Frame) -> bool:
        body = _body_of(frame)
        return self._tells_parts or (isinstance(body, AttemptFrame) and body.attempt > 1)

    async def _look(self, value: Value | UpToDate) -> list[Told]:
        """Tell what the stream has before ``value``, a page at a time."""
        if isinstance(value, events.HistoryResetEvent):
            self._waiting.popleft()
            self._read_anew()
            return []
        end = _end_of(value)
        try:
            frames = await self._streams.read(self._chat_id, after=self._position, limit=PAGE_FRAMES)
        except StreamsUnavailable:
            frames = []
        before = [frame for frame in frames if end is None or frame.position <= end]
        is_all = len(before) < PAGE_FRAMES
        error = await self._error_of(value) if is_all and isinstance(value, EndedTurn) else None
        # Nothing is taken before all is there: this may be cancelled, and what comes meanwhile is told behind it.
        told = [said for frame in before for said in self._tell_frame(frame, _history_before(value))]
        if is_all:
            self._looked_before = value
            if isinstance(value, EndedTurn):
                self._queue.popleft()
                self._next.is_due = True
                told.append(Ended(value, error))
        return told

    async def _error_of(self, turn: EndedTurn) -> ErrorInfo | None:
        """What there is to say of it, where that is still known."""
        error = (await self._store.get(self._chat_id)).last_error
        return error if error is not None and error.code == turn.code else None

    def _tell(self, value: Value | UpToDate) -> Sequence[Told]:
        if self._next.is_due:
            return ()
        if self._next.has_begun(value):
            self._next.is_due = True
            return (Rested(),)
        match value:
            case Frame():
                return self._tell_frame(value)
            case Message(id=message_id) if message_id > self._message_id:
                self._next.look(value)
                self._message_id, self._tells_parts = message_id, False
                if value.position is not None:
                    self._position = max(self._position, Position.parse(value.position))
                return (value,)
            case EndedTurn(revision=revision) if revision > self._start.revision:
                self._next.is_due = True
                return (Ended(value),)
            case events.StatusEvent(status=status) if status in AT_REST:
                return (Rested(),)
            case events.ActionRequiredEvent(calls=calls):
                own = tuple(call for call in calls if call.chat_id is UNSET)
                return (Awaiting(own),) if own else ()
            case UpToDate():
                return (value,)
        return ()

    def _tell_frame(self, frame: Frame, before: int = VERSION_MAX) -> Sequence[Told]:
        """A frame of an attempt that began in the turn, and ``before`` this version of its history."""
        if frame.position <= self._position:
            return ()
        self._position = frame.position
        if frame.kind is FrameKind.RESUMED:  # the attempt goes on, if all of it was told
            self._tells_parts = self._tells_parts and resumes_behind(frame, self._said)
        if frame.kind in SAID:
            self._said = frame.position
        if frame.kind not in TOLD:
            return ()
        body = _body_of(frame)
        if isinstance(body, AttemptFrame):
            self._tells_parts = self._start.revision <= body.history_version < before
            return (Attempted(),) if self._tells_parts else ()
        return (body.part,) if self._tells_parts and isinstance(body, PartFrame) else ()


def _body_of(frame: Frame) -> msgspec.Struct | None:
    """None for what this version cannot read."""
    try:
        return decode_frame(frame.data)
    except UNDECODABLE:
        return None


def _end_of(value: Value | UpToDate) -> Position | None:
    """Up to where the stream is to be read before it is told; None: all of it."""
    match value:
        case Frame(position=position):
            return Position(position.epoch, position.seq - 1)
        case Message(position=str(position)):
            return Position.parse(position)
    return None


def _history_before(value: Value | UpToDate) -> int:
    return value.revision if isinstance(value, Message | EndedTurn) else VERSION_MAX


LogKind = Callable[..., TurnLog]
"""A log, or one that tells more. It takes what ``TurnLog`` takes."""


class TurnLogs:
    """Where doors get the logs of turns, and ``responses``, what they keep of them."""

    def __init__(
        self, feeds: Feeds, store: Store, streams: PartStreams, audience: Audience, responses: Responses
    ) -> None:
        self.responses = responses
        self._feeds = feeds
        self._store = store
        self._streams = streams
        self._audience = audience

    def expect(self, chat: Chat) -> None:
        """Somebody follows this chat soon: what there is of it is read meanwhile."""
        self._feeds.expect(chat)

    @asynccontextmanager
    async def follow(
        self, chat_id: UUID, start: TurnStart, *, owner_id: UUID, kind: LogKind = TurnLog
    ) -> AsyncIterator[TurnLog]:
        """The log of a turn, for the length of the block. Raises as ``Feeds.subscribe``."""
        async with self.listen(chat_id, max(start.revision, start.version), owner_id=owner_id) as reader:
            yield kind(reader, chat_id, start, store=self._store, streams=self._streams)

    @asynccontextmanager
    async def listen(self, chat_id: UUID, version: int, *, owner_id: UUID) -> AsyncIterator[ValueSubscriber]:
        """What is told of a chat from this version on, as values. Raises as ``Feeds.subscribe``."""
        following = self._feeds.follow(chat_id, Cursor(version, START), ValueSubscriber, owner_id=owner_id)
        with self._audience.place(owner_id):
            async with following as reader:
                yield reader
