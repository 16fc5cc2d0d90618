"""The list of a user's chats, live: what ``/watch`` follows.

Per user and replica there is one task, however many readers. It listens to the user's channel, reads each chat that
changed once (what was published is a hint, and never data), and hands the encoded event to all readers. It outlives its
last reader until the second poll after that, and reads nothing meanwhile: a user that goes from chat to chat finds it
listening. After a gap it reads the newest chats again and tells of those that moved, as ``status``. A poll, for all
users at once, tells of every chat that changed since the poll before: the replica that changed it may have died before
it published that, or Redis may be away. What is remembered of a user is bounded: a change that was told may be told
again, as ``status``, and none is forgotten. After a failover, which may have lost what was told, the newest chats are
told anew.

There is no cursor: a list is short, and read again after a reconnect. A reader that falls behind is cut.
"""

from __future__ import annotations

import random
from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from datetime import datetime
from typing import NamedTuple, TypeVar
from uuid import UUID

import msgspec
import trio

from chatcluster import telemetry
from chatcluster.audience import Audience
from chatcluster.config import Settings
from chatcluster.errors import ChatNotFound, StoreFailed, StoreUnavailable
from chatcluster.events import ChatChangeEvent, body, named
from chatcluster.notices import DIFF_STATUS, LIFECYCLES, Lifecycle, lifecycle_in
from chatcluster.parts import encode
from chatcluster.ports import VERSION_MAX, Changes, Chat, PubSub, Store, Subscription, owner_channel
from chatcluster.ports.workspace_diffs import DiffStatus, DiffStatuses
from chatcluster.shown import Listed, Notice
from chatcluster.subscriber import Subscriber
from chatcluster.views import ChatAnswer, chat_answer

NEWEST_CHATS = 100
KNOWN_CHATS_MAX = 1000
READ_RETRY_SECONDS = 0.5
POLL_SECONDS = 10.0
POLL_OWNERS = 200
"""So many owners are polled for in one statement."""
POLL_CHATS = 500
"""So many chats are in one page of a poll."""
POLL_PAUSES = 20
"""The pause is at least so many times as long as the poll took, however many chats the users have."""
UNSEEN_SECONDS_MAX = 15.0
"""A change has the time of its statement, and may be committed so much later: longer than a transaction lives."""

K = TypeVar("K")


class ListEvent(msgspec.Struct, frozen=True):
    type: str
    chat: ChatAnswer


class DeletedEvent(msgspec.Struct, frozen=True):
    type: str
    chat_id: UUID


def list_notice(change: str, chat: ChatAnswer) -> Notice:
    """A change in a list, in both its forms: that of a list alone, and that of a list beside a chat."""
    at_ms = int(chat.updated_at.timestamp() * 1000)
    listed = Listed(body(ChatChangeEvent(change, chat.id, chat)), at_ms)
    return Notice(named(change, encode(ListEvent(change, chat))), listed=listed)


def deleted_notice(chat_id: UUID) -> Notice:
    """The notice of a deletion. Its moment is that of the event before: a deletion is not known to have been told."""
    listed = Listed(body(ChatChangeEvent("deleted", chat_id)), 0)
    return Notice(named("deleted", encode(DeletedEvent("deleted", chat_id))), listed=listed)


class DiffStatusEvent(msgspec.Struct, frozen=True):
    type: str
    chat_id: UUID
    diff_status: DiffStatus


def diff_notice(chat_id: UUID, status: DiffStatus) -> Notice:
    """The notice of changes in a workspace."""
    at_ms = int(status.updated_at.timestamp() * 1000)
    listed = Listed(body(ChatChangeEvent(DIFF_STATUS, chat_id, diff_status=status)), at_ms)
    return Notice(named(DIFF_STATUS, encode(DiffStatusEvent(DIFF_STATUS, chat_id, status))), listed=listed)


