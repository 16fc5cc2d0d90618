"""One tenure of one chat: from the claim to the release.

The runner asks ``turn.next_step`` what to do, a call of the model (``attempt.py``) or a batch of tool calls
(``tool_step.py``), does it, commits it under its fence, and goes on until the chat rests. The database is
authoritative; the runner only ever acts on what a transaction told it.

A runner reacts to one thing: the newest known ``(history_version, status)`` of its chat (``held_chat.py``). If
the pair moved, what the runner is waiting for is cancelled and it decides again from a fresh read. Interrupt, edit and
archive are this one rule. A cancelled model call is an interrupt only if the database says ``interrupting``; then
what was streamed is kept, and so are results of tools that were not committed yet.

What happens on each failure:

* the provider fails: the attempt leaves nothing behind; a retry is scheduled in the database, where
  the chat's next owner finds it, or the turn ends in ``error``;
* Postgres cannot be reached: the commit is repeated until it is known what became of it (a repeat is
  recognised by the store), or until the lease is lost and this tenure with it;
* Redis cannot be reached: nothing; parts pause (``publisher.py``);
* ``Fenced``: another tenure is on; this one ends without any further effect. The same if there is no such chat any
  more, as a failover may have lost its creation;
* the prompt is too long: a summary takes the place of the history, once, or the turn ends in an error that says what to
  do (``compaction.py``);
* the history cannot be read, or is too long: the turn ends in an ``error`` that says so (``histories.py``);
* the part stream is ahead of Postgres: Postgres wins (``overrule.py``);
* the chat has content of a newer version: it is given back, to a replica that can read it;
* a bug: the turn ends in ``error``, never the replica;
* the replica dies: the next owner goes on, or, where too many died with this turn, ends it before anything else.

A takeover in mid-interruption opens its own tenure on the stream first, so that nothing can be added to
the old one, then reads what the dead tenure's last attempt had said, and keeps that.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence

import trio

from chatcluster import telemetry
from chatcluster.attempt import Attempt, Said
from chatcluster.chat import CommitStep, ErrorInfo, FinishTurn, ScheduleRetry, StartAttempt, Status, Underway
from chatcluster.compaction import Compaction, Steps
from chatcluster.config import Settings
from chatcluster.errors import (
    ChatNotFound,
    Fenced,
    HistoryTooLarge,
    Moved,
    NoPlace,
    ProviderError,
    StoreFailed,
    Unreadable,
    UsageLimitExceeded,
)
from chatcluster.held_chat import HeldChat
from chatcluster.parts import CONTENT_VERSION, PAUSED, Message, NewMessage, Role, ToolCallPart
from chatcluster.ports import Chat, ModelRequest, Outside
from chatcluster.resumption import Forsaken, begin, last_words
from chatcluster.turn import (
    CallModel,
    Finish,
    RunCalls,
    Summarize,
    after_deaths,
    after_failure,
    asked_model,
    next_step,
    without_history,
)
from chatcluster.turn_ends import TurnEnds

RELEASE_SECONDS_MAX = 2.0
UNRECORDED = ErrorInfo("internal", "there is no record of a tool call of this turn; send a message to go on without it")


class Runner:
    """Owns one chat for one tenure; ``run`` returns when the tenure is over."""

    def __init__(
        self,
        held: HeldChat,
        outside: Outside,
        settings: Settings,
        *,
        retry_seconds: float,
        is_full: Callable[[], bool],
    ) -> None:
        self._held = held
        held.on_lost = self.fenced
        self._outside = outside
        self._settings = settings
        self._retry_seconds = retry_seconds
        """For how long a retry that is scheduled still has to wait."""
        self._whole = trio.CancelScope()
        self._over = False
        self._ends = TurnEnds(held, is_full)
        steps = Steps(self._start_attempt, self._whole_request, self._ends.end, self._failed)
        self._compaction = Compaction(held, outside, settings, steps)
        self._forsaken: Forsaken

    def __repr__(self) -> str:
        return f"<Runner {self._held}>"

    @property
    def chat(self) -> Chat:
        """The chat as this tenure knows it."""
        return self._held.chat

    def told(self, snapshot_version: int) -> None:
        """A hint: there may be a newer snapshot of the chat, so look."""
        self._held.told(snapshot_version)

    def look(self) -> None:
        """Compare with the database, now."""
        self._held.look()

    def fenced(self) -> None:
        """The database names another owner, or none: end at once, without any further effect."""
        self._over = True
        self._held.abandon()
        self._whole.cancel()

    def drain(self) -> None:
        """End at the next step boundary, and give the chat back."""
        self._ends.draining = True
        if self.chat.retry is not None:
            self._held.stop_waiting()

    async def run(self) -> None:
        """The whole tenure. Returns when the chat rests, was given back, or has another owner."""
        with telemetry.span("chat.tenure", chat_id=str(self.chat.id), epoch=self.chat.epoch) as span, self._whole:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._held.look_when_told)
                self._ends.open(self._outside, self._settings, nursery)
                self._forsaken = Forsaken(self._outside.model, nursery)
                try:
                    await self._work()
                    await self._ends.calls.tools.close()
                    await self._forsaken.told()
                except (Fenced, ChatNotFound):
                    self._over = True
                except Unreadable as error:  # nor can it be written: the chat is left as it is
                    telemetry.event("chat.unreadable", chat_id=str(self.chat.id), error=str(error))
                    self._over = True
                except trio.Cancelled:
                    await self._give_back()
                    raise
                except Exception as error:  # noqa: BLE001 - a bug ends the turn, never the replica
                    telemetry.event("runner.crashed", chat_id=str(self.chat.id), error=repr(error), exc_info=error)
                    await self._survive(self._crash)
                finally:
                    self._held.history.close()
                nursery.cancel_scope.cancel()
            if not (self._over or self._held.owned):
                await self._held.settle_family()
            span["status"] = str(self.chat.status)
        if self._over:
            self._held.abandon()

    async def _work(self) -> None:
        self._held.open(trim=self.chat.status is Status.RUNNING and self.chat.attempt <= 1)
        if self.chat.open_calls and self.chat.status is Status.RUNNING:
            self._ends.calls.tools.expect(self.chat)
        if not (self._deadly or self._is_newer):
            await self._take_over()
        while self._held.owned:
            try:
                await self._step()
            except Moved:
                await self._held.reload()
                self._forsaken.tell_given_up()

    @property
    def _deadly(self) -> bool:
        """Whether so many replicas died with this turn that the turn must be what kills them."""
        return self.chat.takeovers > self._settings.replica.takeovers_max

    @property
    def _is_newer(self) -> bool:
        """Whether a newer version wrote into the chat: one of those goes on with it."""
        return self.chat.content_version > CONTENT_VERSION

    async def _step(self) -> None:
        if self._is_newer:
            await self._ends.release()
        elif self.chat.status is Status.INTERRUPTING:
            await self._ends.finish_interruption()
        elif self._ends.draining or self._ends.gives_way:
            await self._ends.release()
        elif self._deadly:
            await self._ends.fail(after_deaths(self.chat))
        elif (messages := self._held.history.known(self.chat)) is None:
            await self._read_or_end()
        else:
            await self._take_step(messages)

    async def _take_step(self, messages: list[Message]) -> None:
        try:
            self._held.history.require_room()
        except HistoryTooLarge as error:  # of results, as a rule
            await self._ends.fail(without_history(error))
            return
        match next_step(messages, steps_max=self._settings.turns.steps_max, compacting=self.chat.compacting):
            case CallModel() if (excess := await self._excess(messages)) is not None:
                await self._ends.fail(ErrorInfo(excess.code, excess.message))
            case CallModel() | Summarize() as step:
                if self.chat.retry is not None and not await self._wait_for_retry():
                    return
                if not await self._compaction.comes_first(messages, asked_for=isinstance(step, Summarize)):
                    await self._attempt(messages)
            case RunCalls(calls):
                await self._run_calls(calls)
            case Finish():
                await self._ends.end(FinishTurn(), "finished")

    async def _excess(self, messages: list[Message]) -> UsageLimitExceeded | None:
        """Why the turn may not go on: it is answered once, whatever was spent until it began, and then step by step."""
        if not self._settings.turns.usage_limit_steps or messages[-1].role is Role.USER:
            return None
        return await self._outside.limits.excess(self.chat.owner_id)

    async def _run_calls(self, calls: tuple[ToolCallPart, ...]) -> None:
        if await self._ends.calls.run(calls):
            self._ends.rest()
        else:
            telemetry.event("chat.call_unrecorded", chat_id=str(self.chat.id))
            await self._ends.fail(UNRECORDED)

    # --- an attempt at a model response -------------------------------------------------------

    async def _start_attempt(self) -> bool:
        """Whether the chat may have been in the middle of this attempt when the tenure began."""
        unbooked = self._held.unbooked
        if self.chat.attempt <= unbooked.begun_at(self.chat.history_version) or self.chat.retry is not None:
            await self._held.commit(StartAttempt(self._held.newest_attempt + 1))
            self._forsaken.tell_given_up()
        chat = self.chat
        takes_over = unbooked.begun == (0, 0) and chat.attempt > 1
        unbooked.begun = (chat.history_version, chat.attempt)
        self._held.said = Said()
        self._ends.calls.forget_results()
        return takes_over

    async def _attempt(self, messages: list[Message]) -> None:
        takes_over = await self._start_attempt()
        attempt = Attempt(self._outside.model, self._held.stream, self._settings, self._held.keep_answer)
        request = self._request(asked_model(messages))
        try:
            with self._forsaken.unless_whole(request, attempt):
                answer = await self._answer(attempt, request, takes_over=takes_over)
        except ProviderError as error:
            if error.kind == "answer_forgotten" or (attempt.is_resumed and not attempt.has_heard):
                telemetry.event("chat.not_resumed", chat_id=str(self.chat.id), kind=error.kind)
                return  # another attempt, at once
            self._held.said = attempt.partial()
            await (self._compaction.overflowed(error) if error.kind == "context_overflow" else self._failed(error))
        else:
            await self._take(answer)

    async def _answer(self, attempt: Attempt, request: ModelRequest, *, takes_over: bool) -> NewMessage:
        with telemetry.span("chat.attempt", chat_id=str(self.chat.id), attempt=self.chat.attempt):
            answer = await self._held.unless_moved(lambda: self._ask(attempt, request, takes_over=takes_over))
        self._held.said = attempt.partial()  # an interrupt may still come before the commit
        if answer is None:
            raise Moved("the chat moved while its model answered")
        return answer

    async def _take(self, answer: NewMessage) -> None:
        calls = [part for part in answer.parts if isinstance(part, ToolCallPart)]
        if calls or answer.finish_reason == PAUSED:
            await self._ends.calls.commit(answer, calls)
            self._ends.rest()
        else:
            await self._ends.end(FinishTurn((answer,)), "finished")

    def _request(self, model: str | None) -> ModelRequest:
        chat, prompt = self.chat, self._held.history.prompt
        return ModelRequest(chat.id, prompt, model or chat.model, failures=chat.failures, owner_id=chat.owner_id)

    async def _whole_request(self, messages: Sequence[Message]) -> ModelRequest:
        """The request with the tools and all that the model is told before the conversation, once that is known."""
        await self._ends.calls.ask()
        return self._ends.calls.told(self._request(asked_model(messages)))

    async def _ask(self, attempt: Attempt, request: ModelRequest, *, takes_over: bool) -> NewMessage:
        """Have the model answer, or go on with an answer, once it is known what tools there are to tell it of."""
        with telemetry.span("stage.ended", stage="prepare"):
            request = await begin(attempt, request, self._held, self._outside, takes_over=takes_over)
            await self._ends.calls.ask()
        request = self._ends.calls.told(request)
        for notice in (*self._compaction.news(), *self._ends.calls.tools.news()):
            self._held.stream.part(notice)
        with self._held.unbooked.attempt(self.chat, attempt, asked=self._held.history.asked):
            return await attempt.run(request)

    async def _wait_for_retry(self) -> bool:
        """Sleep out the scheduled delay; False if something moved meanwhile, and it has to be decided anew."""

        async def wait() -> bool:
            await trio.sleep(self._retry_seconds)
            return True

        with telemetry.span("stage.ended", stage="retry_wait") as stage:
            if await self._held.unless_moved(wait):
                return True
            stage["error"] = "cancelled"
        await self._held.reload()
        return False

    async def _failed(self, error: ProviderError) -> None:
        """Another attempt, or an error. Once that is committed, and not before, nothing is kept of the failed one."""
        chat = self.chat
        if self._held.puts_aside(error):
            return  # another attempt, at once
        stint = self._outside.stints(await self._held.history.asked_model(chat), chat.failures)
        then = after_failure(error, chat, stint, self._settings.turns, self._held.stream.flush())
        fields = {"kind": error.kind, "retryable": error.retryable, "provider": error.provider}
        successor = then.retry.model if isinstance(then, ScheduleRetry) else None
        telemetry.event("chat.attempt_failed", chat_id=str(chat.id), successor=successor, **fields)
        if isinstance(then, ScheduleRetry):
            self._retry_seconds = then.retry.delay_ms / 1000
            await self._held.commit(then)
            self._held.said = Said()
        else:
            await self._ends.fail(then)
        self._forsaken.tell_given_up()

    async def _read_or_end(self) -> None:
        """A history that cannot be read ends the turn; one that there is no place for is another replica's to read."""
        try:
            with telemetry.span("stage.ended", stage="history"):
                await self._held.unless_moved(lambda: self._held.history.read(self.chat))
        except (HistoryTooLarge, Unreadable) as error:
            telemetry.event("chat.unreadable", chat_id=str(self.chat.id), error=str(error))
            await self._ends.fail(without_history(error))
        except NoPlace:
            await self._ends.release()
        else:
            if self._held.history.messages is None:  # the chat moved, or the replica drains
                await self._held.reload()

    # --- ends ---------------------------------------------------------------------------------

    async def _take_over(self) -> None:
        """Adopt what the tenures before this one had said, if it is to be kept: nothing can be added to theirs once
        ours is open. What they had asked for, and nobody wants, is cancelled."""
        unwanted = Underway.edited_away(self.chat)
        if self.chat.status is Status.INTERRUPTING:
            self._held.said, unwanted = await last_words(self._held, self._outside), Underway.of(self.chat)
        if unwanted is not None:
            request = self._request(await self._held.history.asked_model(self.chat))
            self._forsaken.tell(request, unwanted.answer_id)

    async def _give_back(self) -> None:
        """Cancelled from outside, while the chat is still ours: release it, but not for long."""
        if self._over or not self._held.owned:
            return
        with trio.CancelScope(shield=True, deadline=trio.current_time() + RELEASE_SECONDS_MAX):
            await self._survive(self._hand_over)

    async def _hand_over(self) -> None:
        """Release the chat with what tools gave until now. Of other calls the next owner has to see what became."""
        if self._ends.calls.results and self.chat.status is Status.RUNNING:
            await self._ends.calls.keep_results()
            await self._held.commit(CommitStep(self._ends.calls.results))
            self._ends.calls.forget_results()
            self._ends.rest()
        if self._held.owned:
            await self._ends.release()

    async def _crash(self) -> None:
        self._held.said = Said()  # it may be what failed
        self._ends.calls.forget_results()
        error = ErrorInfo("internal", "chatcluster failed while it worked on this chat; send a message to go on")
        while True:
            try:
                if self._is_newer:
                    await self._ends.release()
                elif self.chat.status is Status.INTERRUPTING:
                    await self._ends.finish_interruption()
                else:
                    await self._ends.fail(error)
            except Moved:
                await self._held.reload()
            else:
                return

    async def _survive(self, end: Callable[[], Awaitable[None]]) -> None:
        """Run a last transition; the next owner of the chat, if there is one by then or will be, does not need it."""
        try:
            await end()
        except (Fenced, Moved, StoreFailed, Unreadable):
            self._over = True
