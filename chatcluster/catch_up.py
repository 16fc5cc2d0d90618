"""A subscriber's first events: what lies between its cursor and the snapshot of the feed that it joins.

They come in pages: of messages and ended turns, from the feed's memory or the database, then of the frames of the
answer under way. How the chat is comes at once, where the database has to be asked for the others. Each page is a
bounded piece of work and of memory, but for a message that is larger than one, which comes alone. ``ready`` says that
they are over.

A reader is told of each turn that ended after its cursor; of more than ``TURNS_MAX``, of the newest. One that begins at
the beginning is told of the newest alone.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Hashable, Iterable, Mapping, Sequence
from uuid import UUID

import trio

from chatcluster import events
from chatcluster.fair_places import FairPlaces
from chatcluster.parts import (
    BEGINNING,
    START,
    Cursor,
    EndedTurn,
    Message,
    Position,
    encode,
    ends_group,
    in_order,
    shown,
)
from chatcluster.ports import TURNS_MAX, NewerMessages, Store
from chatcluster.shown import Snapshot

FIRST_MESSAGES = 20
"""On the first page, so that a reader of a long chat waits no longer for it than one of a short chat."""
PAGE_MESSAGES = 200
PAGE_BYTES = 512 << 10
PAGES_MAX = 2
"""Pages that are read and encoded at a time, and in one pass of the loop, of users by turns: each may be a message of
megabytes, several times over."""
SHARED_EVENTS_MAX = 2
LARGE_BYTES = 256 << 10

Told = events.MessageEvent | events.QueueEvent


class CatchUps:
    """What all subscribers of a replica share while they catch up."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self.pages = FairPlaces(PAGES_MAX)
        self._large: OrderedDict[tuple[Cursor, Hashable], bytes] = OrderedDict()
        """The last large events, so that readers of one chat share them instead of holding a copy each."""

    async def prepared(self, values: Mapping[Hashable, Told]) -> dict[Hashable, bytes]:
        """Those of the events that are large, each under some cursor: as others read it now, or made here, with a step
        of its own for each copy."""
        prepared = {key: event for (_, key), event in self._large.items() if key in values}
        for key, value in values.items():
            if key in prepared:
                continue
            data = encode(value)
            if len(data) > LARGE_BYTES:
                await trio.lowlevel.checkpoint()
                prepared[key] = events.under(BEGINNING, events.kind_of(value), data)
                await trio.lowlevel.checkpoint()
        return prepared

    def event(self, cursor: Cursor, key: Hashable, value: Told, prepared: Mapping[Hashable, bytes]) -> bytes:
        """The event under its cursor; ``key`` says which it is among all that are told there, of whatever chat."""
        event = self._large.get((cursor, key))
        if event is None:
            known = prepared.get(key)
            event = events.at(cursor, value) if known is None else events.moved(cursor, known)
            if len(event) > LARGE_BYTES:
                self._large[cursor, key] = event
                while len(self._large) > SHARED_EVENTS_MAX:
                    self._large.popitem(last=False)
        return event


