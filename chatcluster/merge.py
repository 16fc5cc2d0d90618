"""The merge of what the database says of a chat with what its stream says: what is shown, and in which order. Pure.

What is authoritative: the database for everything durable; the part stream for what is being said. Two rules make what
comes out exact:

* **A frame is shown if and only if its attempt builds on the history shown so far.** One that builds on a
  newer history asks for a read of the database (``lacks_read``), and the frames wait; one that builds on an older one,
  or belongs to an attempt that was superseded, is dropped.
* **A message is shown after the frames that it came from.** It carries the position of its last frame; until
  the stream has passed that, the message (and what follows it) waits, but not for ever, and not at all
  while the stream cannot be reached: what a message says is complete without its frames.

So the joined parts of an attempt are the text of its message, and each thing is shown once, in order.

``begin`` comes first. From then on frames are taken when they come, and reads are applied when they were made: each is
one synchronous step. ``stir`` is called when there is something more to do than that step did: a read to make, messages
that wait, or frames. ``announce`` is called when the whole of a read was shown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, Protocol

import msgspec

from chatcluster.parts import (
    START,
    AttemptFrame,
    CommittedFrame,
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
from chatcluster.ports import Chat, ChatRead, Outcome, Version
from chatcluster.relay import Tenure
from chatcluster.shown import Shown

EVERYTHING = 2**62  # a version beyond any


class Source(Protocol):
    """Where the frames come from."""

    @property
    def healthy(self) -> bool:
        """Whether the stream could be reached."""
        ...

    def begin(self, tenure: Tenure, *, at_end: bool) -> None: ...

    def follow(self, tenure: Tenure, *, changed: bool, anew: bool) -> bool: ...


class Wanted(NamedTuple):
    """The next read of the database: everything that is newer than this."""

    after_version: int
    after_id: int
    queue_version: int


class Merge:
    """``shown`` is what came out so far, ``chat`` the newest state that was read."""

    __slots__ = (
        "_announce",
        "_attempt",
        "_failed",
        "_newest",
        "_position",
        "_read",
        "_read_up_to",
        "_read_version",
        "_source",
        "_stir",
        "_untaken",
        "_waiting",
        "chat",
        "looks",
        "shown",
    )

    def __init__(self, source: Source, *, stir: Callable[[], None], announce: Callable[[], None]) -> None:
        self.shown = Shown()
        self._source = source
        self._stir = stir
        self._announce = announce
        # what the database says
        self.chat: Chat
        self._read_version = 0
        """The version of ``chat``; 0 before the first read."""
        self._newest = 0
        self.looks = 0
        """Counts the hints that there is something newer."""
        self._failed: dict[int, int] = {}
        """For each history version the newest attempt that is known to have come to nothing."""
        # what the stream says
        self._position = START
        """The last frame taken from the stream, shown or not."""
        self._attempt = (0, 0)
        """The history version that it builds on, and its number."""
        self._untaken: list[Frame] = []
        """Frames from an attempt on that began in a state which is not read yet."""
        # what is read, but not shown yet
        self._waiting: list[Entry] = []
        self._read: ChatRead | None = None
        self._read_up_to = 0
        """What is read of it, a page, if there is more; and the last message of that page."""

    def __repr__(self) -> str:
        return f"<Merge v{self.shown.version} at {self._position}, {len(self._waiting)} waiting>"

    # --- what is to be done -------------------------------------------------------------------

    def look(self, version: int) -> None:
        """A hint: there may be a snapshot of this version."""
        if version > self._read_version:
            self._seek(version)

    def look_again(self) -> None:
        """The chat may be another than it was, whatever its version."""
        self._seek(self.chat.snapshot_version + 1)

    def _seek(self, version: int) -> None:
        """Read the database until it has this version, or says that there is none."""
        self.looks += 1
        self._newest = max(self._newest, version)
        self._stir()

    @property
    def is_behind(self) -> bool:
        """Whether something newer than what was shown is there, or was hinted at."""
        return self._newest > self.chat.snapshot_version or self._read is not None

    @property
    def lacks_read(self) -> bool:
        """Whether the database is to be read now."""
        return self._lacks_messages or (self._newest > self.chat.snapshot_version and self._read is None)

    @property
    def wanted(self) -> Wanted:
        return Wanted(self.shown.version, self._read_up_to, self.shown.chat.queue_version)

    @property
    def waits(self) -> bool:
        """Whether messages wait for the frames that they came from."""
        return bool(self._waiting) and not self._lacks_messages

    @property
    def is_busy(self) -> bool:
        """Whether frames wait for a read of the database."""
        return bool(self._untaken)

    @property
    def _lacks_messages(self) -> bool:
        """Whether nothing can be shown before the next page is read: a transaction's messages are shown together."""
        if self._read is None or self._read.next_revision is None:
            return False
        return not self._waiting or self._waiting[0].revision == self._read.next_revision

    # --- durable state ------------------------------------------------------------------------

    def begin(self, read: ChatRead, *, is_whole: bool = False) -> None:
        """The first read, of the state alone, or, ``is_whole``, of a short history as well."""
        self.chat = chat = read.chat
        self.shown.begin(read, is_whole=is_whole)
        self._read_version = chat.snapshot_version
        self._newest = max(self._newest, chat.snapshot_version)
        self._failed[chat.history_version] = chat.failed_attempt
        self._source.begin(Tenure(chat.epoch, chat.worker_id), at_end=not chat.runnable)
        if not chat.runnable:  # what was streamed so far is history
            self._position = Position(chat.epoch, 0)
            self.shown.move(self._position)
            self.shown.complete()

    def has_forgotten(self, read: ChatRead) -> bool:
        """Whether the database has less than it had, as after a failover."""
        return Version.of(read.chat).precedes(Version.of(self.chat))

    def rewrites(self, read: ChatRead) -> bool:
        """Whether history was rewritten since what was shown."""
        return read.chat.reset_version > self.shown.version

    def apply(self, read: ChatRead, *, looks: int, went_back: bool) -> None:
        """A read of what was ``wanted``, begun when there had been so many ``looks``. Or one of the whole history,
        where that was rewritten, or ``went_back``.

        What somebody said to be there, but is not, is forgotten: hints are not data.
        """
        if self.looks == looks:  # otherwise it may have come to be after this read
            self._newest = read.chat.snapshot_version
        if went_back:
            self._go_back(read)
        elif read.chat.snapshot_version > self.chat.snapshot_version or self._lacks_messages:
            self._adopt(read)

    def takes_commit(self, outcome: Outcome) -> bool:
        """Take a transition's outcome for a read of the chat, if a read would bring just that. Of what is newer than it
        nothing is known by it."""
        if not self._continues(outcome):
            return False
        turns = () if outcome.ended is None else (outcome.ended,)
        self._newest = max(self._newest, outcome.chat.snapshot_version)
        self._adopt(ChatRead(outcome.chat, outcome.messages, (), turns=turns))
        return True

    def _continues(self, outcome: Outcome) -> bool:
        """Whether nothing lies between what was read and the outcome, and that tells all of its version."""
        chat = outcome.chat
        is_next = self._read is None and chat.snapshot_version == self._read_version + 1 and not outcome.replayed
        rewrites, requeues = chat.reset_version > self.shown.version, chat.queue_version != self.chat.queue_version
        return is_next and not (rewrites or requeues or chat.open_calls or chat.has_agents)

    def _go_back(self, read: ChatRead) -> None:
        """Show what there is in place of what was shown, and has been forgotten."""
        self._waiting.clear()
        self._read, self._read_up_to = None, 0
        self._failed = {read.chat.history_version: read.chat.failed_attempt}
        self.chat, self._read_version = read.chat, read.chat.snapshot_version
        self._follow(read.chat, changed=True)
        self._show_anew(read)
        self.shown.state(read)

    def _follow(self, chat: Chat, *, changed: bool) -> None:
        """Dial the tenure that the database names, from the start where what was shown of the one before is lost, or
        where history goes back: frames that were dropped because of what is forgotten now may be alive again."""
        tenure, anew = Tenure(chat.epoch, chat.worker_id), chat.history_version < self.shown.history_version
        if not self._source.follow(tenure, changed=changed, anew=anew):
            self._position, self._attempt = START, (0, 0)
            self.shown.move(START)
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

    def _adopt(self, read: ChatRead) -> None:
        before, self.chat, self._read_version = self.chat, read.chat, read.chat.snapshot_version
        self._failed[read.chat.history_version] = read.chat.failed_attempt
        self._follow(read.chat, changed=read.chat.status is not before.status)
        if self.rewrites(read):
            self._waiting.clear()
            self._show_anew(read)
            read = msgspec.structs.replace(read, messages=(), turns=(), next_revision=None)
        self._read = read
        self._waiting.extend(in_order(read.messages, read.turns, before=read.next_revision))
        self._read_up_to = 0 if read.next_revision is None else read.messages[-1].id
        self.show_waiting()

    def show_waiting(self, *, at_once: bool = False, up_to_history: int = EVERYTHING) -> None:
        """Show messages whose frames have been shown, in order, and then the rest of the read they came with.

        ``at_once``: whether or not their frames have been.
        """
        while self._waiting and self._waiting[0].revision <= up_to_history and not self._lacks_messages:
            if not at_once and not self._frames_shown(self._waiting[0]):
                return
            group_ends = ends_group(self._waiting, 0, None)
            self.shown.entry(self._waiting.pop(0), group_ends=group_ends)
        if self._lacks_messages:
            self._stir()
        elif self._read is not None and not self._waiting:
            self._show_state(self._read)

    def _show_state(self, read: ChatRead) -> None:
        self.shown.state(read)
        if not self._is_current():
            self.shown.abandon_preview()
        self._read = None
        oldest = self.shown.history_version
        self._failed = {version: number for version, number in self._failed.items() if version >= oldest}
        self._stir()  # what was said to be newer meanwhile can be read now
        self._announce()

    def _frames_shown(self, entry: Entry) -> bool:
        if not isinstance(entry, Message) or entry.position is None or not self._source.healthy:
            return True
        return Position.parse(entry.position) <= self._position

    # --- frames -------------------------------------------------------------------------------

    def take(self, frames: Sequence[Frame]) -> None:
        """Consecutive frames of the stream, each of them once."""
        self._untaken.extend(frames)
        self._take_untaken()

    def take_rest(self) -> None:
        """The reads that were lacking are made: frames that waited for more of it wait for nothing."""
        self._take_untaken(all_is_read=self._newest <= self.chat.snapshot_version)

    def _take_untaken(self, *, all_is_read: bool = False) -> None:
        """Take frames until one builds on a state of the chat that is not read yet.

        ``all_is_read``: what the database did not have just now does not exist.
        """
        while self._untaken:
            frame = self._untaken[0]
            begins = frame.kind in (FrameKind.ATTEMPT, FrameKind.RESUMED)
            if begins and not self._turn_to(frame, all_is_read=all_is_read):
                return
            self._take(frame)
            self._untaken.pop(0)
            all_is_read = False

    def _turn_to(self, frame: Frame, *, all_is_read: bool) -> bool:
        """An attempt begins, or goes on: first show the history that it builds on, and the state that it began in.

        False: that is not read yet. Where messages go on waiting the attempt is older than they are, and so is the
        state that it began in.
        """
        body = decode_frame(frame.data)
        assert isinstance(body, AttemptFrame | ResumedFrame)
        self.show_waiting(at_once=True, up_to_history=body.history_version)
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
            self.show_waiting()

    def _is_current(self) -> bool:
        """Whether the frame's attempt builds on the history shown, and is not known to be superseded."""
        history_version, number = self._attempt
        if history_version != self.shown.history_version or number <= self._failed.get(history_version, 0):
            return False
        if history_version != self.chat.history_version:
            return True  # it became a message that waits for its frames
        return self.chat.runnable
