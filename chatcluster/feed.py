"""A feed: one chat as one replica shows it, the merge of durable state and live frames.

What is authoritative: the database for everything durable; the part stream for what is being said. Hints
and live frames only say that there is something to look at.

The merge is one task with one inbox. Two rules make its output exact:

* **A frame is shown if and only if its attempt builds on the history shown so far.** One that builds on a
  newer history makes the feed read the database first; one that builds on an older one, or belongs to
  an attempt that was superseded, is dropped.
* **A message is shown after the frames that it came from.** It carries the position of its last frame; until
  the relay has passed that, the message (and what follows it) waits, but not for long, and not at all
  while the stream cannot be reached: what a message says is complete without its frames.

So the joined parts of an attempt are the text of its message, and each thing is shown once, in order.

What is read is read once per change, encoded once, and handed to every subscriber as the same bytes.
On each failure: the database cannot be read: tried again, parts go on; Redis cannot be reached: the relay
retries, durable events go on with the polls; the feed itself fails: its readers are cut, and resume.
"""

from __future__ import annotations

from collections import deque
from contextlib import suppress
from typing import NamedTuple, Protocol
from uuid import UUID

import trio

from chatcluster import events, telemetry
from chatcluster.config import Settings
from chatcluster.errors import ChatclusterError, StoreUnavailable
from chatcluster.notices import hint_in
from chatcluster.parts import (
    START,
    AttemptFrame,
    CommittedFrame,
    Cursor,
    Frame,
    FrameKind,
    Message,
    Position,
    QueuedMessage,
    decode_frame,
    last_group,
)
from chatcluster.ports import Chat, ChatRead, PartStreams, PubSub, Store, Subscription, hint_channel
from chatcluster.recent import RecentMessages
from chatcluster.relay import SEQ_MAX, Batch, Relay, Tenure

FRAMES_SECONDS_MAX = 0.5
"""How long a message waits for the frames that it came from."""
READ_RETRY_SECONDS = 0.2
INBOX_MAX = 32
RECENT_BYTES_MAX = 1 << 20
EVERYTHING = 2**62
"""A snapshot version beyond any: nothing is newer."""


class Notice(NamedTuple):
    """One event, encoded once for all readers. ``is_frame``: it is the frame at the cursor's position."""

    data: bytes
    cursor: Cursor | None = None
    is_frame: bool = False


class Reader(Protocol):
    def offer(self, notice: Notice) -> None: ...

    def cut(self, reason: str) -> None: ...


class Snapshot(NamedTuple):
    """What the feed has shown so far: where a new reader joins."""

    chat: Chat
    version: int
    queue: tuple[QueuedMessage, ...]
    recent: RecentMessages
    preview: tuple[tuple[Position, bytes], ...]
    """The frames of the answer under way, encoded, without their cursors."""


