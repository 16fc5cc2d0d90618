"""Containers of engines: what they are told, what becomes of orphans and stale processes, what an engine's failure
costs.

The engines are fakes (``fake_docker.py``, ``fake_kubernetes.py``): whether a real one keeps a limit is not shown here,
only that it is told to.
"""

from __future__ import annotations

import os
import shlex
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path
from uuid import UUID

import pytest
import trio
from agent_process import a_sleep, execute, ran
from provider_worlds import (
    HOST,
    IMAGE,
    DockerWorld,
    KubernetesWorld,
    ProviderWorld,
    open_world,
    run_no_more,
)
from sandbox_world import LIMITS, spec_of

from chatcluster.ports.workspace import SandboxState, WorkspaceLimits, WorkspaceSpec
from chatcluster.workspace_errors import (
    EngineUnreachable,
    SandboxFailed,
    SandboxMissing,
    WorkspaceRefused,
    WorkspaceUnreachable,
)
from chatcluster.workspaces.agent_client import AgentClient
from chatcluster.workspaces.container_provider import ContainerProvider
from chatcluster.workspaces.containers import EPOCH_FILE, Mark, next_epoch
from chatcluster.workspaces.docker_engine import open_docker
from chatcluster.workspaces.kubernetes_engine import PodOptions, how_it_ended, open_kubernetes, pod_spec, why_it_waits


@pytest.fixture(params=["docker", "kubernetes"])
async def world(request: pytest.FixtureRequest) -> AsyncIterator[ProviderWorld]:
    async with open_world(request.param) as world:
        yield world


@pytest.fixture
async def docker() -> AsyncIterator[DockerWorld]:
    async with open_world("docker") as world:
        assert isinstance(world, DockerWorld)
        yield world


@pytest.fixture
async def kubernetes() -> AsyncIterator[KubernetesWorld]:
    async with open_world("kubernetes") as world:
        assert isinstance(world, KubernetesWorld)
        yield world


def spec(image: str = "", cpus: float = 0.0) -> WorkspaceSpec:
    limits = WorkspaceLimits(**{name: getattr(LIMITS, name) for name in LIMITS.__struct_fields__} | {"cpus": cpus})
    return WorkspaceSpec(workspace_id="one", owner_id="owner", limits=limits, base=image)


def containers(provider: object) -> ContainerProvider:
    assert isinstance(provider, ContainerProvider)
    return provider


# --- whose they are -----------------------------------------------------------------------------


async def test_an_agent_whose_host_was_killed_ends_and_what_is_left_is_removed_by_the_next(
    world: ProviderWorld,
) -> None:
    async with world.open() as killed:
        await killed.start(spec_of("one"))
        await killed.connect("one").put("a", execute(f"exec {a_sleep()}"))
        containers(killed)._containers["one"].leash.cancel()  # as the kernel closes what a dead process had open
        await run_no_more(a_sleep())
        async with world.open() as provider:
            assert world.runs() == 0
            assert (await provider.status("one")).state is SandboxState.STOPPED
            await provider.start(spec_of("one"))
            assert str((await provider.connect("one").call("a")).error).startswith("the workspace ended")
            with pytest.raises(SandboxFailed, match="stale"):
                await killed.stop("one")
            with pytest.raises(SandboxFailed, match="stale"):
                await killed.start(spec_of("one"))
            assert (await provider.status("one")).state is SandboxState.RUNNING
            await provider.delete("one")


def test_no_two_processes_of_a_host_have_one_epoch_and_a_broken_file_begins_anew(tmp_path: Path) -> None:
    assert [next_epoch(tmp_path) for _ in range(3)] == [1, 2, 3]
    (tmp_path / EPOCH_FILE).write_text("garbage")
    assert next_epoch(tmp_path) == 1


def test_what_another_host_made_is_not_touched() -> None:
    with pytest.raises(SandboxFailed, match="another host"):
        Mark(HOST, 3).check(str(UUID(int=2)), "1", "it")
    with pytest.raises(SandboxFailed, match="stale"):
        Mark(HOST, 3).check(str(HOST), "4", "it")
    Mark(HOST, 3).check(str(HOST), "3", "it")


