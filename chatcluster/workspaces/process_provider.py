"""Workspaces as sandboxes on this machine: bubblewrap, no container engine.

A workspace is a directory: its disk, the agent's ledger, and nothing else, so it is there as long as that is. Its
sandbox is a child of this process and ends with it (``sandbox.py``); the ledger tells the next one what was under way.

What is done to one workspace is done in turn; workspaces do not wait for each other. Each deed may be repeated.

What happens on failure: a sandbox whose agent does not answer in time is ended, and ``SandboxFailed`` has the end of
what it said. One that ends by itself is ``failed`` until it is started again.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections import defaultdict
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import trio

from chatcluster.ports.workspace import SandboxState, SandboxStatus, Workspace, WorkspaceSpec
from chatcluster.workspace_errors import (
    SandboxFailed,
    SandboxMissing,
    StaleEpoch,
    WorkspaceRefused,
    WorkspaceUnreachable,
)
from chatcluster.workspaces import cgroups, disks
from chatcluster.workspaces.agent.landlock import ABI_MIN, LANDLOCK_MISSING, landlock_abi
from chatcluster.workspaces.agent.seccomp import SECCOMP_MISSING, seccomp_filter
from chatcluster.workspaces.agent_client import over_unix
from chatcluster.workspaces.interpreter import Interpreter, compile_agent, find_interpreter, is_open_to_all, library
from chatcluster.workspaces.network_proxy import NetworkProxies
from chatcluster.workspaces.places import (
    UIDS_MISSING,
    Place,
    door_at,
    leads_all_to,
    place_of,
    prepared,
    remove,
    user_id_of,
)
from chatcluster.workspaces.reach import Network
from chatcluster.workspaces.sandbox import PROXY_NAME, bubblewrap, can_sandbox, write_etc

START_SECONDS = 100.0
"""Half a second is usual. On a busy machine many may start at once, and the host has patience for longer than this."""
STOP_SECONDS = 4.0
LOOK_SECONDS = 0.01
SAID_BYTES_MAX = 4 << 10


@dataclass
class _Sandbox:
    """One that was started; ``process`` is bubblewrap."""

    process: subprocess.Popen[bytes]
    said: Path
    group: cgroups.Group


class ProcessProvider:
    """``WorkspaceProvider``."""

    def __init__(self, root: Path, proxies: NetworkProxies) -> None:
        self._root = root
        self._proxies = proxies
        self._mark = hashlib.sha256(os.fsencode(root)).hexdigest()[:8]
        """Control groups of other providers on this machine may be for workspaces of the same name."""
        self._sandboxes: dict[str, _Sandbox] = {}
        self._ends: dict[str, str] = {}
        """How those ended that ended by themselves."""
        self._turns: defaultdict[str, trio.Lock] = defaultdict(trio.Lock)
        self._interpreter, self._has_users = _choose_interpreter(root)

    @property
    def unbounded(self) -> tuple[str, ...]:
        """What cannot be kept on this machine, a sentence each."""
        found = list(cgroups.hierarchies().missing)
        if not disks.can_mount():
            found.append(disks.DISK_MISSING)
        if not self._has_users:
            found.append(UIDS_MISSING)
        if landlock_abi() < ABI_MIN:
            found.append(LANDLOCK_MISSING)
        if seccomp_filter() is None:
            found.append(SECCOMP_MISSING)
        return tuple(found)

    async def remove_orphans(self) -> None:
        """There are none: a sandbox ends with the process that made it."""

    async def create(self, spec: WorkspaceSpec) -> None:
        async with self._turns[spec.workspace_id]:
            await self._create(spec)

    async def start(self, spec: WorkspaceSpec) -> None:
        if (missing := can_sandbox()) is not None:
            raise SandboxMissing(missing)
        async with self._turns[spec.workspace_id]:
            self._look()
            if spec.workspace_id not in self._sandboxes:
                await self._create(spec)
                await self._start(spec)

    async def stop(self, workspace_id: str) -> None:
        async with self._turns[workspace_id]:
            await self._stop(workspace_id)

    async def delete(self, workspace_id: str) -> None:
        async with self._turns[workspace_id]:
            await self._stop(workspace_id)
            self._ends.pop(workspace_id, None)
            await remove(self._place(workspace_id).directory)
        del self._turns[workspace_id]

    async def status(self, workspace_id: str) -> SandboxStatus:
        self._look()
        if workspace_id in self._sandboxes:
            return SandboxStatus(state=SandboxState.RUNNING, unbounded=self.unbounded)
        if (end := self._ends.get(workspace_id)) is not None:
            return SandboxStatus(state=SandboxState.FAILED, message=end)
        is_there = self._place(workspace_id).state.is_dir()
        return SandboxStatus(state=SandboxState.STOPPED if is_there else SandboxState.ABSENT)

    def connect(self, workspace_id: str) -> Workspace:
        return over_unix(self.socket_path(workspace_id))

    def socket_path(self, workspace_id: str) -> Path:
        """Where its agent listens while it runs."""
        return self._place(workspace_id).door

    async def stop_all(self) -> None:
        async with trio.open_nursery() as nursery:
            for workspace_id in list(self._sandboxes):
                nursery.start_soon(self.stop, workspace_id)

    def _place(self, workspace_id: str) -> Place:
        return place_of(self._root, workspace_id)

    async def _create(self, spec: WorkspaceSpec) -> None:
        place = self._place(spec.workspace_id)
        if spec.base:
            _check_base(Path(spec.base), self._interpreter)
        try:
            for directory in (place.directory, place.state, place.directory / "disk"):
                directory.mkdir(mode=0o700, exist_ok=True)
            if disks.can_mount() and not place.image.exists() and not place.work.exists():
                await trio.to_thread.run_sync(disks.make_image, place.image, spec.limits.disk_bytes)
            write_etc(place)
            if (user := self._user_id(spec)) is not None:
                place.directory.chmod(0o711)
                place.etc.chmod(0o755)
                os.chown(place.state, user, user)
        except (OSError, subprocess.SubprocessError) as error:
            raise SandboxFailed(f"the place of the workspace cannot be made: {error}") from None

    async def _start(self, spec: WorkspaceSpec) -> None:
        place = self._place(spec.workspace_id)
        self._ends.pop(spec.workspace_id, None)
        try:
            sandbox = self._begin(spec, place)
        except OSError as error:
            raise SandboxFailed(f"the sandbox cannot be started: {error}") from None
        self._sandboxes[spec.workspace_id] = sandbox
        try:
            with trio.fail_after(START_SECONDS):
                await self._wait_for_agent(spec.workspace_id)
        except trio.TooSlowError:
            await self._stop(spec.workspace_id)
            raise SandboxFailed(
                f"the agent did not answer within {START_SECONDS:g} seconds: {_said(sandbox)}"
            ) from None
        except trio.Cancelled:
            with trio.CancelScope(shield=True):
                await self._stop(spec.workspace_id)
            raise

    async def _wait_for_agent(self, workspace_id: str) -> None:
        """Until it answers. Raises ``SandboxFailed`` if there is nobody any more who could."""
        while workspace_id in self._sandboxes:
            with suppress(WorkspaceUnreachable):
                await self.connect(workspace_id).status()
                return
            await trio.sleep(LOOK_SECONDS)
            self._look()
        raise SandboxFailed(self._ends[workspace_id])

    def _begin(self, spec: WorkspaceSpec, place: Place) -> _Sandbox:
        if spec.allowed_hosts:
            path = place.network / PROXY_NAME
            self._proxies.open(spec.workspace_id, path, spec.allowed_hosts, self._user_id(spec))
        group = cgroups.make_group(
            f"{spec.workspace_id}.{self._mark}",
            memory_bytes=spec.limits.memory_bytes,
            processes_max=spec.limits.processes_max,
            cpus=spec.limits.cpus,
        )
        said = place.directory / "said"
        with said.open("wb") as output, door_at(place.door) as door:
            process = subprocess.Popen(
                self._command(spec, place, group, door),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                env={"PATH": os.environ.get("PATH", os.defpath)},
                pass_fds=(door,),
                start_new_session=True,
            )
        return _Sandbox(process, said, group)

    def _command(self, spec: WorkspaceSpec, place: Place, group: cgroups.Group, door: int) -> list[str]:
        user = self._user_id(spec)
        has_image = place.image.exists()
        launch = ["/bin/sh", str(Path(__file__).with_name("launch.sh")), str(place.directory)]
        launch += ["" if user is None else str(user), str(place.image) if has_image else ""]
        launch += [*map(str, group.entrances), "--", *bubblewrap(spec, place, self._interpreter, door)]
        return disks.in_own_mounts(launch) if has_image else launch

    async def _stop(self, workspace_id: str) -> None:
        """The agent ends what runs and says so in its ledger; then, or after a while, all ends."""
        self._look()
        sandbox = self._sandboxes.get(workspace_id)
        if sandbox is None:
            return
        with trio.move_on_after(STOP_SECONDS):
            # It may be gone before it has answered, and it need not agree.
            with suppress(WorkspaceUnreachable, WorkspaceRefused, StaleEpoch):
                await over_unix(self.socket_path(workspace_id)).stop()
            await _wait(sandbox.process)
        if sandbox.process.poll() is None:
            sandbox.process.kill()
            with trio.CancelScope(shield=True):
                await _wait(sandbox.process)
            sandbox.process.wait()
        self._forget(workspace_id)
        self._ends.pop(workspace_id, None)  # of whoever looked while it ended

    def _look(self) -> None:
        """Take note of those that ended by themselves."""
        for workspace_id, sandbox in list(self._sandboxes.items()):
            if (code := sandbox.process.poll()) is not None:
                self._ends[workspace_id] = f"the sandbox ended ({code}): {_said(sandbox)}"
                self._forget(workspace_id)

    def _forget(self, workspace_id: str) -> None:
        """Forget a sandbox that has ended. A look at another one may have done so already."""
        if (sandbox := self._sandboxes.pop(workspace_id, None)) is not None:
            self._proxies.close(workspace_id)
            sandbox.group.remove()

    def _user_id(self, spec: WorkspaceSpec) -> int | None:
        return user_id_of(spec.owner_id) if self._has_users else None


@asynccontextmanager
async def open_process_provider(root: Path, *, private: tuple[Network, ...] = ()) -> AsyncIterator[ProcessProvider]:
    """Workspaces below ``root``, which reach no network of one's own but ``private``. On leaving, all of them are
    stopped. Raises ``SandboxMissing`` and ``OSError``."""
    if (missing := can_sandbox()) is not None:
        raise SandboxMissing(missing)
    compile_agent()
    async with trio.open_nursery() as nursery:
        provider = ProcessProvider(prepared(root), NetworkProxies(nursery, private))
        try:
            yield provider
        finally:
            with trio.CancelScope(shield=True):
                await provider.stop_all()
            nursery.cancel_scope.cancel()


def _choose_interpreter(root: Path) -> tuple[Interpreter, bool]:
    """The interpreter, and whether each owner can have a user ID."""
    if os.geteuid() == 0 and all(is_open_to_all(path) for path, _ in library()) and leads_all_to(root):
        found = find_interpreter(readable_by_all=True)
        if found is not None:
            return found, True
    found = find_interpreter(readable_by_all=False)
    assert found is not None, "this process's own interpreter is always there"
    return found, False


def _check_base(root: Path, interpreter: Interpreter) -> None:
    """Raises ``SandboxFailed`` where a template's own root cannot be one here."""
    if not root.is_absolute() or not (root / "usr").is_dir():
        raise SandboxFailed(f"the template's base, {root}, is no directory with a root (a usr) on this host")
    if interpreter.prefix.is_relative_to("/usr") and not (root / interpreter.executable.lstrip("/")).exists():
        raise SandboxFailed(f"the template's base, {root}, lacks the Python of this host: {interpreter.executable}")


async def _wait(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is not None:
        return  # its ID may be another one's by now
    descriptor = os.pidfd_open(process.pid)
    try:
        await trio.lowlevel.wait_readable(descriptor)
    finally:
        os.close(descriptor)


def _said(sandbox: _Sandbox) -> str:
    with sandbox.said.open("rb") as file:
        file.seek(max(0, os.fstat(file.fileno()).st_size - SAID_BYTES_MAX))
        return " ".join(file.read().decode("utf-8", "replace").split()) or "it said nothing"