class Watch:
    """One user's list on this replica."""

    def __init__(self, owner_id: UUID, *, store: Store, pubsub: PubSub, diffs: DiffStatuses | None = None) -> None:
        self.owner_id = owner_id
        self.subscribers: dict[Subscriber, None] = {}
        self.was_idle = False
        """Nobody read it when it was polled last, nor since."""
        self.listening = trio.Event()
        self.scope = trio.CancelScope()
        self._store = store
        self._pubsub = pubsub
        self._diffs = diffs
        self._told: OrderedDict[UUID, int] = OrderedDict()
        self._kinds: OrderedDict[tuple[UUID, str], int] = OrderedDict()

    def __repr__(self) -> str:
        return f"<Watch {self.owner_id} readers={len(self.subscribers)}>"

    async def run(self) -> None:
        with self.scope:
            async with self._pubsub.subscribe(owner_channel(self.owner_id)) as changes:
                self.listening.set()
                await self._follow(changes)

    async def _follow(self, changes: Subscription) -> None:
        while True:
            change = lifecycle_in(await changes.receive())
            if not self.subscribers:
                continue
            try:
                if change is None:
                    await self._tell_newest()
                else:
                    await self._tell(change)
            except StoreUnavailable as error:
                telemetry.event("watch.read_failed", owner_id=str(self.owner_id), error=str(error))
                await trio.sleep(READ_RETRY_SECONDS)
                await self._tell_newest_soon()

    async def _tell(self, change: Lifecycle) -> None:
        if change.kind == "created" and self._told.get(change.chat_id) == VERSION_MAX:
            self._forget(change.chat_id)  # a new one of the same name
        if self._has_told(change):
            return
        if change.kind == DIFF_STATUS:
            await self._tell_diff(change)
            return
        try:
            chat = await self._store.get(change.chat_id)
        except ChatNotFound:
            if change.kind == "deleted":
                self.gone(change.chat_id)
            return
        if chat.owner_id == self.owner_id:  # others can publish as well, and newer versions know further kinds
            self._hand_out(change.kind if change.kind in LIFECYCLES else "status", chat_answer(chat))

    def _has_told(self, change: Lifecycle) -> bool:
        """Whether this was told before (what is published may arrive twice), or is a status that is part of it."""
        if change.kind == "status":
            return change.snapshot_version <= self._told.get(change.chat_id, 0)
        return change.snapshot_version <= self._kinds.get((change.chat_id, change.kind), 0)

    async def _tell_diff(self, change: Lifecycle) -> None:
        status = None if self._diffs is None else await self._diffs.status(change.chat_id)
        if status is not None:
            self._offer_diff(change.chat_id, status)

    def _offer_diff(self, chat_id: UUID, status: DiffStatus) -> None:
        if status.version > self._kinds.get((chat_id, DIFF_STATUS), 0):
            _remember(self._kinds, (chat_id, DIFF_STATUS), status.version)
            self._offer(diff_notice(chat_id, status))

    def look(self, chat: Chat) -> None:
        """What a poll found: nothing new, unless word of it was lost."""
        if chat.snapshot_version > self._told.get(chat.id, 0):
            self._hand_out("status", chat_answer(chat))

    def gone(self, chat_id: UUID) -> None:
        """The chat was deleted."""
        if self._told.get(chat_id, 0) < VERSION_MAX:
            _remember(self._told, chat_id, VERSION_MAX)
            self._offer(deleted_notice(chat_id))

    def _forget(self, chat_id: UUID) -> None:
        self._told.pop(chat_id, None)
        for kind in LIFECYCLES:
            self._kinds.pop((chat_id, kind), None)

    def forget_told(self) -> None:
        """Its readers of now were told nothing yet, and what happened while it had none is not remembered."""
        self._told.clear()
        self._kinds.clear()

    async def begin_anew(self) -> None:
        """What was told may be lost: tell the newest chats as they are now, whatever their versions."""
        self.forget_told()
        await self._tell_newest()

    async def _tell_newest(self) -> None:
        for chat in await self._store.list_chats(self.owner_id, archived=None, limit=NEWEST_CHATS, after=None):
            if chat.snapshot_version > self._told.get(chat.id, chat.snapshot_version - 1):
                self._hand_out("status", chat_answer(chat))
        if self._diffs is not None:
            for chat_id, status in (await self._diffs.statuses(self.owner_id, NEWEST_CHATS)).items():
                self._offer_diff(chat_id, status)

    async def _tell_newest_soon(self) -> None:
        """After a failed read: what it was about is told once the database answers again."""
        while True:
            try:
                await self._tell_newest()
            except StoreUnavailable:
                await trio.sleep(READ_RETRY_SECONDS)
            else:
                return

    def _hand_out(self, kind: str, chat: ChatAnswer) -> None:
        if chat.snapshot_version < self._told.get(chat.id, 0):
            return  # a poll was quicker than the read of it
        _remember(self._told, chat.id, chat.snapshot_version)
        _remember(self._kinds, (chat.id, kind), chat.snapshot_version)
        self._offer(list_notice(kind, chat))

    def _offer(self, notice: Notice) -> None:
        for subscriber in self.subscribers:
            subscriber.offer(notice)