class CatchUp:
    """A subscriber's first events: its cursor against a snapshot of the feed.

    What is told anew after a rewrite of history, and what follows a cursor in the middle of a version, has a ``floor``:
    it is told as if it were of that version, or its own if that is higher. So each message and turn has one place in
    the order, and a cursor anywhere says which of them were told.
    """

    def __init__(
        self, chat_id: UUID, shared: CatchUps, cursor: Cursor, snapshot: Snapshot, told: int | None = None
    ) -> None:
        """``told``: the reader begins anew, and was told of turns up to this version, whatever its cursor says."""
        self.complete = False
        self._chat_id = chat_id
        self._shared = shared
        self._snapshot = snapshot
        # What is ahead of the chat, although the database was asked, is of versions that a failover has lost.
        begins_anew = told is not None and 0 < cursor.version >= snapshot.chat.reset_version
        is_lost = begins_anew or not snapshot.has(cursor)
        self._floor = _floor(cursor, snapshot, is_lost=is_lost)
        self._reset = is_lost or 0 < cursor.version < snapshot.chat.reset_version
        self.cursor = cursor
        """What the reader was given last."""
        start = BEGINNING if self._reset else cursor
        self.position = start.position
        """What has been shown so far, frame by frame or as the message that it became."""
        by_cursor = snapshot.version if is_lost else max(0, cursor.version - (cursor.message_id is not None))
        self.told = by_cursor if told is None else told
        """The end of each turn that ended up to this version was told."""
        self._turns_max = TURNS_MAX if cursor.version else 1
        self._after_version = 0 if self._floor else start.version
        self._after_id = start.message_id or 0
        self._begun = self._read_on = False
        self._history_told = False

    async def page(self) -> list[bytes]:
        """The next pieces, each of whole events: one page of messages at a time, then of the answer under way, and that
        it is complete. A large event is a piece of its own, the same bytes for all who read it now."""
        async with self._shared.pages.taken(self._snapshot.chat.owner_id):
            await trio.lowlevel.checkpoint()  # live parts are told in between
            return _joined(await self._pieces())

    async def _pieces(self) -> list[bytes]:
        pieces = [] if self._history_told else await self._messages()
        if self._history_told:
            pieces.append(self._preview())
        if self.complete and self._snapshot.is_complete:
            pieces.append(events.ready(Cursor(self._snapshot.version, self.position)))
        return pieces

    async def _messages(self) -> list[bytes]:
        remembered = self._remembered()
        if remembered is None and not self._begun and not self._reset:
            self._begun = True
            return self._first(())  # how the chat is does not wait for what was said in it
        page = remembered or await self._shared.store.read_messages(
            self._chat_id,
            after_version=self._after_version,
            after_id=self._after_id,
            up_to_version=self._snapshot.version,
            limit=PAGE_MESSAGES if self._read_on else min(FIRST_MESSAGES, PAGE_MESSAGES),
            bytes_max=PAGE_BYTES,
            turns_after=self.told,
            turns_max=self._turns_max,
        )
        prepared = await self._shared.prepared(self._large_values(page))
        # From here on it is one step: a reader that is cancelled, or begins anew, was given all of the page or nothing.
        earlier = [turn for turn in page.turns if self._reset and turn.revision < self._floor]
        pieces = [] if self._begun else self._first(earlier)
        self._begun = self._read_on = True
        pieces.extend(self._entries(page, page.turns[len(earlier) :], prepared))
        if page.next_revision is None:
            self._history_told, self.told = True, self._snapshot.version
            pieces.extend(self._state(prepared))
        else:
            self._after_id = page.messages[-1].id
        return pieces

    def _first(self, earlier: Sequence[EndedTurn]) -> list[bytes]:
        """The status, and that history was rewritten, after what ended before that: a reader that resumes in between is
        still to be told of it."""
        pieces = [events.with_id(self.cursor, events.body(events.status_event(self._snapshot.chat)))]
        if self._reset:
            for turn in earlier:
                pieces.append(self._turn(turn, max(turn.revision, self.cursor.version), self.cursor.position))
            self.cursor = Cursor(self._floor, START, 0)
            pieces.append(events.with_id(self.cursor, events.body(events.HistoryResetEvent())))
        return pieces

    def _remembered(self) -> NewerMessages | None:
        """The events after the cursor, if the feed still has all of them."""
        found = self._snapshot.remembered(self._after_version)
        if found is None:
            return None
        messages = tuple(one for one in found.messages if one.id > self._after_id)
        turns = tuple(turn for turn in found.turns if turn.revision > self.told)
        return NewerMessages(messages, turns=turns[-self._turns_max :])

    def _large_values(self, page: NewerMessages) -> dict[Hashable, Told]:
        """What of the page may be large: a message that is alone on it, and the queue."""
        values = dict[Hashable, Told]()
        if len(page.messages) == 1:
            values[page.messages[0].id] = events.MessageEvent(shown(page.messages[0]))
        if page.next_revision is None and self._snapshot.queue:
            values[self._queue_key] = events.QueueEvent(self._snapshot.queue)
        return values

    @property
    def _queue_key(self) -> Hashable:
        return self._chat_id, self._snapshot.chat.queue_version

    def _entries(
        self, page: NewerMessages, turns: Sequence[EndedTurn], prepared: Mapping[Hashable, bytes]
    ) -> Iterable[bytes]:
        """Messages, and among them the turns that ended, in order."""
        before = None if page.next_revision is None else max(self._floor, page.next_revision)
        entries = in_order(page.messages, turns, before=before, floor=self._floor)
        for index, entry in enumerate(entries):
            version = max(self._floor, entry.revision)
            if isinstance(entry, EndedTurn):
                yield self._turn(entry, version, self.position)
            else:
                last_of_group = ends_group(entries, index, page.next_revision, floor=self._floor)
                self._pass(entry, version, last_of_group=last_of_group)
                value = events.MessageEvent(shown(entry))
                yield self._shared.event(self.cursor, entry.id, value, prepared)

    def _turn(self, turn: EndedTurn, version: int, position: Position) -> bytes:
        self.told, self.cursor = turn.revision, Cursor(version, position)
        return events.with_id(self.cursor, events.body(events.turn_event(turn)))

    def _pass(self, message: Message, version: int, *, last_of_group: bool) -> None:
        if message.position is not None:
            self.position = max(self.position, Position.parse(message.position))
        self.cursor = Cursor(version, self.position, None if last_of_group else message.id)

    def _state(self, prepared: Mapping[Hashable, bytes]) -> list[bytes]:
        snapshot = self._snapshot
        here = self.cursor = Cursor(snapshot.version, self.position)
        pieces = [self._shared.event(here, self._queue_key, events.QueueEvent(snapshot.queue), prepared)]
        if snapshot.actions:
            pieces.append(events.with_id(here, events.body(events.ActionRequiredEvent(snapshot.actions))))
        for event in (events.retry_event(snapshot.chat, self.position), events.error_event(snapshot.chat)):
            if event is not None:
                pieces.append(events.with_id(here, events.body(event)))
        return pieces

    def _preview(self) -> bytes:
        frames, last = self._snapshot.preview.after(self.position, self._snapshot.version)
        self.position = max(self.position, last)
        self.cursor = Cursor(self._snapshot.version, self.position)
        self.complete = last == self._snapshot.preview.last
        return frames


def _joined(told: Iterable[bytes]) -> list[bytes]:
    """Small events together, each large one alone: to join it would be a copy for each reader."""
    pieces, small = [], []
    for event in told:
        if len(event) <= LARGE_BYTES:
            small.append(event)
            continue
        pieces += [b"".join(small), event]
        small.clear()
    pieces.append(b"".join(small))
    return [piece for piece in pieces if piece]


def _floor(cursor: Cursor, snapshot: Snapshot, *, is_lost: bool) -> int:
    """0 if all that is to be told is newer than the cursor's version."""
    if is_lost:
        return snapshot.version
    if cursor.version < snapshot.chat.reset_version:
        return snapshot.chat.reset_version
    return 0 if cursor.message_id is None else cursor.version
