"""A feed: one chat as one replica shows it, the merge of durable state and live frames.

What is authoritative: the database for everything durable; the part stream for what is being said. Hints
and live frames only say that there is something to look at.

Frames are taken in the call in which they arrive, and go from there into the readers' buffers: no task of the
feed is woken for them. One task reads the database, when somebody said that there is something newer. Two rules make
what comes out exact:

* **A frame is shown if and only if its attempt builds on the history shown so far.** One that builds on a
  newer history makes the feed read the database first, and the frames wait; one that builds on an older one, or
  belongs to an attempt that was superseded, is dropped.
* **A message is shown after the frames that it came from.** It carries the position of its last frame; until
  the relay has passed that, the message (and what follows it) waits, but not for long, and not at all
  while the stream cannot be reached: what a message says is complete without its frames.

So the joined parts of an attempt are the text of its message, and each thing is shown once, in order.

On each failure: the database cannot be read: tried again, and the attempt under way goes on meanwhile; Redis cannot be
reached: the relay retries, durable events go on with the polls; the feed itself fails: its readers are cut.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from uuid import UUID

import msgspec
import trio

from chatcluster import telemetry
from chatcluster.config import Settings
from chatcluster.errors import ChatclusterError, StoreUnavailable, Unreadable
from chatcluster.notices import hint_in
from chatcluster.parts import (
    START,
    AttemptFrame,
    CommittedFrame,
    Cursor,
    Entry,
    Frame,
    FrameKind,
    Message,
    Position,
    ResumedFrame,
    decode_frame,
    ends_group,
    in_order,
)
from chatcluster.ports import Chat, ChatRead, PartStreams, PubSub, Store, Subscription, Version, hint_channel
from chatcluster.relay import SEQ_MAX, Relay, Tenure
from chatcluster.shown import Shown

FRAMES_SECONDS_MAX = 0.5
"""How long a message waits for the frames that it came from."""
READ_RETRY_SECONDS = 0.2
PAGE_MESSAGES = 200
PAGE_BYTES = 512 << 10
"""What is read of a history at a time."""
EVERYTHING = 2**62  # a snapshot version beyond any: nothing is newer


class Feed:
    """``run`` merges; ``shown`` is what came out so far, where readers join. The relay's ``Receiver``."""

    def __init__(
        self,
        chat_id: UUID,
        *,
        store: Store,
        streams: PartStreams,
        pubsub: PubSub,
        settings: Settings,
        on_missed: Callable[[UUID], None],
    ) -> None:
        self.chat_id = chat_id
        self.ready = trio.Event()
        self.failure: ChatclusterError | None = None
        self.readers = 0
        """Who reads, or is about to; a feed without readers ends."""
        self.shown = Shown()
        self._store = store
        self._pubsub = pubsub
        self._settings = settings
        self._on_missed = on_missed
        self._relay = Relay(chat_id, streams=streams, pubsub=pubsub, receiver=self)
        self._scope = trio.CancelScope()
        self._stirred = trio.Event()
        """There may be something for the merge to do."""
        self._changed = trio.Event()
        """Set, and made anew, when something durable was shown, or is known not to exist."""
        # what the database says
        self.chat: Chat
        self._read_version = 0
        """That of ``chat``; 0 before the first read."""
        self._newest = 0
        self._looks = 0
        """How often somebody said that there is something newer."""
        self._failed: dict[int, int] = {}
        """By history version: the newest attempt that is known to have come to nothing."""
        # what the stream says
        self._position = START
        """The last frame taken from the stream, shown or not."""
        self._attempt = (0, 0)
        """The history version that it builds on, and its number."""
        self._untaken: deque[Frame] = deque()
        """Frames from an attempt on that began in a state which is not read yet."""
        # what is read, but not shown yet
        self._waiting: deque[Entry] = deque()
        self._read: ChatRead | None = None
        self._read_up_to = 0
        """What is read of it, a page, if there is more; and the last message of that page."""
        self._wait_until = float("inf")

    def __repr__(self) -> str:
        return f"<Feed {self.chat_id} v{self.shown.version} at {self._position}, {len(self._waiting)} waiting>"

    # --- readers ------------------------------------------------------------------------------

    def look(self, version: int) -> None:
        """There is a snapshot of this version, or so somebody says."""
        if version > self._read_version:
            self._seek(version)

    def look_again(self) -> None:
        """The chat may be another than it was, whatever its version."""
        self._seek(self.chat.snapshot_version + 1)

    async def catch_up_with(self, cursor: Cursor) -> bool:
        """Wait until ``cursor`` is shown, or known not to exist; False if neither came about soon."""
        self.look(max(cursor.version, self.chat.snapshot_version + 1))
        with trio.move_on_after(self._settings.feed_poll_seconds):
            while not self.shown.has(cursor) and (self._newest > self.chat.snapshot_version or self._read is not None):
                await self._changed.wait()
            return True
        return False

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
                    read = await self._read_newer(EVERYTHING)
                except ChatclusterError as error:
                    self.fail(error)
                    return
                self._begin(read)
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._relay.run)
                    nursery.start_soon(self._follow_hints, hints)
                    nursery.start_soon(self._complete)
                    self.ready.set()
                    await self._merge()

    def _begin(self, read: ChatRead) -> None:
        self.chat = chat = read.chat
        self.shown.begin(read)
        self._read_version = chat.snapshot_version
        self._newest = max(self._newest, chat.snapshot_version)
        self._failed[chat.history_version] = chat.failed_attempt
        self._relay.target = Tenure(chat.epoch, chat.worker_id)
        if not chat.runnable:
            self._relay.position = Position(chat.epoch, SEQ_MAX)  # what was streamed so far is history
            self._position = self.shown.position = Position(chat.epoch, 0)
            self.shown.complete()

    async def _complete(self) -> None:
        """The parts of the attempt under way are part of the state, if they can be had soon."""
        with trio.move_on_after(FRAMES_SECONDS_MAX):
            await self._relay.dialled.wait()
            await self.until_free()
        self.shown.complete()

    async def _follow_hints(self, hints: Subscription) -> None:
        while True:
            hint = hint_in(await hints.receive())
            if hint is None:
                self._relay.reset()
                self._on_missed(self.chat_id)  # all feeds have missed hints at once, so they ask with one statement
            else:
                self.look(hint.snapshot_version)

    async def _merge(self) -> None:
        while True:
            with trio.move_on_at(self._wait_until):
                await self._stirred.wait()
            self._stirred = trio.Event()
            self._show_waiting(at_once=trio.current_time() >= self._wait_until)
            while self._lacks_messages or (self._newest > self.chat.snapshot_version and self._read is None):
                await self._refresh()
            self._take_untaken(all_is_read=self._newest <= self.chat.snapshot_version)
            self._announce()

    def _announce(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    # --- durable state ------------------------------------------------------------------------

    def _seek(self, version: int) -> None:
        """Read the database until it has this version, or says that there is none."""
        self._looks += 1
        self._newest = max(self._newest, version)
        self._stirred.set()

    async def _refresh(self) -> None:
        """Read what is new. What somebody said to be there, but is not, is forgotten: hints are not data."""
        looks = self._looks
        try:
            read = await self._read_newer(self.shown.version, self._read_up_to, self.shown.chat.queue_version)
            went_back = Version.of(read.chat).precedes(Version.of(self.chat))
            if went_back or read.chat.reset_version > self.shown.version:
                read = await self._read_newer(0, turns_after=self.shown.version)
        except (StoreUnavailable, Unreadable) as error:
            telemetry.event("feed.read_failed", chat_id=str(self.chat_id), error=str(error))
            await trio.sleep(READ_RETRY_SECONDS)
            return
        if self._looks == looks or went_back:  # otherwise it may have come to be after this read
            self._newest = read.chat.snapshot_version
        if went_back:
            self._go_back(read)
        elif read.chat.snapshot_version > self.chat.snapshot_version or self._lacks_messages:
            self._adopt(read)

    def _go_back(self, read: ChatRead) -> None:
        """The database has forgotten what was shown, as after a failover that lost it: show what there is instead."""
        telemetry.event("feed.went_back", chat_id=str(self.chat_id), version=read.chat.snapshot_version)
        self._waiting.clear()
        self._read, self._read_up_to, self._wait_until = None, 0, float("inf")
        self._failed = {read.chat.history_version: read.chat.failed_attempt}
        self.chat, self._read_version = read.chat, read.chat.snapshot_version
        self._follow(read.chat, changed=True)
        self._show_anew(read)
        self.shown.state(read)

    def _follow(self, chat: Chat, *, changed: bool) -> None:
        """Dial the tenure that the database names, from the start where what was shown of the one before is lost, or
        where history goes back: frames that were dropped because of what is forgotten now may be alive again."""
        tenure, anew = Tenure(chat.epoch, chat.worker_id), chat.history_version < self.shown.history_version
        if not self._relay.follow(tenure, changed=changed, anew=anew):
            self._position, self._attempt, self.shown.position = START, (0, 0), START
            self._untaken.clear()

    def _show_anew(self, read: ChatRead) -> None:
        """The whole history, in place of what was shown of it. If it is more than a page, or an answer goes on,
        each reader reads it, at its own pace."""
        goes_on = self._goes_on(read.chat)
        if goes_on or read.next_revision is not None:
            self.shown.restart(read, goes_on=goes_on)
        else:
            self.shown.reset(read)

    def _goes_on(self, chat: Chat) -> bool:
        """Whether what is shown of an answer is still under way: its owner was not disturbed."""
        history_version, number = self._attempt
        builds_on_it = history_version == chat.history_version and number > chat.failed_attempt
        return builds_on_it and chat.runnable and self.shown.preview.last.epoch == chat.epoch

    async def _read_newer(
        self, after_version: int, after_id: int = 0, queue_version: int = -1, *, turns_after: int | None = None
    ) -> ChatRead:
        return await self._store.read_newer(
            self.chat_id,
            after_version=after_version,
            after_id=after_id,
            queue_version=queue_version,
            limit=PAGE_MESSAGES,
            bytes_max=PAGE_BYTES,
            turns_after=after_version if turns_after is None else turns_after,
        )

    @property
    def _lacks_messages(self) -> bool:
        """Whether nothing can be shown before the next page is read: a transaction's messages are shown together."""
        if self._read is None or self._read.next_revision is None:
            return False
        return not self._waiting or self._waiting[0].revision == self._read.next_revision

    def _adopt(self, read: ChatRead) -> None:
        before, self.chat, self._read_version = self.chat, read.chat, read.chat.snapshot_version
        self._failed[read.chat.history_version] = read.chat.failed_attempt
        self._follow(read.chat, changed=read.chat.status is not before.status)
        if read.chat.reset_version > self.shown.version:
            self._waiting.clear()
            self._show_anew(read)
            read = msgspec.structs.replace(read, messages=(), turns=(), next_revision=None)
        self._read = read
        self._waiting.extend(in_order(read.messages, read.turns, before=read.next_revision))
        self._read_up_to = 0 if read.next_revision is None else read.messages[-1].id
        self._show_waiting()

    def _show_waiting(self, *, at_once: bool = False, up_to_history: int = EVERYTHING) -> None:
        """Show messages whose frames have been shown, in order, and then the rest of the read they came with."""
        while self._waiting and self._waiting[0].revision <= up_to_history and not self._lacks_messages:
            if not at_once and not self._frames_shown(self._waiting[0]):
                if self._wait_until == float("inf"):
                    self._wait_until = trio.current_time() + FRAMES_SECONDS_MAX
                return
            group_ends = ends_group(self._waiting, 0, None)
            self.shown.entry(self._waiting.popleft(), group_ends=group_ends)
        if self._lacks_messages:
            self._wait_until = float("inf")
            self._stirred.set()
        elif self._read is not None and not self._waiting:
            self.shown.state(self._read)
            if not self._is_current():
                self.shown.abandon_preview()
            self._read, self._wait_until = None, float("inf")
            oldest = self.shown.history_version
            self._failed = {version: number for version, number in self._failed.items() if version >= oldest}
            self._stirred.set()  # what was said to be newer meanwhile can be read now
            self._announce()

    def _frames_shown(self, entry: Entry) -> bool:
        if not isinstance(entry, Message) or entry.position is None or not self._relay.healthy:
            return True
        return Position.parse(entry.position) <= self._position

    # --- frames: what the relay wants of a receiver -------------------------------------------

    @property
    def busy(self) -> bool:
        return bool(self._untaken)

    async def until_free(self) -> None:
        while self._untaken:
            await self._changed.wait()

    def newer_tenure(self) -> None:
        self.look_again()

    def take(self, frames: Sequence[Frame]) -> None:
        self._untaken.extend(frames)
        self._take_untaken()

    def _take_untaken(self, *, all_is_read: bool = False) -> None:
        """Take frames until one builds on a state of the chat that is not read yet."""
        while self._untaken:
            frame = self._untaken[0]
            begins = frame.kind in (FrameKind.ATTEMPT, FrameKind.RESUMED)
            if begins and not self._turn_to(frame, all_is_read=all_is_read):
                return
            self._take(frame)
            self._untaken.popleft()
            all_is_read = False

    def _turn_to(self, frame: Frame, *, all_is_read: bool) -> bool:
        """An attempt begins, or goes on: first show the history that it builds on, and the state that it began in.

        False: that is not read yet. ``all_is_read``: what the database did not have just now does not exist. And
        where messages go on waiting the attempt is older than they are, and so is the state that it began in.
        """
        body = decode_frame(frame.data)
        assert isinstance(body, AttemptFrame | ResumedFrame)
        self._show_waiting(at_once=True, up_to_history=body.history_version)
        began = max(body.history_version, body.snapshot_version)
        if self._lacks_messages and body.history_version > self.shown.history_version:
            return False
        if began > self.chat.snapshot_version and not (all_is_read or self._waiting):
            self._seek(began)
            return False
        self._attempt = (body.history_version, body.attempt)
        return True

    def _take(self, frame: Frame) -> None:
        """The next frame of the stream: show it, or let it pass."""
        self._position = frame.position
        match frame.kind:
            case FrameKind.PART | FrameKind.ATTEMPT | FrameKind.RESUMED:
                if self._is_current() and self.shown.preview.takes(frame):
                    self.shown.frame(frame)
            case FrameKind.COMMITTED:
                body = decode_frame(frame.data)
                assert isinstance(body, CommittedFrame)
                self.look(body.history_version)
            case FrameKind.CLOSE if self.chat.worker_id is not None and frame.position.epoch == self.chat.epoch:
                self.look(self.chat.snapshot_version + 1)
        if self._waiting:
            self._show_waiting()

    def _is_current(self) -> bool:
        """Whether the frame's attempt builds on the history shown, and is not known to be superseded."""
        history_version, number = self._attempt
        if history_version != self.shown.history_version or number <= self._failed.get(history_version, 0):
            return False
        if history_version != self.chat.history_version:
            return True  # it became a message that waits for its frames
        return self.chat.runnable
