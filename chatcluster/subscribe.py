"""Subscribers, and the feeds that they share.

A **feed** (``feed.py``) owns, per followed chat and replica, the merge of durable state and frames. Here is
what surrounds it: who gets a feed, what a subscriber is told first, and when it is cut.

A subscriber's first events, in this order: status, messages after its cursor and turns that ended, queue, retry or
error if any, the parts of the current attempt, and ``ready``. They are a snapshot of the feed at the moment of joining;
from then on it gets what the feed hands out. So it sees each thing once, wherever its cursor comes from:

* a cursor behind the feed: what lies between is read (from the feed's memory, or the database, in pages);
* a cursor ahead of the feed (another replica was quicker): the feed catches up with the database first; frames that
  the reader has seen are held back from it, and its cursor does not go back meanwhile. A feed that cannot
  catch up soon does not serve the reader (``StoreUnavailable``): another replica may;
* a cursor from before the last edit: ``history_reset``, and all messages again;
* a cursor that names a future that does not exist: refused.

Each subscriber has a bounded buffer, for what waits. If that stays above it, the subscriber is cut (``Cut``): it
resumes by its cursor. No event is too large for it: one counts for a part of the buffer at most. And what waits are
references: all readers share the bytes. Nothing is ever dropped silently."""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AbstractContextManager, asynccontextmanager, nullcontext
from functools import partial
from math import inf
from typing import TypeVar
from uuid import UUID

import trio

from chatcluster import events, telemetry
from chatcluster.audience import Audience
from chatcluster.catch_up import CatchUp, CatchUps
from chatcluster.config import Settings
from chatcluster.errors import ChatNotFound, StoreUnavailable
from chatcluster.feed import Feed, IdleFeeds
from chatcluster.parts import BEGINNING, START, Cursor
from chatcluster.ports import Chat, PartStreams, PubSub, Store, Version
from chatcluster.shown import Notice, Snapshot

TAKE_BYTES = 64 << 10
"""What is taken of a buffer at a time. An event that is larger is the reader's own task's to take."""
LARGE_EVENTS_MAX = 4
"""Of events that are as large as the buffer so many may wait."""
BEHIND_SECONDS_MAX = 2.0
"""What comes all at once is no sign of a slow reader: it gets this long to take what is above the bound."""
BURST_BUFFERS_MAX = 16
"""Above so many times the bound a reader is cut at once."""
POLL_CHATS = 1000
JOIN_SECONDS_MAX = 10.0
OWNERS_MAX = 10_000


class Cut(Exception):
    """This reader must be cut off abruptly; it resumes by its cursor."""


