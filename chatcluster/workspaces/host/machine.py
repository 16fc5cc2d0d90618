"""The incarnations of a host: each has a lease of its own, and leaves nothing running behind.

A process begins as no second one of a host that lives: each directory of workspaces has one, and its copy is another's.
Then it removes what earlier ones left. Register, then lease, lives and sweep until one of them ends. A lease that is
lost ends the incarnation: all sandboxes are stopped, which takes less than ``lease_margin_seconds`` where their agents
answer, and the next one registers. A cancellation is the end in order: the same, and the row says that this host is
away.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import NoReturn
from uuid import UUID, uuid4

import trio

from chatcluster import telemetry
from chatcluster.config import Settings
from chatcluster.errors import ChatclusterError, ConfigError, LeaseLost, StoreUnavailable
from chatcluster.ports.workspace import WorkspaceProvider
from chatcluster.ports.workspaces import HostLease, WorkspaceHost, WorkspaceHosts
from chatcluster.workspace_errors import SandboxFailed
from chatcluster.workspaces.host.identity import Incarnations
from chatcluster.workspaces.host.lease import keep_lease
from chatcluster.workspaces.host.lives import Lives
from chatcluster.workspaces.host.running import RunningWorkspaces
from chatcluster.workspaces.host.settings import HostSettings
from chatcluster.workspaces.host.sweep import Sweep

REGISTER_RETRY_SECONDS = 0.5
SECOND_LOOK_HEARTBEATS = 2.5
"""A process that lives has renewed its lease by then, also a slow one."""
STOP_SECONDS_MAX = 8.0
RETIRE_SECONDS_MAX = 2.0


@dataclass(frozen=True, kw_only=True)
class Identity:
    """What is in the row of a host but its incarnation."""

    id: UUID
    name: str
    address: str
    version: str
    provider: str
    sealed: bytes
    problem: str = ""


class Machine:
    """``provider`` is None where there is a ``problem``: the row says so, and nothing is run."""

    def __init__(
        self,
        identity: Identity,
        hosts: WorkspaceHosts,
        provider: WorkspaceProvider | None,
        running: RunningWorkspaces,
        settings: Settings,
        host_settings: HostSettings,
        incarnations: Incarnations,
        *,
        on_registered: Callable[[str], None] = lambda _problem: None,
    ) -> None:
        self._identity = identity
        self._hosts = hosts
        self._provider = provider
        self._running = running
        self._settings = settings
        self._host_settings = host_settings
        self._incarnations = incarnations
        self._on_registered = on_registered

    async def run(self) -> NoReturn:
        """Until it is cancelled. Raises ``ConfigError`` where another process is this host."""
        await self._be_no_second_one()
        await self._remove_orphans()
        while True:
            lease = HostLease(self._identity.id, uuid4())
            self._incarnations.begin(lease.incarnation)
            try:
                await self._live(lease)
            except* LeaseLost as group:
                telemetry.event(
                    "workspace.host_lease_lost", host_id=str(lease.host_id), reason=str(group.exceptions[0])
                )
            await self._be_the_only_one(lease)

    async def _be_no_second_one(self) -> None:
        """A supervisor that starts this host again and again would have it take the other's place each time, and end
        the workspaces there. Raises ``ConfigError`` where another host renews a lease that is none of this
        directory's."""
        before = await self._lease_of_another()
        if before is not None:
            await trio.sleep(SECOND_LOOK_HEARTBEATS * self._settings.ownership.heartbeat_seconds)
            if await self._lease_of_another() not in (None, before):
                raise _another(self._identity.id)

    async def _remove_orphans(self) -> None:
        """Not before it is known that they are nobody's who lives. What cannot be removed is a problem of this host."""
        if self._provider is None:
            return
        try:
            await self._provider.remove_orphans()
        except SandboxFailed as error:
            telemetry.event("workspace.host_cannot", reason=str(error))
            self._identity, self._provider = replace(self._identity, problem=str(error)), None

    async def _lease_of_another(self) -> str | None:
        """The token of a lease that no process of this directory took; None if there is none."""
        while True:
            try:
                hosts = {one.id: one.incarnation for one in await self._hosts.hosts() if one.alive}
                found = (await self._hosts.heartbeats()).get(self._identity.id)
            except StoreUnavailable as error:
                telemetry.event("workspace.host_waiting", reason=str(error))
                await trio.sleep(REGISTER_RETRY_SECONDS)
            else:
                is_ours = hosts.get(self._identity.id) in (None, self._incarnations.last)
                return None if found is None or is_ours else found.token

    async def _be_the_only_one(self, lost: HostLease) -> None:
        """Two that began at the same moment, or took each other for dead, would take each other's place by turns for
        ever: the one that did it last stays. Raises ``ConfigError``."""
        try:
            hosts = await self._hosts.hosts()
        except StoreUnavailable:
            return
        if any(one.id == lost.host_id and one.alive and one.incarnation != lost.incarnation for one in hosts):
            raise _another(lost.host_id)

    async def _live(self, lease: HostLease) -> NoReturn:
        registered_at = await self._register(lease)
        telemetry.event("workspace.host_started", host_id=str(lease.host_id), problem=self._identity.problem)
        self._on_registered(self._identity.problem)
        lives = self._lives(lease)
        try:
            async with trio.open_nursery() as nursery:
                if lives is not None:
                    nursery.start_soon(lives.run)
                    nursery.start_soon(Sweep(self._hosts, self._running).run)
                await keep_lease(
                    self._hosts, lease, self._settings, registered_at=registered_at, problem=self._identity.problem
                )
        finally:
            with trio.CancelScope(shield=True):  # each bounded
                if lives is not None:
                    await self._stop_all(lives.begun)
                await self._retire(lease)
        raise AssertionError("a lease is kept until it is lost")

    async def _register(self, lease: HostLease) -> float:
        """When the registration that succeeded began."""
        one = self._identity
        host = WorkspaceHost(
            id=one.id,
            incarnation=lease.incarnation,
            name=one.name,
            address=one.address,
            version=one.version,
            provider=one.provider,
            sealed=one.sealed,
            problem=one.problem,
        )
        while True:
            began = trio.current_time()
            try:
                ended = await self._hosts.register(host)
            except StoreUnavailable as error:
                telemetry.event("workspace.host_waiting", reason=str(error))
                await trio.sleep(REGISTER_RETRY_SECONDS)
            else:
                for row in ended:
                    telemetry.event("workspace.ended", workspace_id=str(row.id), state=str(row.state))
                return began

    def _lives(self, lease: HostLease) -> Lives | None:
        if self._provider is None:
            return None
        options = self._host_settings
        return Lives(
            self._hosts,
            lease,
            self._provider,
            self._running,
            places=options.workspaces_max,
            start_seconds_max=options.workspace_start_seconds_max,
            cpus=options.workspace_cpus,
            has_own_programs=self._identity.provider == "process",
        )

    async def _stop_all(self, begun: set[UUID]) -> None:
        with trio.move_on_after(STOP_SECONDS_MAX):
            async with trio.open_nursery() as nursery:
                for workspace_id in begun:
                    self._running.remove(workspace_id)
                    nursery.start_soon(self._stop, workspace_id)

    async def _stop(self, workspace_id: UUID) -> None:
        assert self._provider is not None, "else nothing was begun"
        try:
            await self._provider.stop(str(workspace_id))
        except (ChatclusterError, OSError) as error:
            telemetry.event("workspace.postponed", workspace_id=str(workspace_id), state="stopping", error=str(error))

    async def _retire(self, lease: HostLease) -> None:
        """The row says at once that this host is away; without it, others find out when the lease ends."""
        with trio.move_on_after(RETIRE_SECONDS_MAX):
            try:
                await self._hosts.retire(lease)
            except StoreUnavailable as error:
                telemetry.event("workspace.host_renewal_failed", host_id=str(lease.host_id), error=str(error))


def _another(host_id: UUID) -> ConfigError:
    return ConfigError(
        f"another process lives as workspace host {host_id}: each needs a workspaces-dir of its own; "
        "where one was copied, remove the copy's host-id"
    )
