"""The rows of workspaces: their templates, the hosts that run them, and the life of each.

Who is authoritative: the rows, and for what is idle the clock of the host that runs it (``LastUse``). A user's request
writes what is wanted, the host that has the workspace does it and reports; so either may die in between, and the other
finds it in the row.

    create → building → starting → running → stopping → stopped → (start) starting …
                 └────────┴─→ failed         any of them → deleted (the host removes the files, then the row)

* **A host** is a machine with a row and a lease. ``host_id`` is the machine's, and stays; ``incarnation`` is that of
  its process, and fences what an earlier one still reports. A lease is judged as those of replicas are: the token
  changes with each renewal, and an observer's own clock says how long it did not (``failure_detector.py``).
* **The host dies:** what it was building goes to another one; what was ``stopping`` is ``stopped``; the rest is
  ``lost``. The files are on that machine: once it is back, a lost workspace can be started. Until then ``start`` is
  refused, and ``create`` makes the chat another one: no file is given up by a guess.
* **The host starts again:** what it ran has ended with it, and is ``stopped``.
* **A chat** has one workspace that counts, and its agents work in that. A failed or lost one that another took the
  place of is ``replaced``.
* **A chat that is archived** has its workspace stopped, one that is deleted has it deleted: the hosts look.
* ``generation`` grows with each start, and fences the reports on the one before.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from enum import StrEnum
from typing import Any, NamedTuple, Protocol
from uuid import UUID

import msgspec

from chatcluster.ports.administration import Deed
from chatcluster.ports.registry import Heartbeat
from chatcluster.workspace_templates import TemplateSettings, Value

LOG_LINES_MAX = 2000
"""The most lines that are kept of one workspace; older ones go."""
LOG_LINE_CHARS_MAX = 2000
BUMP_AFTER = 0.05
"""A workspace's time is set anew once so much of the bump has passed: work in it writes no row each second."""


class WorkspaceState(StrEnum):
    BUILDING = "building"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    STOPPED = "stopped"
    FAILED = "failed"
    LOST = "lost"
    DELETED = "deleted"


class Startup(StrEnum):
    """How the start-up script fares. ``none``: there is none."""

    NONE = "none"
    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"


UNDER_WAY = (WorkspaceState.BUILDING, WorkspaceState.STARTING, WorkspaceState.RUNNING)
STARTABLE = (WorkspaceState.STOPPED, WorkspaceState.FAILED, WorkspaceState.LOST)
REPORTED_FROM: Mapping[WorkspaceState, tuple[WorkspaceState, ...]] = {
    WorkspaceState.STARTING: (WorkspaceState.BUILDING,),
    WorkspaceState.RUNNING: (WorkspaceState.STARTING, WorkspaceState.RUNNING),
    WorkspaceState.STOPPED: (WorkspaceState.STARTING, WorkspaceState.RUNNING, WorkspaceState.STOPPING),
    WorkspaceState.FAILED: (WorkspaceState.BUILDING, WorkspaceState.STARTING),
}
"""What a host may report, and of a workspace in which state."""


class Template(msgspec.Struct, frozen=True, kw_only=True):
    id: UUID
    name: str
    settings: TemplateSettings
    revision: int = 1
    """Grows with each change."""
    created_at: datetime | None = None
    updated_at: datetime | None = None


class WorkspaceHost(msgspec.Struct, frozen=True, kw_only=True):
    id: UUID
    incarnation: UUID
    name: str
    address: str
    """``host:port`` at which replicas reach it."""
    version: str
    provider: str
    sealed: bytes
    """The token that replicas show it."""
    problem: str = ""
    """Why it can run no workspace; empty if it can."""
    alive: bool = True
    workspaces: int = 0
    """The workspaces that are building, starting or running there."""
    started_at: datetime | None = None
    heartbeat_age_seconds: float = 0.0


class HostLease(NamedTuple):
    host_id: UUID
    incarnation: UUID


class MadeOf(msgspec.Struct, frozen=True, kw_only=True):
    """What a workspace was made of, as it was then: a later change of the template is for later workspaces."""

    template_id: UUID
    template_name: str
    settings: TemplateSettings
    parameters: dict[str, Value]


