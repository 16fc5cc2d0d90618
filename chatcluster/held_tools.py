"""The tools of the turn under way, in the hands of the chat's owner.

A toolbox is opened when the turn first needs it, and closed when the turn ends, or with the tenure; where it says that
the chat has no tools, it is not opened at all. It lives in a task of its own: what goes wrong in there is not what goes
wrong with the turn. What tools there are is asked once a turn, as a model wants them to stay as they are; once more
where a result says that it has made some (``renew``). A tenure that
begins with calls expects to need them: it asks while the history is read.

What happens on failure: a toolbox that cannot be opened has no tools; closing it is bounded.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from uuid import UUID

import trio

from chatcluster import telemetry, trace_context
from chatcluster.arguments import LIBRARY, ArgumentCheck, load_library
from chatcluster.call_time import CallTime
from chatcluster.parts import NoticePart, TextPart, storable
from chatcluster.ports import Chat, Effect, Progressed, Tool, Toolbox, ToolCall, ToolResult, ToolSpec, TurnTools
from chatcluster.ports.toolbox import Tell
from chatcluster.tool_offer import notices_of, offer_of
from chatcluster.tool_plan import KnownTool
from chatcluster.tool_schemas import spec_of

CLOSE_SECONDS_MAX = 5.0
NOTICE_CHARACTERS_MAX = 2000
STEP_SECONDS = 0.005
"""Schemas are large, and there may be many: others have their turn after that."""


class HeldTools:
    """``known`` and ``specs`` are those of the turn under way once ``ask`` has returned. ``is_renewed``: there are
    others by now than the turn began with."""

    def __init__(self, toolbox: Toolbox, nursery: trio.Nursery) -> None:
        self.known: dict[str, KnownTool] = {}
        self.specs: tuple[ToolSpec, ...] = ()
        self._toolbox = toolbox
        self._nursery = nursery
        self._open: TurnTools | None = None
        self._is_asked = False
        self.is_renewed = False
        self._left_out: Sequence[NoticePart] = ()
        """What is to be told of the tools of the turn that its model was not offered."""
        self._told: set[tuple[str, str]] = set()
        """The notices that were told of."""
        self._turn = trio.Lock()
        self._expected = trio.CancelScope()
        self._leave = trio.Event()
        self._left = trio.Event()
        self._scope = trio.CancelScope()

    def __repr__(self) -> str:
        return f"<HeldTools {sorted(self.known)}>"

    @property
    def open(self) -> TurnTools:
        """The tools to run. ``ask`` comes first."""
        assert self._open is not None, "the tools of this turn were not asked for"
        return self._open

    async def run(self, tool: Tool, call: ToolCall, told: Tell, span: dict[str, object]) -> ToolResult:
        """Run a call as ``TurnTools.run`` does, for as long as its tool may take. Servers are told which span it is:
        that of which ``span`` is said."""
        time = CallTime(tool)
        with time.scope, trace_context.working("tool.called", span):
            return await self.open.run(call, lambda news: told(time.heard(news)))
        return ToolResult((TextPart(_too_slow(tool, in_all=time.is_over_in_all)),), is_error=True)

    def expect(self, chat: Chat) -> None:
        """Begin to find out what tools there are: it will be asked for."""
        self._nursery.start_soon(self._ask_ahead, chat)

    async def _ask_ahead(self, chat: Chat) -> None:
        with self._expected:
            try:
                await self.ask(chat)
            except Exception as error:  # noqa: BLE001 - who asks next meets it as well
                telemetry.event("toolbox.crashed", chat_id=str(chat.id), error=repr(error), exc_info=error)

    async def ask(self, chat: Chat) -> None:
        """Know the tools of this turn. May be cancelled, and asked again."""
        async with self._turn:
            await self._ask(chat)

    async def _ask(self, chat: Chat) -> None:
        if self._is_asked or not (self._open or self._toolbox.offers(chat)):
            self._is_asked = True
            return
        if self._open is None:
            self._leave, self._left, self._scope = trio.Event(), trio.Event(), trio.CancelScope()
            self._open = await self._nursery.start(self._keep_open, chat)
        tools = await self._open.tools()
        if tools and LIBRARY not in sys.modules:
            await trio.to_thread.run_sync(load_library)
        specs = await _specs_of(tools)
        self.known = {tool.name: KnownTool(tool, ArgumentCheck(tool.parameters)) for tool in tools}
        self.specs = specs
        self._is_asked = True

    def renew(self) -> None:
        """A result of this turn has made new tools: the next model request has them."""
        self._is_asked, self.is_renewed = False, True

    def offered(self, specs: tuple[ToolSpec, ...], limit: int | None, chat_id: UUID) -> tuple[ToolSpec, ...]:
        """As many of the turn's tools as the model takes that is asked now."""
        offer = offer_of(specs, limit, [server for server, _ in self.instructions])
        if offer.left_out and not self._left_out:
            telemetry.event("tools.left_out", chat_id=str(chat_id), limit=limit, servers=offer.left_out)
        self._left_out = notices_of(offer.left_out, limit)
        return offer.tools

    def news(self) -> list[NoticePart]:
        """What the turn goes on without, each once: where the tools were asked for again, what is missing now."""
        notices = (*(() if self._open is None else self._open.notices), *self._left_out)
        news = {_named(notice): notice for notice in notices if _named(notice) not in self._told}
        self._told.update(news)
        return [_short(notice) for notice in news.values()]

    @property
    def instructions(self) -> Sequence[tuple[str, str]]:
        """The servers that tools come from, and what they say about themselves."""
        return () if self._open is None else self._open.instructions

    @property
    def surroundings(self) -> Sequence[str]:
        """What the model is told of the place where the chat works."""
        return () if self._open is None else self._open.surroundings

    async def close(self) -> None:
        """The turn is over."""
        self._expected.cancel()
        async with self._turn:
            await self._close()

    async def _close(self) -> None:
        self._is_asked = False
        if self._open is None:
            return
        self._leave.set()
        with trio.move_on_after(CLOSE_SECONDS_MAX):
            await self._left.wait()
        self._scope.cancel()
        self._open, self.is_renewed, self._left_out = None, False, ()
        self._told.clear()
        self.known, self.specs = {}, ()

    async def _keep_open(self, chat: Chat, *, task_status: trio.TaskStatus[TurnTools]) -> None:
        left, leave = self._left, self._leave
        started = False
        try:
            with self._scope:
                async with self._toolbox.open(chat) as tools:
                    task_status.started(tools)
                    started = True
                    await leave.wait()
        except Exception as error:  # noqa: BLE001 - a toolbox ends its tools, never a turn
            telemetry.event("toolbox.crashed", chat_id=str(chat.id), error=repr(error), exc_info=error)
            if not started:
                task_status.started(_NoTools())
        finally:
            left.set()


