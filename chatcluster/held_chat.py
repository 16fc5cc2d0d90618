"""A chat as its owner knows it: the row, the history, and what was said that is not history yet.

``chat`` is what the last transaction of the owner's own returned. The database is authoritative: every commit names
the fence and the history version that it was decided on, and raises ``Moved`` if the chat has moved since, ``Fenced``
if another tenure is on. ``reload`` takes the chat over as it is in the database.

There is one thing that an owner waits for besides its own work: that somebody else changes the chat. A hint or a
heartbeat makes it **look** (``told``). If history or status **moved**, what runs in ``unless_moved`` is cancelled, and
the runner decides again; if the chat is another tenure's, or nobody's, the runner is told to end (``on_lost``). A look
waits for a commit that is under way, and so never mistakes the owner's own effect for somebody else's.

What happens on failure: while Postgres cannot be reached, a commit is repeated until its outcome is known; the store
recognises a repeat. What the store refuses for another reason is raised (``StoreFailed``); a look that fails so is
left out, as the next commit tells the same. A part stream that is ahead of Postgres is overruled (``overrule.py``).
What a provider refuses of what it signed or sealed itself, as its rules or keys have changed, is put aside for the
tenure (``puts_aside``); the next owner learns the same.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import TypeVar
from uuid import UUID

import msgspec
import trio

from chatcluster import telemetry
from chatcluster.attempt import Said
from chatcluster.billing import Unbooked
from chatcluster.chat import Fence, KeepAnswer, OpenCall, OwnerCommand, Standing, Underway
from chatcluster.errors import ChatNotFound, Fenced, ProviderError, StoreFailed, Unreadable
from chatcluster.families import settle
from chatcluster.histories import History
from chatcluster.notices import Notices, report_end
from chatcluster.overrule import Overruling
from chatcluster.ports import Chat, Outcome, Outside
from chatcluster.publisher import Publisher
from chatcluster.repeats import until_known

T = TypeVar("T")


class _Looks:
    """Looks into the database: one that is wanted, and the next that was made."""

    def __init__(self) -> None:
        self.wanted = trio.Event()
        self.made = trio.Event()


class HeldChat:
    """One chat in the hands of one tenure."""

    def __init__(
        self,
        chat: Chat,
        worker_id: UUID,
        history: History,
        outside: Outside,
        *,
        publisher: Publisher,
        notices: Notices,
    ) -> None:
        self.chat = chat
        self.history = history
        self.stream = publisher.stream(chat.id, worker_id, chat.epoch, on_fenced=self.look)
        self.said = Said()
        """What was streamed of an attempt that was cut short, here or by a tenure that died."""
        self.unbooked = Unbooked()
        self.on_lost: Callable[[], None] = lambda: None
        """Called when the database names another owner, or none."""
        self._worker_id = worker_id
        self._store = outside.store
        self._publisher = publisher
        self._notices = notices
        self._overruling = Overruling(outside.store, outside.streams, self.stream, worker_id)
        self._transacting = trio.Lock()
        self._seen = chat
        """The newest that a look into the database showed."""
        self._looks = _Looks()
        self._waiting = trio.CancelScope()

    def __repr__(self) -> str:
        chat = self.chat
        return f"<HeldChat {chat.id} epoch={chat.epoch} {chat.status} v{chat.history_version} attempt={chat.attempt}>"

    @property
    def owned(self) -> bool:
        """Whether the chat is still this worker's, after the transactions of its own."""
        return self.chat.worker_id == self._worker_id

    def open(self, *, trim: bool) -> None:
        """The tenure begins: tell readers on its stream, and everybody by a hint. ``trim`` as for the stream."""
        self.stream.open(self.chat.history_version, self.chat.snapshot_version, trim=trim)
        self._notices.committed(self.chat, "status", by_owner=True)

    def puts_aside(self, error: ProviderError) -> bool:
        """Whether the error is that the provider refuses what only a provider understands, for the first time: from
        here on this tenure leaves it out, instead of failing with each turn."""
        if error.kind != "opaque_refused" or self.history.is_plain:
            return False
        self.history.is_plain = True
        telemetry.event("chat.parts_put_aside", chat_id=str(self.chat.id), error=error.message)
        return True

    def abandon(self) -> None:
        """The tenure is over without a word: nothing of its stream is sent any more."""
        self._publisher.abandon(self.stream)

    # --- transactions -------------------------------------------------------------------------

    async def commit(self, command: OwnerCommand) -> Outcome:
        """Commit under the fence, again and again until the outcome is known. Raises ``Fenced``, ``Moved``."""
        before, asked = self.chat, self.history.asked
        async with self._transacting:
            outcome = await self._transact(self._overruling.placed(command))
        report_end(outcome, asked, attempts=before.attempt, takeovers=max(0, before.takeovers - 1))
        if outcome.replayed and self.owned:
            self.history.close()
            await self.reload()  # the chat as it is now may have more in its history, or less
        if outcome.messages:
            self.said = Said()
        if outcome.chat.history_version != before.history_version and self.owned:
            self.stream.committed(outcome.chat.history_version)
        changed = outcome.chat.status is not before.status or not self.owned
        self._notices.hand_over(outcome)
        self._notices.committed(outcome.chat, "status" if changed else None, by_owner=True)
        return outcome

    async def keep_answer(self, answer_id: str) -> None:
        """Have the next owner go on with this answer, at its provider. Raises ``Fenced``, ``Moved``."""
        known = Underway.of(self.chat)
        if known is None or (known.answer_id, known.attempt) != (answer_id, self.chat.attempt):
            await self.commit(KeepAnswer(answer_id))

    async def keep_result(self, call_id: str, whole: bytes) -> None:
        """Keep all of a result that goes into history cut. Raises ``Fenced``, ``Moved``."""
        async with self._transacting:  # to overrule the stream takes another epoch
            fence = self._fence
            await until_known(lambda: self._store.keep_result(fence, call_id, whole), fence.chat_id)

    async def keep_prefix(self, digest: str, data: bytes) -> None:
        """Keep what the requests of this turn begin with, unless the same is kept already. Raises ``Fenced``."""
        if digest == self.history.prompts.kept:
            return
        async with self._transacting:
            fence = self._fence
            await until_known(lambda: self._store.keep_prefix(fence, digest, data), fence.chat_id)
        self.history.prompts = msgspec.structs.replace(self.history.prompts, kept=digest)

    @property
    def newest_attempt(self) -> int:
        """The number of the newest attempt at the next message. A failover may have lost that it was started; what it
        cost is booked under its number all the same, so no other attempt may have that."""
        return max(self.chat.attempt, self.unbooked.newest_attempt(self.chat.history_version))

    @property
    def _fence(self) -> Fence:
        return Fence(self.chat.id, self._worker_id, self.chat.epoch, self.chat.history_version)

    async def _transact(self, command: OwnerCommand) -> Outcome:
        before, fence = self.chat, self._fence
        spent = self.unbooked.spent
        with telemetry.span("stage.ended", stage="commit"):
            outcome = await until_known(
                lambda: self._store.commit(fence, command, known=before, spent=spent), before.id
            )
        self.unbooked.booked(spent)
        if outcome.chat.epoch != fence.epoch:  # a repeat that was recognised, but came late
            raise Fenced(f"the tenure {fence.epoch} of chat {fence.chat_id} is over; now {outcome.chat.epoch}")
        self.chat = outcome.chat
        self.history.extend(outcome.messages)
        return outcome

    async def settle_family(self) -> None:
        """See to what follows for chats that wait for this one, agents that it waits for, and readers of its family."""
        await settle(self._store, self._notices, self.chat)

    async def reload(self) -> None:
        """Read the chat as it is now, which may be older than it was. Raises ``Fenced`` if it is no longer ours."""
        self.unbooked.moved()
        async with self._transacting:  # what is seen last is the newest
            chat = self._seen = await self._read()
        if not self._is_ours(chat):
            raise Fenced(f"chat {self.chat.id} belongs to another tenure")
        if chat.history_version != self.chat.history_version:
            self.said = Said()  # what was being said answers a history that is gone
            self.history.close()
        self.chat = chat

    async def _read(self) -> Chat:
        """The chat as it is in the database. Raises ``Fenced`` if it is not there: a failover has lost it."""
        try:
            return await until_known(lambda: self._store.get(self.chat.id), self.chat.id)
        except ChatNotFound as error:
            raise Fenced(f"chat {self.chat.id} does not exist any more") from error

    # --- what others change -------------------------------------------------------------------

    def told(self, snapshot_version: int) -> None:
        """A hint: there may be a newer snapshot of the chat, so look."""
        if snapshot_version > self.chat.snapshot_version:
            self.look()

    def look(self) -> None:
        """Compare with the database, now."""
        self._looks.wanted.set()

    async def unless_moved(self, wait: Callable[[], Awaitable[T]]) -> T | None:
        """The result of ``wait``, or None if the chat moved under it, or ``stop_waiting`` was called."""
        with trio.CancelScope() as self._waiting:
            if not self._moved:
                return await wait()
        return None

    async def wait_look(self) -> None:
        """Return once a change that another one made to the chat was looked at."""
        await self._looks.made.wait()

    async def open_calls(self) -> tuple[OpenCall, ...]:
        """What the ledger says of the calls without a result. Raises what reading raises, but waits for Postgres."""
        return await until_known(lambda: self._store.open_calls(self.chat.id), self.chat.id)

    async def permissions(self) -> frozenset[str]:
        """What needs no approval, by permission given in this chat or in the one whose agent it is; else as above."""
        chat = self.chat
        return await until_known(lambda: self._store.permissions(chat.owner_id, chat.id, chat.family_id), chat.id)

    def stop_waiting(self) -> None:
        """End what runs in ``unless_moved``, as if the chat had moved."""
        self._waiting.cancel()

    @property
    def _moved(self) -> bool:
        """Whether history or status moved since the last transaction of our own, as far as we have seen."""
        seen, chat = self._seen, self.chat
        newer = seen.snapshot_version > chat.snapshot_version
        return newer and (seen.history_version, seen.status) != (chat.history_version, chat.status)

    def _differs_beside(self, seen: Chat) -> bool:
        """Whether there is a newer row that says the same of the work: it was given a title, or the like. The next
        commit is decided on it, and finds the row as it is known."""
        newer = seen.snapshot_version > self.chat.snapshot_version
        return newer and _work_of(seen) == _work_of(self.chat)

    async def look_when_told(self) -> None:
        """Compare the chat with the database at each hint, and cancel the work that a change has made obsolete."""
        while True:
            await self._looks.wanted.wait()
            self._looks.wanted = trio.Event()
            async with self._transacting:
                if not self.owned:
                    return
                try:
                    with suppress(StoreFailed, Unreadable):  # the next commit will tell
                        self._seen = await self._read()
                except Fenced:
                    self.on_lost()
                    return
                if self._is_ours(self._seen) and self._overruling.is_due:
                    await self._overrule()
                elif self._is_ours(self._seen) and self._differs_beside(self._seen):
                    self.chat = self._seen
            self._looks.made.set()
            self._looks.made = trio.Event()
            if not self._is_ours(self._seen):
                self.on_lost()
            elif self._moved:
                self._waiting.cancel()

    def _is_ours(self, chat: Standing) -> bool:
        return chat.worker_id == self._worker_id and chat.epoch == self.chat.epoch

    async def _overrule(self) -> None:
        """The stream is another tenure's, the chat is ours: go on under a higher epoch."""
        try:
            self._seen = await self._overruling.overrule(self.chat.id)
        except (Fenced, ChatNotFound):
            self.on_lost()
            return
        self.chat = msgspec.structs.replace(self.chat, epoch=self._seen.epoch)
        self._notices.committed(self._seen, by_owner=True)


def _work_of(chat: Chat) -> tuple[object, ...]:
    return chat.history_version, chat.status, chat.attempt, chat.failed, chat.retry, chat.answer, chat.archiving
