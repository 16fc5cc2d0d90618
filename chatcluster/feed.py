"""A feed: one chat as one replica shows it. Here are its tasks, and in ``merge.py`` the rules of what is shown.

Hints and live frames only say that there is something to look at. Both are taken in the call in which they arrive, and
frames go from there into the readers' buffers: no task of the feed is woken for them. The feed's own task is the
relay's. Another one reads the database; it begins when somebody said that there is something newer, and ends when all
is shown: chats at rest are many, and have none.

What is **committed on this very replica**, by a user's request or by the chat's owner, need not be read again: the
outcome of a transition is handed over (``Notices.hand_over``), together with the hint that there is something newer. A
snapshot version is one above that of the chat which the transition found, and each change of a chat has one. So where
the feed has read just the version before, nothing lies between, and the outcome is what a read would bring: the chat,
and the messages and the ended turn of this version. The task that would read takes it instead. Where it does not fit
it is passed over, and the database is read as ever:

* a version is lacking (another replica changed the chat, a failover leapt), or it is there already, as a read that was
  under way brought it;
* messages that were read before still wait for their frames: what is newer is read behind them;
* the outcome does not tell all: history was rewritten, the queue is another one, calls are open, or there are agents.

An outcome says nothing of what others have changed since. So whatever a hint said to be newer is looked for all the
same.

On each failure: the database cannot be read: tried again, and the attempt under way goes on meanwhile; Redis cannot be
reached: the relay retries, durable events go on with the polls; the frames of a message do not come: it is shown
without them after ``FRAMES_SECONDS_MAX``; the feed itself fails: its readers are cut.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextvars import Context, copy_context
from math import inf
from typing import Literal, NamedTuple
from uuid import UUID

import trio

from chatcluster import telemetry
from chatcluster.config import Settings
from chatcluster.errors import ChatclusterError, StoreUnavailable, Unreadable
from chatcluster.merge import Merge
from chatcluster.notices import hint_in
from chatcluster.parts import Cursor, Frame
from chatcluster.ports import Chat, ChatRead, Gap, Outcome, PartStreams, PubSub, Store, hint_channel
from chatcluster.relay import SET, Relay
from chatcluster.shown import Shown

FRAMES_SECONDS_MAX = 0.5
"""How long a message waits for the frames that it came from."""
READ_RETRY_SECONDS = 0.2
COMMITS_MAX = 4
"""So many outcomes wait to be taken. One that is forgotten is read."""
LINGER_SECONDS = 5.0
LINGER_LOOK_SECONDS = 1.0
ENDED_AT_A_TIME = 100
"""Feeds, in one step of the loop."""
PAGE_MESSAGES = 200
PAGE_BYTES = 512 << 10
"""What is read of a history at a time."""
FIRST_MESSAGES = 8
FIRST_BYTES = 8 << 10
"""A history that is no longer comes with the state, at the first read: its readers need no look of their own."""


class _Tasks(NamedTuple):
    nursery: trio.Nursery
    context: Context
    """The feed's own context variables, for its tasks. One that begins in a hint's call would get the caller's."""


class _Stirs:
    """That there may be something for the merge to do, as the task that does it is told."""

    def __init__(self) -> None:
        self.is_due = True
        self._awake: trio.Event | None = None
        """There while the task waits."""

    def stir(self) -> None:
        self.is_due = True
        if self._awake is not None:
            self._awake.set()

    async def next(self, deadline: float) -> None:
        """Until then, at the latest."""
        if not self.is_due:
            self._awake = trio.Event()
            with trio.move_on_at(deadline):
                await self._awake.wait()
            self._awake = None
        self.is_due = False