class _NoTools:
    """What stands in the place of a toolbox that cannot be opened."""

    notices = (NoticePart("tools_unavailable", "The tools of this chat cannot be had."),)
    instructions = ()
    surroundings = ()

    async def tools(self) -> tuple[()]:
        return ()

    async def run(self, call: ToolCall, progressed: Callable[[Progressed], None]) -> ToolResult:  # noqa: ARG002
        return ToolResult((TextPart("The tools of this chat cannot be had."),), is_error=True)


def _too_slow(tool: Tool, *, in_all: bool) -> str:
    bound = f"{tool.total_seconds:g} s" if in_all else f"{tool.idle_seconds:g} s without a sign of progress"
    text = f"The tool {tool.name!r} was stopped: it took longer than {bound}."
    return text if tool.effect is Effect.READ else f"{text} It may have taken effect."


def _short(notice: NoticePart) -> NoticePart:
    source = None if notice.source is None else storable(notice.source)
    return NoticePart(storable(notice.code), storable(notice.message)[:NOTICE_CHARACTERS_MAX], source)


def _named(notice: NoticePart) -> tuple[str, str]:
    """What it is about: there may be another link in it each time."""
    return notice.code, notice.source or notice.message


async def _specs_of(tools: Sequence[Tool]) -> tuple[ToolSpec, ...]:
    specs, until = [], trio.current_time() + STEP_SECONDS
    for tool in tools:
        specs.append(spec_of(tool))
        if trio.current_time() > until:
            await trio.lowlevel.checkpoint()
            until = trio.current_time() + STEP_SECONDS
    return tuple(specs)
