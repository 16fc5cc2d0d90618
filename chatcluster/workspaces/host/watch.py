"""The watch of one running workspace: whether its sandbox is still there, and which calls run in it.

The agent is asked only while there may be calls: they all pass through this host, so it knows when one was put.
"""

from __future__ import annotations

from uuid import UUID

import trio

from chatcluster.parts import storable
from chatcluster.ports.workspace import SandboxState, WorkspaceProvider
from chatcluster.ports.workspaces import RunningCall
from chatcluster.workspace_errors import StaleEpoch, WorkspaceRefused, WorkspaceUnreachable
from chatcluster.workspace_wire import CallUnderWay
from chatcluster.workspaces.host.running import Running

WATCH_SECONDS = 0.5
CALLS_MAX = 500
"""Of one workspace: an agent that tells of more takes nobody else's place in the look for those that are over."""
LOOKS_PER_STATUS = 4
"""A sandbox that ended is noticed two seconds later: who asks it finds out at once."""


async def watch(running: Running, provider: WorkspaceProvider) -> str:
    """Return what is said of its sandbox once that has ended by itself."""
    while True:
        for _ in range(LOOKS_PER_STATUS):
            await trio.sleep(WATCH_SECONDS)
            if running.may_have_calls:
                await _ask(running)
        status = await provider.status(str(running.row.id))
        if status.state is not SandboxState.RUNNING:
            return status.message or "its sandbox ended"


async def _ask(running: Running) -> None:
    puts = running.puts
    try:
        calls = await running.agent.under_way()
    except (WorkspaceUnreachable, WorkspaceRefused, StaleEpoch):
        return  # it is asked again, and tools say so themselves
    running.asked_at_put = puts
    running.calls = tuple(call for one in calls[:CALLS_MAX] if (call := _call_of_a_chat(one)) is not None)


def _call_of_a_chat(call: CallUnderWay) -> RunningCall | None:
    """None for what no database could be asked about."""
    if storable(call.call_id) != call.call_id:
        return None
    try:
        return RunningCall(UUID(call.chat_id), call.call_id)
    except ValueError:
        return None
