"""One tenure of one chat: from the claim to the release.

The runner asks ``turn.next_step`` what to do, does it, commits it under its fence, and goes on until the
chat rests. The database is authoritative; the runner only ever acts on what a transaction told it.

A runner reacts to one thing: the newest known ``(history_version, status)`` of its chat. A hint or a
heartbeat makes it look (``told``); if the pair moved, what it is waiting for is cancelled and it decides
again from a fresh read. Interrupt, edit and archive are this one rule. A cancelled model call is an
interrupt only if the database says ``interrupting``; then what was streamed is kept.

What happens on each failure:

* the provider fails: the attempt leaves nothing behind; a retry is scheduled in the database, so that
  whoever owns the chat by then waits for it, or the turn ends in ``error``;
* Postgres cannot be reached: the commit is repeated until it is known what became of it (a repeat is
  recognised by the store), or until the lease is lost and this tenure with it;
* Redis cannot be reached: nothing; parts pause (``publisher.py``);
* ``Fenced``: another tenure is on; this one ends without any further effect;
* the history cannot be read, or is too long: the turn ends in an ``error`` that says so (``histories.py``);
* the part stream is ahead of Postgres: Postgres wins (``overrule.py``);
* a bug: the turn ends in ``error``, never the replica;
* the replica dies: the next owner goes on, or, where too many died with this turn, ends it before anything else.

A takeover in mid-interruption opens its own tenure on the stream first, so that nothing can be added to
the old one, then reads what the dead tenure's last attempt had said, and keeps that.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from typing import TypeVar
from uuid import UUID

import msgspec
import trio

from chatcluster import telemetry
from chatcluster.attempt import Attempt, interrupted
from chatcluster.chat import (
    CommitStep,
    ErrorInfo,
    Fail,
    Fence,
    FinishInterruption,
    FinishTurn,
    OwnerCommand,
    Release,
    Retry,
    ScheduleRetry,
    StartAttempt,
    Status,
)
from chatcluster.config import Settings
from chatcluster.errors import (
    Fenced,
    HistoryTooLarge,
    Moved,
    NoPlace,
    ProviderError,
    StoreFailed,
    Unreadable,
)
from chatcluster.histories import History, Places, error_of
from chatcluster.notices import Notices, report_end
from chatcluster.overrule import Overruling
from chatcluster.parts import Message, Part, Position, ToolCallPart
from chatcluster.ports import Chat, Claimed, Model, ModelRequest, Outcome, PartStreams, Store
from chatcluster.publisher import Publisher
from chatcluster.repeats import until_known
from chatcluster.salvage import salvage
from chatcluster.turn import CallModel, Finish, GiveUp, after_deaths, after_failure, asked_model, next_step

RELEASE_SECONDS_MAX = 2.0

T = TypeVar("T")


class Runner:
    """Owns one chat for one tenure; ``run`` returns when the tenure is over."""

    def __init__(
        self,
        claimed: Claimed,
        worker_id: UUID,
        *,
        store: Store,
        streams: PartStreams,
        publisher: Publisher,
        model: Model,
        notices: Notices,
        settings: Settings,
        places: Places,
    ) -> None:
        self.chat: Chat = claimed.chat
        self._worker_id = worker_id
        self._history = History(store, places, settings)
        self._retry_seconds = claimed.wait_seconds
        self._store = store
        self._streams = streams
        self._publisher = publisher
        self._model = model
        self._notices = notices
        self._settings = settings
        self._stream = publisher.stream(self.chat.id, worker_id, self.chat.epoch, on_fenced=self.look)
        self._overruling = Overruling(store, streams, self._stream, worker_id)
        self._said: Sequence[Part] = ()
        """What was streamed of an attempt that was cut short, here or by a tenure that died."""
        self._said_up_to: Position | None = None
        self._attempted = (0, 0)
        self._transacting = trio.Lock()
        """Held during a transaction of our own, so that a look never mistakes its effect for somebody else's."""
        self._seen = self.chat
        """The newest that a look into the database showed."""
        self._looking = trio.Event()
        self._waiting = trio.CancelScope()
        self._whole = trio.CancelScope()
        self._draining = False
        self._over = False

    def __repr__(self) -> str:
        chat = self.chat
        return f"<Runner {chat.id} epoch={chat.epoch} {chat.status} v{chat.history_version} attempt={chat.attempt}>"

    def told(self, snapshot_version: int) -> None:
        """There is a newer snapshot of the chat, or so somebody says: look."""
        if snapshot_version > self.chat.snapshot_version:
            self.look()

    def look(self) -> None:
        """Compare with the database, now."""
        self._looking.set()

    def fenced(self) -> None:
        """The database names another owner, or none: end at once, without any further effect."""
        self._over = True
        self._publisher.abandon(self._stream)
        self._whole.cancel()

    def drain(self) -> None:
        """End at the next step boundary, and give the chat back."""
        self._draining = True
        if self.chat.retry is not None:
            self._waiting.cancel()

    async def run(self) -> None:
        """The whole tenure. Returns when the chat rests, was given back, or belongs to somebody else."""
        with telemetry.span("chat.tenure", chat_id=str(self.chat.id), epoch=self.chat.epoch) as span, self._whole:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._look_when_told)
                try:
                    await self._work()
                except Fenced:
                    self._over = True
                except trio.Cancelled:
                    await self._give_back()
                    raise
                except Exception as error:  # noqa: BLE001 - a bug ends the turn, never the replica
                    telemetry.event("runner.crashed", chat_id=str(self.chat.id), error=repr(error), exc_info=error)
                    await self._survive(self._crash)
                finally:
                    self._history.close()
                nursery.cancel_scope.cancel()
            span["status"] = str(self.chat.status)
        if self._over:
            self._publisher.abandon(self._stream)

    async def _work(self) -> None:
        self._stream.open(self.chat.history_version, trim=self.chat.status is Status.RUNNING and self.chat.attempt <= 1)
        self._notices.committed(self.chat, "status", by_owner=True)
        if self.chat.status is Status.INTERRUPTING and not self._deadly:
            await self._salvage()
        while self._owned:
            try:
                await self._step()
            except Moved:
                await self._reload()

    @property
    def _owned(self) -> bool:
        return self.chat.worker_id == self._worker_id

    @property
    def _deadly(self) -> bool:
        """Whether so many replicas died with this turn that it must be what ends them."""
        return self.chat.takeovers > self._settings.takeovers_max

    async def _step(self) -> None:
        if self.chat.status is Status.INTERRUPTING:
            await self._finish_interruption()
        elif self._draining:
            await self._release()
        elif self._deadly:
            await self._fail(after_deaths(self.chat))
        elif self._history.messages is None:
            await self._read_or_end()
        else:
            await self._take_step(self._history.messages)

    async def _take_step(self, messages: list[Message]) -> None:
        match next_step(messages, steps_max=self._settings.steps_max):
            case CallModel():
                await self._attempt(messages)
            case Finish():
                await self._end(FinishTurn(), "finished")
            case GiveUp(error):
                await self._fail(error)

    # --- an attempt at a model response -------------------------------------------------------

    async def _attempt(self, messages: list[Message]) -> None:
        if self.chat.retry is not None and not await self._wait_for_retry():
            return
        number = (self.chat.history_version, self.chat.attempt)
        if self.chat.attempt == 0 or self.chat.retry is not None or number == self._attempted:
            await self._commit(StartAttempt(self.chat.attempt + 1))
        chat = self.chat
        self._attempted = (chat.history_version, chat.attempt)
        self._said, self._said_up_to = (), None
        self._stream.attempt(chat.attempt, chat.history_version, chat.snapshot_version)
        attempt = Attempt(self._model, self._stream, self._settings)
        request = ModelRequest(chat.id, tuple(messages), asked_model(messages) or chat.model)
        try:
            with telemetry.span("chat.attempt", chat_id=str(chat.id), attempt=chat.attempt):
                answer = await self._unless_moved(lambda: attempt.run(request))
        except ProviderError as error:
            self._said, self._said_up_to = attempt.partial()
            await self._failed(error)
            return
        self._said, self._said_up_to = attempt.partial()  # an interrupt may still come before the commit
        if answer is None:
            await self._reload()
        elif any(isinstance(part, ToolCallPart) for part in answer.parts):
            await self._commit(CommitStep((answer,)))
        else:
            await self._end(FinishTurn((answer,)), "finished")

    async def _wait_for_retry(self) -> bool:
        """Sleep out the scheduled delay; False if something moved meanwhile, and it has to be decided anew."""

        async def wait() -> bool:
            await trio.sleep(self._retry_seconds)
            return True

        if await self._unless_moved(wait):
            return True
        await self._reload()
        return False

    async def _unless_moved(self, wait: Callable[[], Awaitable[T]]) -> T | None:
        """The result of ``wait``, or None if the chat moved under it (or the drain cut a retry's wait short)."""
        with trio.CancelScope() as self._waiting:
            if not self._moved:
                return await wait()
        return None

    @property
    def _moved(self) -> bool:
        """Whether history or status moved since the last transaction of our own, as far as we have seen."""
        seen, chat = self._seen, self.chat
        newer = seen.snapshot_version > chat.snapshot_version
        return newer and (seen.history_version, seen.status) != (chat.history_version, chat.status)

    async def _failed(self, error: ProviderError) -> None:
        """Another attempt, or an error. Once that is committed, and not before, nothing is kept of the failed one."""
        chat = self.chat
        telemetry.event("chat.attempt_failed", chat_id=str(chat.id), kind=error.kind, retryable=error.retryable)
        then = after_failure(error, chat, self._settings)
        if isinstance(then, Retry):
            self._retry_seconds = then.delay_ms / 1000
            await self._commit(ScheduleRetry(then))
            self._said, self._said_up_to = (), None
        else:
            await self._fail(then)

    # --- the history --------------------------------------------------------------------------

    async def _read_or_end(self) -> None:
        """A history that cannot be read ends the turn; one that there is no place for is another replica's to read."""
        try:
            await self._unless_moved(lambda: self._history.read(self.chat))
        except (HistoryTooLarge, Unreadable) as error:
            telemetry.event("chat.unreadable", chat_id=str(self.chat.id), error=str(error))
            await self._fail(error_of(error))
        except NoPlace:
            await self._release()
        else:
            if self._history.messages is None:  # the chat moved, or the replica drains
                await self._reload()

    # --- ends ---------------------------------------------------------------------------------

    async def _finish_interruption(self) -> None:
        """Keep what was streamed of the interrupted attempt: no more, no less."""
        partial = None
        if self._said:
            partial = interrupted(self._said, self._said_up_to, await self._history.asked_model(self.chat))
        await self._end(FinishInterruption(partial), "interrupted")

    async def _fail(self, error: ErrorInfo) -> None:
        await self._end(Fail(error), "error")

    async def _release(self) -> None:
        await self._end(Release(), "released")

    async def _end(self, command: OwnerCommand, word: str) -> None:
        """The turn is over: the tenure goes on to the message promoted with it, or closes."""
        outcome = await self._commit(command)
        if self._owned:
            self._stream.turn(outcome.messages[-1].id, self.chat.history_version)
        else:
            self._stream.close(word)

    async def _salvage(self) -> None:
        """Adopt what the tenures before this one had said, once ours is open and nothing can be added to theirs."""
        salvaged = await salvage(self._streams, lambda: self.chat, self._stream.settled)
        self._said, self._said_up_to = salvaged

    # --- the database -------------------------------------------------------------------------

    async def _commit(self, command: OwnerCommand) -> Outcome:
        """Commit under the fence, again and again until the outcome is known. Raises ``Fenced``, ``Moved``."""
        async with self._transacting:
            before = self.chat
            fence = Fence(before.id, self._worker_id, before.epoch, before.history_version)
            outcome = await until_known(lambda: self._store.commit(fence, command, known=before), before.id)
            if outcome.chat.epoch != fence.epoch:  # a repeat that was recognised, but came late
                raise Fenced(f"the tenure {fence.epoch} of chat {fence.chat_id} is over; now {outcome.chat.epoch}")
            self.chat = outcome.chat
            self._history.extend(outcome.messages)
        report_end(outcome, attempts=before.attempt)
        if outcome.replayed and self._owned:
            self._history.close()
            await self._reload()  # the chat as it is now may have more in its history, or less
        if outcome.messages:
            self._said, self._said_up_to = (), None
        if outcome.chat.history_version != before.history_version and self._owned:
            self._stream.committed(outcome.chat.history_version)
        changed = outcome.chat.status is not before.status or not self._owned
        self._notices.committed(outcome.chat, "status" if changed else None, by_owner=True)
        return outcome

    async def _reload(self) -> None:
        """Read the chat as it is now. Raises ``Fenced`` if it is no longer ours."""
        chat = await until_known(lambda: self._store.get(self.chat.id), self.chat.id)
        if not self._is_ours(chat):
            raise Fenced(f"chat {self.chat.id} belongs to another tenure")
        if chat.history_version != self.chat.history_version:
            self._said, self._said_up_to = (), None  # what was being said answers a history that is gone
            self._history.close()
        self.chat = chat

    async def _look_when_told(self) -> None:
        """Compare the chat with the database whenever somebody says so, and cancel what it moved under."""
        while True:
            await self._looking.wait()
            self._looking = trio.Event()
            async with self._transacting:
                if not self._owned:
                    return
                with suppress(StoreFailed):  # the next commit will tell
                    self._seen = await until_known(lambda: self._store.get(self.chat.id), self.chat.id)
                if self._is_ours(self._seen) and self._overruling.is_due:
                    await self._overrule()
            if not self._is_ours(self._seen):
                self.fenced()
            elif self._moved:
                self._waiting.cancel()

    def _is_ours(self, chat: Chat) -> bool:
        return chat.worker_id == self._worker_id and chat.epoch == self.chat.epoch

    async def _overrule(self) -> None:
        """The stream is another tenure's, the chat is ours: go on under a higher epoch."""
        try:
            self._seen = await self._overruling.overrule(self.chat.id)
        except Fenced:
            self.fenced()
            return
        self.chat = msgspec.structs.replace(self.chat, epoch=self._seen.epoch)
        self._notices.committed(self._seen, by_owner=True)

    # --- unhappy ends -------------------------------------------------------------------------

    async def _give_back(self) -> None:
        """Cancelled from outside, while the chat is still ours: release it, but not for long."""
        if self._over or not self._owned:
            return
        with trio.CancelScope(shield=True, deadline=trio.current_time() + RELEASE_SECONDS_MAX):
            await self._survive(self._release)

    async def _crash(self) -> None:
        self._said = ()  # it may be what failed
        error = ErrorInfo("internal", "chatcluster failed while it worked on this chat; send a message to go on")
        while True:
            try:
                if self.chat.status is Status.INTERRUPTING:
                    await self._finish_interruption()
                else:
                    await self._fail(error)
            except Moved:
                await self._reload()
            else:
                return

    async def _survive(self, end: Callable[[], Awaitable[None]]) -> None:
        """Run a last transition; the next owner of the chat, if there is one by then or will be, does not need it."""
        try:
            await end()
        except (Fenced, Moved, StoreFailed):
            self._over = True
