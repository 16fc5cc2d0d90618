"""Calls that nobody waits for any more are cancelled, also where an owner or a host died in between.

An owner whose turn is stopped cancels its calls at once; this is for when the owner, or the host, died before that. A
call that runs in the foreground is open in the ledger of its chat, so one that is not open there, or whose chat is
interrupted, is of no use: the agent is told to end it, with the epoch that the chat has now. What runs in the
background belongs to the workspace, and is left alone. So is what a command left running that has ended as it should:
it was in the foreground when its agent was asked, and not open any more when the database was.

Agents are asked by the watch of each workspace (``watch.py``), the database by one statement for all of them.
"""

from __future__ import annotations

from typing import NoReturn

import trio

from chatcluster import telemetry
from chatcluster.errors import ChatclusterError
from chatcluster.ports.workspaces import ClosedCall, RunningCall, WorkspaceHosts
from chatcluster.workspace_errors import StaleEpoch, WorkspaceRefused, WorkspaceUnreachable
from chatcluster.workspace_wire import CallState
from chatcluster.workspaces.host.running import Running, RunningWorkspaces

SWEEP_SECONDS = 0.5
CALLS_MAX = 5000


class Sweep:
    def __init__(self, hosts: WorkspaceHosts, running: RunningWorkspaces) -> None:
        self._hosts = hosts
        self._running = running
        self._cancelling: set[tuple[Running, RunningCall]] = set()

    async def run(self) -> NoReturn:
        async with trio.open_nursery() as nursery:
            while True:
                await trio.sleep(SWEEP_SECONDS)
                await self._look(nursery)

    async def _look(self, nursery: trio.Nursery) -> None:
        calls = {call: running for running in self._running for call in running.calls}
        if not calls:
            return
        try:
            closed = await self._hosts.closed_calls(list(calls)[:CALLS_MAX])
        except ChatclusterError as error:  # agents say what they like, and no other workspace is ended for it
            telemetry.event("workspace.sweep_failed", error=str(error))
            return
        for one in closed:
            call = RunningCall(one.chat_id, one.call_id)
            if (calls[call], call) not in self._cancelling:
                nursery.start_soon(self._cancel, calls[call], call, one)

    async def _cancel(self, running: Running, call: RunningCall, closed: ClosedCall) -> None:
        self._cancelling.add((running, call))
        try:
            chat_id = str(closed.chat_id)
            answer = await running.agent.cancel(closed.call_id, closed.epoch, chat_id=chat_id, foreground_only=True)
            running.forget(call)
            if answer.state is not CallState.EXITED:
                telemetry.event("workspace.call_cancelled", chat_id=chat_id, call_id=closed.call_id)
        except (WorkspaceUnreachable, WorkspaceRefused, StaleEpoch) as error:
            telemetry.event("workspace.sweep_failed", error=str(error))
        finally:
            self._cancelling.discard((running, call))
