"""A subscriber's first events: what lies between its cursor and the snapshot of the feed that it joins.

They come in pages: of messages, from the feed's memory or the database, then of the frames of the answer under way.
Each is a bounded piece of work and of memory, but for a message that is larger than a page, which comes alone.
"""

from __future__ import annotations

from collections import OrderedDict
from uuid import UUID

import trio

from chatcluster import events
from chatcluster.parts import BEGINNING, START, Cursor, Message, Position, ends_group
from chatcluster.ports import NewerMessages, Store
from chatcluster.shown import Snapshot

PAGE_MESSAGES = 200
PAGE_BYTES = 512 << 10
PAGES_MAX = 4
"""Pages that are read and encoded at a time: each may be a message of megabytes, several times over."""
SHARED_EVENTS_MAX = 2
LARGE_BYTES = 256 << 10


class CatchUps:
    """What all subscribers of a replica share while they catch up."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.pages = trio.CapacityLimiter(PAGES_MAX)
        self._large: OrderedDict[tuple[Cursor, int], bytes] = OrderedDict()
        """The last large events. Those who read a chat at the same time hold them once."""

    def event(self, cursor: Cursor, message: Message) -> bytes:
        key = (cursor, message.id)
        event = self._large.get(key)
        if event is None:
            event = events.message(cursor, message)
            if len(event) > LARGE_BYTES:
                self._large[key] = event
                while len(self._large) > SHARED_EVENTS_MAX:
                    self._large.popitem(last=False)
        return event


class CatchUp:
    """A subscriber's first events: its cursor against a snapshot of the feed."""

    def __init__(self, chat_id: UUID, shared: CatchUps, cursor: Cursor, snapshot: Snapshot) -> None:
        self.complete = False
        self._chat_id = chat_id
        self._shared = shared
        self._snapshot = snapshot
        # What is ahead of the chat, although the database was asked, is of versions that a failover has lost.
        self._reset = reset = 0 < cursor.version < snapshot.chat.reset_version or not snapshot.has(cursor)
        self._piecewise = reset or cursor.message_id is not None or cursor.version < snapshot.chat.reset_version
        """Whether the messages are part of one version, the snapshot's, and told apart by their IDs alone."""
        self._head = self._first(cursor)
        start = BEGINNING if reset else cursor
        self.position = start.position
        """What has been shown so far, frame by frame or as the message that it became."""
        self._after_version = 0 if start.message_id is not None else start.version
        self._after_id = start.message_id or 0
        self._history_told = False

    async def page(self) -> bytes:
        """The next piece: one page of messages at a time, then of the answer under way."""
        async with self._shared.pages:
            pieces = [] if self._history_told else await self._messages()
            if self._history_told:
                pieces.append(self._preview())
            return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def _messages(self) -> list[bytes]:
        page = self._remembered() or await self._shared.store.read_messages(
            self._chat_id,
            after_version=self._after_version,
            after_id=self._after_id,
            up_to_version=self._snapshot.version,
            limit=PAGE_MESSAGES,
            bytes_max=PAGE_BYTES,
        )
        pieces, self._head = self._head, []
        for index, message in enumerate(page.messages):
            pieces.append(self._message(message, last_of_group=ends_group(page.messages, index, page.next_revision)))
        if page.next_revision is None:
            self._history_told = True
            pieces.extend(self._state())
        else:
            self._after_id = page.messages[-1].id
        return pieces

    def _first(self, cursor: Cursor) -> list[bytes]:
        pieces = [events.with_id(cursor, events.body(events.status_event(self._snapshot.chat)))]
        if self._reset:
            nothing_yet = Cursor(self._snapshot.version, START, 0)
            pieces.append(events.with_id(nothing_yet, events.body(events.HistoryResetEvent())))
        return pieces

    def _remembered(self) -> NewerMessages | None:
        """The messages after the cursor, if the feed still has them all."""
        messages = None if self._piecewise else self._snapshot.recent.after(self._after_version)
        if messages is None or self._after_id:
            return None
        return NewerMessages(tuple(message for message in messages if message.revision <= self._snapshot.version))

    def _message(self, message: Message, *, last_of_group: bool) -> bytes:
        if message.position is not None:
            self.position = max(self.position, Position.parse(message.position))
        if self._piecewise:
            cursor = Cursor(self._snapshot.version, self.position, message.id)
        else:
            cursor = Cursor(message.revision, self.position, None if last_of_group else message.id)
        return self._shared.event(cursor, message)

    def _state(self) -> list[bytes]:
        snapshot = self._snapshot
        here = Cursor(snapshot.version, self.position)
        pieces = [events.with_id(here, events.body(events.QueueEvent(snapshot.queue)))]
        for event in (events.retry_event(snapshot.chat), events.error_event(snapshot.chat)):
            if event is not None:
                pieces.append(events.with_id(here, events.body(event)))
        return pieces

    def _preview(self) -> bytes:
        frames, last = self._snapshot.preview.after(self.position, self._snapshot.version)
        self.position = max(self.position, last)
        self.complete = last == self._snapshot.preview.last
        return frames