class WorkspaceTimes(msgspec.Struct, frozen=True, kw_only=True):
    expires_at: datetime | None = None
    """When it is stopped, if nobody works in it before. None: it does not run, or is never stopped."""
    last_used_at: datetime | None = None
    created_at: datetime | None = None
    started_at: datetime | None = None
    updated_at: datetime | None = None


class WorkspaceRow(msgspec.Struct, frozen=True, kw_only=True):
    """The fields of ``made_of`` and of ``times`` are columns of their own, by their names."""

    id: UUID
    owner_id: UUID
    chat_id: UUID
    name: str
    state: WorkspaceState
    made_of: MadeOf
    generation: int = 1
    host_id: UUID | None = None
    detail: str = ""
    """Why it failed, was lost or was stopped, where somebody ought to know."""
    startup: Startup = Startup.NONE
    built: bool = False
    """Whether there are files of it, on its host."""
    replaced: bool = False
    times: WorkspaceTimes = WorkspaceTimes()


class NewWorkspace(msgspec.Struct, frozen=True, kw_only=True):
    owner_id: UUID
    chat_id: UUID
    template: str
    """The template's name, or its ID."""
    name: str
    parameters: dict[str, Any] = {}


class Asked(NamedTuple):
    """The workspace as it is now, and whether the request changed anything."""

    workspace: WorkspaceRow
    changed: bool


class Located(NamedTuple):
    """A workspace, and where its agent is reached: nowhere while it has no living host."""

    workspace: WorkspaceRow
    address: str
    sealed: bytes


class Report(NamedTuple):
    """What a host has done: only of this generation."""

    workspace_id: UUID
    generation: int
    state: WorkspaceState
    detail: str = ""
    startup: Startup = Startup.NONE


class LastUse(NamedTuple):
    """When somebody worked last in a running workspace, and how long from now on nobody may before it is stopped."""

    workspace_id: UUID
    last_used_at: datetime
    seconds_left: float


class RunningCall(NamedTuple):
    chat_id: UUID
    call_id: str


class ClosedCall(NamedTuple):
    """A call that is not waited for any more, and the epoch of its chat: 2⁶²-1 if the chat is gone."""

    chat_id: UUID
    call_id: str
    epoch: int


GONE_EPOCH = (1 << 62) - 1


class LogLine(msgspec.Struct, frozen=True):
    number: int
    at: datetime
    source: str
    """build, start, startup or host."""
    text: str


class LogEntry(NamedTuple):
    source: str
    text: str


class Workspaces(Protocol):
    """What users, tools and administrators ask.

    A ``deed`` is logged with what was done. ``owner_id`` None is an administrator, or the cluster itself; what is
    somebody else's is ``WorkspaceNotFound``, and so is what is ``deleted``."""

    # templates

    async def templates(self, owner_id: UUID | None = None) -> tuple[Template, ...]:
        """The templates by name: those that are offered to this user, or all."""
        ...

    async def template(self, name: str, owner_id: UUID | None = None) -> Template:
        """The template of this name, or ID. Raises ``TemplateNotFound``, also if it is not offered to this user."""
        ...

    async def put_template(
        self, name: str, settings: TemplateSettings, deed: Deed | None = None, *, revision: int | None = None
    ) -> Template:
        """Make it, or change it: with a ``revision`` only if it has that one still. Raises ``TemplateChanged``,
        ``TemplatesFull``."""
        ...

    async def ensure_template(self, name: str, settings: TemplateSettings) -> bool:
        """Make it if there is none of this name, and room for one. Whether that was so."""
        ...

    async def remove_template(self, name: str, deed: Deed | None = None) -> bool:
        """Remove a template; its workspaces stay. False if there is none."""
        ...

    # workspaces

    async def create(self, new: NewWorkspace, *, per_user_max: int) -> Asked:
        """One for the chat, unless it has one that counts: ``changed`` is False then.

        Raises ``TemplateNotFound`` (one that is not offered to its owner is none), ``InvalidRequest`` (parameters),
        ``WorkspacesFull``, ``NoWorkspaceHost``, ``ChatNotFound``; 0 is no limit per user.
        """
        ...

    async def start(self, workspace_id: UUID, owner_id: UUID | None = None) -> Asked:
        """Nothing changes if it is under way. Raises ``WorkspaceHostAway``, ``NoWorkspaceHost``, and
        ``WorkspaceNotRunning`` while it is stopping: soon it can be started."""
        ...

    async def stop(self, workspace_id: UUID, owner_id: UUID | None = None) -> Asked:
        """Nothing changes if it does not run."""
        ...

    async def delete(self, workspace_id: UUID, owner_id: UUID | None = None) -> None: ...

    async def workspace(self, workspace_id: UUID, owner_id: UUID | None = None) -> WorkspaceRow: ...

    async def workspaces(self, owner_id: UUID | None = None) -> tuple[WorkspaceRow, ...]:
        """The newest first, at most 1000."""
        ...

    async def of_chat(self, chat_id: UUID) -> WorkspaceRow | None:
        """The one that counts."""
        ...

    async def locate(self, workspace_id: UUID) -> Located: ...

    async def bump(self, workspace_id: UUID) -> bool:
        """Somebody works in it: it has its template's ``activity_bump_seconds`` from now on, once ``BUMP_AFTER`` of
        them have passed. Whether the row was written."""
        ...

    async def bump_owned(self, worker_id: UUID) -> int:
        """Bump the workspaces of all chats that a worker has at work. How many rows were written."""
        ...

    async def log(self, workspace_id: UUID, *, after: int = 0, limit: int = 500) -> tuple[LogLine, ...]:
        """Lines behind that number, in order."""
        ...


