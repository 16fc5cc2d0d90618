"""Feeds, and those who read them.

A **feed** (``feed.py``) owns, per followed chat and replica, the merge of durable state and frames. Here is
what surrounds it: who gets a feed, and what a subscriber (``subscriber.py``) is told first.

A subscriber's first events, in this order: status, messages after its cursor and turns that ended, queue, retry or
error if any, the parts of the current attempt, and ``ready``. They are a snapshot of the feed at the moment of joining;
from then on it gets what the feed hands out. So it sees each thing once, wherever its cursor comes from:

* a cursor behind the feed: what lies between is read (from the feed's memory, or the database, in pages);
* a cursor ahead of the feed (another replica was quicker): the feed catches up with the database first; frames that
  the reader has seen are held back from it, and its cursor does not go back meanwhile. A feed that cannot
  catch up soon does not serve the reader (``StoreUnavailable``): another replica may;
* a cursor from before the last edit: ``history_reset``, and all messages again;
* a cursor that names a future that does not exist: refused.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from contextlib import AbstractAsyncContextManager, AbstractContextManager, ExitStack, nullcontext
from functools import partial
from typing import Generic, TypeVar
from uuid import UUID

import trio

from chatcluster import telemetry
from chatcluster.audience import Audience
from chatcluster.catch_up import CatchUp, CatchUps
from chatcluster.config import Settings
from chatcluster.errors import ChatNotFound, StoreUnavailable
from chatcluster.feed import Feed, IdleFeeds
from chatcluster.parts import Cursor
from chatcluster.ports import Chat, Outcome, PartStreams, PubSub, Store, Version
from chatcluster.subscriber import Subscriber

POLL_CHATS = 1000
JOIN_SECONDS_MAX = 10.0
OWNERS_MAX = 10_000
NO_PLACE = nullcontext()


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
        """The owners of chats that were asked for, or changed here, of late. A chat's owner never changes."""
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
        return _Following(self, chat_id, cursor, Subscriber, owner_id, self._audience.place(owner_id))

    def follow(self, chat_id: UUID, cursor: Cursor, kind: type[S], *, owner_id: UUID) -> AbstractAsyncContextManager[S]:
        """As ``subscribe``, with a subscriber of this kind, for somebody who has a place already."""
        return _Following(self, chat_id, cursor, kind, owner_id, NO_PLACE)

    async def join(self, chat_id: UUID, cursor: Cursor, kind: type[S], owner_id: UUID) -> tuple[Feed, S]:
        """A new subscriber, until it leaves (``part``). Raises as ``subscribe``."""
        await self._require_owner(chat_id, owner_id)
        feed = await self._joined(chat_id)
        try:
            if not feed.shown.has(cursor) and not await feed.catch_up_with(cursor):
                raise StoreUnavailable("this replica is behind; resume at another one")
            return feed, self._attach(feed, cursor, kind)
        except BaseException:
            self._leave(feed)
            raise

    def part(self, feed: Feed, subscriber: Subscriber) -> None:
        feed.shown.remove(subscriber)
        self._leave(feed)

    async def _require_owner(self, chat_id: UUID, owner_id: UUID) -> None:
        """Nothing is opened, and no history read, for somebody who may not have it."""
        if chat_id not in self._owners:
            self.learn(await self._store.get(chat_id))
        if self._owners[chat_id] != owner_id:
            raise ChatNotFound("there is no such chat")

    def expect(self, chat: Chat) -> None:
        """A reader of this chat comes soon: it is read meanwhile."""
        self.learn(chat)
        if chat.id not in self._feeds and self._nursery is not None:
            self._idle.add(self._begun(chat.id))

    def learn(self, chat: Chat) -> None:
        """Learn whose chat this is, so that its first reader need not wait for another look at the row."""
        self._owners[chat.id] = chat.owner_id
        self._owners.move_to_end(chat.id)
        if len(self._owners) > OWNERS_MAX:
            self._owners.popitem(last=False)

    def hand_over(self, outcome: Outcome) -> None:
        """What was committed here just now, for the feed of the chat: it need not be read again."""
        feed = self._feeds.get(outcome.chat.id)
        if feed is not None and feed.is_following:
            feed.committed(outcome)

    async def _joined(self, chat_id: UUID) -> Feed:
        """The chat's feed, with us counted in, once it has read the database."""
        feed = self._feeds.get(chat_id)
        if feed is None:
            feed = self._begun(chat_id)
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

    def _begun(self, chat_id: UUID) -> Feed:
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
        subscriber = kind(buffer_bytes_max=self._settings.streaming.subscriber_buffer_bytes, join=join)
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
            await trio.sleep(self._settings.streaming.feed_poll_seconds * random.uniform(0.75, 1.0))
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
            if feed is None or not feed.is_following:
                continue
            if version is None or version.precedes(Version.of(feed.chat)):
                feed.look_again()
            else:
                feed.look(version.snapshot_version)


class _Following(AbstractAsyncContextManager[S], Generic[S]):
    """A subscriber for the length of the block. No generator: each reader at rest has one."""

    __slots__ = ("_chat_id", "_cursor", "_feed", "_feeds", "_kind", "_owner_id", "_place", "_subscriber")

    def __init__(
        self,
        feeds: Feeds,
        chat_id: UUID,
        cursor: Cursor,
        kind: type[S],
        owner_id: UUID,
        place: AbstractContextManager[None],
    ) -> None:
        self._feeds, self._place = feeds, place
        self._chat_id, self._cursor, self._kind, self._owner_id = chat_id, cursor, kind, owner_id
        self._feed: Feed
        self._subscriber: S

    async def __aenter__(self) -> S:
        with ExitStack() as on_failure:
            on_failure.enter_context(self._place)
            asked = (self._chat_id, self._cursor, self._kind, self._owner_id)
            self._feed, self._subscriber = await self._feeds.join(*asked)
            on_failure.pop_all()
        return self._subscriber

    async def __aexit__(self, *_: object) -> None:
        self._feeds.part(self._feed, self._subscriber)
        self._place.__exit__(None, None, None)