async def test_a_container_of_the_same_name_that_is_somebody_elses_stays(docker: DockerWorld) -> None:
    async with docker.open() as provider:
        await provider.start(spec_of("one"))
        made = docker.docker.of("chatcluster-one")
        assert made is not None
        made.body["Labels"]["chatcluster.host"] = "another"
        with pytest.raises(SandboxFailed, match="another host"):
            await provider.stop("one")
        assert docker.docker.of("chatcluster-one") is made
        made.body["Labels"]["chatcluster.host"] = str(HOST)


# --- what an engine's failures cost ---------------------------------------------------------------


async def test_while_the_engine_is_away_what_runs_goes_on_and_what_is_asked_is_told_to_wait(
    docker: DockerWorld,
) -> None:
    async with docker.open() as provider:
        await provider.start(spec_of("one"))
        docker.docker.is_away = True
        assert (await provider.status("one")).state is SandboxState.RUNNING
        assert (await provider.connect("one").status()).running == 0
        for deed in (provider.start(spec_of("two")), provider.stop("one")):
            with pytest.raises(EngineUnreachable):
                await deed
        docker.docker.is_away = False
        await provider.stop("one")
        assert docker.runs() == 0


async def test_an_image_that_is_not_there_is_pulled_and_one_that_cannot_be_is_told(docker: DockerWorld) -> None:
    docker.docker.registry.add("python:3.12")
    async with docker.open() as provider:
        await provider.start(spec("python:3.12"))
        assert docker.docker.pulled == ["python:3.12"]
        await provider.stop("one")
        for image in ("registry.example:5000/none", "private/none"):
            with pytest.raises(SandboxFailed, match=image):
                await provider.start(spec(image))
        assert docker.runs() == 0


async def test_an_engine_is_spoken_to_in_a_version_of_its_api_that_it_has(docker: DockerWorld) -> None:
    """Docker 29 has none below 1.44."""
    docker.docker.version = {"ApiVersion": "1.52", "MinAPIVersion": "1.44", "Version": "29.0.0"}
    async with docker.open() as provider:
        await provider.start(spec_of("one"))
        assert docker.runs() == 1


async def test_an_engine_that_comes_back_as_another_version_is_spoken_to_in_that_one_s(docker: DockerWorld) -> None:
    async with docker.open() as provider:
        await provider.start(spec_of("one"))
        docker.docker.version = {"ApiVersion": "1.52", "MinAPIVersion": "1.44", "Version": "29.0.0"}
        await provider.stop("one")
        assert docker.runs() == 0


