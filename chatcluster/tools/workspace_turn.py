"""The tools of one turn of one chat in its workspace: which there are, and each run by those whose it is.

A refusal, by whatever runs a call, becomes an error result here; and a workspace in which somebody works is kept
running.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress

from msgspec.structs import replace

from chatcluster.parts import NoticePart, TextPart
from chatcluster.ports import Tell, Tool, ToolCall, ToolResult
from chatcluster.tools.offered_templates import OfferedTemplates
from chatcluster.tools.workspace_context import Surroundings
from chatcluster.tools.workspace_link import Link, Refused
from chatcluster.tools.workspace_list import BEGINS, CHANGES_FILES, ON_SCREEN, PROVISIONING, WORKING
from chatcluster.tools.workspace_screen import has_screen
from chatcluster.tools.workspace_servers import ServerTools

Run = Callable[[ToolCall, Tell], Awaitable[ToolResult]]


class WorkspaceTurn:
    """``TurnTools``."""

    def __init__(
        self,
        link: Link,
        offered: OfferedTemplates,
        surroundings: Surroundings,
        runs: dict[str, Run],
        servers: ServerTools,
    ) -> None:
        self.surroundings: Sequence[str] = ()
        self._link = link
        self._offered = offered
        self._place = surroundings
        self._runs = runs
        self._servers = servers

    @property
    def notices(self) -> Sequence[NoticePart]:
        return self._servers.notices

    @property
    def instructions(self) -> Sequence[tuple[str, str]]:
        return self._servers.instructions

    async def tools(self) -> Sequence[Tool]:
        templates = await self._offered.to(self._link.chat.owner_id)
        if not templates:
            return ()
        with suppress(Refused):  # then nothing is known of one
            await self._link.look_up()
        self.surroundings = (await self._place.told(self._link),)
        servers = await self._servers.list()
        screen = ON_SCREEN if has_screen(self._link.row, templates) else ()
        provisioning = () if self._link.chat.depth else PROVISIONING
        return (*provisioning, *WORKING, *screen, *servers)

    async def run(self, call: ToolCall, progressed: Tell) -> ToolResult:
        try:
            result = await self._run(call, progressed)
        except Refused as refused:
            result = ToolResult((TextPart(str(refused)),), is_error=True)
        finally:
            if call.name in CHANGES_FILES or call.name in self._servers:
                self._link.touch()
        await self._link.bump()
        return result

    async def _run(self, call: ToolCall, progressed: Tell) -> ToolResult:
        """Raises ``Refused``."""
        if call.name in self._servers:
            return await self._servers.run(call, progressed)
        if call.name not in self._runs:
            raise Refused(f"{call.name} was not run: the workspace has no server with this tool any more.")
        result = await self._runs[call.name](call, progressed)
        if call.name in BEGINS and await self._servers.list():
            return replace(result, renews_tools=True)
        return result
