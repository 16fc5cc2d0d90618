"""One stream for a browser's tab: a user's list and one chat, under one cursor.

Browsers allow a host few connections at a time, so a tab should need one. A reader of a list and a chat has one place
in the audience, one buffer, and one order of events: it is a subscriber of the chat's feed, and follows the list's
watch as well. A change in the list comes as an event ``chat``, as the chat's own events have the names of their own.

Where the chat has agents, a tab may follow its family in the place of the chat: its cursor is then ``<list>~<family>``,
with the cursor of ``family_stream.py`` behind the first ``~``, and the list's changes come with the chat's own events.

A cursor is ``<list>~<chat>``: what is before the ``~`` is a moment by the database's clock, in milliseconds, up to
which the list was told; what is after it is the chat's cursor, as in the chat's own stream. Either may be left away. A
reader that comes back is told of each chat that changed since, as ``status``, with the chat as it is now: from a little
before that moment, as a change is committed a little after its time, so it may be told of one again. If very many
changed it is told to read the list again (``list_reset``).

Failures are those of the two: it is cut, and resumes by its cursor, if either of them cuts it.
"""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from typing import Any, NamedTuple
from uuid import UUID

import trio

from chatcluster.audience import Audience
from chatcluster.catch_up import CatchUp
from chatcluster.errors import InvalidCursor
from chatcluster.events import ID, ListResetEvent, body, marked
from chatcluster.family_stream import FamilyCursor, FamilyStreams, FamilySubscriber, Member, parse_family_cursor
from chatcluster.parts import BEGINNING, Cursor, parse_cursor
from chatcluster.ports import Store
from chatcluster.shown import Listed, Notice, Snapshot
from chatcluster.subscribe import Feeds
from chatcluster.subscriber import Subscriber
from chatcluster.views import chat_answer
from chatcluster.watch import UNSEEN_SECONDS_MAX, Watches, deleted_notice, list_notice

LIST_CHANGES_MAX = 200
"""So many changes of a list are told one by one to a reader that comes back."""
LATELY_SECONDS = 10.0
"""So long the database is not asked again what time it is."""
_MOMENT = re.compile(r"[0-9]{1,15}", re.ASCII)
_NEXT_ID = b"\n" + ID


class TabCursor(NamedTuple):
    """``listed_at``: None where the list begins now."""

    listed_at: datetime | None
    chat: Cursor


class FamilyTabCursor(NamedTuple):
    listed_at: datetime | None
    family: FamilyCursor

    @property
    def chat(self) -> Cursor:
        return self.family.chat


def parse_family_tab_cursor(text: str) -> FamilyTabCursor:
    """Raises ``InvalidCursor``. A cursor of the chat, or of the tab without its family, will do."""
    listed, mark, family = text.strip().partition("~")
    if not mark:
        return FamilyTabCursor(None, parse_family_cursor(listed))
    return FamilyTabCursor(_moment(listed) if listed else None, parse_family_cursor(family))


def parse_tab_cursor(text: str) -> TabCursor:
    """Raises ``InvalidCursor``. A cursor of the chat alone will do."""
    listed, mark, chat = text.strip().rpartition("~")
    moment = None
    if mark and listed:
        moment = _moment(listed)
    return TabCursor(moment, parse_cursor(chat) if chat else BEGINNING)


def _moment(text: str) -> datetime:
    try:
        if _MOMENT.fullmatch(text):
            return datetime.fromtimestamp(int(text) / 1000, UTC)
    except (OverflowError, ValueError, OSError):
        pass  # beyond the calendar
    raise InvalidCursor("not a cursor of this API; leave it away to read from the beginning", cursor=text[:80])


