"""The way of a replica to the agents: row → host → ``Workspace``.

Looked up lazily, at the first call that needs it, and kept for ``KEPT_SECONDS``. A caller uses it as if its host never
moved: after a dial that fails, or where the host began anew and so has another token, the row is looked up anew, and
the request is made once more if it may be repeated (each request to an agent has an ID and may, but for ``signal``).

What happens on failure: ``WorkspaceGone`` where the row says that it does not run, or its host says so: it has to be
started. ``WorkspaceUnreachable`` for all else, within ``SILENCE_SECONDS``: the next call may find it well.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import NamedTuple, TypeVar
from urllib.parse import urlsplit
from uuid import UUID

import trio

from chatcluster.errors import SecretUnreadable, StoreUnavailable, Unreadable
from chatcluster.ports.workspace import Workspace
from chatcluster.ports.workspaces import Located, Workspaces, WorkspaceState
from chatcluster.secrets import Keyring, place_of
from chatcluster.workspace_errors import WorkspaceGone, WorkspaceNotFound, WorkspaceRefused, WorkspaceUnreachable
from chatcluster.workspace_mcp import McpAnswer
from chatcluster.workspace_wire import (
    AgentStatus,
    CallAnswer,
    CallRequest,
    CallUnderWay,
    Code,
    DiffAnswer,
    FileAnswer,
    InstructionsAnswer,
    ProcessAnswer,
    Screen,
)
from chatcluster.workspaces.agent_client import over_tcp
from chatcluster.workspaces.host.forward import NOT_RUNNING

KEPT_SECONDS = 30.0
KEPT_MAX = 10_000
DEFAULT_PORT = 80

T = TypeVar("T")
Connect = Callable[[Located, str], Workspace]


class _Kept(NamedTuple):
    agent: Workspace
    until: float


class WorkspaceDirectory:
    def __init__(self, workspaces: Workspaces, keyring: Keyring, connect: Connect | None = None) -> None:
        self._workspaces = workspaces
        self._keyring = keyring
        self._connect = connect or connect_through_host
        self._kept: dict[UUID, _Kept] = {}

    async def workspace(self, workspace_id: UUID) -> Workspace:
        """Raises ``WorkspaceGone`` and ``WorkspaceUnreachable``."""
        await self.agent(workspace_id)
        return _Followed(self, workspace_id)

    def forget(self, workspace_id: UUID) -> None:
        """The next call looks it up anew."""
        self._kept.pop(workspace_id, None)

    async def agent(self, workspace_id: UUID) -> Workspace:
        """The agent where it was found last. Raises as ``workspace``."""
        kept, now = self._kept.get(workspace_id), trio.current_time()
        if kept is not None and now < kept.until:
            return kept.agent
        agent = self._connected(await self._locate(workspace_id))
        if len(self._kept) >= KEPT_MAX:
            self._kept.clear()
        self._kept[workspace_id] = _Kept(agent, now + KEPT_SECONDS)
        return agent

    async def _locate(self, workspace_id: UUID) -> Located:
        try:
            return await self._workspaces.locate(workspace_id)
        except WorkspaceNotFound:
            raise WorkspaceGone("the workspace was deleted") from None
        except (StoreUnavailable, Unreadable) as error:
            raise WorkspaceUnreachable(f"the workspace cannot be looked up: {error}") from None

    def _connected(self, located: Located) -> Workspace:
        row = located.workspace
        if row.state is not WorkspaceState.RUNNING:
            why = f": {row.detail}" if row.detail else ""
            raise WorkspaceGone(f"the workspace is {row.state}{why}; start it")
        if not located.address:
            raise WorkspaceGone("the workspace's host does not answer; start it when the host is back")
        try:
            token = self._keyring.open(located.sealed, host_token_place(row.host_id)).decode()
        except (SecretUnreadable, UnicodeError) as error:
            raise WorkspaceUnreachable(f"the token of the workspace's host cannot be read: {error}") from None
        try:
            return self._connect(located, token)
        except ValueError:
            raise WorkspaceUnreachable("the address of the workspace's host is none") from None


class _Followed:
    """``Workspace``: the agent, wherever its row says that it is now."""

    def __init__(self, directory: WorkspaceDirectory, workspace_id: UUID) -> None:
        self._directory = directory
        self._workspace_id = workspace_id

    async def put(self, call_id: str, request: CallRequest) -> CallAnswer:
        return await self._ask(lambda agent: agent.put(call_id, request))

    async def call(self, call_id: str, *, offset: int = 0, wait_seconds: float = 0) -> CallAnswer:
        return await self._ask(lambda agent: agent.call(call_id, offset=offset, wait_seconds=wait_seconds))

    async def cancel(self, call_id: str, epoch: int, *, chat_id: str = "", foreground_only: bool = False) -> CallAnswer:
        return await self._ask(
            lambda agent: agent.cancel(call_id, epoch, chat_id=chat_id, foreground_only=foreground_only)
        )

    async def under_way(self) -> Sequence[CallUnderWay]:
        return await self._ask(lambda agent: agent.under_way())

    async def mcp(self, *, wait_seconds: float = 0) -> McpAnswer:
        return await self._ask(lambda agent: agent.mcp(wait_seconds=wait_seconds))

    async def processes(self) -> Sequence[ProcessAnswer]:
        return await self._ask(lambda agent: agent.processes())

    async def signal(self, call_id: str, signal: str) -> ProcessAnswer:
        return await self._ask(lambda agent: agent.signal(call_id, signal), repeats=False)

    async def read_file(self, path: str, *, offset: int, limit: int) -> FileAnswer:
        return await self._ask(lambda agent: agent.read_file(path, offset=offset, limit=limit))

    async def instructions(self, directory: str = "") -> InstructionsAnswer:
        return await self._ask(lambda agent: agent.instructions(directory))

    async def diff(self, *, base: str = "", directory: str = "") -> DiffAnswer:
        return await self._ask(lambda agent: agent.diff(base=base, directory=directory))

    async def screen(self) -> Screen:
        return await self._ask(lambda agent: agent.screen())

    async def status(self) -> AgentStatus:
        return await self._ask(lambda agent: agent.status())

    async def _ask(self, ask: Callable[[Workspace], Awaitable[T]], *, repeats: bool = True) -> T:
        began = trio.current_time()
        try:
            return await self._asked(ask)
        except WorkspaceUnreachable:
            self._directory.forget(self._workspace_id)
            if not repeats or trio.current_time() - began > RETRY_WITHIN_SECONDS:
                raise
        return await self._asked(ask)

    async def _asked(self, ask: Callable[[Workspace], Awaitable[T]]) -> T:
        agent = await self._directory.agent(self._workspace_id)
        try:
            return await ask(agent)
        except WorkspaceRefused as refused:
            if refused.code not in (NOT_RUNNING, Code.INVALID_TOKEN):
                raise
            self._directory.forget(self._workspace_id)
            if refused.code == Code.INVALID_TOKEN:
                raise WorkspaceUnreachable(f"the workspace's host is another process now: {refused}") from None
            raise WorkspaceGone(str(refused)) from None


RETRY_WITHIN_SECONDS = 1.0
"""A dial that failed at once may be to an address that is not the host's any more; silence is told as it is."""


def connect_through_host(located: Located, token: str) -> Workspace:
    parts = urlsplit(f"//{located.address}")
    path = f"/workspaces/{located.workspace.id}/agent"
    return over_tcp(parts.hostname or "", parts.port or DEFAULT_PORT, path=path, token=token)


def host_token_place(host_id: UUID | None) -> str:
    """What a host's token is sealed for."""
    return place_of("workspace_hosts", "sealed", host_id)
