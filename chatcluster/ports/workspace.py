"""Workspaces: the place where a chat's commands run and its files are, as callers see it.

A ``Workspace`` is the agent of one of them (``workspace_wire.py`` has what is said to it). Who is authoritative: the
agent's ledger says which calls were begun there and what became of each. It outlives the agent; so a call whose
caller died is asked for by its ID, and is attached to, not repeated.

A ``WorkspaceProvider`` makes the places themselves. Each of its deeds is the same as often as it is done, so who does
not know whether one was done does it again. What it made dies with the process that it is in: a sandbox without its
provider does not run on. One that the process before it left is told apart, and is none of its own.

What happens on failure: ``WorkspaceUnreachable`` within ``SILENCE_SECONDS``; whatever the agent refuses was not begun.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

import msgspec

from chatcluster.workspace_mcp import McpAnswer
from chatcluster.workspace_wire import (
    AgentStatus,
    CallAnswer,
    CallRequest,
    CallUnderWay,
    DiffAnswer,
    FileAnswer,
    InstructionsAnswer,
    ProcessAnswer,
    Screen,
)

SILENCE_SECONDS = 5.0


class Workspace(Protocol):
    """Each method raises ``WorkspaceUnreachable``, and ``WorkspaceRefused`` with the agent's code and message."""

    async def put(self, call_id: str, request: CallRequest) -> CallAnswer:
        """Begin a call, or attach to it. A command is answered as it runs; the other kinds when they are done, or
        as running if they take more than two seconds. Raises ``StaleEpoch`` and ``CallConflict``."""
        ...

    async def call(self, call_id: str, *, offset: int = 0, wait_seconds: float = 0) -> CallAnswer:
        """A call, and its output from ``offset`` on. Waits, for ``WAIT_SECONDS_MAX`` at most, until there is output
        beyond the offset or it has ended. Raises ``UnknownCall``."""
        ...

    async def cancel(self, call_id: str, epoch: int, *, chat_id: str = "", foreground_only: bool = False) -> CallAnswer:
        """End all processes of a call, within about a second; or bury an ID that was never seen. A call that has ended
        stays as it is, and what it left behind is ended. With ``foreground_only`` a call in the background goes on, and
        so does what an ended call left behind. Raises ``StaleEpoch``."""
        ...

    async def under_way(self) -> Sequence[CallUnderWay]:
        """The calls that run in the foreground, of whatever kind."""
        ...

    async def mcp(self, *, wait_seconds: float = 0) -> McpAnswer:
        """The servers that its ``.mcp.json`` names, begun where they were not yet; waits for those that are just
        starting, for ``WAIT_SECONDS_MAX`` at most."""
        ...

    async def processes(self) -> Sequence[ProcessAnswer]: ...

    async def signal(self, call_id: str, signal: str) -> ProcessAnswer:
        """``terminate`` or ``kill``. Raises ``UnknownCall``."""
        ...

    async def read_file(self, path: str, *, offset: int, limit: int) -> FileAnswer: ...

    async def instructions(self, directory: str = "") -> InstructionsAnswer: ...

    async def diff(self, *, base: str = "", directory: str = "") -> DiffAnswer: ...

    async def screen(self) -> Screen:
        """What is on its screen now."""
        ...

    async def status(self) -> AgentStatus: ...


class WorkspaceLimits(msgspec.Struct, frozen=True, kw_only=True):
    """What one workspace may take of its machine."""

    memory_bytes: int = 2 << 30
    processes_max: int = 512
    cpus: float = 0.0
    """Processors; 0: as many as there are."""
    disk_bytes: int = 4 << 30
    tmp_bytes: int = 512 << 20
    open_files_max: int = 4096
    output_bytes_max: int = 10 << 20
    """Kept of what one call writes."""


class WorkspaceSpec(msgspec.Struct, frozen=True, kw_only=True):
    """All that a provider has to know of a workspace, the same at each start."""

    workspace_id: str
    owner_id: str
    limits: WorkspaceLimits = WorkspaceLimits()
    environment: dict[str, str] = {}
    """The environment of its commands. No secrets: whatever runs there can read them."""
    allowed_hosts: tuple[str, ...] = ()
    """``name`` or ``*.name``, with ``:port`` where it is not 443 or 80; empty: no network at all."""
    base: str = ""
    """A template's own: a directory with a ``/usr``, or an image; empty: what the host offers, such as its own
    system."""
    desktop: bool = False
    screen: tuple[int, int] = (1280, 800)
    """Width and height of its desktop."""


class SandboxState(StrEnum):
    ABSENT = "absent"
    STOPPED = "stopped"
    RUNNING = "running"
    FAILED = "failed"
    """The sandbox ended by itself; ``message`` says how."""


class SandboxStatus(msgspec.Struct, frozen=True, kw_only=True):
    state: SandboxState
    message: str = ""
    unbounded: tuple[str, ...] = ()
    """Limits that cannot be kept on this machine, a sentence each."""


class WorkspaceProvider(Protocol):
    async def remove_orphans(self) -> None:
        """Remove what earlier processes of this host left, of which none lives any more: that is for the caller to
        know. Raises ``SandboxFailed``."""
        ...

    async def create(self, spec: WorkspaceSpec) -> None:
        """Make its place on the disk. Raises ``SandboxFailed``."""
        ...

    async def start(self, spec: WorkspaceSpec) -> None:
        """Start it, and ``create`` it first where it is not there. Returns when the agent answers.

        Raises ``SandboxMissing`` and ``SandboxFailed``."""
        ...

    async def stop(self, workspace_id: str) -> None:
        """End all that runs in it; its files and its ledger stay."""
        ...

    async def delete(self, workspace_id: str) -> None:
        """Stop it and remove all of it."""
        ...

    async def status(self, workspace_id: str) -> SandboxStatus: ...

    def connect(self, workspace_id: str) -> Workspace:
        """The way to its agent; nothing is dialled yet."""
        ...
