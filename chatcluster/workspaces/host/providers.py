"""What makes the workspaces of a host, as its settings say: opened, or the one line that says why it cannot be."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import NamedTuple
from uuid import UUID

import trio

from chatcluster import telemetry
from chatcluster.ports.workspace import WorkspaceProvider
from chatcluster.workspace_errors import SandboxFailed, SandboxMissing
from chatcluster.workspaces.agent_client import dial_unix
from chatcluster.workspaces.container_provider import Engine, open_containers
from chatcluster.workspaces.docker_engine import open_docker
from chatcluster.workspaces.host.forward import Dial, Headers, no_headers
from chatcluster.workspaces.host.packages import missing_git
from chatcluster.workspaces.host.settings import HostSettings
from chatcluster.workspaces.kubernetes_engine import PodOptions, open_kubernetes
from chatcluster.workspaces.process_provider import open_process_provider


class Sandboxes(NamedTuple):
    """What runs workspaces, and how their agents are asked; or the ``problem``."""

    provider: WorkspaceProvider | None
    dial: Dial
    headers: Headers = no_headers
    problem: str = ""


@asynccontextmanager
async def open_sandboxes(options: HostSettings, host_id: UUID) -> AsyncIterator[Sandboxes]:
    """On leaving, all that run are stopped."""
    async with AsyncExitStack() as stack:
        try:
            found = await stack.enter_async_context(_OPENERS[options.workspaces_provider](options, host_id))
        except (SandboxMissing, SandboxFailed) as error:
            telemetry.event("workspace.host_cannot", reason=str(error))
            found = Sandboxes(None, _no_dial, problem=str(error))
        yield found


@asynccontextmanager
async def _processes(options: HostSettings, _host_id: UUID) -> AsyncIterator[Sandboxes]:
    async with open_process_provider(options.directory, private=options.private_networks) as provider:
        _say_unbounded(provider.unbounded)
        if missing := missing_git():
            telemetry.event("workspace.program_missing", reason=missing)
        yield Sandboxes(provider, _dialler(provider.socket_path))


@asynccontextmanager
async def _docker(options: HostSettings, host_id: UUID) -> AsyncIterator[Sandboxes]:
    socket, image = Path(options.docker_socket), options.workspaces_image
    async with (
        open_docker(socket, options.directory, host_id, image) as engine,
        _containers(engine, options) as sandboxes,
    ):
        yield sandboxes


@asynccontextmanager
async def _kubernetes(options: HostSettings, host_id: UUID) -> AsyncIterator[Sandboxes]:
    pods = PodOptions(
        image=options.workspaces_image,
        runtime_class=options.kubernetes_runtime_class,
        storage_class=options.kubernetes_storage_class,
    )
    async with open_kubernetes(options.directory, host_id, pods) as engine, _containers(engine, options) as sandboxes:
        yield sandboxes


@asynccontextmanager
async def _containers(engine: Engine, options: HostSettings) -> AsyncIterator[Sandboxes]:
    async with open_containers(engine, private=options.private_networks) as provider:
        _say_unbounded(provider.unbounded)
        yield Sandboxes(provider, provider.dial, provider.headers)


_OPENERS: dict[str, Callable[[HostSettings, UUID], AbstractAsyncContextManager[Sandboxes]]] = {
    "process": _processes,
    "docker": _docker,
    "kubernetes": _kubernetes,
}


def _say_unbounded(sentences: tuple[str, ...]) -> None:
    for sentence in sentences:
        telemetry.event("workspace.limit_missing", reason=sentence)


def _dialler(socket_path: Callable[[str], Path]) -> Dial:
    async def dial(workspace_id: str) -> trio.abc.Stream:
        return await dial_unix(socket_path(workspace_id))

    return dial


async def _no_dial(workspace_id: str) -> trio.abc.Stream:
    raise OSError(f"{workspace_id} does not run here")
