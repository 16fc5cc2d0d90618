"""The tools of the MCP servers that the workspace's own ``.mcp.json`` names.

The agent is their client, within the sandbox: a server there can do what a command can do and no more, so its tools
need nobody's leave, unless the template wants a person to be asked (``mcp_approval``). A call is one in the agent's
ledger: it is made once, and the chat's owner of then has its result.

What tools there are is asked of the agent in each turn that finds the workspace running, and in the turn that makes it.
Servers that are just starting are waited for, ``START_SECONDS_MAX`` at most: those that are there by then have tools in
this turn, the others in the next one.

What happens on failure: a server that fails costs its tools, and a notice; an agent that does not answer all of them,
and for ``SILENT_SECONDS`` it is not asked again. A tool whose server is gone is an error result.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple
from uuid import UUID

import msgspec
import trio

from chatcluster import telemetry
from chatcluster.content import ImagePart, NoticePart, ResourcePart, ResultContent, TextPart, storable
from chatcluster.json_bounds import bounded
from chatcluster.parts import UNDECODABLE
from chatcluster.ports import Approval, Effect, Tell, Tool, ToolCall, ToolResult
from chatcluster.ports.workspaces import WorkspaceState
from chatcluster.tools.mcp_toolbox import provider_name
from chatcluster.tools.workspace_calls import WorkspaceCalls
from chatcluster.tools.workspace_link import Link, Refused
from chatcluster.workspace_mcp import (
    LIST_BYTES_MAX,
    SERVERS_MAX,
    McpAnswer,
    McpContent,
    McpResult,
    McpServer,
    McpState,
    McpTool,
)
from chatcluster.workspace_wire import CallState, Kind

START_SECONDS_MAX = 10.0
WAIT_SECONDS = 2.0
"""The wait of one question: less than an agent may be silent."""
SILENT_SECONDS = 20.0
SILENT_MAX = 1000
TOOLS_MAX = 100
"""The most tools of all servers of a workspace: the model reads all of them in every step, and each is made ready."""
CALL_SECONDS_MAX = 600.0
SLACK_SECONDS = 60.0
EXTREMES_MAX = 20
"""The most extreme numbers in one schema: there are many schemas."""
SAID_CHARACTERS_MAX = 16_384
"""The most that a server says of itself. Our agent keeps within all of these bounds; another one need not."""
NOT_KEPT = "It was done, but its result is not kept any more."


class SilentAgents:
    """One for a replica: workspaces whose agent had no answer, until when they are not asked."""

    def __init__(self) -> None:
        self._until: dict[UUID, float] = {}

    def __contains__(self, workspace_id: UUID) -> bool:
        return trio.current_time() < self._until.get(workspace_id, 0.0)

    def add(self, workspace_id: UUID) -> None:
        if len(self._until) >= SILENT_MAX:
            self._until.clear()
        self._until[workspace_id] = trio.current_time() + SILENT_SECONDS


class _Place(NamedTuple):
    """Where a tool is run, and its name there."""

    server: str
    tool: str


class ServerTools:
    """The tools of a workspace's own servers, for a turn. ``notices`` and ``instructions``: as ``list`` found them."""

    def __init__(self, link: Link, calls: WorkspaceCalls, silent: SilentAgents) -> None:
        self.notices: tuple[NoticePart, ...] = ()
        self.instructions: tuple[tuple[str, str], ...] = ()
        self._link = link
        self._calls = calls
        self._silent = silent
        self._places: dict[str, _Place] = {}

    def __contains__(self, name: str) -> bool:
        return name in self._places

    async def list(self) -> Sequence[Tool]:
        """The tools there are now. Until that is known, those that there were are called."""
        found = await self._found()
        self._places = {}
        return [self._taken(server, tool, approval) for server, tool, approval in found]

    async def _found(self) -> Sequence[tuple[McpServer, McpTool, Approval]]:
        row = self._link.row
        if row is None or row.state is not WorkspaceState.RUNNING or row.id in self._silent:
            return ()
        approval = Approval(row.made_of.settings.mcp_approval)
        if approval is Approval.DENY:
            return ()
        answer = await self._listed()
        if answer is None:
            self._silent.add(row.id)
            return ()
        self._note(row.id, answer)
        listed = [(server, tool) for server in answer.servers[:SERVERS_MAX] for tool in server.tools]
        taken = listed[: _within_bounds([tool for _, tool in listed])]
        if len(taken) < len(listed):
            text = f"The last {len(listed) - len(taken)} tools of the workspace's servers are left out: too many."
            self.notices = (*self.notices, NoticePart("mcp_tools_left_out", text))
        return [(server, tool, approval) for server, tool in taken]

    async def run(self, call: ToolCall, tell: Tell) -> ToolResult:
        """Raises ``Refused``."""
        place = self._places[call.name]
        asked = {"server": place.server, "tool": place.tool, "arguments": call.arguments}
        answer = await self._calls.run(call, Kind.MCP, asked, tell, deadline_seconds=CALL_SECONDS_MAX)
        if answer.state is not CallState.EXITED:
            raise Refused(f"{call.name}: {storable(answer.error or f'the call was {answer.state}')}.")
        if answer.result is None:
            return ToolResult((TextPart(NOT_KEPT),))
        return result_of(answer.result)

    async def _listed(self) -> McpAnswer | None:
        """None where it does not answer, as somebody has just found out, perhaps."""
        until = trio.current_time() + START_SECONDS_MAX
        while not self._link.is_silent:
            try:
                answer = await self._link.look(lambda place: place.mcp(wait_seconds=WAIT_SECONDS))
            except Refused:
                return None
            starts = any(server.state is McpState.STARTING for server in answer.servers)
            if not starts or trio.current_time() >= until:
                return answer
        return None

    def _note(self, workspace_id: UUID, answer: McpAnswer) -> None:
        """What the turn goes on without, and what servers say of themselves."""
        notices = [NoticePart("workspace_mcp_file", storable(answer.error))] if answer.error else []
        servers = answer.servers[:SERVERS_MAX]
        notices += [notice for server in servers if (notice := _notice(server)) is not None]
        for notice in notices:
            telemetry.event(
                "workspace.mcp_failed",
                workspace_id=str(workspace_id),
                server=notice.source or "",
                error=notice.message[:SAID_CHARACTERS_MAX],
            )
        self.notices = tuple(notices)
        self.instructions = tuple(
            (storable(server.name[:SAID_CHARACTERS_MAX]), storable(server.instructions[:SAID_CHARACTERS_MAX]))
            for server in servers
            if server.state is McpState.READY
        )

    def _taken(self, server: McpServer, tool: McpTool, approval: Approval) -> Tool:
        name = provider_name(server.name, tool.name)
        self._places[name] = _Place(server.name, tool.name)
        return Tool(
            name=name,
            description=storable(tool.description),
            parameters=_schema(tool.schema),
            effect=Effect.TRACKED,
            approval=approval,
            idle_seconds=CALL_SECONDS_MAX + SLACK_SECONDS,
            total_seconds=CALL_SECONDS_MAX + SLACK_SECONDS,
        )