class Subscriber:
    """One reader. ``receive`` returns what is pending as SSE bytes; being cancelled loses nothing."""

    def __init__(
        self, *, buffer_bytes_max: int, join: Callable[[Cursor, Snapshot, int | None], CatchUp] | None = None
    ) -> None:
        self._buffer_bytes_max = buffer_bytes_max
        self._join = join
        self.sink: Callable[[], None] | None = None
        """Told of every event that is offered, in place of whoever waits in ``receive``."""
        self._catch_up: CatchUp | None = None
        self._page: list[bytes] = []  # of the first events, what was read and is to be given next
        self._cursor = BEGINNING
        """What the reader was given last: it has been shown every frame up to there, and none is shown again."""
        self._told = 0
        """And was told of every turn that ended up to this version."""
        self._pending: list[Notice] = []  # a deque would take each reader at rest 0.7 kB
        self._pending_bytes = 0
        """What is pending counts for."""
        self._behind_since = inf
        """When what waits went above the bound."""
        self._cut: str | None = None
        self._awake = trio.Event()

    def __repr__(self) -> str:
        return f"<Subscriber at {self._cursor} pending={self._pending_bytes} cut={self._cut}>"

    def offer(self, notice: Notice) -> None:
        """Something new from the feed. Never blocks: over the buffer's bound the subscriber is cut.

        After a cut it gets nothing any more: what came then would have a gap before it.
        """
        if self._cut is not None:
            return
        self._pending.append(notice)
        self._pending_bytes += self._weight(notice)
        if self._pending_bytes > self._buffer_bytes_max and self._is_slow():
            self.cut("slow")
        if self.sink is None:
            self._awake.set()
        else:
            self.sink()

    def join(self, cursor: Cursor, snapshot: Snapshot, told: int | None = None) -> None:
        """Begin with what lies between the cursor and the snapshot; ``told`` as for ``CatchUp``."""
        if self._join is not None:
            self._catch_up = self._join(cursor, snapshot, told)

    def restart(self, snapshot: Snapshot) -> None:
        """History was rewritten: what is pending is obsolete, and all of it follows. So do turns that ended before."""
        if self._cut is None:
            self._clear()
            at = self._catch_up
            self.join(*((self._cursor, snapshot, self._told) if at is None else (at.cursor, snapshot, at.told)))
            self._awake.set()

    def cut(self, reason: str) -> None:
        self._cut = reason
        self._page.clear()
        self._clear()
        self._awake.set()

    def _clear(self) -> None:
        self._pending.clear()
        self._pending_bytes, self._behind_since = 0, inf

    def _is_slow(self) -> bool:
        now = trio.current_time()
        self._behind_since = min(self._behind_since, now)
        is_burst = self._pending_bytes <= BURST_BUFFERS_MAX * self._buffer_bytes_max
        return not is_burst or now - self._behind_since > BEHIND_SECONDS_MAX

    def _weight(self, notice: Notice) -> int:
        return min(len(notice.data), self._buffer_bytes_max // LARGE_EVENTS_MAX)

    async def receive(self) -> bytes:
        """Some of what is pending, as whole events; waits while there is nothing. Raises ``Cut``."""
        data = b""
        while not data:
            if self._catch_up is not None and self._cut is None:
                data = await self._first(self._catch_up)
            elif not (data := self._take()):
                self._awake = trio.Event()
                await self._awake.wait()
        return data

    def receive_nowait(self) -> bytes:
        """The first of what is pending; nothing before the first events were received.

        Raises ``Cut``, and ``trio.WouldBlock`` for a large event, which ``receive`` returns.
        """
        if self._pending and self._catch_up is None and len(self._pending[0].data) > TAKE_BYTES:
            raise trio.WouldBlock
        return self._take()

    @property
    def has_pending(self) -> bool:
        return bool(self._pending)

    def _take(self) -> bytes:
        if self._cut is not None:
            raise Cut(self._cut)
        if self._catch_up is not None or not self._pending:
            return b""
        pieces, size = list[bytes](), 0
        for notice in self._pending:
            if size and size + len(notice.data) > TAKE_BYTES:
                break
            self._pending_bytes -= self._weight(notice)
            piece = self._placed(notice)
            size += len(piece)  # what is held back takes no room: the wait for more is over when there is more
            pieces.append(piece)
        del self._pending[: len(pieces)]
        if self._pending_bytes <= self._buffer_bytes_max:
            self._behind_since = inf
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)

    async def _first(self, catch_up: CatchUp) -> bytes:
        page = self._page or list(await catch_up.page())
        if self._catch_up is not catch_up:
            return b""  # history was rewritten meanwhile: it is told anew, from where this page began
        data, self._page = page.pop(0) if page else b"", page
        if not page and catch_up.complete:
            self._cursor, self._told, self._catch_up = catch_up.cursor, catch_up.told, None
        return data

    def _placed(self, notice: Notice) -> bytes:
        """The event as this reader gets it, which may be ahead of the feed: its position does not go back."""
        cursor = notice.cursor
        if cursor is None:
            return notice.data
        self._told = max(self._told, cursor.version - (cursor.message_id is not None))
        shown = START if notice.is_reset else self._cursor.position
        if notice.is_frame and cursor.position <= shown:
            return b""
        if cursor.position >= shown:
            self._cursor = cursor
            return notice.data
        self._cursor = cursor._replace(position=shown)
        return events.moved(self._cursor, notice.data)


