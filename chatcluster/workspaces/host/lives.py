"""What is done to workspaces: each has one task at a time that brings it to what its row wants.

The rows are asked for twice a second; what is under way already is passed over. A row that wants something else by now
(stopped while it was building) ends the task that it has, and the next look starts another. Each step may be repeated:
a provider's deeds are the same as often as they are done, and a report that comes too late changes nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NoReturn
from uuid import UUID

import trio

from chatcluster import telemetry
from chatcluster.errors import ChatclusterError, StoreUnavailable
from chatcluster.ports.workspace import WorkspaceProvider
from chatcluster.ports.workspaces import HostLease, Startup, WorkspaceHosts, WorkspaceRow, WorkspaceState
from chatcluster.workspace_errors import SandboxFailed, StaleEpoch, WorkspaceRefused, WorkspaceUnreachable
from chatcluster.workspaces.host.packages import missing_for_desktop, missing_packages, to_do
from chatcluster.workspaces.host.reports import Reports
from chatcluster.workspaces.host.running import Running, RunningWorkspaces
from chatcluster.workspaces.host.specs import HOST_BASE, spec_of
from chatcluster.workspaces.host.start_places import StartPlaces
from chatcluster.workspaces.host.startup import run_startup
from chatcluster.workspaces.host.watch import watch

LOOK_SECONDS = 0.5
RETRY_SECONDS = 2.0
"""After a step that failed, and is to be done all the same."""
BEGINNINGS = (WorkspaceState.BUILDING, WorkspaceState.STARTING)


@dataclass(eq=False)
class _Deed:
    state: WorkspaceState
    scope: trio.CancelScope


class Lives:
    def __init__(
        self,
        hosts: WorkspaceHosts,
        lease: HostLease,
        provider: WorkspaceProvider,
        running: RunningWorkspaces,
        *,
        places: int,
        start_seconds_max: float,
        cpus: float = 0.0,
        has_own_programs: bool = True,
    ) -> None:
        """``has_own_programs``: a workspace has those of this machine, unless its template says otherwise."""
        self._hosts = hosts
        self._lease = lease
        self._provider = provider
        self._running = running
        self._places = places
        self._start_seconds_max = start_seconds_max
        self._cpus = cpus
        self._has_own_programs = has_own_programs
        self._reports = Reports(hosts, lease)
        self._start_places = StartPlaces()
        self._deeds: dict[UUID, _Deed] = {}
        self._waiting = places
        """Starts for which there was no place at the last look: builds leave them those that come free. Before the
        first look it is not known what is left to be begun: no build is taken."""
        self.begun: set[UUID] = set()
        """What may run in its sandbox: all of it is stopped in the end."""

    async def run(self) -> NoReturn:
        """Raises ``LeaseLost``."""
        async with trio.open_nursery() as nursery:
            while True:
                rows = await self._work()
                if rows is not None:
                    for row in sorted(rows, key=_is_no_build):
                        self._take_up(nursery, row)
                    self._waiting = sum(row.state in BEGINNINGS and row.id not in self._deeds for row in rows)
                await trio.sleep(LOOK_SECONDS)

    @property
    def _free_places(self) -> int:
        begun = sum(deed.state in BEGINNINGS for deed in self._deeds.values())
        return max(0, self._places - len(self._running) - begun)

    async def _work(self) -> tuple[WorkspaceRow, ...] | None:
        """None if nobody can be asked."""
        try:
            idle = self._running.idle.observe(await self._hosts.last_uses(self._lease), trio.current_time())
            return await self._hosts.work(self._lease, places=max(0, self._free_places - self._waiting), idle=idle)
        except StoreUnavailable as error:
            telemetry.event("workspace.look_failed", error=str(error))
            return None

    def _take_up(self, nursery: trio.Nursery, row: WorkspaceRow) -> None:
        deed = self._deeds.get(row.id)
        if deed is None and row.state is WorkspaceState.STARTING and not self._free_places:
            return  # it waits until another one is stopped; a build could go elsewhere, and was taken for a place
        if deed is None:
            self._deeds[row.id] = deed = _Deed(row.state, trio.CancelScope())
            nursery.start_soon(self._do, nursery, row, deed)
        elif row.state not in BEGINNINGS and deed.state in BEGINNINGS:
            deed.scope.cancel()

    async def _do(self, nursery: trio.Nursery, row: WorkspaceRow, deed: _Deed) -> None:
        try:
            with deed.scope:
                match row.state:
                    case WorkspaceState.STOPPING:
                        await self._stop(row)
                    case WorkspaceState.DELETED:
                        await self._delete(row)
                    case _:
                        await self._begin(nursery, row, deed)
        except Exception as error:  # noqa: BLE001 - it ends no other workspace: a later look does it again
            telemetry.event("workspace.crashed", workspace_id=str(row.id), exc_info=error)
            await trio.sleep(RETRY_SECONDS)
        finally:
            del self._deeds[row.id]

    # --- beginnings ---------------------------------------------------------------------------

    async def _begin(self, nursery: trio.Nursery, row: WorkspaceRow, deed: _Deed) -> None:
        async with self._start_places.take(row.owner_id):
            try:
                await self._bring_up(nursery, row, deed)
            except StoreUnavailable as error:
                await self._put_off(row, str(error))
            except trio.TooSlowError:
                await self._fail(row, f"it was not ready within {self._start_seconds_max:g} s")
            except (ChatclusterError, OSError) as error:
                await self._fail(row, str(error))
            except Exception as error:  # noqa: BLE001 - whatever it is, it concerns this workspace alone
                telemetry.event("workspace.crashed", workspace_id=str(row.id), exc_info=error)
                await self._fail(row, f"an error that nobody foresaw: {type(error).__name__}")

    async def _bring_up(self, nursery: trio.Nursery, row: WorkspaceRow, deed: _Deed) -> None:
        with trio.fail_after(self._start_seconds_max):
            if row.state is WorkspaceState.BUILDING and not await self._build(row):
                return
            deed.state = WorkspaceState.STARTING
            await self._start(nursery, row)

    async def _build(self, row: WorkspaceRow) -> bool:
        await self._reports.log(row, "build", f"made of template {row.made_of.template_name} on this host")
        is_looked_at = self._has_own_programs and row.made_of.settings.base == HOST_BASE
        if is_looked_at and (missing := await missing_packages(row.made_of.settings.packages)):
            raise SandboxFailed(f"this host lacks what the template wants, and installs nothing: {to_do(missing)}")
        if is_looked_at and row.made_of.settings.desktop and (missing := missing_for_desktop()):
            raise SandboxFailed(f"a desktop needs more on this host: {to_do(missing)}")
        await self._provider.create(spec_of(row, self._cpus))
        return await self._reports.tell(row, WorkspaceState.STARTING)

    async def _start(self, nursery: trio.Nursery, row: WorkspaceRow) -> None:
        began = trio.current_time()
        self.begun.add(row.id)
        await self._provider.start(spec_of(row, self._cpus))
        running = Running(row, self._provider.connect(str(row.id)))
        startup = Startup.RUNNING if row.made_of.settings.startup else Startup.NONE
        self._running.add(running)
        if await self._insist(row, WorkspaceState.RUNNING, startup=startup):
            seconds = trio.current_time() - began
            telemetry.event("workspace.started", workspace_id=str(row.id), duration_seconds=seconds)
            await self._reports.log(row, "start", f"running after {seconds * 1000:.0f} ms")
            nursery.start_soon(self._stay, running)
        else:
            self._running.remove(row.id)

    async def _fail(self, row: WorkspaceRow, detail: str) -> None:
        """Nothing of it is left running; then it is told."""
        self._running.remove(row.id)
        try:
            await self._provider.stop(str(row.id))
            self.begun.discard(row.id)
            await self._reports.log(row, "start", f"failed: {detail}")
            await self._reports.tell(row, WorkspaceState.FAILED, detail)
        except (ChatclusterError, OSError) as error:
            await self._put_off(row, str(error))

    async def _put_off(self, row: WorkspaceRow, why: str) -> None:
        """The row still wants it: a later look does it again."""
        telemetry.event("workspace.postponed", workspace_id=str(row.id), state=str(row.state), error=why)
        await trio.sleep(RETRY_SECONDS)

    # --- beside a running one -----------------------------------------------------------------

    async def _stay(self, running: Running) -> None:
        said = ""
        with running.scope:
            async with trio.open_nursery() as nursery:
                if running.row.made_of.settings.startup:
                    nursery.start_soon(self._startup, running)
                said = await watch(running, self._provider)
                nursery.cancel_scope.cancel()
        if said:
            self._running.remove(running.row.id)
            await self._tell_ended(running.row, said)

    async def _startup(self, running: Running) -> None:
        try:
            ended = await run_startup(running.row, running.agent, self._reports)
        except (WorkspaceUnreachable, WorkspaceRefused, StaleEpoch) as error:
            await self._reports.log(running.row, "startup", f"the start-up script cannot be followed: {error}")
            ended = Startup.FAILED
        await self._insist(running.row, WorkspaceState.RUNNING, startup=ended)

    async def _tell_ended(self, row: WorkspaceRow, said: str) -> None:
        """Tell that a sandbox ended by itself. It is stopped, and can be started again."""
        self.begun.discard(row.id)
        await self._reports.log(row, "host", f"its sandbox ended: {said}")
        await self._insist(row, WorkspaceState.STOPPED, said)

    async def _insist(
        self, row: WorkspaceRow, state: WorkspaceState, detail: str = "", *, startup: Startup = Startup.NONE
    ) -> bool:
        """Until it is known that the row says so: nobody looks again at one that is in its last state. False if
        somebody wants something else by now."""
        while True:
            try:
                return await self._reports.tell(row, state, detail, startup=startup)
            except StoreUnavailable as error:
                await self._put_off(row, str(error))

    # --- ends ---------------------------------------------------------------------------------

    async def _stop(self, row: WorkspaceRow) -> None:
        self._running.remove(row.id)
        try:
            await self._provider.stop(str(row.id))
            self.begun.discard(row.id)
            await self._reports.log(row, "host", f"stopped{': ' + row.detail if row.detail else ''}")
            await self._reports.tell(row, WorkspaceState.STOPPED, row.detail)
        except (ChatclusterError, OSError) as error:
            await self._put_off(row, str(error))

    async def _delete(self, row: WorkspaceRow) -> None:
        self._running.remove(row.id)
        try:
            await self._provider.delete(str(row.id))
            self.begun.discard(row.id)
            await self._reports.removed(row)
        except (ChatclusterError, OSError) as error:
            await self._put_off(row, str(error))


def _is_no_build(row: WorkspaceRow) -> bool:
    return row.state is not WorkspaceState.BUILDING