def _remember(told: OrderedDict[K, int], key: K, version: int) -> None:
    told[key] = version
    told.move_to_end(key)
    while len(told) > KNOWN_CHATS_MAX:
        told.popitem(last=False)


class _Polled(NamedTuple):
    """A poll that succeeded: when it began, here and by the database's clock (None if it asked for nobody), and the
    database's WAL timeline."""

    began: float
    as_of: datetime | None = None
    timeline: int | None = None


class Watches:
    """All lists that are followed on this replica. ``run`` holds their tasks."""

    def __init__(
        self,
        *,
        store: Store,
        pubsub: PubSub,
        settings: Settings,
        audience: Audience,
        diffs: DiffStatuses | None = None,
    ) -> None:
        self._store = store
        self._pubsub = pubsub
        self._settings = settings
        self._audience = audience
        self._diffs = diffs
        self._watches: dict[UUID, Watch] = {}
        self._closed = False
        self._nursery: trio.Nursery | None = None

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Hold the tasks, and poll for changes of which no word came."""
        async with trio.open_nursery() as self._nursery:
            task_status.started()
            try:
                await self._poll()
            finally:
                self._nursery = None

    async def _poll(self) -> None:
        polled = _Polled(trio.current_time())
        pause_seconds = POLL_SECONDS
        while True:
            await trio.sleep(pause_seconds * random.uniform(0.75, 1.0))
            began = trio.current_time()
            polled = await self._poll_all(polled)
            pause_seconds = max(POLL_SECONDS, POLL_PAUSES * (trio.current_time() - began))

    def _end_idle(self) -> None:
        """End those that nobody reads, and nobody read at the last poll."""
        for watch in list(self._watches.values()):
            if watch.was_idle and not watch.subscribers:
                del self._watches[watch.owner_id]
                watch.scope.cancel()
            watch.was_idle = not watch.subscribers

    async def _poll_all(self, last: _Polled) -> _Polled:
        """Tell what changed since the ``last`` poll that succeeded, after a failover all. Returns the last one now."""
        self._end_idle()
        began, as_of, timeline = trio.current_time(), None, last.timeline
        seconds = began - last.began + UNSEEN_SECONDS_MAX
        owner_ids = [owner_id for owner_id, watch in self._watches.items() if watch.subscribers]
        try:
            for start in range(0, len(owner_ids), POLL_OWNERS):
                answered = await self._poll_some(owner_ids[start : start + POLL_OWNERS], seconds, last.as_of)
                as_of, timeline = as_of or answered.as_of, answered.timeline or timeline
            if last.timeline not in (None, timeline):
                await self._begin_anew(owner_ids)
        except StoreUnavailable as error:
            telemetry.event("watch.poll_failed", error=str(error))
            return last
        return _Polled(began, as_of, timeline)

    async def _begin_anew(self, owner_ids: Sequence[UUID]) -> None:
        for owner_id in owner_ids:
            if watch := self._watches.get(owner_id):
                try:
                    await watch.begin_anew()
                except StoreFailed as error:  # a list that cannot be read is told to nobody, and keeps no other
                    telemetry.event("watch.poll_failed", owner_id=str(owner_id), error=str(error))

    async def _poll_some(self, owner_ids: Sequence[UUID], seconds: float, as_of: datetime | None) -> Changes:
        after: Chat | None = None
        while True:
            changes = await self._store.list_changed(
                owner_ids, seconds=seconds, as_of=as_of, after=after, limit=POLL_CHATS
            )
            for gone in changes.deleted:
                if watch := self._watches.get(gone.owner_id):
                    watch.gone(gone.chat_id)
            for chat in changes.chats:
                if watch := self._watches.get(chat.owner_id):
                    watch.look(chat)
            if len(changes.chats) < POLL_CHATS:
                return changes
            after = changes.chats[-1]

    def cut_all(self) -> None:
        self._closed = True
        for watch in self._watches.values():
            for subscriber in watch.subscribers:
                subscriber.cut("drain")

    @asynccontextmanager
    async def subscribe(self, owner_id: UUID) -> AsyncIterator[Subscriber]:
        """Follow the list of ``owner_id`` for the length of the block. Raises ``TooMany`` over a limit."""
        with self._audience.place(owner_id):
            subscriber = Subscriber(buffer_bytes_max=self._settings.streaming.subscriber_buffer_bytes)
            async with self.follow(owner_id, subscriber):
                yield subscriber

    def follow(self, owner_id: UUID, subscriber: Subscriber) -> AbstractAsyncContextManager[None]:
        """Let ``subscriber``, which has a place, follow the list of ``owner_id`` for the length of the block."""
        return _Following(self, owner_id, subscriber)

    async def join(self, owner_id: UUID, subscriber: Subscriber) -> Watch:
        """The user's watch, which ``subscriber`` follows until it is taken out of it."""
        watch = self._joined(owner_id)
        if not watch.subscribers:
            watch.forget_told()
        watch.subscribers[subscriber] = None
        watch.was_idle = False
        if self._closed:
            subscriber.cut("drain")
        try:
            if not watch.listening.is_set():
                await watch.listening.wait()
        except BaseException:
            del watch.subscribers[subscriber]
            raise
        return watch

    def _joined(self, owner_id: UUID) -> Watch:
        watch = self._watches.get(owner_id)
        if watch is None:
            if self._nursery is None:  # not running yet, or no more
                raise StoreUnavailable("this replica is leaving; reconnect to another one")
            watch = self._watches[owner_id] = Watch(owner_id, store=self._store, pubsub=self._pubsub, diffs=self._diffs)
            self._nursery.start_soon(self._run, watch)
        return watch

    async def _run(self, watch: Watch) -> None:
        try:
            await watch.run()
        except Exception as error:  # noqa: BLE001 - a broken list cuts its readers, never the replica
            telemetry.event("watch.crashed", owner_id=str(watch.owner_id), error=repr(error), exc_info=error)
        finally:
            watch.listening.set()
            for subscriber in watch.subscribers:
                subscriber.cut("watch ended")
            if self._watches.get(watch.owner_id) is watch:
                del self._watches[watch.owner_id]


class _Following(AbstractAsyncContextManager[None]):
    """A reader of a list for the length of the block. No generator: each reader at rest has one."""

    __slots__ = ("_owner_id", "_subscriber", "_watch", "_watches")

    def __init__(self, watches: Watches, owner_id: UUID, subscriber: Subscriber) -> None:
        self._watches, self._owner_id, self._subscriber = watches, owner_id, subscriber
        self._watch: Watch

    async def __aenter__(self) -> None:
        self._watch = await self._watches.join(self._owner_id, self._subscriber)

    async def __aexit__(self, *_: object) -> None:
        del self._watch.subscribers[self._subscriber]