S = TypeVar("S", bound=Subscriber)


class Feeds:
    """All feeds of a replica. ``run`` holds their tasks."""

    def __init__(
        self, *, store: Store, streams: PartStreams, pubsub: PubSub, settings: Settings, audience: Audience
    ) -> None:
        self._store = store
        self._streams = streams
        self._pubsub = pubsub
        self._settings = settings
        self._audience = audience
        self._feeds: dict[UUID, Feed] = {}
        self._idle = IdleFeeds(self._end)
        self._owners: OrderedDict[UUID, UUID] = OrderedDict()
        """Of chats that were asked for, or changed here, of late. A chat's owner never changes."""
        self._missed: set[UUID] = set()
        """Chats of which hints may have been lost."""
        self._missing = trio.Event()
        self._catch_ups = CatchUps(store)
        self._closed = False
        self._nursery: trio.Nursery | None = None

    def __repr__(self) -> str:
        return f"<Feeds chats={len(self._feeds)} subscribers={self.subscribers}>"

    @property
    def subscribers(self) -> int:
        return sum(feed.readers for feed in self._feeds.values())

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Hold the feeds' tasks, and poll for changes of which no hint came."""
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            self._nursery.start_soon(self._poll_missed)
            self._nursery.start_soon(self._idle.run)
            try:
                await self._poll()
            finally:
                self._nursery = None  # closed

    def cut_all(self) -> None:
        """Cut every reader, now and from now on: they go on at another replica."""
        self._closed = True
        for feed in self._feeds.values():
            feed.shown.cut("drain")

    def require_place(self, owner_id: UUID) -> None:
        """Raises ``TooMany`` if there is no place for a reader of this user now."""
        self._audience.require_place(owner_id)

    def subscribe(self, chat_id: UUID, cursor: Cursor, *, owner_id: UUID) -> AbstractAsyncContextManager[Subscriber]:
        """Join the chat's feed at ``cursor`` for the length of the block.

        At a cursor beyond the chat's present, which the database does not know, the reader is told to start anew.
        Raises ``ChatNotFound`` (also for another user's chat), ``TooMany`` over a limit (``audience.py``),
        ``StoreUnavailable``.
        """
        return self._follow(chat_id, cursor, Subscriber, owner_id, self._audience.place(owner_id))

    def follow(self, chat_id: UUID, cursor: Cursor, kind: type[S], *, owner_id: UUID) -> AbstractAsyncContextManager[S]:
        """As ``subscribe``, with a subscriber of this kind, for somebody who has a place already."""
        return self._follow(chat_id, cursor, kind, owner_id, nullcontext())

    @asynccontextmanager
    async def _follow(
        self, chat_id: UUID, cursor: Cursor, kind: type[S], owner_id: UUID, place: AbstractContextManager[None]
    ) -> AsyncIterator[S]:
        with place:
            await self._require_owner(chat_id, owner_id)
            feed = await self._joined(chat_id)
            try:
                if not feed.shown.has(cursor) and not await feed.catch_up_with(cursor):
                    raise StoreUnavailable("this replica is behind; resume at another one")
                subscriber = self._attach(feed, cursor, kind)
                try:
                    yield subscriber
                finally:
                    feed.shown.remove(subscriber)
            finally:
                self._leave(feed)

    async def _require_owner(self, chat_id: UUID, owner_id: UUID) -> None:
        """Nothing is opened, and no history read, for somebody who may not have it."""
        if chat_id not in self._owners:
            self.learn(await self._store.get(chat_id))
        if self._owners[chat_id] != owner_id:
            raise ChatNotFound("there is no such chat")

    def learn(self, chat: Chat) -> None:
        """Whose chat this is, so that its first reader need not wait for another look at the row."""
        self._owners[chat.id] = chat.owner_id
        self._owners.move_to_end(chat.id)
        if len(self._owners) > OWNERS_MAX:
            self._owners.popitem(last=False)

    async def _joined(self, chat_id: UUID) -> Feed:
        """The chat's feed, with us counted in, once it has read the database."""
        feed = self._feeds.get(chat_id)
        if feed is None:
            if self._nursery is None:  # not running yet, or no more
                raise StoreUnavailable("this replica is leaving; resume at another one")
            feed = Feed(
                chat_id,
                store=self._store,
                streams=self._streams,
                pubsub=self._pubsub,
                settings=self._settings,
                on_missed=self._has_missed,
            )
            self._feeds[chat_id] = feed
            self._nursery.start_soon(self._run, feed)
        feed.readers += 1
        self._idle.discard(feed)
        try:
            if not feed.ready.is_set():
                with trio.fail_after(JOIN_SECONDS_MAX):
                    await feed.ready.wait()
            if feed.failure is not None:
                raise feed.failure
        except trio.TooSlowError:
            self._leave(feed)
            raise StoreUnavailable("the chat could not be read in time") from None
        except BaseException:
            self._leave(feed)
            raise
        return feed

    def _leave(self, feed: Feed) -> None:
        feed.readers -= 1
        if feed.readers == 0:
            self._idle.add(feed)

    def _end(self, feed: Feed) -> None:
        if self._feeds.get(feed.chat_id) is feed:
            del self._feeds[feed.chat_id]
            feed.end()

    def _attach(self, feed: Feed, cursor: Cursor, kind: type[S]) -> S:
        """Snapshot and registration in one synchronous step: nothing falls between them."""
        join = partial(CatchUp, feed.chat_id, self._catch_ups)
        subscriber = kind(buffer_bytes_max=self._settings.subscriber_buffer_bytes, join=join)
        subscriber.join(cursor, feed.shown.snapshot())
        if self._closed:
            subscriber.cut("drain")
        feed.shown.add(subscriber)
        return subscriber

    async def _run(self, feed: Feed) -> None:
        try:
            await feed.run()
        except* ChatNotFound:
            feed.fail(ChatNotFound("there is no such chat"))  # it was deleted
        except* Exception as error:  # noqa: BLE001 - a broken feed cuts its readers, never the replica
            telemetry.event("feed.crashed", chat_id=str(feed.chat_id), error=repr(error), exc_info=error)
            feed.fail(StoreUnavailable("the chat's feed failed; resume"))
        finally:
            feed.shown.cut("feed ended")
            if self._feeds.get(feed.chat_id) is feed:
                del self._feeds[feed.chat_id]

    async def _poll(self) -> None:
        """One statement for all followed chats, so that readers of chats at rest cost next to nothing."""
        while True:
            await trio.sleep(self._settings.feed_poll_seconds * random.uniform(0.75, 1.0))
            await self._poll_each(list(self._feeds))

    def _has_missed(self, chat_id: UUID) -> None:
        self._missed.add(chat_id)
        self._missing.set()

    async def _poll_missed(self) -> None:
        while True:
            await self._missing.wait()
            self._missing = trio.Event()
            missed, self._missed = self._missed, set()
            await self._poll_each(list(missed))

    async def _poll_each(self, chat_ids: list[UUID]) -> None:
        for start in range(0, len(chat_ids), POLL_CHATS):
            await self._poll_some(chat_ids[start : start + POLL_CHATS])

    async def _poll_some(self, chat_ids: list[UUID]) -> None:
        try:
            versions = await self._store.versions(chat_ids)
        except StoreUnavailable as error:
            telemetry.event("feeds.poll_failed", error=str(error))
            return
        for chat_id in chat_ids:
            feed, version = self._feeds.get(chat_id), versions.get(chat_id)
            if feed is None or not feed.ready.is_set() or feed.failure is not None:
                continue
            if version is None or version.precedes(Version.of(feed.chat)):
                feed.look_again()
            else:
                feed.look(version.snapshot_version)
