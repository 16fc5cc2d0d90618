"""What a feed has shown so far, and to whom: from here events go to all readers, and here new ones join.

Each thing that is shown is encoded once, under the cursor that follows it, and handed to every reader as the same
bytes, and as the value that they were made from, for readers whose wire is another one. A cursor names a snapshot
version and the position of the last frame shown (or that of the last message): both are the same on every replica, so a
reader can go on at any of them.

``begin`` comes first and once. What comes when is the feed's decision. Everything here is one synchronous step, so a
reader that takes the ``snapshot`` and is ``add``ed in one go misses nothing and gets nothing twice.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import msgspec

from chatcluster import events
from chatcluster.chat import Status
from chatcluster.parts import (
    START,
    Cursor,
    EndedTurn,
    Entry,
    Frame,
    FrameKind,
    Message,
    Position,
    QueuedMessage,
    ends_group,
    in_order,
    shown,
)
from chatcluster.ports import Action, Chat, ChatRead, NewerMessages
from chatcluster.preview import Joined, Preview
from chatcluster.recent import RecentEntries

RECENT_BYTES_MAX = 512 << 10


class Listed(NamedTuple):
    """A change in a user's list as those get it who follow a chat as well, and when it was, by the database's clock."""

    data: bytes
    at_ms: int


Value = events.Event | Entry | Frame
"""What a reader is told of, before it has the form of any wire. An entry has more than its event."""


class Notice(NamedTuple):
    """One event, encoded once for all readers. ``is_frame``: it is the frame at the cursor's position; ``is_reset``:
    frames up to there count as not shown. ``listed``: it is of a list and not of a chat. ``value`` is what ``data``
    says, for readers who are told in another form."""

    data: bytes
    cursor: Cursor | None = None
    is_frame: bool = False
    is_reset: bool = False
    listed: Listed | None = None
    value: Value | None = None


class Reader(Protocol):
    def offer(self, notice: Notice) -> None: ...

    def restart(self, snapshot: Snapshot) -> None:
        """History was rewritten: begin anew with ``snapshot``."""
        ...

    def cut(self, reason: str) -> None: ...


class Snapshot(NamedTuple):
    """What has been shown at one moment: where a new reader joins."""

    chat: Chat
    version: int
    queue: tuple[QueuedMessage, ...]
    actions: tuple[Action, ...]
    recent: RecentEntries
    preview: Joined
    """The frames of the answer under way."""
    is_complete: bool = True
    """Otherwise more of them may be on the stream: that the state is complete is told when they have come."""

    def has(self, cursor: Cursor) -> bool:
        """Whether all that is durable at ``cursor`` has been shown here. Frames may follow."""
        return self.chat.snapshot_version >= cursor.version and self.chat.epoch >= cursor.position.epoch

    def remembered(self, after_version: int) -> NewerMessages | None:
        """What history has after this version, and all turns that ended since; None if some of it is forgotten."""
        entries = self.recent.after(after_version)
        if entries is None:
            return None
        entries = tuple(entry for entry in entries if entry.revision <= self.version)
        messages = tuple(entry for entry in entries if isinstance(entry, Message))
        return NewerMessages(messages, turns=tuple(entry for entry in entries if isinstance(entry, EndedTurn)))


class Shown:
    """Everything up to ``version``, ``history_version`` and ``position`` has been shown."""

    __slots__ = (
        "_actions",
        "_is_complete",
        "_is_replaying",
        "_position_before_preview",
        "_queue",
        "_readers",
        "_recent",
        "chat",
        "history_version",
        "position",
        "preview",
        "version",
    )

    def __init__(self) -> None:
        self.chat: Chat
        self.version = 0
        self.history_version = 0
        self.position = START
        self.preview = Preview()
        self._position_before_preview = START
        self._queue: tuple[QueuedMessage, ...] = ()
        self._actions: tuple[Action, ...] = ()
        self._is_complete = False
        self._is_replaying = False
        """History was rewritten, and is told anew: the state is not complete before the rest of it is told."""
        self._recent = RecentEntries(RECENT_BYTES_MAX)
        self._readers: dict[Reader, None] = {}

    def __repr__(self) -> str:
        return f"<Shown v{self.version} {self.position} to {len(self._readers)}>"

    # --- readers ------------------------------------------------------------------------------

    def add(self, reader: Reader) -> None:
        self._readers[reader] = None

    def remove(self, reader: Reader) -> None:
        self._readers.pop(reader, None)

    def cut(self, reason: str) -> None:
        for reader in self._readers:
            reader.cut(reason)

    def snapshot(self) -> Snapshot:
        joined, complete = self.preview.now(), self._is_complete
        return Snapshot(self.chat, self.version, self._queue, self._actions, self._recent, joined, complete)

    def has(self, cursor: Cursor) -> bool:
        """Whether all that is durable at ``cursor`` has been shown here. Frames may follow."""
        return self.chat.snapshot_version >= cursor.version and self.chat.epoch >= cursor.position.epoch

    # --- what is shown ------------------------------------------------------------------------

    def begin(self, read: ChatRead, *, is_whole: bool = False) -> None:
        """The state that the first readers find; ``is_whole``: the history came with it."""
        self.chat, self._queue, self._actions = read.chat, read.queue, read.actions
        self.version = read.chat.snapshot_version
        self.history_version = read.chat.history_version
        self._recent.begin(0 if is_whole else self.version)
        if is_whole:
            for entry in in_order(read.messages, read.turns):
                self._recent.add(entry)

    def move(self, position: Position) -> None:
        """Go on from there: what the stream had before is history, or lost."""
        self.position = position

    def complete(self) -> None:
        """All that was there at the beginning has been shown."""
        if not self._is_complete:
            self._is_complete = True
            self._hand_out(events.ReadyEvent(), Cursor(self.version, self.position))

    def reset(self, read: ChatRead) -> None:
        """History was rewritten, or forgotten: nothing that was said before counts. All messages follow.

        Turns that ended before come first: a reader that resumes there is still to be told of the reset. Behind it no
        frame counts as shown: if another feed goes on with the answer that was under way, or with one that failed and
        did not fail after all, a reader that resumes there is told it from its beginning.
        """
        chat = read.chat
        floor = chat.reset_version if chat.reset_version > self.version else chat.snapshot_version
        self.preview, self.position, self._is_replaying = Preview(), START, True
        earlier = [turn for turn in read.turns if turn.revision < floor]
        entries = in_order(read.messages, read.turns[len(earlier) :], floor=floor)
        for turn in earlier:
            self._hand_out(events.turn_event(turn), Cursor(turn.revision, self.position), turn)
        self._recent.begin(chat.snapshot_version)
        nothing_yet = Cursor(floor, START, 0)
        told = events.HistoryResetEvent()
        data = events.with_id(nothing_yet, events.body(told))
        self._offer(Notice(data, nothing_yet, is_reset=True, value=told))
        for index, entry in enumerate(entries):
            group_ends = ends_group(entries, index, None, floor=floor)
            self._entry(entry, Cursor(max(floor, entry.revision), self.position), group_ends=group_ends)
        self.history_version = chat.history_version

    def restart(self, read: ChatRead, *, goes_on: bool) -> None:
        """As ``reset``, for a history that is too long to be told in one go. The state is told with it, and the answer
        under way, if that ``goes_on``."""
        if not goes_on:
            self.preview, self.position = Preview(), START
        self.history_version = read.chat.history_version
        self.begin(read)
        for reader in self._readers:
            reader.restart(self.snapshot())
        self._hand_out(events.TitleEvent(read.chat.title), Cursor(self.version, self.position))

    def entry(self, entry: Entry, *, group_ends: bool) -> None:
        """The next message, or turn that ended; ``group_ends``: the last one of its transaction."""
        if isinstance(entry, Message):
            self.preview = Preview()
            self.history_version = entry.revision
            if entry.position is not None:
                self.position = max(self.position, Position.parse(entry.position))
        if group_ends:
            self.version = entry.revision
        self._recent.add(entry)
        self._entry(entry, Cursor(entry.revision, self.position), group_ends=group_ends)

    def _entry(self, entry: Entry, cursor: Cursor, *, group_ends: bool) -> None:
        if isinstance(entry, EndedTurn):
            self._hand_out(events.turn_event(entry), cursor, entry)
        else:
            cursor = cursor if group_ends else cursor._replace(message_id=entry.id)
            self._hand_out(events.MessageEvent(shown(entry)), cursor, entry)

    def state(self, read: ChatRead) -> None:
        """What came with the messages: queue, status, and why if it is not going well."""
        before, chat = self.chat, read.chat
        self.chat, self.version, self.history_version = chat, chat.snapshot_version, chat.history_version
        here = Cursor(self.version, self.position)
        if chat.queue_version != before.queue_version:
            self._queue = read.queue
            self._hand_out(events.QueueEvent(read.queue), here)
        is_told = events.status_event(chat) != events.status_event(before)
        if is_told:
            self._hand_out(events.status_event(chat), here)
        # A status says that nothing is waited for, but for one: what agents wait for is told again behind the others.
        if read.actions != self._actions or (is_told and read.actions and chat.shown_status != Status.REQUIRES_ACTION):
            self._actions = read.actions
            self._hand_out(events.ActionRequiredEvent(read.actions), here)
        retry, error = events.retry_event(chat, self.position), events.error_event(chat)
        if retry is not None and retry != events.retry_event(before):
            self.preview = Preview()
            self._hand_out(retry, here)
        if error is not None and error != events.error_event(before):
            self.preview = Preview()
            self._hand_out(error, here)
        if not chat.runnable:
            self.preview = Preview()
        if chat.title != before.title:
            self._hand_out(events.TitleEvent(chat.title), here)
        if self._is_replaying:
            self._is_replaying = False
            self._hand_out(events.ReadyEvent(), here)

    def frame(self, frame: Frame) -> None:
        """The next frame of the attempt under way, or the first one of another."""
        if frame.kind is FrameKind.ATTEMPT:
            self.preview = Preview()
            self._position_before_preview = self.position
            # The chat as it is shown may be older: whoever joins is not told now why the attempt before failed.
            self.chat = msgspec.structs.replace(self.chat, retry=None, last_error=None)
        self.position = frame.position
        cursor = Cursor(self.version, frame.position)
        self.preview.add(frame)
        self._offer(Notice(events.of_frame(cursor, frame), cursor, is_frame=True, value=frame))

    def abandon_preview(self) -> None:
        """The attempt came to nothing, which this feed learned from the database alone: a reader that joins is not
        shown it.

        Readers in the middle of it are left where they are; the next attempt takes its place.
        """
        if self.preview.positions:
            self.preview = Preview()
            self.position = self._position_before_preview

    def _hand_out(self, event: events.Event, cursor: Cursor, entry: Entry | None = None) -> None:
        self._offer(Notice(events.at(cursor, event), cursor, value=entry or event))

    def _offer(self, notice: Notice) -> None:
        for reader in self._readers:
            reader.offer(notice)