def _within_bounds(tools: Sequence[McpTool]) -> int:
    """How many of them, from the first on, a turn has room for."""
    size = 0
    for number, tool in enumerate(tools):
        size += len(tool.name) + len(tool.description) + len(tool.schema)
        if number == TOOLS_MAX or size > LIST_BYTES_MAX:
            return number
    return len(tools)


def _schema(text: str) -> dict[str, Any]:
    """An object with anything in it, where it is no schema of one."""
    try:
        return msgspec.json.decode(bounded(storable(text).encode(), extremes_max=EXTREMES_MAX), type=dict[str, Any])
    except UNDECODABLE:
        return {"type": "object"}


def _notice(server: McpServer) -> NoticePart | None:
    name = storable(server.name)
    if server.state is McpState.FAILED:
        return NoticePart("mcp_unavailable", f"The tools of {name} are missing: {storable(server.error)}.", name)
    if server.state is McpState.STARTING:
        return NoticePart("mcp_unavailable", f"The tools of {name} are missing: it is starting still.", name)
    if server.left_out:
        text = f"{server.left_out} tools of {name} cannot be used: too large, too many, or unnamed."
        return NoticePart("mcp_tools_left_out", text, name)
    return None


def result_of(value: Any) -> ToolResult:
    """What the agent's ledger has of a call, as a result. Raises ``Refused``."""
    try:
        result = msgspec.convert(value, McpResult)
    except msgspec.ValidationError:
        raise Refused("The workspace answered with what is no result of a tool.") from None
    return ToolResult(tuple(map(_content, result.content)), result.is_error)


def _content(piece: McpContent) -> ResultContent:
    if piece.data:
        return ImagePart(storable(piece.mime_type), storable(piece.data))
    text = None if piece.text is None else storable(piece.text)
    if piece.uri:
        name, media_type = storable(piece.name) or None, storable(piece.mime_type) or None
        return ResourcePart(storable(piece.uri), name, media_type, text)
    return TextPart(text or "")
