"""One batch of tool calls: those of a step that are the owner's to run, from the ledger to their results in history.

Who is authoritative: the ledger. A call runs once it is *started* there, in this tenure, and never before. What a call
tells while it runs is shown on the stream (``call_progress.py``). What it gave is shown, then committed: results as
they come, those that are there together in one commit, each a message of its own. The commit of the last one starts
the next attempt of the model.

At most ``tools_concurrent`` calls run at a time, in the order in which the model asked for them; one whose tool wants
to run alone does. Each is bounded: without progress for its ``idle_seconds`` it is over, and after its
``total_seconds`` in any case.

What happens on failure:

* a call fails, crashes, takes too long or returns too much: its result is an error that tells the model so;
* what its user allowed for good is taken back before the call begins: it waits for an approval;
* the user has to sign in at the tool's server: the call was not run, and waits for that;
* the server asks the user something: the ledger is told (``call_questions.py``), and time stands still for the call;
* the chat moves (an interrupt, an edit): what runs is cancelled, and the tool sees it; what it gave until then is kept
  for the step that ends the turn. A tool that takes longer than ``CANCEL_SECONDS_MAX`` to end is not waited for;
* Postgres is away: results wait here, and the calls that gave them are not run again;
* the tenure is over (``Fenced``): all calls are cancelled at once, and nothing of them is kept;
* the replica drains: calls that run are waited for, as long as the drain lasts, and none is begun. What was still
  running then is given back with the chat: the next owner runs it again, or finds its outcome unknown;
* the replica dies: the next owner does as ``tool_plan.resumption`` says.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from functools import partial

import msgspec
import trio

from chatcluster import telemetry
from chatcluster.arguments import BadArguments, decoded
from chatcluster.call_progress import CallProgress
from chatcluster.call_questions import CallQuestions
from chatcluster.chat import (
    AskAgain,
    AwaitSignIn,
    CallState,
    CommitStep,
    OpenCall,
    StartCalls,
    Status,
    permission_of,
)
from chatcluster.config import Settings
from chatcluster.held_chat import HeldChat
from chatcluster.held_tools import HeldTools
from chatcluster.parts import ToolCallPart, ToolResultPart, strings_of
from chatcluster.ports import (
    Approval,
    Asked,
    InputRequired,
    Printed,
    Progressed,
    SignInRequired,
    Tool,
    ToolCall,
    ToolResult,
)
from chatcluster.tool_plan import AskSomebody, Refuse, resumption
from chatcluster.tool_results import Taken, refused, taken

CANCEL_SECONDS_MAX = 2.0
LEAVE_SECONDS = 1.0
"""What need not be asked about is looked up again after that, while there are calls that wait for their turn."""
ARGUMENTS_CHARACTERS_MAX = 4 << 10
"""Of those that a user changed: what the model is told of them."""
RESULT_BYTES_AT_ONCE = 1 << 20
"""A larger result is made fit to be stored in a thread."""


class Runnable:
    """A call to run; ``is_started`` if the ledger says so already, in this tenure."""

    def __init__(self, call: OpenCall, part: ToolCallPart, tool: Tool, *, is_started: bool, again: bool) -> None:
        self.call_id = call.call_id
        self.tool = tool
        self.arguments = part.arguments if call.arguments is None else call.arguments
        self.notes = tuple(_notes(call, again=again))
        self.needs = (
            None if call.approved or tool.approval is not Approval.ASK else permission_of(call.name, tool.effect)
        )
        """The standing permission that it runs by."""
        self.answers, self.resume = None, None
        if call.inquiry is not None and call.inquiry.resume is not None:  # else another run was told, and not this one
            self.answers, self.resume = call.inquiry.replies, call.inquiry.resume
        self.is_started = is_started
        self.scope = trio.CancelScope()
        self.ended = trio.Event()

    def __repr__(self) -> str:
        return f"<Runnable {self.tool.name} {self.call_id}>"


class ToolStep:
    """``results`` are those that are there, and not in history yet."""

    def __init__(
        self,
        held: HeldChat,
        tools: HeldTools,
        settings: Settings,
        *,
        nursery: trio.Nursery,
        is_draining: Callable[[], bool],
    ) -> None:
        self.results: dict[str, Taken] = {}
        self._held = held
        self._tools = tools
        self._settings = settings
        self._nursery = nursery
        self._is_draining = is_draining
        self._order: list[str] = []
        self._leave_until = 0.0
        """Until when what need not be asked about counts as looked up."""
        self._waiting: deque[Runnable] = deque()
        self._running: dict[str, Runnable] = {}
        self._not_let_in: list[str] = []
        """Calls for which the user has to sign in, which the ledger is to be told."""
        self._stirred = trio.Event()
        self._progress = CallProgress(held.stream.part, lambda: self._stirred.set())
        self._questions = CallQuestions(held, settings, nursery, lambda: self._stirred.set())

    def __repr__(self) -> str:
        return f"<ToolStep running={len(self._running)} waiting={len(self._waiting)} results={len(self.results)}>"

    async def run(self, calls: Sequence[OpenCall], parts: Sequence[ToolCallPart], *, fresh: bool) -> bool:
        """Run what is the owner's to run of the ``calls`` that the history asks for in ``parts``.

        ``fresh``: they were committed just now, by this tenure. Returns when all of it has its results in history, when
        the chat rests, or when the replica drains; False if the chat moved. Raises ``Fenced`` and ``Moved``.
        """
        self._order = [part.id for part in parts]
        self._leave_until = trio.current_time() + (LEAVE_SECONDS if fresh else 0.0)
        ask = await self._sort(calls, parts, fresh=fresh)
        if ask:
            await self._held.commit(AskAgain(ask, self._settings.tools.approval_seconds))
        try:
            if not self._goes_on():
                return True
            self._show_attempt()
            return await self._until_done()
        finally:
            await self._cancel_running()

    def _goes_on(self) -> bool:
        return self._held.owned and self._held.chat.status is Status.RUNNING

    async def _until_done(self) -> bool:
        while True:
            await self._start_next()
            if self._not_let_in:
                await self._await_sign_in()
                if not self._goes_on():
                    return True
            elif self._questions.is_due:
                await self._questions.commit()
                if not self._goes_on():
                    return True
            elif self.results:
                if not await self._commit_results():
                    return True
            elif not self._running:
                return True
            elif not await self._held.unless_moved(self._something_to_tell):
                return False
            self._progress.show()

    # --- which of them, and when --------------------------------------------------------------

    async def _sort(self, calls: Sequence[OpenCall], parts: Sequence[ToolCallPart], *, fresh: bool) -> tuple[str, ...]:
        """What is to be run is waiting after this, what cannot be has its result; those that somebody is asked about
        are returned. Others have their turn in between: to look at arguments takes time."""
        ledger = {call.call_id: call for call in calls}
        ask = []
        for part in parts:
            call = ledger[part.id]
            if call.waits:
                continue
            known = self._tools.known.get(part.name)
            if fresh and call.state is CallState.STARTED and known is not None:
                self._waiting.append(Runnable(call, part, known.tool, is_started=True, again=False))
            else:
                if self._resume(call, part):
                    ask.append(call.call_id)
                await trio.lowlevel.checkpoint()
        return tuple(ask)

    def _resume(self, call: OpenCall, part: ToolCallPart) -> bool:
        """Whether somebody has to be asked."""
        known = self._tools.known.get(call.name)
        then = resumption(call, part, known)
        if isinstance(then, Refuse):
            self.results[call.call_id] = Taken(refused(call.call_id, then.text))
        elif not isinstance(then, AskSomebody):
            assert known is not None
            self._waiting.append(Runnable(call, part, known.tool, is_started=False, again=then.again))
        return isinstance(then, AskSomebody)

    async def _start_next(self) -> None:
        if self._is_draining() or not await self._have_leave():
            return
        batch = self._next_batch()
        unsaid = tuple(call.call_id for call in batch if not call.is_started)
        if unsaid:
            await self._held.commit(StartCalls(unsaid))
            if not self._goes_on():
                return
        for call in batch:
            self._running[call.call_id] = call
            self._nursery.start_soon(self._run_one, call)

    async def _have_leave(self) -> bool:
        """A call that would run by a standing permission which is gone by now waits for an approval. False if the chat
        rests then."""
        asks = [call for call in self._waiting if call.needs is not None and not call.is_started]
        if not asks or trio.current_time() < self._leave_until:
            return True
        permitted = await self._held.permissions()
        self._leave_until = trio.current_time() + LEAVE_SECONDS
        refused_leave = tuple(call.call_id for call in asks if call.needs not in permitted)
        if refused_leave:
            self._waiting = deque(call for call in self._waiting if call.call_id not in refused_leave)
            await self._held.commit(AskAgain(refused_leave, self._settings.tools.approval_seconds))
        return self._goes_on()

    async def _await_sign_in(self) -> None:
        told, self._not_let_in = self._not_let_in, []  # others may be refused meanwhile
        await self._held.commit(AwaitSignIn(tuple(told), self._settings.tools.sign_in_seconds))

    def _next_batch(self) -> list[Runnable]:
        batch: list[Runnable] = []
        beside = list(self._running.values())
        while self._waiting and len(beside) < self._settings.tools.tools_concurrent:
            alone = self._waiting[0].tool.runs_alone or any(call.tool.runs_alone for call in beside)
            if beside and alone:
                break
            batch.append(self._waiting.popleft())
            beside.append(batch[-1])
        return batch

    async def _cancel_running(self) -> None:
        """The tools see it; those that do not end soon are left to themselves."""
        self._questions.close()
        running = list(self._running.values())
        for call in running:
            call.scope.cancel()
        with trio.CancelScope(shield=True, deadline=trio.current_time() + CANCEL_SECONDS_MAX):
            for call in running:
                await call.ended.wait()
        self._running.clear()  # what one of them still gives comes too late

    # --- one call -----------------------------------------------------------------------------

    async def _run_one(self, call: Runnable) -> None:
        began_at, result = trio.current_time(), None
        try:
            with call.scope:
                result = await self._attempt(call)
        except SignInRequired:
            self._not_let_in.append(call.call_id)
        except InputRequired as required:
            self._questions.required(call.call_id, required)
        finally:
            telemetry.event(
                "tool.called",
                **self._told_of(call),
                outcome=self._outcome(call, result),
                seconds=trio.current_time() - began_at,
            )
            if result is not None and call.call_id in self._running:
                self.results[call.call_id] = result
            self._running.pop(call.call_id, None)
            self._questions.ended(call.call_id)
            self._progress.ended(call.call_id, has_result=call.call_id in self.results)
            call.ended.set()
            self._stirred.set()

    def _told_of(self, call: Runnable) -> dict[str, object]:
        """What tells the call from others, in what is told of it."""
        chat, asked = self._held.chat, self._held.history.asked
        named: dict[str, object] = {"chat_id": str(chat.id), "message_id": asked and asked.id, "epoch": chat.epoch}
        return named | {"tool": call.tool.name, "call_id": call.call_id}

    def _outcome(self, call: Runnable, result: Taken | None) -> str:
        if result is None:
            return "sign_in" if call.call_id in self._not_let_in else "cancelled"
        return "error" if _result_of(result).is_error else "ok"

    def _told(self, call: Runnable, news: Progressed | Printed | Asked) -> None:
        if call.call_id in self._running:
            if isinstance(news, Asked):
                self._questions.asked(call.call_id, news)
            else:
                self._progress.told(call.call_id, news)

    async def _attempt(self, call: Runnable) -> Taken:
        try:
            asked = ToolCall(call.call_id, call.tool.name, decoded(call.arguments), call.answers, call.resume)
            result = await self._tools.run(call.tool, asked, partial(self._told, call), self._told_of(call))
        except BadArguments as error:
            return Taken(refused(call.call_id, str(error)))
        except (SignInRequired, InputRequired):
            raise
        except Exception as error:  # noqa: BLE001 - whatever is wrong with a tool, the turn goes on
            chat_id = str(self._held.chat.id)
            telemetry.event("tool.crashed", chat_id=chat_id, tool=call.tool.name, error=repr(error), exc_info=error)
            return Taken(refused(call.call_id, f"The tool {call.tool.name!r} failed, and nobody foresaw how."))
        if result.renews_tools:
            self._tools.renew()
        return await _taken(call, result)

    # --- what is told -------------------------------------------------------------------------

    async def _something_to_tell(self) -> bool:
        with trio.move_on_at(self._progress.show_at):
            await self._stirred.wait()
        self._stirred = trio.Event()
        return True

    def _show_attempt(self) -> None:
        """What the calls say is shown as said at this history."""
        chat = self._held.chat
        self._held.stream.attempt(max(1, chat.attempt), chat.history_version, chat.snapshot_version)

    # --- results ------------------------------------------------------------------------------

    async def _commit_results(self) -> bool:
        """Whether there is more to be done here."""
        ready = sorted(self.results, key=self._order.index)
        for call_id in ready:
            whole = self.results[call_id].whole
            if whole is not None:
                await self._held.keep_result(call_id, whole)
            for part in self.results[call_id].message.parts:
                self._held.stream.part(part)
        position = str(self._held.stream.flush())
        messages = [msgspec.structs.replace(self.results[call_id].message, position=position) for call_id in ready]
        outcome = await self._held.commit(CommitStep(tuple(messages)))
        for call_id in ready:
            del self.results[call_id]
        if not self._goes_on() or self._held.chat.history_version != outcome.messages[-1].revision:
            return False
        if self._running or self._waiting or self.results:
            self._show_attempt()
            self._progress.show_again()
        return True


async def _taken(call: Runnable, result: ToolResult) -> Taken:
    def take() -> Taken:
        bytes_max = call.tool.result_bytes_max
        fit = taken(call.call_id, result.content, is_error=result.is_error, bytes_max=bytes_max, notes=call.notes)
        return fit if result.whole is None else fit._replace(whole=result.whole)

    if sum(len(text) for piece in result.content for text in strings_of(piece)) > RESULT_BYTES_AT_ONCE:
        return await trio.to_thread.run_sync(take, abandon_on_cancel=True)
    return take()


def _notes(call: OpenCall, *, again: bool) -> Iterable[str]:
    """What the model has to know of how the call was run."""
    if again:
        yield "the worker that ran this call before ended without a result; it was run again"
    if call.arguments is not None:
        shown = call.arguments[:ARGUMENTS_CHARACTERS_MAX]
        cut = "" if shown == call.arguments else f" … ({len(call.arguments)} characters in all)"
        yield f"the user changed the arguments of this call; it was run with {shown}{cut}"


def _result_of(result: Taken) -> ToolResultPart:
    (part,) = result.message.parts
    assert isinstance(part, ToolResultPart)
    return part
