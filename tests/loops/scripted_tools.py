"""Tools that do what the test tells them to, when the test tells them to, and count what they did.

Every run of a call, of whatever replica, arrives as a ``Run``. The test takes it (``next_run``) and plays the tool.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from math import inf
from typing import Any

import trio

from chatcluster.parts import NoticePart, ResultContent, TextPart
from chatcluster.ports import Chat, Effect, Tell, Tool, ToolCall, ToolResult

RUN_SECONDS_MAX = 100.0


def tool(name: str, effect: Effect = Effect.READ, **fields: Any) -> Tool:
    return Tool(name=name, description=f"the tool {name}", parameters={"type": "object"}, effect=effect, **fields)


class Run:
    """One run of a call. Its effect took place when it began."""

    def __init__(self, call: ToolCall, progressed: Tell) -> None:
        self.call = call
        self.progressed = progressed
        self.cancelled = False
        """The tool saw that it was cancelled."""
        self.ended = trio.Event()
        self._result: ToolResult | Exception | None = None
        self._given = trio.Event()

    def __repr__(self) -> str:
        return f"<Run of {self.call.name} {self.call.call_id}>"

    # what the test plays

    def give(self, text: str = "done", *, is_error: bool = False) -> None:
        self._end(ToolResult((TextPart(text),), is_error))

    def give_content(self, *content: ResultContent) -> None:
        self._end(ToolResult(content))

    def renew(self) -> None:
        """It has made new tools."""
        self._end(ToolResult((TextPart("done"),), renews_tools=True))

    def crash(self, error: Exception) -> None:
        self._end(error)

    def _end(self, result: ToolResult | Exception) -> None:
        self._result = result
        self._given.set()

    async def until_given(self) -> ToolResult:
        try:
            await self._given.wait()
        except trio.Cancelled:
            self.cancelled = True
            raise
        finally:
            self.ended.set()
        if isinstance(self._result, Exception):
            raise self._result
        assert self._result is not None
        return self._result


class ScriptedTools:
    """One toolbox for the whole cluster. ``effects`` counts, for each call, how often it was run."""

    def __init__(self) -> None:
        self.offered: list[Tool] = []
        self.notices: Sequence[NoticePart] = ()
        self.instructions: Sequence[tuple[str, str]] = ()
        self.surroundings: Sequence[str] = ()
        self.effects: Counter[str] = Counter()
        self.runs: list[Run] = []
        self.offers_any = True
        """If not, no chat has tools here, and that is said before it is opened."""
        self.asked = 0
        self.opened = 0
        self.closed = 0
        self._arrivals, self._arrived = trio.open_memory_channel[Run](inf)

    def offers(self, chat: Chat) -> bool:
        return self.offers_any

    @asynccontextmanager
    async def open(self, chat: Chat) -> AsyncIterator[ScriptedTools]:
        self.opened += 1
        try:
            yield self
        finally:
            self.closed += 1

    async def tools(self) -> Sequence[Tool]:
        self.asked += 1
        await trio.lowlevel.checkpoint()
        return self.offered

    async def run(self, call: ToolCall, progressed: Tell) -> ToolResult:
        run = Run(call, progressed)
        self.effects[call.call_id] += 1
        self.runs.append(run)
        self._arrivals.send_nowait(run)
        return await run.until_given()

    async def next_run(self) -> Run:
        """The next run of a call that nobody has taken yet, waiting for it if need be."""
        with trio.fail_after(RUN_SECONDS_MAX):
            return await self._arrived.receive()

    def idle(self) -> bool:
        """Whether no run waits to be taken."""
        return not self._arrived.statistics().current_buffer_used
