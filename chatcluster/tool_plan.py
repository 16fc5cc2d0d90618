"""What becomes of each call of a step: decided from its tool's policy, by the chat's owner. Pure.

A call that cannot be run has its result at once: its tool is unknown or denied, or its arguments are wrong. Of the
others, some wait for a person, for the chat's client or for an agent. What is left is the owner's to run: if all of it
may be run again whenever a worker dies, it is *started* in the very commit that brings the calls; if not, it is
*pending* in it, and said to be started in a commit of its own, right before it is. So a call that was never started
has certainly not run. Where some of several calls run by a standing permission, each is started right
before it runs as well: so a permission that is taken back by then counts.

An owner that finds started calls of a tenure that is over (``resumption``) runs again what may be run again; without
a word where the tool knows the call, and goes on with it. Of the rest nobody knows whether it took effect, and the
model is told so; or a person is asked, where the tool's policy wants a person asked. A call that ended with three of
its workers may be what ended them, and is not run a fourth time.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple

from chatcluster.agents import awaited
from chatcluster.arguments import ArgumentCheck, BadArguments, decoded
from chatcluster.chat import CallState, OpenCall, not_again, permission_of
from chatcluster.config import Settings
from chatcluster.parts import NewMessage, ToolCallPart
from chatcluster.ports import Approval, Effect, RunBy, Tool
from chatcluster.tool_results import refused

CALLS_MAX = 128
"""The most calls of one step: what is beyond is not run."""
DEATHS_MAX = 3
"""A call that so many workers died with is not run again."""


class KnownTool(NamedTuple):
    tool: Tool
    check: ArgumentCheck

    def problem(self, arguments: str) -> str | None:
        """What is wrong with the arguments, in words for the model."""
        try:
            self.check.arguments(arguments)
        except BadArguments as error:
            return str(error)
        return None


KnownTools = Mapping[str, KnownTool]


class Plan(NamedTuple):
    """How the calls of a message begin, and the results of those that do not."""

    calls: tuple[OpenCall, ...]
    refused: tuple[NewMessage, ...]


class Run(NamedTuple):
    """Run it, once that is said in the ledger; ``again``: it may run for the second time, which the model is told."""

    again: bool


class AskSomebody(NamedTuple):
    """A person decides whether it runs again."""


class Refuse(NamedTuple):
    text: str


Resumption = Run | AskSomebody | Refuse


def plan_of(
    parts: Sequence[ToolCallPart],
    tools: KnownTools,
    refusals: Mapping[str, str],
    *,
    permitted: Collection[str],
    settings: Settings,
) -> Plan:
    """``refusals``: why calls cannot be run, by their IDs. ``permitted``: what the chat's user need not be asked about
    (``permission_of``)."""
    sound = [part for part in parts if part.id not in refusals]
    calls = [_begun(part, tools[part.name].tool, permitted, settings) for part in sound]
    ours = [call for call in calls if call.state is CallState.PENDING]
    by_leave = len(ours) > 1 and any(tools[call.name].tool.approval is Approval.ASK for call in ours)
    if not by_leave and all(call.effect != Effect.ONCE for call in ours):
        calls = [_started(call) for call in calls]
    return Plan(tuple(calls), tuple(refused(call_id, text) for call_id, text in refusals.items()))


def asks_somebody(parts: Sequence[ToolCallPart], tools: KnownTools) -> bool:
    """Whether a standing permission would change anything."""
    return any(part.name in tools and tools[part.name].tool.approval is Approval.ASK for part in parts)


def resumption(call: OpenCall, part: ToolCallPart, known: KnownTool | None) -> Resumption:
    """What to do with a call that another tenure left pending or started, or that this one did not see to its end."""
    was_started = call.state is CallState.STARTED
    if was_started and call.deaths + 1 >= DEATHS_MAX:
        text = f"This call was not run again: {DEATHS_MAX} workers in a row ended while they ran it."
        return Refuse(not_again(call, text))
    if was_started and call.effect == Effect.ONCE:
        if call.approved or (known is not None and known.tool.approval is Approval.ASK):
            return AskSomebody()
        return Refuse(
            "The outcome is unknown: the worker that ran this call ended before there was a result. The call may have "
            "taken effect. Find out whether it did before you call the tool again."
        )
    if known is None:
        return Refuse(not_again(call, f"There is no tool {call.name!r} any more."))
    if known.tool.approval is Approval.DENY:  # since the call was begun, or a person was asked
        return Refuse(not_again(call, _denied(call.name)))
    problem = known.problem(part.arguments if call.arguments is None else call.arguments)
    ran = was_started or (call.started_epoch is not None and not call.is_answered)  # it was given back
    again = ran and call.effect != Effect.TRACKED
    return Run(again) if problem is None else Refuse(not_again(call, problem))


def refusal(part: ToolCallPart, known: KnownTool | None, *, place: int, is_cut: bool = False) -> str | None:
    """Why the call, the one at this ``place`` of its step, cannot be run; None if it can. ``is_cut``: the answer
    was (``CUT_SHORT``), so a call without arguments may be one whose arguments never came."""
    if place >= CALLS_MAX:
        return f"This call was not run: a step has {CALLS_MAX} calls at most. Call the tool again."
    if known is None:
        return f"There is no tool {part.name[:100]!r}. Use one of those that you were told of."
    if is_cut and not part.arguments.strip():
        return "The answer was cut short before the arguments of this call came. Call the tool again."
    if known.tool.approval is Approval.DENY:
        return _denied(part.name)
    problem = known.problem(part.arguments)
    if problem is None and known.tool.run_by is RunBy.AGENTS and awaited(decoded(part.arguments)) is None:
        return "The chat_id is not the ID of a chat. Use one that you were given for an agent."
    return problem


def _denied(name: str) -> str:
    return f"The tool {name!r} is not allowed here. Go on without it."


def _begun(part: ToolCallPart, tool: Tool, permitted: Collection[str], settings: Settings) -> OpenCall:
    state, seconds, agent_id = CallState.PENDING, None, None
    if tool.approval is Approval.ASK and permission_of(tool.name, tool.effect) not in permitted:
        state, seconds = CallState.APPROVAL, settings.tools.approval_seconds
    elif tool.run_by is RunBy.CLIENT:
        state, seconds = CallState.CLIENT, settings.tools.client_tool_seconds
    elif tool.run_by is RunBy.AGENTS and (wait := awaited(decoded(part.arguments))) is not None:
        state, seconds, agent_id = CallState.AGENTS, wait.seconds, wait.agent_id
    effect, run_by = str(tool.effect), str(tool.run_by)
    return OpenCall(part.id, part.name, state, effect=effect, run_by=run_by, seconds=seconds, agent_id=agent_id)


def _started(call: OpenCall) -> OpenCall:
    if call.state is not CallState.PENDING:
        return call
    return OpenCall(call.call_id, call.name, CallState.STARTED, effect=call.effect, run_by=call.run_by)
