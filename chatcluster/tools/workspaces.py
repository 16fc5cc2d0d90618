"""The toolbox of workspaces: files, commands and processes on a machine of the chat's own (start here).

``workspace_turn.py`` is what a turn has of it, ``workspace_list`` the tools; ``workspace_life``, ``workspace_files``,
``workspace_commands`` and ``workspace_screen`` run them, over ``workspace_link``, the way to the agent, and
``workspace_calls``, the calls in its ledger. ``workspace_servers`` has the tools that the workspace brings itself.
What the model is told of the place is in ``workspace_context``.

The tools are offered where there is a template to make a workspace of (``offered_templates``); to agents all but those
that make, start and stop it, as they work in that of the chat at the top of their family.

What happens on failure: a workspace that is dead, slow or gone is an error result within some seconds, never an error
of the turn.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from chatcluster.ports import Chat, Store, TurnTools
from chatcluster.ports.workspaces import Workspaces
from chatcluster.tools.offered_templates import OfferedTemplates
from chatcluster.tools.workspace_calls import WorkspaceCalls
from chatcluster.tools.workspace_commands import CommandTools
from chatcluster.tools.workspace_context import Surroundings
from chatcluster.tools.workspace_files import FileTools
from chatcluster.tools.workspace_life import LifeTools
from chatcluster.tools.workspace_link import Directory, Link, Touched, nobody_looks
from chatcluster.tools.workspace_screen import ScreenTools
from chatcluster.tools.workspace_servers import ServerTools, SilentAgents
from chatcluster.tools.workspace_turn import Run, WorkspaceTurn


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
        self.offered = OfferedTemplates(rows)
        self._rows = rows
        self._directory = directory
        self._store = store
        self._per_user_max = per_user_max
        self._touched = touched
        self._surroundings = Surroundings()
        self._silent = SilentAgents()

    def __repr__(self) -> str:
        return f"<WorkspaceTools {self.offered}>"

    def offers(self, chat: Chat) -> bool:  # noqa: ARG002
        """Whether there is any, or it is time to look again."""
        return bool(self.offered)

    @asynccontextmanager
    async def open(self, chat: Chat) -> AsyncIterator[TurnTools]:
        link = Link(chat, self._rows, self._directory, self._touched)
        calls = WorkspaceCalls(link, self._store)
        life = LifeTools(link, self._surroundings, self._per_user_max)
        runs = _runs(life, FileTools(link, calls), CommandTools(link, calls), ScreenTools(calls))
        servers = ServerTools(link, calls, self._silent)
        yield WorkspaceTurn(link, self.offered, self._surroundings, runs, servers)


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
