"""The tools of the simulated world: they look, put, buy and ask, take their time, fail, and kill who runs them. Some
ask the user first (``questions.py``).

What a tool does takes effect at one moment of its run, outside of the cluster: that moment is what must not come twice.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from random import Random
from uuid import UUID

import trio

from chatcluster.arguments import load_library
from chatcluster.parts import NoticePart, TextPart
from chatcluster.ports import Approval, Chat, Effect, InputRequired, Progressed, Tell, Tool, ToolCall, ToolResult
from simulation.agent import Agent
from simulation.call_watch import CallWatch, Run
from simulation.questions import ASKING, QUESTION, QUESTIONS_MAX, SIGN, SWEAR, WONDER, ask_live

load_library()  # a thread that loads it has no place in a world that is the same each time

CLIENT_TOOL = "mine"
TRACKED_TOOL = "build"
LONG_RESULT = "x" * (40 << 10)
SLOW_SECONDS = 30.0
IDLE_SECONDS = 4.0


def _tool(name: str, effect: Effect, approval: Approval = Approval.NEVER, *, runs_alone: bool = False) -> Tool:
    parameters = {"type": "object", "properties": {"n": {"type": "integer"}}, "required": ["n"]}
    return Tool(
        name=name,
        description=name,
        parameters=parameters,
        effect=effect,
        approval=approval,
        runs_alone=runs_alone,
        idle_seconds=IDLE_SECONDS,
        total_seconds=2 * IDLE_SECONDS,
    )


TOOLS = {
    tool.name: tool
    for tool in (
        _tool("look", Effect.READ),
        _tool("put", Effect.IDEMPOTENT),
        _tool("buy", Effect.ONCE),
        _tool("ask", Effect.ONCE, Approval.ASK),
        _tool("count", Effect.READ, runs_alone=True),
        _tool("kill", Effect.READ),
        _tool(TRACKED_TOOL, Effect.TRACKED),
        _tool(SIGN, Effect.ONCE),
        _tool(SWEAR, Effect.ONCE),
        _tool(WONDER, Effect.READ),
    )
}


class Toolbox:
    """``process`` and ``worker`` are those that run right now, and ``kill_caller`` ends them. If it does not ``offer``
    them, there are no tools; none for workspaces if those are not ``tracked``, and none that ask if it does not."""

    def __init__(
        self,
        draw: Random,
        watch: CallWatch,
        *,
        offer: bool,
        tracked: bool,
        asks: bool,
        process: Callable[[], object],
        worker: Callable[[], UUID | None],
        kill_caller: Callable[[], None],
    ) -> None:
        self.calm = False
        """Everything is mended: tools work."""
        self._draw = draw
        self._watch = watch
        self._offered = [
            tool
            for tool in TOOLS.values()
            if offer and (tracked or tool.effect is not Effect.TRACKED) and (asks or tool.name not in ASKING)
        ]
        self._agent = Agent(Random(draw.random()) if tracked else draw)
        self._process = process
        self._worker = worker
        self._kill_caller = kill_caller

    def offers(self, chat: Chat) -> bool:
        return bool(self._offered)

    @asynccontextmanager
    async def open(self, chat: Chat) -> AsyncIterator[_ChatTools]:
        yield _ChatTools(self, chat)

    async def run(self, chat: Chat, call: ToolCall, progressed: Tell) -> ToolResult:
        run, tool = Run(chat.id, self._process(), call.call_id), TOOLS[call.name]
        self._watch.begins(run, tool)
        try:
            return await self._do(chat, call, tool, progressed)
        finally:
            self._watch.ends(run)

    async def _do(self, chat: Chat, call: ToolCall, tool: Tool, progressed: Tell) -> ToolResult:
        draw = self._draw
        if tool.effect is Effect.TRACKED:
            return await self._agent.carry_out(call.call_id, lambda: self._begin(chat, call, tool), progressed)
        await trio.sleep(draw.expovariate(1 / 0.1))
        heard = await self._ask(chat, call, progressed) if tool.name in ASKING else ""
        self._watch.takes_effect(chat.id, call.call_id, tool, self._worker())
        if tool.name == "kill" and not self.calm:
            self._kill_caller()
            await trio.sleep_forever()
        for step in range(draw.randrange(4)):
            progressed(Progressed(step, message=f"{call.call_id} {step}"))
            await trio.sleep(draw.expovariate(1 / 0.2))
        if not self.calm and draw.random() < 0.05:
            await trio.sleep(SLOW_SECONDS)
        text = f"<{call.call_id} gave {self._watch.effects[call.call_id]}>{heard}"
        if draw.random() < 0.15:
            return ToolResult((TextPart(f"{text} failed"),), is_error=True)
        self._watch.gives(call.call_id, text)
        return ToolResult((TextPart(text + (LONG_RESULT if draw.random() < 0.05 else "")),))

    async def _ask(self, chat: Chat, call: ToolCall, progressed: Tell) -> str:
        """What the user said, once nothing is left to be asked."""
        if call.name != SIGN:
            return self._watch.questions.heard(chat.id, call.call_id, await ask_live(progressed), self._worker())
        asked, heard = int(call.resume or 0), ""
        if call.answers is not None:
            heard = self._watch.questions.heard(chat.id, call.call_id, call.answers, self._worker())
        if call.answers is None or (asked < QUESTIONS_MAX and self._draw.random() < 0.3):
            raise InputRequired((QUESTION,), str(asked + 1))
        return heard

    def _begin(self, chat: Chat, call: ToolCall, tool: Tool) -> str:
        """A call takes effect at its agent."""
        self._watch.takes_effect(chat.id, call.call_id, tool, self._worker())
        text = f"<{call.call_id} gave {self._watch.effects[call.call_id]}>"
        self._watch.gives(call.call_id, text)
        return text

    @property
    def offered(self) -> list[Tool]:
        return self._offered


class _ChatTools:
    notices: Sequence[NoticePart] = ()
    instructions: Sequence[tuple[str, str]] = ()
    surroundings: Sequence[str] = ()

    def __init__(self, toolbox: Toolbox, chat: Chat) -> None:
        self._toolbox = toolbox
        self._chat = chat

    async def tools(self) -> Sequence[Tool]:
        await trio.lowlevel.checkpoint()
        return self._toolbox.offered

    async def run(self, call: ToolCall, progressed: Tell) -> ToolResult:
        return await self._toolbox.run(self._chat, call, progressed)
