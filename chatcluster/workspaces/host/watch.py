"""The watch of one running workspace: whether its sandbox is still there, and which calls run in it.

The agent is asked only while there may be calls: they all pass through this host, so it knows when one was put.
"""

from __future__ import annotations

from uuid import UUID

import trio

from chatcluster.ports.workspace import SandboxState, WorkspaceProvider
from chatcluster.ports.workspaces import RunningCall
from chatcluster.workspace_errors import WorkspaceRefused, WorkspaceUnreachable
from chatcluster.workspace_wire import CallState, ProcessAnswer
from chatcluster.workspaces.host.running import Running

WATCH_SECONDS = 0.5


async def watch(running: Running, provider: WorkspaceProvider) -> str:
    """Return what is said of its sandbox once that has ended by itself."""
    while True:
        await trio.sleep(WATCH_SECONDS)
        status = await provider.status(str(running.row.id))
        if status.state is not SandboxState.RUNNING:
            return status.message or "its sandbox ended"
        if running.may_have_calls:
            await _ask(running)


async def _ask(running: Running) -> None:
    puts = running.puts
    try:
        processes = await running.agent.processes()
    except (WorkspaceUnreachable, WorkspaceRefused):
        return  # it is asked again, and tools say so themselves
    running.asked_at_put = puts
    running.calls = tuple(call for process in processes if (call := _foreground(process)) is not None)


def _foreground(process: ProcessAnswer) -> RunningCall | None:
    if process.background or process.state is not CallState.RUNNING:
        return None
    try:
        return RunningCall(UUID(process.chat_id), process.call_id)
    except ValueError:
        return None
