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
* a bug: the turn ends in ``error``, never the replica.

A takeover in mid-interruption opens its own tenure on the stream first, so that nothing can be added to
the old one, then reads what the dead tenure's last attempt had said, and keeps that.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar
from uuid import UUID

import trio

from chatcluster import telemetry
from chatcluster.attempt import Attempt
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
from chatcluster.errors import Fenced, Moved, ProviderError, StoreUnavailable, StreamsUnavailable
from chatcluster.notices import Notices
from chatcluster.parts import NewMessage, Part, Position, Role, ToolCallPart, joined
from chatcluster.ports import Chat, Claimed, Model, ModelRequest, Outcome, PartStreams, Store
from chatcluster.publisher import Publisher
from chatcluster.salvage import last_attempt
from chatcluster.turn import CallModel, Finish, GiveUp, asked_model, next_step

STORE_RETRY_SECONDS = 0.05
STORE_RETRY_CAP_SECONDS = 1.0
RELEASE_SECONDS_MAX = 2.0
SALVAGE_SECONDS_MAX = 2.0

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
    ) -> None:
        self.chat: Chat = claimed.chat
        self._worker_id = worker_id
        self._messages = list(claimed.messages)
        self._retry_seconds = claimed.wait_seconds
        self._store = store
        self._streams = streams
        self._publisher = publisher
        self._model = model
        self._notices = notices
        self._settings = settings
        self._stream = publisher.stream(self.chat.id, worker_id, self.chat.epoch, on_fenced=self.look)
        self._said: list[Part] = []
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

    # --- what others tell it ------------------------------------------------------------------

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

    # --- the tenure ---------------------------------------------------------------------------

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
                nursery.cancel_scope.cancel()
            span["status"] = str(self.chat.status)
        if self._over:
            self._publisher.abandon(self._stream)

    async def _work(self) -> None:
        fresh_turn = self.chat.status is Status.RUNNING and self.chat.attempt <= 1
        self._stream.open(self.chat.history_version, trim=fresh_turn)
        self._notices.committed(self.chat, "status", by_owner=True)
        if self.chat.status is Status.INTERRUPTING:
            await self._salvage()
        while self._owned:
            try:
                await self._step()
            except Moved:
                await self._reload()

    @property
    def _owned(self) -> bool:
        return self.chat.worker_id == self._worker_id

    async def _step(self) -> None:
        if self.chat.status is Status.INTERRUPTING:
            await self._finish_interruption()
            return
        if self._draining:
            await self._release()
            return
        if self.chat.attempt > self._settings.attempts_max:
            text = (
                f"gave up after {self._settings.attempts_max} attempts: the last replica died while it worked on this"
            )
            await self._fail(ErrorInfo("attempts_exhausted", text, retryable=True))
            return
        match next_step(self._messages, steps_max=self._settings.steps_max):
            case CallModel():
                await self._attempt()
            case Finish():
                await self._finish_turn(())
            case GiveUp(error):
                await self._fail(error)

    # --- an attempt at a model response -------------------------------------------------------

    async def _attempt(self) -> None:
        if self.chat.retry is not None and not await self._wait_for_retry():
            return
        number = (self.chat.history_version, self.chat.attempt)
        if self.chat.attempt == 0 or self.chat.retry is not None or number == self._attempted:
            await self._commit(StartAttempt(self.chat.attempt + 1))
        chat = self.chat
        self._attempted = (chat.history_version, chat.attempt)
        self._said, self._said_up_to = [], None
        self._stream.attempt(chat.attempt, chat.history_version, chat.snapshot_version)
        attempt = Attempt(self._model, self._stream, self._settings)
        request = ModelRequest(chat.id, tuple(self._messages), asked_model(self._messages) or chat.model)
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
            await self._finish_turn((answer,))

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
        """Schedule another attempt, or end the turn in an error. Nothing of a failed attempt is kept, once that
        is committed: an interrupt that comes before keeps what was said.
        """
        chat, settings = self.chat, self._settings
        telemetry.event("chat.attempt_failed", chat_id=str(chat.id), kind=error.kind, retryable=error.retryable)
        if not error.retryable or chat.attempt >= settings.attempts_max:
            text = error.message
            if error.retryable:
                text = f"gave up after {chat.attempt} attempts: {text}"
            await self._fail(ErrorInfo(error.kind, text, error.retryable, error.provider, error.status_code))
            return
        delay_seconds = min(settings.retry_base_seconds * 2 ** (chat.attempt - 1), settings.retry_cap_seconds)
        if error.retry_after_seconds is not None:
            delay_seconds = error.retry_after_seconds
        self._retry_seconds = delay_seconds
        retry = Retry(
            chat.attempt, round(delay_seconds * 1000), error.message, error.kind, error.provider, error.status_code
        )
        await self._commit(ScheduleRetry(retry))
        self._said, self._said_up_to = [], None

    # --- ends ---------------------------------------------------------------------------------

    async def _finish_turn(self, messages: tuple[NewMessage, ...]) -> None:
        outcome = await self._commit(FinishTurn(messages))
        self._after_end(outcome, "finished")

    async def _finish_interruption(self) -> None:
        """Keep what was streamed of the interrupted attempt: no more, no less."""
        partial = None
        if self._said:
            partial = NewMessage(
                Role.ASSISTANT,
                joined(self._said),
                finish_reason="interrupted",
                model=asked_model(self._messages) or self.chat.model,
                position=str(self._said_up_to),
            )
        outcome = await self._commit(FinishInterruption(partial))
        self._after_end(outcome, "interrupted")

    async def _fail(self, error: ErrorInfo) -> None:
        outcome = await self._commit(Fail(error))
        self._after_end(outcome, "error")

    async def _release(self) -> None:
        outcome = await self._commit(Release())
        self._after_end(outcome, "released")

    def _after_end(self, outcome: Outcome, word: str) -> None:
        """The turn is over: the tenure goes on to the message promoted with it, or closes."""
        if self._owned:
            self._stream.turn(outcome.messages[-1].id, self.chat.history_version)
        else:
            self._stream.close(word)

    async def _salvage(self) -> None:
        """Adopt what the tenures before this one had said; without Redis, finish without it, soon."""
        with trio.move_on_after(SALVAGE_SECONDS_MAX):
            await self._stream.settled.wait()
            try:
                salvaged = await last_attempt(self._streams, self.chat)
            except StreamsUnavailable as error:
                telemetry.event("runner.partial_unreadable", chat_id=str(self.chat.id), error=str(error))
                return
            self._said, self._said_up_to = list(salvaged.deltas), salvaged.position

    # --- the database -------------------------------------------------------------------------

    def _fence(self) -> Fence:
        return Fence(self.chat.id, self._worker_id, self.chat.epoch, self.chat.history_version)

    async def _commit(self, command: OwnerCommand) -> Outcome:
        """Commit under the fence, again and again until the outcome is known. Raises ``Fenced``, ``Moved``."""
        async with self._transacting:
            fence, before = self._fence(), self.chat
            outcome = await self._until_known(lambda: self._store.commit(fence, command, known=before))
            if outcome.chat.epoch != fence.epoch:  # a repeat that was recognised, but came late
                raise Fenced(f"the tenure {fence.epoch} of chat {fence.chat_id} is over; now {outcome.chat.epoch}")
            self.chat = outcome.chat
            self._messages.extend(outcome.messages)
        if outcome.replayed and self._owned:
            await self._reload()  # the chat as it is now may have more in its history, or less
        if outcome.messages:
            self._said, self._said_up_to = [], None
        if outcome.chat.history_version != before.history_version and self._owned:
            self._stream.committed(outcome.chat.history_version)
        changed = outcome.chat.status is not before.status or not self._owned
        self._notices.committed(outcome.chat, "status" if changed else None, by_owner=True)
        return outcome

    async def _reload(self) -> None:
        """Read the chat as it is now. Raises ``Fenced`` if it is no longer ours."""
        read = await self._until_known(lambda: self._store.read(self.chat.id))
        if read.chat.worker_id != self._worker_id or read.chat.epoch != self.chat.epoch:
            raise Fenced(f"chat {self.chat.id} belongs to another tenure")
        if read.chat.history_version != self.chat.history_version:
            self._said, self._said_up_to = [], None  # what was being said answers a history that is gone
        self.chat, self._messages = read.chat, list(read.messages)

    async def _until_known(self, transact: Callable[[], Awaitable[T]]) -> T:
        """Repeat a transaction while Postgres cannot be reached; the lease bounds for how long."""
        delay_seconds = STORE_RETRY_SECONDS
        while True:
            try:
                return await transact()
            except StoreUnavailable as error:
                telemetry.event("runner.store_unavailable", chat_id=str(self.chat.id), error=str(error))
            await trio.sleep(delay_seconds)
            delay_seconds = min(2 * delay_seconds, STORE_RETRY_CAP_SECONDS)

    async def _look_when_told(self) -> None:
        """Compare the chat with the database whenever somebody says so, and cancel what it moved under."""
        while True:
            await self._looking.wait()
            self._looking = trio.Event()
            async with self._transacting:
                if not self._owned:
                    return
                self._seen = await self._until_known(lambda: self._store.get(self.chat.id))
            if self._seen.worker_id != self._worker_id or self._seen.epoch != self.chat.epoch:
                self.fenced()
            elif self._moved:
                self._waiting.cancel()

    # --- unhappy ends -------------------------------------------------------------------------

    async def _give_back(self) -> None:
        """Cancelled from outside, while the chat is still ours: release it, but not for long."""
        if self._over or not self._owned:
            return
        with trio.CancelScope(shield=True, deadline=trio.current_time() + RELEASE_SECONDS_MAX):
            await self._survive(self._release)

    async def _crash(self) -> None:
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
        """Run a last transition; whoever owns the chat by then does not need it."""
        try:
            await end()
        except (Fenced, Moved):
            self._over = True