class TabSubscriber(Subscriber):
    """A reader of a chat and a list. Its cursors name a place in both."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self._listed_ms = 0
        self._mark = b"id: 0~"

    def begin_list(self, at: datetime) -> None:
        """The list was told up to this moment."""
        self._list_told(int(at.timestamp() * 1000))

    def _list_told(self, at_ms: int) -> None:
        if at_ms > self._listed_ms:
            self._listed_ms = at_ms
            self._mark = b"id: %d~" % at_ms

    def restart(self, snapshot: Snapshot) -> None:
        """What is pending of the list is not obsolete with the chat's history."""
        listed = [notice for notice in self._pending if notice.listed is not None]
        super().restart(snapshot)
        for notice in listed:
            self.offer(notice)

    async def _first(self, catch_up: CatchUp) -> bytes:
        """Several of the chat's events, each with the place in the list in its ID."""
        events = await super()._first(catch_up)
        if not events:
            return events
        if _NEXT_ID in events:
            events = events.replace(_NEXT_ID, b"\n" + self._mark)
        return marked(self._mark, events)

    def _placed_aside(self, notice: Notice) -> bytes:
        if notice.listed is None:
            return super()._placed_aside(notice)
        self._list_told(notice.listed.at_ms)
        return b"%b%b\n%b" % (self._mark, str(self._cursor).encode(), notice.listed.data)


class TabMember(Member, TabSubscriber):
    """The chat itself, for a tab that follows a family: its cursors name a place in the list as well."""

    def begin(self, cursor: Cursor) -> None:
        """Nothing of the chat was given yet: this is the place to resume at, should an agent be told of first."""
        self.shown = self._mark[len(ID) :] + str(cursor).encode()


class TabStreams:
    def __init__(
        self, *, feeds: Feeds, families: FamilyStreams, watches: Watches, store: Store, audience: Audience
    ) -> None:
        self._feeds = feeds
        self._families = families
        self._watches = watches
        self._store = store
        self._audience = audience
        self._asked: tuple[float, datetime] | None = None
        """When the database was asked last what changed, here and by its own clock."""

    @asynccontextmanager
    async def subscribe(self, owner_id: UUID, chat_id: UUID, cursor: TabCursor) -> AsyncIterator[TabSubscriber]:
        """Follow the chat and the list from a cursor on, for the length of the block. Raises as ``Feeds.subscribe``."""
        following = self._feeds.follow(chat_id, cursor.chat, TabSubscriber, owner_id=owner_id)
        with self._audience.place(owner_id):
            async with following as subscriber, self._watches.follow(owner_id, subscriber):
                await self._catch_up(subscriber, owner_id, cursor.listed_at)
                yield subscriber

    @asynccontextmanager
    async def subscribe_family(
        self, owner_id: UUID, chat_id: UUID, cursor: FamilyTabCursor
    ) -> AsyncIterator[FamilySubscriber]:
        """As ``subscribe``, with all agents below the chat as well. Raises as ``Feeds.subscribe``."""
        following = self._families.follow(owner_id, chat_id, cursor.family, TabMember)
        with self._audience.place(owner_id):
            async with following as (reader, root), self._watches.follow(owner_id, root):
                await self._catch_up(root, owner_id, cursor.listed_at)
                root.begin(cursor.chat)
                yield reader

    async def _catch_up(self, subscriber: TabSubscriber, owner_id: UUID, listed_at: datetime | None) -> None:
        """Tell what changed in the list since the cursor. What changes meanwhile comes as well.

        Where the list begins now, a moment that is a little in the past will do to come back to.
        """
        if listed_at is None and self._asked is not None and self._asked[0] > trio.current_time() - LATELY_SECONDS:
            subscriber.begin_list(self._asked[1])
            return
        seconds = 0.0 if listed_at is None else UNSEEN_SECONDS_MAX
        changes = await self._store.list_changed(
            [owner_id], seconds=seconds, as_of=listed_at, after=None, limit=LIST_CHANGES_MAX + 1
        )
        self._asked = trio.current_time(), changes.as_of
        subscriber.begin_list(changes.as_of)
        if len(changes.chats) + len(changes.deleted) > LIST_CHANGES_MAX:
            subscriber.offer(Notice(b"", listed=Listed(body(ListResetEvent()), 0)))
            return
        for gone in changes.deleted:
            subscriber.offer(deleted_notice(gone.chat_id))
        for chat in changes.chats:
            subscriber.offer(list_notice("status", chat_answer(chat)))