async def test_a_container_of_an_engine_without_root_is_its_root_which_is_this_process_s_user(
    docker: DockerWorld, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any other user there is one outside who owns none of the files."""
    docker.docker.info["SecurityOptions"] = ["name=seccomp,profile=default", "name=rootless"]
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    async with docker.open() as provider:
        await provider.start(spec_of("one"))
        made = docker.docker.of("chatcluster-one")
        assert made is not None
        assert made.body["User"] == "0:0"
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(SandboxMissing, match="as another user"):
        async with docker.open():
            pass


async def test_users_of_containers_are_not_made_others_outside(docker: DockerWorld) -> None:
    """By an engine with ``userns-remap``."""
    docker.docker.info["SecurityOptions"] = ["name=userns"]
    async with docker.open() as provider:
        await provider.start(spec_of("one"))
        made = docker.docker.of("chatcluster-one")
        assert made is not None
        assert made.body["HostConfig"]["UsernsMode"] == "host"


@pytest.mark.parametrize("version", ["1.40", "", "new"])
async def test_an_engine_that_is_too_old_is_one_line(docker: DockerWorld, version: str) -> None:
    docker.docker.version["ApiVersion"] = version
    with pytest.raises(SandboxMissing, match=r"20\.10 or newer: its API is"):
        async with docker.open():
            pass


async def test_a_pod_that_cannot_come_up_is_removed_and_told(kubernetes: KubernetesWorld) -> None:
    async with kubernetes.open() as provider:
        with pytest.raises(SandboxFailed, match="ImagePullBackOff"):
            await provider.start(spec("none:1"))
        assert {kind for kind, _ in kubernetes.cluster.things} == {"persistentvolumeclaims"}


async def test_an_agent_that_ends_at_once_is_a_start_that_failed_with_what_it_said(docker: DockerWorld) -> None:
    async with docker.open() as provider:
        await provider.create(spec_of("one"))
        await trio.Path(docker.root / "one" / "state" / "ledger.sqlite").write_text("no database " * 100)
        with pytest.raises(SandboxFailed, match="not a database"):
            await provider.start(spec_of("one"))
        assert docker.docker.containers == {}


async def test_an_engine_that_is_not_there_is_one_line(tmp_path: Path, kubernetes: KubernetesWorld) -> None:
    with pytest.raises(SandboxMissing) as missing:
        async with open_docker(tmp_path / "none.sock", tmp_path, HOST, IMAGE):
            pass
    assert "Docker engine" in str(missing.value)
    assert "\n" not in str(missing.value)
    with pytest.raises(SandboxMissing, match="in the cluster"):
        async with open_kubernetes(tmp_path, HOST, PodOptions(image=IMAGE), {}):
            pass
    with pytest.raises(SandboxMissing, match="service account"):
        async with open_kubernetes(tmp_path, HOST, PodOptions(image=IMAGE), kubernetes.environment, tmp_path):
            pass


async def test_no_pod_is_made_where_the_policy_that_closes_its_network_is_missing(kubernetes: KubernetesWorld) -> None:
    kubernetes.cluster.policies.clear()
    with pytest.raises(SandboxMissing, match="NetworkPolicy chatcluster-workspaces"):
        async with kubernetes.open():
            pass


async def test_a_token_that_was_renewed_is_used_from_then_on(kubernetes: KubernetesWorld) -> None:
    async with kubernetes.open() as provider:
        kubernetes.cluster.token = "renewed"
        with pytest.raises(SandboxFailed, match="Unauthorized"):
            await provider.create(spec_of("one"))
        await trio.Path(kubernetes.account / "token").write_text("renewed\n")
        await provider.create(spec_of("one"))


# --- what they are told ---------------------------------------------------------------------------


async def test_a_container_is_closed_in_and_bounded(docker: DockerWorld) -> None:
    async with docker.open() as provider:
        await provider.start(spec(cpus=1.5))
        made = docker.docker.of("chatcluster-one")
        assert made is not None
        config = made.body["HostConfig"]
        assert (made.body["NetworkDisabled"], config["NetworkMode"]) == (True, "none")
        assert (config["Memory"], config["MemorySwap"]) == (LIMITS.memory_bytes, LIMITS.memory_bytes)
        assert (config["PidsLimit"], config["NanoCpus"]) == (LIMITS.processes_max, 1_500_000_000)
        assert (config["CapDrop"], config["SecurityOpt"]) == (["ALL"], ["no-new-privileges"])
        assert config["ReadonlyRootfs"]
        assert f"size={LIMITS.tmp_bytes}" in config["Tmpfs"]["/tmp"]
        assert not made.body["User"].startswith("0:")
        outside = {Path(mount["Source"]) for mount in config["Mounts"]}
        assert all(path.is_relative_to(docker.root.resolve() / "one") for path in outside)


async def test_a_container_whose_template_lists_a_network_has_a_proxy_and_nothing_else(docker: DockerWorld) -> None:
    async with docker.open() as provider:
        await provider.start(spec_of("one", allowed_hosts=("example.org",)))
        made = docker.docker.of("chatcluster-one")
        assert made is not None
        assert (made.body["NetworkDisabled"], made.body["HostConfig"]["NetworkMode"]) == (True, "none")
        assert "--gateway=/run/network/proxy.sock" in made.body["Entrypoint"]
        assert "HTTPS_PROXY=http://127.0.0.1:3128" in made.body["Env"]
        (network,) = (mount for mount in made.body["HostConfig"]["Mounts"] if mount["Target"] == "/run/network")
        assert network["ReadOnly"]
        async with await trio.open_unix_socket(f"{network['Source']}/proxy.sock") as proxy:
            await proxy.send_all(b"CONNECT example.com:443 HTTP/1.1\r\nhost: x\r\n\r\n")
            assert bytes(await proxy.receive_some(1000)).startswith(b"HTTP/1.1 403 ")
        await provider.stop("one")
        with pytest.raises(OSError, match="refused"):
            await trio.open_unix_socket(f"{network['Source']}/proxy.sock")
        await provider.start(spec_of("one"))
        made = docker.docker.of("chatcluster-one")
        assert made is not None
        assert not any("proxy" in word.lower() for word in (*made.body["Entrypoint"], *made.body["Env"]))


REFUSED = """if True:
    import ctypes, fcntl, os, socket
    call = ctypes.CDLL(None, use_errno=True).syscall
    number = 250 if os.uname().machine == 'x86_64' else 219
    assert (call(number, 0, 0, 0, 0, 0), ctypes.get_errno()) == (-1, 1), 'keyctl'
    with open('file', 'w+b') as file:
        for deed in (
            lambda: fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK),
            lambda: socket.socket(socket.AF_VSOCK, socket.SOCK_STREAM),
            lambda: os.setpriority(os.PRIO_PROCESS, 1, 19),
        ):
            try:
                print('done', deed())
            except OSError:
                pass
    socket.socket().close()
    print('over')
