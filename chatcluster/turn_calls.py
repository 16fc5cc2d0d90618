"""The calls of the turn under way, from the answer that asks for them to their results in history.

An answer that asks for tools is committed together with how each of its calls begins (``tool_plan.py``), before any of
them runs. Then the owner runs what is its own to run (``tool_step.py``). What a tenure committed itself it knows; of
calls that it finds in a history it asks the ledger.

What the requests of a turn begin with, system text and tools, stays the same to its end (``prompts.py``). It is kept
before the first answer that does not end the turn is committed; the next owner, should there be one, reads it.

What a tool gave that is not history yet is kept here, for the commit that ends the turn. Raises what commits raise.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from contextlib import suppress

import msgspec
import trio

from chatcluster.chat import CommitStep, OpenCall
from chatcluster.config import Settings
from chatcluster.errors import Moved, StoreFailed
from chatcluster.held_chat import HeldChat
from chatcluster.held_tools import HeldTools
from chatcluster.parts import CUT_SHORT, NewMessage, ToolCallPart
from chatcluster.ports import ModelRequest, Outside
from chatcluster.prompts import Prefix, beginning_with, kept_of, prefix_in, system_text
from chatcluster.repeats import until_known
from chatcluster.tool_plan import asks_somebody, plan_of, refusal
from chatcluster.tool_step import ToolStep
from chatcluster.turn import steps_taken

KEEP_SECONDS_MAX = 1.0
"""The time for an end of a turn that somebody waits for."""


class TurnCalls:
    """The calls of one tenure, turn after turn. ``nursery`` is where tools run."""

    def __init__(
        self,
        held: HeldChat,
        outside: Outside,
        settings: Settings,
        nursery: trio.Nursery,
        is_draining: Callable[[], bool],
    ) -> None:
        self.tools = HeldTools(outside.toolbox, nursery)
        self._held = held
        self._store = outside.store
        self._tool_limits = outside.tool_limits
        self._settings = settings
        self._nursery = nursery
        self._is_draining = is_draining
        self._step: ToolStep | None = None
        """The newest one at this history."""
        self._prefix: Prefix | None = None
        """The prefix of the turn under way, once its model is asked."""
        self._planned: tuple[int, tuple[OpenCall, ...]] = (0, ())
        """The calls that this tenure committed last, and at which history version."""

    def __repr__(self) -> str:
        return f"<TurnCalls {self.tools} {self._step}>"

    @property
    def results(self) -> tuple[NewMessage, ...]:
        """What tools gave that is not history yet."""
        return () if self._step is None else tuple(result.message for result in self._step.results.values())

    async def keep_results(self) -> None:
        """Keep all of those that are cut, before they are history: as much as there is time for. Raises ``Fenced``."""
        results = {} if self._step is None else dict(self._step.results)
        with trio.move_on_after(KEEP_SECONDS_MAX):
            for call_id, result in results.items():
                if result.whole is not None:
                    with suppress(Moved, StoreFailed):  # nor does the result become history, or it does without this
                        await self._held.keep_result(call_id, result.whole)

    def forget_results(self) -> None:
        """Forget the results: they are history now, or belong to one that is gone."""
        self._step = None

    async def ask(self) -> None:
        """Find out what tools there are, and what the turn began with, if it began with another owner."""
        chat, history = self._held.chat, self._held.history
        await self.tools.ask(chat)
        goes_on = not chat.compacting and steps_taken(history.messages or ()) > 0
        if self._prefix is None and history.prompts.kept and goes_on:
            kept = await until_known(lambda: self._store.read_prefix(chat.id), chat.id)
            self._prefix = None if kept is None else prefix_in(kept)

    def told(self, request: ModelRequest) -> ModelRequest:
        """The request with the tools of the turn, and all that the model is told before the conversation."""
        if self._prefix is None:
            chat, prompts = self._held.chat, self._held.history.prompts
            servers, places = self.tools.instructions, self.tools.surroundings
            text = system_text(request.messages, prompts, servers, places, is_agent=chat.depth > 0)
            self._prefix = Prefix(text, self.tools.specs)
        elif self.tools.is_renewed:
            self._prefix = Prefix(self._prefix.system, self.tools.specs)
        told = beginning_with(request, self._prefix)
        tools = self.tools.offered(told.tools, self._tool_limits(told.model, told.failures), told.chat_id)
        return msgspec.structs.replace(told, tools=tools, is_plain=self._held.history.is_plain)

    async def close(self) -> None:
        """The turn is over."""
        self._prefix = None
        await self.tools.close()

    async def commit(self, answer: NewMessage, parts: Sequence[ToolCallPart]) -> None:
        """The answer with its calls, if any, before any of them runs; those that cannot be run have their results with
        it. The turn goes on."""
        permitted: Collection[str] = ()
        if asks_somebody(parts, self.tools.known):
            permitted = await self._held.permissions()
        refusals = await self._refusals(parts, is_cut=answer.finish_reason in CUT_SHORT)
        plan = plan_of(parts, self.tools.known, refusals, permitted=permitted, settings=self._settings)
        if self._prefix is not None:
            await self._held.keep_prefix(*kept_of(self._prefix))
        await self._held.commit(CommitStep((answer, *plan.refused), plan.calls))
        self._planned = (self._held.chat.history_version, plan.calls)

    async def _refusals(self, parts: Sequence[ToolCallPart], *, is_cut: bool) -> dict[str, str]:
        """Why calls cannot be run. Others have their turn in between: to look at arguments takes time."""
        refusals = {}
        for place, part in enumerate(parts):
            text = refusal(part, self.tools.known.get(part.name), place=place, is_cut=is_cut)
            if text is not None:
                refusals[part.id] = text
            await trio.lowlevel.checkpoint()
        return refusals

    async def run(self, parts: Sequence[ToolCallPart]) -> bool:
        """Run what is the owner's to run of the calls that have no result yet.

        False if the ledger has no record of one of them, so that it can be neither run nor answered: the turn is over.
        """
        chat, (version, calls) = self._held.chat, self._planned
        self._planned = (0, ())
        fresh = version == chat.history_version
        if not fresh:
            calls = await until_known(lambda: self._store.open_calls(chat.id), chat.id)
            if not {part.id for part in parts} <= {call.call_id for call in calls}:
                return await self._has_moved()
        if not await self._held.unless_moved(self._know_tools):
            await self._held.reload()
            return True
        self._step = ToolStep(
            self._held, self.tools, self._settings, nursery=self._nursery, is_draining=self._is_draining
        )
        if not await self._step.run(calls, parts, fresh=fresh):
            await self._held.reload()
        return True

    async def _has_moved(self) -> bool:
        """Whether somebody changed the chat meanwhile. If not, its history and its ledger were read as they are."""
        before = self._held.chat
        await self._held.reload()
        now = self._held.chat
        return (now.history_version, now.status) != (before.history_version, before.status)

    async def _know_tools(self) -> bool:
        await self.tools.ask(self._held.chat)
        return True