class WorkspaceHosts(Protocol):
    """The calls of hosts: their leases, their work and their reports; and the questions about hosts."""

    async def hosts(self) -> tuple[WorkspaceHost, ...]: ...

    async def register(self, host: WorkspaceHost) -> tuple[WorkspaceRow, ...]:
        """Register a host. Returns the workspaces which an earlier incarnation of it ran: they are stopped now."""
        ...

    async def renew(self, lease: HostLease, *, problem: str = "") -> None:
        """Raises ``LeaseLost`` when the row has another incarnation, or this one was buried."""
        ...

    async def retire(self, lease: HostLease) -> None:
        """The host ends in order, with nothing running: its workspaces are stopped, what it builds goes elsewhere."""
        ...

    async def heartbeats(self) -> dict[UUID, Heartbeat]:
        """The heartbeats of the hosts that are alive, and of those that left a workspace behind which is to be lost."""
        ...

    async def bury(self, host_id: UUID, token: str) -> tuple[WorkspaceRow, ...] | None:
        """Declare a host dead if its token is this one still. Returns what was lost; None if it was renewed. A
        workspace whose row somebody holds is left to a later burial."""
        ...

    async def last_uses(self, lease: HostLease) -> tuple[LastUse, ...]:
        """Of the workspaces that run here, and are stopped once they are idle."""
        ...

    async def work(self, lease: HostLease, *, places: int, idle: Collection[LastUse] = ()) -> tuple[WorkspaceRow, ...]:
        """What this host has to do: its workspaces that are building, starting, stopping or deleted. Before it looks,
        it takes up to ``places`` that nobody builds, and has those stopped that are ``idle``, unless they were used
        meanwhile or their chats are at work, or whose chats are archived, and those deleted whose chats are gone.
        Raises ``LeaseLost``."""
        ...

    async def report(self, lease: HostLease, report: Report) -> bool:
        """False if the workspace is in another state by now, of another generation, or another incarnation's."""
        ...

    async def removed(self, lease: HostLease, workspace_id: UUID) -> bool:
        """The files of a deleted workspace are gone: now the row goes as well."""
        ...

    async def closed_calls(self, calls: Collection[RunningCall]) -> tuple[ClosedCall, ...]:
        """Those of them that nobody waits for any more: they are not open in the ledger, or their chat is interrupted
        or archived."""
        ...

    async def append_log(self, workspace_id: UUID, entries: Collection[LogEntry]) -> None:
        """Bounded by ``LOG_LINES_MAX`` and ``LOG_LINE_CHARS_MAX``; of a workspace that is gone it is dropped."""
        ...


# --- what both implementations say -------------------------------------------------------------


def log_text(text: str) -> str:
    """A line as it is kept: what no column takes is left out of it."""
    return text.replace("\0", "").encode(errors="replace").decode()[:LOG_LINE_CHARS_MAX]


HOST_ENDED = "its host ended, and started again"
HOST_STOPPED = "its host was stopped"
HOST_LOST = "its host does not answer any more"