"""


async def test_what_runs_in_a_container_does_without_the_system_calls_of_any_sandbox(world: ProviderWorld) -> None:
    async with world.open() as provider:
        await provider.start(spec_of("one"))
        agent = containers(provider).connect("one")
        assert isinstance(agent, AgentClient)
        answer = await ran(agent, f"python3 -c {shlex.quote(REFUSED)} 2>&1")
        assert answer.output == b"over\n"


async def test_of_an_engine_that_cannot_keep_a_limit_that_is_said(docker: DockerWorld) -> None:
    docker.docker.info["PidsLimit"] = False
    async with docker.open() as provider:
        assert any("processes are bounded for each user" in sentence for sentence in provider.unbounded)


def test_a_pod_is_closed_in_and_bounded() -> None:
    found = pod_spec(spec("python:3.12", cpus=0.5), PodOptions(image=IMAGE, runtime_class="gvisor"))
    (container,) = found["containers"]
    assert container["image"] == "python:3.12"
    assert container["resources"]["limits"]["memory"] == str(LIMITS.memory_bytes)
    assert container["resources"]["limits"]["cpu"] == "500m"
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert found["securityContext"]["runAsNonRoot"]
    assert found["securityContext"]["runAsUser"] >= 1_000_000
    assert (found["automountServiceAccountToken"], found["runtimeClassName"]) == (False, "gvisor")
    assert found["volumes"][1]["emptyDir"]["sizeLimit"] == str(LIMITS.tmp_bytes)
    assert not {"hostNetwork", "hostPID", "hostPath"} & found.keys()
    (before,) = found["initContainers"]
    assert before["securityContext"] == container["securityContext"]
    assert (before["image"], before["resources"]) == (container["image"], container["resources"])


def test_the_directories_of_a_pod_are_made_by_its_user_before_they_are_bound() -> None:
    """Those that a cluster makes for a ``subPath`` are root's: git takes no repository in one for the user's own."""
    found = pod_spec(spec("python:3.12"), PodOptions(image=IMAGE))
    (before,), (container,) = found["initContainers"], found["containers"]
    (volume,) = before["volumeMounts"]
    assert "subPath" not in volume
    bound = {mount["subPath"] for mount in container["volumeMounts"] if mount["name"] == volume["name"]}
    assert {f"{volume['mountPath']}/{name}" for name in bound} <= set(before["command"])


@pytest.mark.parametrize("cpus", [0.0, 0.0001, 0.01, 4.0])
async def test_the_smallest_pod_that_there_may_be_is_one_that_a_cluster_takes(
    kubernetes: KubernetesWorld, cpus: float
) -> None:
    limits = WorkspaceLimits(memory_bytes=32 << 20, cpus=cpus)
    async with kubernetes.open() as provider:
        await provider.start(WorkspaceSpec(workspace_id="one", owner_id="owner", limits=limits))
        assert (await provider.status("one")).state is SandboxState.RUNNING


@pytest.mark.parametrize(("address", "listens"), [("0.0.0.0", "--listen=0.0.0.0:8310"), ("::", "--listen=:::8310")])
def test_an_agent_listens_at_addresses_of_its_cluster_s_family(address: str, listens: str) -> None:
    (container,) = pod_spec(spec("python:3.12"), PodOptions(image=IMAGE, address=address))["containers"]
    assert listens in container["command"]


async def test_a_claim_is_as_large_as_the_disk_may_be(kubernetes: KubernetesWorld) -> None:
    async with kubernetes.open() as provider:
        await provider.create(spec_of("one"))
        claim = kubernetes.cluster.of("persistentvolumeclaims", "ws-one")
        assert claim is not None
        assert claim.body["spec"]["resources"]["requests"]["storage"] == str(LIMITS.disk_bytes)


async def test_names_that_a_cluster_does_not_take_are_refused(kubernetes: KubernetesWorld) -> None:
    async with kubernetes.open() as provider:
        for name in ("UPPER", "a_b", "x" * 60, "a-"):
            with pytest.raises(SandboxFailed, match="no ID"):
                await provider.create(spec_of(name))


async def test_over_tcp_the_agent_answers_only_who_knows_its_token(kubernetes: KubernetesWorld) -> None:
    async with kubernetes.open() as provider:
        await provider.start(spec_of("one"))
        stream = await containers(provider).dial("one")
        async with stream:
            await stream.send_all(b"GET /status HTTP/1.1\r\nhost: a\r\nauthorization: Bearer wrong\r\n\r\n")
            assert bytes(await stream.receive_some(1000)).startswith(b"HTTP/1.1 401 ")
        with suppress(WorkspaceUnreachable):
            await provider.connect("one").put("a", execute("env; cat /proc/self/environ"))  # root reads all the others
        for path in (
            "/proc/self/environ",
            "/proc/thread-self/environ",
            "/proc/self/mem",
            "/proc/self/task/../maps",
        ):
            with pytest.raises(WorkspaceRefused):
                await provider.connect("one").read_file(path, offset=0, limit=1000)
        answer = await provider.connect("one").call("a", wait_seconds=30)
        assert b"CHATCLUSTER_AGENT_TOKEN" not in answer.output.split(b"\n", 1)[0]
        said = (await provider.connect("one").call("a", wait_seconds=1)).output
        assert dict(containers(provider).headers("one"))["authorization"].encode()[7:] not in said


# --- what a cluster says of a pod -----------------------------------------------------------------


@pytest.mark.parametrize(
    ("status", "said"),
    [
        ({"phase": "Pending"}, None),
        ({"phase": "Running", "containerStatuses": [{"state": {"running": {}}}]}, None),
        ({"phase": "Pending", "containerStatuses": [{"state": {"waiting": {"reason": "ContainerCreating"}}}]}, None),
        (
            {"phase": "Pending", "containerStatuses": [{"state": {"waiting": {"reason": "InvalidImageName"}}}]},
            "Invalid",
        ),
        (
            {
                "phase": "Failed",
                "containerStatuses": [{"state": {"terminated": {"reason": "OOMKilled", "exitCode": 137}}}],
            },
            "OOMKilled, exit code 137",
        ),
        ({"phase": "Pending", "initContainerStatuses": [{"state": {"terminated": {"exitCode": 0}}}]}, None),
        (
            {
                "phase": "Failed",
                "initContainerStatuses": [{"state": {"terminated": {"exitCode": 1, "message": "mkdir: denied"}}}],
                "containerStatuses": [{"state": {"waiting": {"reason": "PodInitializing"}}}],
            },
            "exit code 1): mkdir: denied",
        ),
        ({"phase": "Failed", "reason": "Evicted", "message": "The node was low on memory"}, "Evicted"),
        ({}, None),
    ],
)
def test_what_a_cluster_says_of_a_pod_is_told(status: dict[str, object], said: str | None) -> None:
    told = how_it_ended({"status": status})
    assert told is None if said is None else said in str(told)


def test_why_a_pod_waits_is_told_in_the_schedulers_words_and_in_those_of_its_node() -> None:
    conditions = [{"type": "PodScheduled", "status": "False", "message": "0/3 nodes are available"}]
    assert why_it_waits({"status": {"conditions": conditions}}) == "0/3 nodes are available"
    conditions = [{"type": "Ready", "status": "False", "message": "containers with unready status: [agent]"}]
    state = {"waiting": {"reason": "CreateContainerConfigError", "message": "non-numeric user"}}
    told = why_it_waits({"status": {"conditions": conditions, "containerStatuses": [{"state": state}]}})
    assert told == "CreateContainerConfigError: non-numeric user; containers with unready status: [agent]"
    assert "does not say" in why_it_waits({})