class Feed:
    """``run`` merges; ``snapshot`` and ``add`` let a reader join, in one synchronous step."""

    def __init__(
        self, chat_id: UUID, *, store: Store, streams: PartStreams, pubsub: PubSub, settings: Settings
    ) -> None:
        self.chat_id = chat_id
        self.ready = trio.Event()
        self.failure: ChatclusterError | None = None
        self.readers = 0
        """Who reads, or is about to; a feed without readers ends."""
        self._store = store
        self._pubsub = pubsub
        self._settings = settings
        self._inbox_in, self._inbox = trio.open_memory_channel[Batch | int](INBOX_MAX)
        self._relay = Relay(chat_id, streams=streams, pubsub=pubsub, batches=self._inbox_in.clone())
        self._subscribers: dict[Reader, None] = {}
        self._scope = trio.CancelScope()
        self._changed = trio.Event()
        # what the database says
        self.chat: Chat
        self._read_version = 0
        """That of ``chat``; 0 before the first read."""
        self._newest = 0
        self._looks = 0
        """How often somebody said that there is something newer."""
        # what has been shown: everything up to this version, history version and position
        self._shown: Chat
        self._version = 0
        self._history_version = 0
        self._position = START
        """The last frame taken from the stream, shown or not."""
        self._cursor_position = START
        """The last frame shown, or that of the last message: the same on every replica, so it is what cursors name."""
        self._queue: tuple[QueuedMessage, ...] = ()
        self._recent = RecentMessages(RECENT_BYTES_MAX)
        self._preview: list[tuple[Position, bytes]] = []
        self._attempt = (0, 0)
        self._failed: dict[int, int] = {}
        """By history version: the newest attempt that is known to have come to nothing."""
        # what is read, but not shown yet
        self._waiting: deque[Message] = deque()
        self._read: ChatRead | None = None
        self._wait_until = float("inf")

    def __repr__(self) -> str:
        waiting = f" waiting={len(self._waiting)}" if self._waiting else ""
        return f"<Feed {self.chat_id} v{self._version} at {self._position} readers={self.readers}{waiting}>"

    # --- readers ------------------------------------------------------------------------------

    def add(self, reader: Reader) -> None:
        self._subscribers[reader] = None

    def remove(self, reader: Reader) -> None:
        self._subscribers.pop(reader, None)

    def snapshot(self) -> Snapshot:
        return Snapshot(self._shown, self._version, self._queue, self._recent, tuple(self._preview))

    def look(self, version: int) -> None:
        """There is a snapshot of this version, or so somebody says."""
        if version <= self._read_version:
            return
        self._looks += 1
        if version > self._newest:
            self._newest = version
            with suppress(trio.WouldBlock):  # then the merge is busy, and compares with the newest when it is done
                self._inbox_in.send_nowait(version)

    def has_shown(self, cursor: Cursor) -> bool:
        """Whether all that is durable at ``cursor`` has been shown here. Frames may follow."""
        shown = self._shown
        return shown.snapshot_version >= cursor.version and shown.epoch >= cursor.position.epoch

    async def catch_up_with(self, cursor: Cursor) -> bool:
        """Wait until ``cursor`` is shown, or known not to exist; False if neither came about soon."""
        self.look(max(cursor.version, self.chat.snapshot_version + 1))
        with trio.move_on_after(self._settings.feed_poll_seconds):
            while not self.has_shown(cursor) and (self._newest > self.chat.snapshot_version or self._read is not None):
                await self._changed.wait()
            return True
        return False

    def cut(self, reason: str) -> None:
        for reader in self._subscribers:
            reader.cut(reason)

    def fail(self, failure: ChatclusterError) -> None:
        self.failure = failure
        self.ready.set()

    def end(self) -> None:
        """Nobody reads the chat here any more."""
        self._scope.cancel()

    # --- the merge ----------------------------------------------------------------------------

    async def run(self) -> None:
        """Follow the chat until nobody reads it. The hints are listened to before the first read."""
        with self._scope:
            async with self._pubsub.subscribe(hint_channel(self.chat_id)) as hints:
                try:
                    read = await self._store.read(self.chat_id, after_version=EVERYTHING)
                except ChatclusterError as error:
                    self.fail(error)
                    return
                self._begin(read)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._relay.run)
                    nursery.start_soon(self._follow_hints, hints)
                    self.ready.set()
                    await self._merge()

    def _begin(self, read: ChatRead) -> None:
        chat = read.chat
        self.chat = self._shown = chat
        self._read_version = self._version = chat.snapshot_version
        self._failed[chat.history_version] = chat.failed_attempt
        self._newest = max(self._newest, chat.snapshot_version)
        self._recent.begin(chat.snapshot_version)
        self._history_version = chat.history_version
        self._queue = read.queue
        self._relay.target = Tenure(chat.epoch, chat.worker_id)
        if not chat.runnable:
            self._relay.position = Position(chat.epoch, SEQ_MAX)  # what was streamed so far is history
            self._position = self._cursor_position = Position(chat.epoch, 0)

    async def _follow_hints(self, hints: Subscription) -> None:
        while True:
            hint = hint_in(await hints.receive())
            if hint is None:
                self._relay.reset()
                self.look(self._newest + 1)
            else:
                self.look(hint.snapshot_version)

    async def _merge(self) -> None:
        while True:
            item: Batch | int | None = None
            with trio.move_on_at(self._wait_until):
                item = await self._inbox.receive()
            if item is None:
                self._show_waiting(at_once=True)
            elif isinstance(item, Batch):
                for frame in item.frames:
                    if frame.position > self._position:
                        await self._take(frame)
                if not item.frames:  # a tenure that we do not know yet
                    self._newest = max(self._newest, self.chat.snapshot_version + 1)
            self._show_waiting()
            while self._newest > self.chat.snapshot_version and self._read is None:
                await self._refresh()
            self._changed.set()
            self._changed = trio.Event()

    # --- durable state ------------------------------------------------------------------------

    async def _refresh(self) -> None:
        """Read what is new. What somebody said to be there, but is not, is forgotten: hints are not data."""
        looks = self._looks
        try:
            read = await self._store.read(self.chat_id, after_version=self._version)
            if read.chat.reset_version > self._version:
                read = await self._store.read(self.chat_id)
        except StoreUnavailable as error:
            telemetry.event("feed.read_failed", chat_id=str(self.chat_id), error=str(error))
            await trio.sleep(READ_RETRY_SECONDS)
            return
        if self._looks == looks:  # otherwise it may have come to be after this read
            self._newest = read.chat.snapshot_version
        if read.chat.snapshot_version > self.chat.snapshot_version:
            self._adopt(read)

    def _adopt(self, read: ChatRead) -> None:
        before, self.chat = self.chat, read.chat
        self._read_version = read.chat.snapshot_version
        self._failed[read.chat.history_version] = read.chat.failed_attempt
        if read.chat.epoch > self._relay.target.epoch:
            self._relay.retarget(Tenure(read.chat.epoch, read.chat.worker_id))
        elif read.chat.status is not before.status:
            self._relay.reset()
        self._read = read
        self._waiting.extend(read.messages)
        if read.chat.reset_version > self._version:
            self._reset(read)
        self._show_waiting()

    def _reset(self, read: ChatRead) -> None:
        """History was rewritten: nothing that was said before it counts."""
        self._preview.clear()
        version = read.chat.snapshot_version
        self._recent.begin(version)
        self._hand_out(events.HistoryResetEvent(), Cursor(version, self._cursor_position, 0))
        while self._waiting:
            message = self._waiting.popleft()
            self._hand_out(events.MessageEvent(message), Cursor(version, self._cursor_position, message.id))
        self._history_version = read.chat.history_version

    def _show_waiting(self, *, at_once: bool = False, up_to_history: int = EVERYTHING) -> None:
        """Show messages whose frames have been shown, in order, and then the rest of the read they came with."""
        while self._waiting and self._waiting[0].revision <= up_to_history:
            if not at_once and not self._frames_shown(self._waiting[0]):
                if self._wait_until == float("inf"):
                    self._wait_until = trio.current_time() + FRAMES_SECONDS_MAX
                return
            self._show_message()
        if self._read is not None and not self._waiting:
            self._show_rest(self._read)
            self._read, self._wait_until = None, float("inf")

    def _frames_shown(self, message: Message) -> bool:
        if message.position is None or not self._relay.healthy:
            return True
        return Position.parse(message.position) <= self._position

    def _show_message(self) -> None:
        group_ends = last_group(self._waiting, 0)
        message = self._waiting.popleft()
        self._preview.clear()
        self._history_version = message.revision
        if message.position is not None:
            self._cursor_position = max(self._cursor_position, Position.parse(message.position))
        cursor = Cursor(message.revision, self._cursor_position, None if group_ends else message.id)
        if group_ends:
            self._version = message.revision
        self._recent.add(message)
        self._hand_out(events.MessageEvent(message), cursor)

    def _show_rest(self, read: ChatRead) -> None:
        """The state that came with the messages: queue, status, and why if it is not going well."""
        before, chat = self._shown, read.chat
        self._shown, self._version = chat, chat.snapshot_version
        self._history_version = chat.history_version
        self._failed = {version: number for version, number in self._failed.items() if version >= self._history_version}
        here = Cursor(self._version, self._cursor_position)
        if chat.queue_version != before.queue_version:
            self._queue = read.queue
            self._hand_out(events.QueueEvent(read.queue), here)
        if events.status_event(chat) != events.status_event(before):
            self._hand_out(events.status_event(chat), here)
        retry, error = events.retry_event(chat), events.error_event(chat)
        if retry is not None and retry != events.retry_event(before):
            self._preview.clear()
            self._hand_out(retry, here)
        if error is not None and error != events.error_event(before):
            self._preview.clear()
            self._hand_out(error, here)
        if not chat.runnable:
            self._preview.clear()
        if chat.title != before.title:
            self._hand_out(events.TitleEvent(chat.title), here)

    def _hand_out(self, event: events.Event, cursor: Cursor) -> None:
        self._offer(Notice(events.with_id(cursor, events.body(event)), cursor))

    def _offer(self, notice: Notice) -> None:
        for reader in self._subscribers:
            reader.offer(notice)

    # --- frames -------------------------------------------------------------------------------

    async def _take(self, frame: Frame) -> None:
        """The next frame of the stream: show it, or let it pass."""
        if frame.kind is FrameKind.ATTEMPT:
            await self._turn_to(frame)
        self._position = frame.position
        match frame.kind:
            case FrameKind.ATTEMPT | FrameKind.PART if self._is_current() and self._follows(frame):
                self._show_frame(frame)
            case FrameKind.COMMITTED:
                body = decode_frame(frame.data)
                assert isinstance(body, CommittedFrame)
                self._newest = max(self._newest, body.history_version)
            case FrameKind.CLOSE if self.chat.worker_id is not None and frame.position.epoch == self.chat.epoch:
                self._newest = max(self._newest, self.chat.snapshot_version + 1)
        if self._waiting:
            self._show_waiting()

    async def _turn_to(self, frame: Frame) -> None:
        """A new attempt: first show the history that it builds on, and the state of the chat that it began in."""
        body = decode_frame(frame.data)
        assert isinstance(body, AttemptFrame)
        self._attempt = (body.history_version, body.attempt)
        self._show_waiting(at_once=True, up_to_history=body.history_version)
        began = max(body.history_version, body.snapshot_version)
        while began > self.chat.snapshot_version:
            self._newest = max(self._newest, began)
            await self._refresh()
            if self._newest <= self.chat.snapshot_version:
                break
        self._show_waiting(at_once=True, up_to_history=body.history_version)

    def _is_current(self) -> bool:
        """Whether the frame's attempt builds on the history shown, and is not known to be superseded."""
        history_version, number = self._attempt
        if history_version != self._history_version or number <= self._failed.get(history_version, 0):
            return False
        if history_version != self.chat.history_version:
            return True  # it became a message that waits for its frames
        return self.chat.runnable

    def _follows(self, frame: Frame) -> bool:
        """Whether all frames of the attempt before this one were shown. Otherwise the message tells it all."""
        last = self._preview[-1][0] if self._preview else START
        return frame.kind is FrameKind.ATTEMPT or frame.position == (last.epoch, last.seq + 1)

    def _show_frame(self, frame: Frame) -> None:
        if frame.kind is FrameKind.ATTEMPT:
            self._preview.clear()
        self._cursor_position = frame.position
        cursor = Cursor(self._version, frame.position)
        body = events.named(frame.kind, frame.data)
        self._preview.append((frame.position, body))
        self._offer(Notice(events.with_id(cursor, body), cursor, is_frame=True))
