"""What a host knows of the workspaces that run on it: shared by those who start, forward and sweep."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from uuid import UUID

import trio

from chatcluster.ports.workspace import Workspace
from chatcluster.ports.workspaces import RunningCall, WorkspaceRow
from chatcluster.workspaces.host.idle import IdleWatch


@dataclass(eq=False)
class Running:
    """One workspace whose agent has answered."""

    row: WorkspaceRow
    agent: Workspace
    scope: trio.CancelScope = field(default_factory=trio.CancelScope)
    """The scope of what is done beside it: its watch and its start-up script."""
    puts: int = 0
    """Calls that were put through to it: while this stands still, and none runs, nobody has to be asked."""
    asked_at_put: int = 0
    calls: tuple[RunningCall, ...] = ()
    """The calls in the foreground, when its agent was asked last."""

    @property
    def may_have_calls(self) -> bool:
        return bool(self.calls) or self.puts != self.asked_at_put

    def forget(self, call: RunningCall) -> None:
        """The call was cancelled: the agent is asked once more what runs."""
        self.calls = tuple(other for other in self.calls if other != call)
        self.asked_at_put = -1


class RunningWorkspaces:
    def __init__(self) -> None:
        self._by_id: dict[UUID, Running] = {}
        self.idle = IdleWatch()

    def __len__(self) -> int:
        return len(self._by_id)

    def __iter__(self) -> Iterator[Running]:
        return iter(list(self._by_id.values()))

    def find(self, workspace_id: UUID) -> Running | None:
        return self._by_id.get(workspace_id)

    def add(self, running: Running) -> None:
        self._by_id[running.row.id] = running

    def remove(self, workspace_id: UUID) -> None:
        """Forward to it no more, and end what is done beside it."""
        running = self._by_id.pop(workspace_id, None)
        if running is not None:
            running.scope.cancel()
