"""The toolbox of workspaces: files, commands and processes on a machine of the chat's own (start here).

``workspace_list.py`` has the tools, ``workspace_life``, ``workspace_files``, ``workspace_commands`` and
``workspace_screen`` run them, over ``workspace_link``, the way to the agent, and ``workspace_calls``, the calls in
its ledger. ``workspace_servers`` has the tools that the workspace brings itself. What the model is told of the place
is in ``workspace_context``.

The tools are offered where there is a template to make a workspace of; to agents all but those that make, start and
stop it, as they work in that of the chat at the top of their family. Whether there is a template is looked up once in
``TEMPLATES_SECONDS``, for all chats of this replica: so a deployment without any pays nothing for a turn.

What happens on failure: a workspace that is dead, slow or gone is an error result within some seconds, never an error
of the turn. While Postgres cannot be reached, what was known of templates stands.
"""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from uuid import UUID

import trio
from msgspec.structs import replace

from chatcluster.errors import StoreUnavailable
from chatcluster.parts import NoticePart, TextPart
from chatcluster.ports import Chat, Store, Tell, Tool, ToolCall, ToolResult, TurnTools
from chatcluster.ports.workspaces import Template, Workspaces
from chatcluster.tools.workspace_calls import WorkspaceCalls
from chatcluster.tools.workspace_commands import CommandTools
from chatcluster.tools.workspace_context import Surroundings
from chatcluster.tools.workspace_files import FileTools
from chatcluster.tools.workspace_life import LifeTools
from chatcluster.tools.workspace_link import Directory, Link, Refused, Touched, nobody_looks
from chatcluster.tools.workspace_list import BEGINS, CHANGES_FILES, ON_SCREEN, PROVISIONING, WORKING
from chatcluster.tools.workspace_screen import ScreenTools, has_screen
from chatcluster.tools.workspace_servers import ServerTools, SilentAgents

TEMPLATES_SECONDS = 2.0


class WorkspaceTools:
    """One for a replica."""

    def __init__(
        self,
        rows: Workspaces,
        directory: Directory,
        store: Store,
        *,
        per_user_max: int,
        touched: Touched = nobody_looks,
    ) -> None:
        self._rows = rows
        self._directory = directory
        self._store = store
        self._per_user_max = per_user_max
        self._touched = touched
        self._surroundings = Surroundings()
        self._silent = SilentAgents()
        self._templates: tuple[Template, ...] = ()
        self._looked_at = -math.inf
        self._looking = trio.Lock()

    def __repr__(self) -> str:
        return f"<WorkspaceTools has_templates={bool(self._templates)}>"

    def offers(self, chat: Chat) -> bool:  # noqa: ARG002
        """Also where it is time to look for templates."""
        return bool(self._templates) or self._is_due

    @property
    def _is_due(self) -> bool:
        return trio.current_time() - self._looked_at >= TEMPLATES_SECONDS

    @asynccontextmanager
    async def open(self, chat: Chat) -> AsyncIterator[TurnTools]:
        link = Link(chat, self._rows, self._directory, self._touched)
        calls = WorkspaceCalls(link, self._store)
        life = LifeTools(link, self._surroundings, self._per_user_max)
        runs = _runs(life, FileTools(link, calls), CommandTools(link, calls), ScreenTools(calls))
        yield _WorkspaceTools(self, link, runs, ServerTools(link, calls, self._silent))

    async def templates(self) -> tuple[Template, ...]:
        """What workspaces can be made of."""
        async with self._looking:
            if self._is_due:
                try:
                    templates = await self._rows.templates()
                except StoreUnavailable:
                    return self._templates
                self._templates = tuple(template for template in templates if not template.settings.deprecated)
                self._looked_at = trio.current_time()
        return self._templates

    async def templates_for(self, owner_id: UUID) -> tuple[Template, ...]:
        """Of these, those that are offered to this user: looked up only where there is one that is not everybody's."""
        templates = await self.templates()
        if not any(template.settings.users for template in templates):
            return templates
        try:
            return await self._rows.templates(owner_id)
        except StoreUnavailable:
            return tuple(template for template in templates if not template.settings.users)

    async def told(self, link: Link) -> str:
        return await self._surroundings.told(link)


Run = Callable[[ToolCall, Tell], Awaitable[ToolResult]]


def _runs(life: LifeTools, files: FileTools, commands: CommandTools, screen: ScreenTools) -> dict[str, Run]:
    return {
        run.__name__: run
        for run in (
            life.list_templates,
            life.read_template,
            life.create_workspace,
            life.start_workspace,
            life.stop_workspace,
            files.read_file,
            files.write_file,
            files.edit_files,
            commands.execute,
            commands.process_output,
            commands.process_list,
            commands.process_signal,
            screen.computer,
        )
    }


class _WorkspaceTools:
    def __init__(self, toolbox: WorkspaceTools, link: Link, runs: dict[str, Run], servers: ServerTools) -> None:
        self.surroundings: Sequence[str] = ()
        self._toolbox = toolbox
        self._link = link
        self._runs = runs
        self._servers = servers

    @property
    def notices(self) -> Sequence[NoticePart]:
        return self._servers.notices

    @property
    def instructions(self) -> Sequence[tuple[str, str]]:
        return self._servers.instructions

    async def tools(self) -> Sequence[Tool]:
        templates = await self._toolbox.templates_for(self._link.chat.owner_id)
        if not templates:
            return ()
        with suppress(Refused):  # then nothing is known of one
            await self._link.look_up()
        self.surroundings = (await self._toolbox.told(self._link),)
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
        result = await self._runs[call.name](call, progressed)
        if call.name in BEGINS and await self._servers.list():
            return replace(result, renews_tools=True)
        return result
