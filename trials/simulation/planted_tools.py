"""Known bugs in how tools are run, to plant: the simulation has to find them (P7). See ``planted.py``."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
import trio

from chatcluster import attempt, deadlines, tool_plan, tool_step, turn_calls, turn_ends
from chatcluster.attempt import Said
from chatcluster.chat import (
    Approve,
    CallState,
    OpenCall,
    SubmitToolResults,
    call_answers,
    calls,
    decisions,
    owned_calls,
)
from chatcluster.chat.draft import Draft
from chatcluster.parts import NewMessage, Role, ToolCallPart, joined
from chatcluster.ports import Approval, Effect
from chatcluster.tool_plan import KnownTool, KnownTools, Resumption
from chatcluster.tool_step import Runnable, ToolStep
from simulation.agent import Agent, Job
from simulation.planted_harms import Patch


def said_too_late() -> list[Patch]:
    """A call runs first, and the ledger is told when its result is there."""

    async def start(self: ToolStep) -> None:
        for call in self._next_batch():
            self._running[call.call_id] = call
            self._nursery.start_soon(self._run_one, call)

    return [(ToolStep, "_start_next", start)]


def once_again() -> list[Patch]:
    """A call whose worker died is run again, whatever it does."""

    def resume(call: OpenCall, part: ToolCallPart, known: KnownTool | None) -> Resumption:
        return tool_plan.resumption(msgspec.structs.replace(call, effect=str(Effect.READ)), part, known)

    return [(tool_step, "resumption", resume)]


def forgotten_deaths() -> list[Patch]:
    """A call may kill as many workers as it likes."""
    return [(tool_plan, "DEATHS_MAX", 1000)]


def silent_repeats() -> list[Patch]:
    """Nobody says that a call was run more than once."""
    make = Runnable.__init__

    def silent(self: Runnable, *args: Any, **options: Any) -> None:
        make(self, *args, **options)
        self.notes = ()

    return [(Runnable, "__init__", silent)]


def unasked() -> list[Patch]:
    """A tool that wants a person asked is run like any other."""
    plan = tool_plan.plan_of

    def trusting(parts: Any, tools: KnownTools, refusals: Any, *, permitted: Any, settings: Any) -> tool_plan.Plan:
        asking = [name for name, known in tools.items() if known.tool.approval is Approval.ASK]
        return plan(parts, tools, refusals, permitted=asking, settings=settings)

    return [(turn_calls, "plan_of", trusting)]


def two_answers() -> list[Patch]:
    """An approval that comes second is taken as well."""
    approve = call_answers.approve

    def lenient(draft: Draft, command: Approve) -> None:
        call = draft.open_calls.get(command.call_id)
        if call is None or call.approved:
            return
        approve(draft, command)

    return [(decisions, "_HANDLERS", {**decisions._HANDLERS, Approve: lenient})]


def forgotten_approvals() -> list[Patch]:
    """Who approves is told that it is done, and it is not."""

    def forget(draft: Draft, command: Approve) -> None:
        call_answers._waiting_call(draft, command.call_id, CallState.APPROVAL)

    return [(decisions, "_HANDLERS", {**decisions._HANDLERS, Approve: forget})]


def lost_client_results() -> list[Patch]:
    """The model is told that the client answered, and not what."""
    submit = call_answers.submit

    def mute(draft: Draft, command: SubmitToolResults) -> None:
        results = tuple(msgspec.structs.replace(result, content="done") for result in command.results)
        submit(draft, SubmitToolResults(results))

    return [(decisions, "_HANDLERS", {**decisions._HANDLERS, SubmitToolResults: mute})]


def no_sweep() -> list[Patch]:
    """Nobody looks whether a call has waited for too long."""

    async def sweep(*_: object) -> int:
        await trio.lowlevel.checkpoint()
        return 0

    return [(deadlines, "_sweep", sweep)]


def lost_steering() -> list[Patch]:
    """A message that steers leaves the queue, and does not arrive."""

    def lose(self: Draft) -> None:
        self.goes_on = True
        self.delete_queued(*[queued for queued in self.queue if queued.steered])

    return [(Draft, "take_in_steered", lose)]


def deaf_tools() -> list[Patch]:
    """A stop ends the turn, and what runs goes on."""

    async def leave(self: ToolStep) -> None:
        self._running.clear()

    return [(ToolStep, "_cancel_running", leave)]


def half_calls() -> list[Patch]:
    """What a stop keeps of an answer has the calls that were being written."""

    def keep(said: Said, model: str | None) -> NewMessage:
        return NewMessage(Role.ASSISTANT, joined(said.deltas), finish_reason="interrupted", model=model)

    return [(attempt, "interrupted", keep), (turn_ends, "interrupted", keep)]


def once_given_back() -> list[Patch]:
    """A call that outlasts a drain is given back as if it had not begun, whatever it does."""

    def give_back(call: OpenCall, epoch: int) -> OpenCall:
        return calls.given_back(msgspec.structs.replace(call, effect=str(Effect.READ)), epoch)

    return [(owned_calls, "given_back", give_back)]


def crowded() -> list[Patch]:
    """No tool has a step for itself."""

    def next_batch(self: ToolStep) -> list[Runnable]:
        batch = list(self._waiting)
        self._waiting.clear()
        return batch

    return [(ToolStep, "_next_batch", next_batch)]


def distrusted_ledgers() -> list[Patch]:
    """What an agent was asked for is given up as unknown where the worker dies, as if nobody could be asked."""

    def resume(call: OpenCall, part: ToolCallPart, known: KnownTool | None) -> Resumption:
        effect = Effect.ONCE if call.effect == Effect.TRACKED else call.effect
        return tool_plan.resumption(msgspec.structs.replace(call, effect=str(effect)), part, known)

    return [(tool_step, "resumption", resume)]


def repeats_that_are_none() -> list[Patch]:
    """A call that its agent went on with is told as one that was run again."""

    def resume(call: OpenCall, part: ToolCallPart, known: KnownTool | None) -> Resumption:
        effect = Effect.READ if call.effect == Effect.TRACKED else call.effect
        return tool_plan.resumption(msgspec.structs.replace(call, effect=str(effect)), part, known)

    return [(tool_step, "resumption", resume)]


def forgetful_agents() -> list[Patch]:
    """An agent does what it is asked for, however often."""
    begun = Agent._begun

    def begin_anew(self: Agent, call_id: str, begin: Callable[[], str]) -> Job:
        self._ledger.pop(call_id, None)
        return begun(self, call_id, begin)

    return [(Agent, "_begun", begin_anew)]


WITH_TOOLS: tuple[Callable[[], list[Patch]], ...] = (
    said_too_late,
    once_again,
    forgotten_deaths,
    silent_repeats,
    unasked,
    two_answers,
    forgotten_approvals,
    lost_client_results,
    no_sweep,
    lost_steering,
    deaf_tools,
    half_calls,
    once_given_back,
    crowded,
    distrusted_ledgers,
    repeats_that_are_none,
    forgetful_agents,
)