class Feed:
    """``run`` merges; ``shown`` is what came out so far, where readers join. The relay's ``Receiver``."""

    __slots__ = (
        "_changed",
        "_commits",
        "_merge",
        "_on_missed",
        "_pubsub",
        "_relay",
        "_settings",
        "_stirs",
        "_store",
        "_tasks",
        "chat_id",
        "failure",
        "readers",
        "ready",
    )

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
        """The readers that read, or are about to; a feed without readers ends."""
        self._store = store
        self._pubsub = pubsub
        self._settings = settings
        self._on_missed = on_missed
        self._relay = Relay(chat_id, streams=streams, pubsub=pubsub, receiver=self)
        self._merge = Merge(self._relay, stir=self._stir, announce=self._announce)
        self._tasks: _Tasks | None = None
        """While it runs."""
        self._stirs: _Stirs | None = None
        """While a task does what the merge stirs for."""
        self._commits: tuple[Outcome, ...] = ()
        """The outcomes of this replica that are not shown, as far as is known; the oldest first."""
        self._changed: trio.Event | None = None
        """Set to wake readers, while any wait until something durable is shown, or is known not to exist."""

    def __repr__(self) -> str:
        return f"<Feed {self.chat_id} {self._merge}>"

    @property
    def shown(self) -> Shown:
        return self._merge.shown

    @property
    def chat(self) -> Chat:
        """The chat as it was read last; what was shown of it may be older."""
        return self._merge.chat

    @property
    def is_following(self) -> bool:
        """Whether it has read the chat, and goes on."""
        return self.ready.is_set() and self.failure is None

    # --- readers ------------------------------------------------------------------------------

    def look(self, version: int) -> None:
        """A hint: there may be a snapshot of this version."""
        self._merge.look(version)

    def look_again(self) -> None:
        """The chat may be another than it was, whatever its version."""
        self._merge.look_again()

    def committed(self, outcome: Outcome) -> None:
        """A transition was made on this replica."""
        if outcome.chat.snapshot_version > self.chat.snapshot_version:
            self._commits = (*self._commits, outcome)[-COMMITS_MAX:]
            self.look(outcome.chat.snapshot_version)

    async def catch_up_with(self, cursor: Cursor) -> bool:
        """Wait until ``cursor`` is shown, or known not to exist; False if neither came about soon."""
        self.look(max(cursor.version, self.chat.snapshot_version + 1))
        with trio.move_on_after(self._settings.streaming.feed_poll_seconds):
            while not self.shown.has(cursor) and self._merge.is_behind:
                await self._change()
            return True
        return False

    def fail(self, failure: ChatclusterError) -> None:
        self.failure = failure
        self._is_ready()

    def _is_ready(self) -> None:
        self.ready.set()
        self.ready = SET

    def end(self) -> None:
        """Nobody reads the chat here any more."""
        if self._tasks is not None:
            self._tasks.nursery.cancel_scope.cancel()

    # --- tasks --------------------------------------------------------------------------------

    async def run(self) -> None:
        """Follow the chat until nobody reads it. The hints are listened to before the first read."""
        async with trio.open_nursery() as nursery:
            self._tasks = _Tasks(nursery, copy_context())
            try:
                await self._follow(nursery)
            finally:
                self._tasks = None  # nothing more begins

    async def _follow(self, nursery: trio.Nursery) -> None:
        async with self._pubsub.subscribe(hint_channel(self.chat_id)) as hints:
            try:
                read = await self._read_newer(0, limit=FIRST_MESSAGES, bytes_max=FIRST_BYTES, if_whole=True)
            except ChatclusterError as error:
                self.fail(error)
                return
            self._merge.begin(read, is_whole=read.next_revision is None)
            hints.hand_over(self._hear)
            if read.chat.runnable:
                nursery.start_soon(self._complete)
            self._is_ready()
            await self._relay.run()

    async def _complete(self) -> None:
        """The parts of the attempt under way are part of the state, if they can be had soon."""
        with trio.move_on_after(FRAMES_SECONDS_MAX):
            await self._relay.dialled.wait()
            await self.until_free()
        self.shown.complete()

    def _hear(self, payload: bytes | Gap) -> Literal[True]:
        hint = hint_in(payload)
        if hint is None:
            self._relay.reset()
            self._on_missed(self.chat_id)  # all feeds have missed hints at once, so they ask with one statement
        else:
            self.look(hint.snapshot_version)
        return True

    async def _work(self, stirs: _Stirs) -> None:
        """Do what the merge stirs for, and end the wait of messages for frames that do not come, until there is nothing
        left to do."""
        merge, wait_until = self._merge, inf
        while stirs.is_due or wait_until < inf:
            await stirs.next(wait_until)
            merge.show_waiting(at_once=trio.current_time() >= wait_until)
            if not merge.waits:
                wait_until = inf
            while merge.lacks_read:
                self._take_commits()
                if merge.lacks_read:
                    await self._refresh()
            if not merge.waits:
                self._commits = ()  # what is left of them came with a read; each may have megabytes
            merge.take_rest()
            self._announce()
            wait_until = min(wait_until, trio.current_time() + FRAMES_SECONDS_MAX) if merge.waits else inf
        self._stirs = None

    def _take_commits(self) -> None:
        """In the place of a read, those that are what would be read next."""
        commits, self._commits = self._commits, ()
        for outcome in commits:
            self._merge.takes_commit(outcome)

    async def _refresh(self) -> None:
        """Read what is new, or all of it, if what was shown is not what is there any more."""
        merge, looks = self._merge, self._merge.looks
        try:
            read = await self._read_newer(*merge.wanted)
            went_back = merge.has_forgotten(read)
            if went_back or merge.rewrites(read):
                read = await self._read_newer(0, turns_after=self.shown.version)
        except (StoreUnavailable, Unreadable) as error:
            telemetry.event("feed.read_failed", chat_id=str(self.chat_id), error=str(error))
            await trio.sleep(READ_RETRY_SECONDS)
            return
        if went_back:
            telemetry.event("feed.went_back", chat_id=str(self.chat_id), version=read.chat.snapshot_version)
        merge.apply(read, looks=looks, went_back=went_back)

    async def _read_newer(
        self,
        after_version: int,
        after_id: int = 0,
        queue_version: int = -1,
        *,
        turns_after: int | None = None,
        limit: int = PAGE_MESSAGES,
        bytes_max: int = PAGE_BYTES,
        if_whole: bool = False,
    ) -> ChatRead:
        return await self._store.read_newer(
            self.chat_id,
            after_version=after_version,
            after_id=after_id,
            queue_version=queue_version,
            limit=limit,
            bytes_max=bytes_max,
            turns_after=after_version if turns_after is None else turns_after,
            if_whole=if_whole,
        )

    def _stir(self) -> None:
        if self._stirs is not None:
            self._stirs.stir()
        elif self._tasks is not None:
            self._stirs = _Stirs()
            self._tasks.context.run(self._tasks.nursery.start_soon, self._work, self._stirs)

    def _announce(self) -> None:
        if self._changed is not None:
            self._changed.set()
            self._changed = None

    async def _change(self) -> None:
        if self._changed is None:
            self._changed = trio.Event()
        await self._changed.wait()

    # --- frames: what the relay wants of a receiver -------------------------------------------

    @property
    def busy(self) -> bool:
        return self._merge.is_busy

    async def until_free(self) -> None:
        while self._merge.is_busy:
            await self._change()

    def newer_tenure(self) -> None:
        self.look_again()

    def take(self, frames: Sequence[Frame]) -> None:
        self._merge.take(frames)


class IdleFeeds:
    """Feeds without readers. Each outlives its last reader for a while: a reader that comes back finds it warm."""

    def __init__(self, end: Callable[[Feed], None]) -> None:
        self._end = end
        self._since: dict[Feed, float] = {}

    def __repr__(self) -> str:
        return f"<IdleFeeds {len(self._since)}>"

    def add(self, feed: Feed) -> None:
        self._since[feed] = trio.current_time()

    def discard(self, feed: Feed) -> None:
        """Somebody reads it."""
        self._since.pop(feed, None)

    async def run(self) -> None:
        """End them when it is time. Runs until cancelled."""
        while True:
            await trio.sleep(LINGER_LOOK_SECONDS)
            until = trio.current_time() - LINGER_SECONDS
            for number, feed in enumerate([feed for feed, since in self._since.items() if since <= until], 1):
                if self._since.pop(feed, None) is not None:
                    self._end(feed)
                if number % ENDED_AT_A_TIME == 0:
                    await trio.lowlevel.checkpoint()
