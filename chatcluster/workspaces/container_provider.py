"""Workspaces as containers of an engine (``docker_engine.py``, ``kubernetes_engine.py``): what is the same for all.

A container is made anew for each start and removed at each stop; what is kept is its place: files and the agent's
ledger. As a container outlives the process that made it, its agent is on a leash (``agent/leash.py``), which this
process holds: when this process is gone the agent ends within a second or two, and the next process removes what is
left.

The leash is also what is known of a container: while it is held the agent lives, without a question to the engine.

What is done to one workspace is done in turn. What happens on failure: an agent that does not answer in time, or whose
container ended before, is removed, and ``SandboxFailed`` has what the engine says of it. An engine that does not answer
is ``EngineUnreachable``, and what was asked is asked again where it is still wanted.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import trio

from chatcluster import telemetry
from chatcluster.errors import ChatclusterError
from chatcluster.ports.workspace import SandboxState, SandboxStatus, Workspace, WorkspaceSpec
from chatcluster.workspace_errors import SandboxFailed, WorkspaceUnreachable
from chatcluster.workspaces.agent_client import AgentClient, Dial
from chatcluster.workspaces.network_proxy import NetworkProxies
from chatcluster.workspaces.places import checked_id
from chatcluster.workspaces.reach import Network

LOOK_SECONDS = 0.05
LOOKS_PER_QUESTION = 20
"""The engine is asked each second what has become of a container whose agent does not answer."""
HELD_SECONDS_MIN = 1.0
"""An agent that lets go sooner has ended, or wants another host."""
STOP_SECONDS = 4.0
REMOVE_SECONDS_MAX = 20.0

Header = tuple[str, str]


class Agent:
    """The way to the agent of a container: how it is dialled, and what each request to it has to bring."""

    def __init__(self, dial: Dial, headers: Sequence[Header] = ()) -> None:
        self.dial = dial
        self.headers = tuple(headers)
        self.client = AgentClient(dial, headers=self.headers)


class WayOut(NamedTuple):
    """Where the proxy of a container listens that has a network, and whose its socket is."""

    socket: Path
    user: int | None


class Engine(Protocol):
    """What makes containers. Each deed is the same as often as it is done; each raises ``SandboxFailed``, of which
    ``EngineRefused`` and ``EngineUnreachable`` are kinds."""

    unbounded: tuple[str, ...]
    """Limits that it cannot keep, a sentence each."""
    start_seconds: float

    async def make_place(self, spec: WorkspaceSpec) -> None:
        """Make the place where the files of the workspace are kept."""
        ...

    async def has_place(self, workspace_id: str) -> bool: ...

    def way_out(self, spec: WorkspaceSpec) -> WayOut | None:
        """That of a container that is to have a network; None where it has no files in common with this machine: then
        connections are lent to its agent."""
        ...

    async def launch(self, spec: WorkspaceSpec) -> Agent:
        """Launch its container, in the place of any that was there before; it runs, or is about to."""
        ...

    async def ending(self, workspace_id: str) -> str | None:
        """How its container ended by itself; None while it may still come up, or run."""
        ...

    async def remove(self, workspace_id: str) -> None:
        """Remove its container, however it is."""
        ...

    async def remove_place(self, workspace_id: str) -> None: ...

    async def remove_orphans(self) -> None:
        """What earlier processes of this host left."""
        ...


@dataclass
class _Container:
    agent: Agent
    leash: trio.CancelScope
    is_held: bool = True


class ContainerProvider:
    """``WorkspaceProvider``."""

    def __init__(self, engine: Engine, nursery: trio.Nursery, proxies: NetworkProxies) -> None:
        self._engine = engine
        self._proxies = proxies
        self._nursery = nursery
        self._containers: dict[str, _Container] = {}
        self._ends: dict[str, str] = {}
        """How those ended that ended by themselves."""
        self._turns: defaultdict[str, trio.Lock] = defaultdict(trio.Lock)

    @property
    def unbounded(self) -> tuple[str, ...]:
        """What cannot be kept, a sentence each."""
        return self._engine.unbounded

    async def remove_orphans(self) -> None:
        await self._engine.remove_orphans()

    async def create(self, spec: WorkspaceSpec) -> None:
        async with self._turns[checked_id(spec.workspace_id)]:
            await self._engine.make_place(spec)

    async def start(self, spec: WorkspaceSpec) -> None:
        workspace_id = checked_id(spec.workspace_id)
        async with self._turns[workspace_id]:
            if not self._is_running(workspace_id):
                await self._engine.make_place(spec)
                await self._start(spec)

    async def stop(self, workspace_id: str) -> None:
        async with self._turns[checked_id(workspace_id)]:
            await self._stop(workspace_id)

    async def delete(self, workspace_id: str) -> None:
        async with self._turns[checked_id(workspace_id)]:
            await self._stop(workspace_id)
            self._ends.pop(workspace_id, None)
            await self._engine.remove_place(workspace_id)
        del self._turns[workspace_id]

    async def status(self, workspace_id: str) -> SandboxStatus:
        if self._is_running(workspace_id):
            return SandboxStatus(state=SandboxState.RUNNING, unbounded=self.unbounded)
        if workspace_id in self._containers:
            await self._note_end(workspace_id)
        if (end := self._ends.get(workspace_id)) is not None:
            return SandboxStatus(state=SandboxState.FAILED, message=end)
        is_there = await self._engine.has_place(checked_id(workspace_id))
        return SandboxStatus(state=SandboxState.STOPPED if is_there else SandboxState.ABSENT)

    def connect(self, workspace_id: str) -> Workspace:
        async def dial() -> trio.abc.Stream:
            return await self.dial(workspace_id)

        container = self._containers.get(workspace_id)
        return AgentClient(dial, headers=() if container is None else container.agent.headers)

    async def dial(self, workspace_id: str) -> trio.abc.Stream:
        """A connection to its agent. Raises ``OSError``."""
        container = self._containers.get(workspace_id)
        if container is None:
            raise OSError("the workspace does not run")
        return await container.agent.dial()

    def headers(self, workspace_id: str) -> Sequence[Header]:
        """What each request to its agent has to bring."""
        container = self._containers.get(workspace_id)
        return () if container is None else container.agent.headers

    async def stop_all(self) -> None:
        async with trio.open_nursery() as nursery:
            for workspace_id in list(self._containers):
                nursery.start_soon(self._stop_in_the_end, workspace_id)

    async def _stop_in_the_end(self, workspace_id: str) -> None:
        """What cannot be removed now has lost its leash, and the next process of this host removes it."""
        with trio.move_on_after(REMOVE_SECONDS_MAX):
            try:
                await self.stop(workspace_id)
            except ChatclusterError as error:
                telemetry.event("workspace.postponed", workspace_id=workspace_id, state="stopping", error=str(error))

    # --- starting -----------------------------------------------------------------------------

    async def _start(self, spec: WorkspaceSpec) -> None:
        workspace_id = spec.workspace_id
        self._ends.pop(workspace_id, None)
        self._containers.pop(workspace_id, None)
        try:
            way = self._engine.way_out(spec) if spec.allowed_hosts else None
            if way is not None:
                self._proxies.open(workspace_id, way.socket, spec.allowed_hosts, way.user)
            agent = await self._engine.launch(spec)
            with trio.fail_after(self._engine.start_seconds):
                await self._wait_for_agent(workspace_id, agent)
                await self._take_leash(workspace_id, agent)
            if spec.allowed_hosts and way is None:
                self._proxies.lend(workspace_id, agent.client.lend, spec.allowed_hosts)
        except trio.TooSlowError:
            said = await self._end_of(workspace_id)
            self._proxies.close(workspace_id)
            await self._engine.remove(workspace_id)
            raise SandboxFailed(
                f"the agent did not answer within {self._engine.start_seconds:g} seconds: {said}"
            ) from None
        except (ChatclusterError, OSError, trio.Cancelled):
            with trio.CancelScope(shield=True, deadline=trio.current_time() + REMOVE_SECONDS_MAX):
                await self._remove_quietly(workspace_id)
            raise

    async def _wait_for_agent(self, workspace_id: str, agent: Agent) -> None:
        """Until it answers. Raises ``SandboxFailed`` if there is nobody any more who could."""
        looks = 0
        while True:
            with suppress(WorkspaceUnreachable):
                await agent.client.status()
                return
            await trio.sleep(LOOK_SECONDS)
            looks += 1
            if looks % LOOKS_PER_QUESTION == 0 and (end := await self._engine.ending(workspace_id)) is not None:
                raise SandboxFailed(end)

    async def _take_leash(self, workspace_id: str, agent: Agent) -> None:
        container = _Container(agent, trio.CancelScope())
        await self._nursery.start(self._hold, container)
        self._containers[workspace_id] = container

    async def _hold(self, container: _Container, task_status: trio.TaskStatus[None]) -> None:
        """Until the agent has ended. A connection that broke is made again at once: the agent waits that long."""
        task_status.started()
        with container.leash, suppress(WorkspaceUnreachable):
            while True:
                held_at = trio.current_time()
                await container.agent.client.hold()
                if trio.current_time() - held_at < HELD_SECONDS_MIN:
                    break
        container.is_held = False

    # --- ending -------------------------------------------------------------------------------

    def _is_running(self, workspace_id: str) -> bool:
        container = self._containers.get(workspace_id)
        return container is not None and container.is_held

    async def _note_end(self, workspace_id: str) -> None:
        """Note the end of one whose agent has let go of its leash: it ended, or is of no use any more."""
        self._proxies.close(workspace_id)
        self._ends[workspace_id] = await self._end_of(workspace_id)
        self._containers.pop(workspace_id, None)

    async def _end_of(self, workspace_id: str) -> str:
        try:
            return await self._engine.ending(workspace_id) or "its agent has ended"
        except SandboxFailed as error:
            return f"its agent has ended, and how is not known: {error}"

    async def _stop(self, workspace_id: str) -> None:
        """The agent ends what runs and says so in its ledger; then, or after a while, all ends. Without its leash the
        agent that answers there may be one that a later process of this host started."""
        container = self._containers.get(workspace_id)
        if container is not None and container.is_held:
            with trio.move_on_after(STOP_SECONDS), suppress(ChatclusterError):  # it need not agree
                await container.agent.client.stop()
        self._proxies.close(workspace_id)
        await self._engine.remove(workspace_id)
        if container is not None:
            container.leash.cancel()
            self._containers.pop(workspace_id, None)

    async def _remove_quietly(self, workspace_id: str) -> None:
        """After something else has failed, which is what is to be told."""
        self._proxies.close(workspace_id)
        try:
            await self._engine.remove(workspace_id)
        except SandboxFailed as error:
            telemetry.event("workspace.postponed", workspace_id=workspace_id, state="starting", error=str(error))


@asynccontextmanager
async def open_containers(engine: Engine, *, private: tuple[Network, ...] = ()) -> AsyncIterator[ContainerProvider]:
    """A provider for the engine. On leaving, all is stopped. ``private``: networks of one's own that its containers may
    reach."""
    async with trio.open_nursery() as nursery:
        provider = ContainerProvider(engine, nursery, NetworkProxies(nursery, private))
        try:
            yield provider
        finally:
            with trio.CancelScope(shield=True):  # each bounded
                await provider.stop_all()
            nursery.cancel_scope.cancel()
