"""Providers of workspaces as their contract suite sees them: sandboxes of this machine, and engines that are fakes."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import UUID, uuid4

import trio
from agent_process import runs
from fake_docker import FakeDocker, open_fake_docker
from fake_kubernetes import FakeKubernetes, open_fake_kubernetes
from real_engine import ENGINE_IMAGE, ENGINE_SOCKET, kill, running

from chatcluster.ports.workspace import SandboxState
from chatcluster.workspaces.container_provider import ContainerProvider, open_containers
from chatcluster.workspaces.docker_engine import HOST_LABEL, open_docker
from chatcluster.workspaces.kubernetes_engine import PodOptions, open_kubernetes
from chatcluster.workspaces.process_provider import ProcessProvider, open_process_provider

HOST = UUID(int=1)
IMAGE = "workspace:1"
SECONDS_MAX = 180.0
LOOK_SECONDS = 0.02

Provider = ProcessProvider | ContainerProvider


@dataclass(frozen=True)
class ProviderWorld:
    name: str
    open: Callable[[], AbstractAsyncContextManager[Provider]]
    """As a process of the host does: each time it is another one."""
    end: Callable[[Provider, str], None]
    """End a sandbox, as the kernel or an operator might."""
    runs: Callable[[], int]
    """How many sandboxes run, as far as they outlive their provider."""
    root: Path
    """The directory of all of them."""


@dataclass(frozen=True)
class DockerWorld(ProviderWorld):
    docker: FakeDocker
    socket: Path


@dataclass(frozen=True)
class KubernetesWorld(ProviderWorld):
    cluster: FakeKubernetes
    environment: dict[str, str]
    account: Path


async def comes_to(provider: Provider, state: SandboxState) -> str:
    """What is said of workspace ``one`` once it is in this state."""
    with trio.fail_after(SECONDS_MAX):
        while (status := await provider.status("one")).state is not state:  # noqa: ASYNC110
            await trio.sleep(LOOK_SECONDS)
    return status.message


async def run_no_more(command: str) -> None:
    with trio.fail_after(SECONDS_MAX):
        while runs(command):  # noqa: ASYNC110 - the kernel ends it
            await trio.sleep(LOOK_SECONDS)


@asynccontextmanager
async def open_world(name: str) -> AsyncIterator[ProviderWorld]:
    """In a directory that everybody may enter, as tests may run as root, and a sandbox's user is not."""
    directory = _make_directory()
    try:
        async with WORLDS[name](directory) as world:
            yield world
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def _make_directory() -> Path:
    directory = Path(tempfile.mkdtemp(prefix="cc-prov-", dir="/tmp"))
    for path in (directory, directory / "engine", directory / "workspaces"):
        path.mkdir(exist_ok=True)
        path.chmod(0o755)
    return directory


@asynccontextmanager
async def process_world(directory: Path) -> AsyncIterator[ProviderWorld]:
    def end(provider: Provider, workspace_id: str) -> None:
        assert isinstance(provider, ProcessProvider)
        provider._sandboxes[workspace_id].process.kill()

    root = directory / "workspaces"
    yield ProviderWorld("process", lambda: open_process_provider(root), end, lambda: 0, root)


@asynccontextmanager
async def docker_world(directory: Path, host_id: UUID = HOST) -> AsyncIterator[DockerWorld]:
    async with open_fake_docker(directory / "engine") as (docker, socket):
        root = directory / "workspaces"

        @asynccontextmanager
        async def opened() -> AsyncIterator[Provider]:
            async with open_docker(socket, root, host_id, IMAGE) as engine, open_containers(engine) as provider:
                await provider.remove_orphans()
                yield provider

        def end(_provider: Provider, workspace_id: str) -> None:
            made = docker.of(f"chatcluster-{workspace_id}")
            assert made is not None
            docker.end(made)

        def runs() -> int:
            return sum(one.status == "running" for one in docker.containers.values())

        yield DockerWorld("docker", opened, end, runs, root, docker, socket)


@asynccontextmanager
async def kubernetes_world(directory: Path) -> AsyncIterator[KubernetesWorld]:
    async with open_fake_kubernetes(directory / "engine") as (cluster, environment, account):
        root = directory / "workspaces"

        @asynccontextmanager
        async def opened() -> AsyncIterator[Provider]:
            options = PodOptions(image=IMAGE)
            async with (
                open_kubernetes(root, HOST, options, environment, account) as engine,
                open_containers(engine) as provider,
            ):
                await provider.remove_orphans()
                yield provider

        def end(_provider: Provider, workspace_id: str) -> None:
            pod = cluster.of("pods", f"ws-{workspace_id}")
            assert pod is not None
            cluster.end(pod)

        def runs() -> int:
            return sum(kind == "pods" for kind, _ in cluster.things)

        yield KubernetesWorld("kubernetes", opened, end, runs, root, cluster, environment, account)


@asynccontextmanager
async def engine_world(directory: Path) -> AsyncIterator[ProviderWorld]:
    """A real engine of this machine."""
    host_id, root = uuid4(), directory / "workspaces"

    @asynccontextmanager
    async def opened() -> AsyncIterator[Provider]:
        async with (
            open_docker(Path(ENGINE_SOCKET), root, host_id, ENGINE_IMAGE) as engine,
            open_containers(engine) as provider,
        ):
            await provider.remove_orphans()
            yield provider

    def end(_provider: Provider, workspace_id: str) -> None:
        kill(f"chatcluster-{workspace_id}")

    yield ProviderWorld("engine", opened, end, lambda: running(f"{HOST_LABEL}={host_id}"), root)


WORLDS: dict[str, Callable[[Path], AbstractAsyncContextManager[ProviderWorld]]] = {
    "process": process_world,
    "docker": docker_world,
    "kubernetes": kubernetes_world,
    **({"engine": engine_world} if ENGINE_SOCKET else {}),
}
