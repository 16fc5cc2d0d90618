"""Containers of a Docker engine on this machine, by its HTTP API on a Unix socket.

A workspace's files and its agent's ledger are directories of this host, bound into the container; its agent listens on
a socket in one of them, so the container needs no network and has none; where its template lists what it may reach, the
socket of a proxy is bound into it (``network_proxy.py``). It is bounded in memory, processors and
processes, has no capability, can gain no rights, and can write its own directories and ``/tmp`` alone. Where this
process is root each owner's container runs under a user ID of its own. With an engine that is nobody's root (rootless)
it runs as root of the engine's user namespace: that is the engine's user, who has to be this process's.

A container's name is that of its workspace; what it is marked with says who made it (``containers.py``).

What happens on failure: an image that is not there is pulled, once for each start that wants it. A container that
somebody removes or ends is one whose agent has ended. While the engine does not answer, what runs goes on; if it comes
back as another version, that one's API is spoken.
"""

from __future__ import annotations

import os
import re
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager, suppress
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import trio

from chatcluster.parts import UNDECODABLE
from chatcluster.ports.workspace import WorkspaceSpec
from chatcluster.workspace_errors import EngineRefused, SandboxFailed, SandboxMissing
from chatcluster.workspaces.agent_client import dial_unix
from chatcluster.workspaces.container_provider import Agent, WayOut
from chatcluster.workspaces.containers import Mark, command_of, environment_of, next_epoch
from chatcluster.workspaces.engine_http import EngineHttp, Json, open_engine
from chatcluster.workspaces.places import Place, place_of, prepared, remove, user_id_of
from chatcluster.workspaces.sandbox import HOME, NETWORK, PROXY_NAME, STATE, WORK, shared_memory_bytes, tmp_bytes

API_VERSION = (1, 41)
"""The version of the API that Docker 20.10 has. Newer engines speak it as well, but for those (from 29.0 on) that begin
with a later one: that one is spoken with them."""
HOST_LABEL, WORKSPACE_LABEL, EPOCH_LABEL = "chatcluster.host", "chatcluster.workspace", "chatcluster.epoch"
PULL_SECONDS_MAX = 600.0
START_SECONDS = 100.0
GONE_SECONDS_MAX = 15.0
LOOK_SECONDS = 0.1
SAID_CHARACTERS_MAX = 400
NANO = 1_000_000_000
LOG_HEADER_BYTES = 8
"""Before each piece of a log: which of the outputs it is of, and its length."""
ROOTLESS, REMAPPED = "name=rootless", "name=userns"
"""How an engine tells that it runs without root, and that users of its containers are others outside."""
ROOTLESS_OF_ANOTHER = "the Docker engine runs without root, as another user than this host: it cannot reach its files"
NOT_ITS_VERSION = "client version"
"""So an engine begins to say that its API has not the version that is spoken."""
UIDS_MISSING = "owners are not kept apart by user IDs: that takes a host that runs as root"
DISK_MISSING = (
    "disks are not bounded, but for the size of a file: the engine bounds none that are bound into a container"
)
FEATURES = {
    "MemoryLimit": "memory is not bounded: the engine's kernel cannot",
    "PidsLimit": "processes are bounded for each user and not for each workspace: the engine's kernel cannot",
    "CpuCfsQuota": "processors are not bounded: the engine's kernel cannot",
}


class DockerEngine:
    """``Engine``."""

    start_seconds = START_SECONDS

    def __init__(self, http: EngineHttp, root: Path, mark: Mark, image: str) -> None:
        self._http = http
        self._root = root
        self._mark = mark
        self._image = image
        self._has_users = os.geteuid() == 0
        self._is_rootless = self._is_remapped = False
        self._api = ""
        """The beginning of each path: the version of the API that is spoken."""
        self.unbounded: tuple[str, ...] = ()

    async def check(self) -> None:
        """Ask what the engine can do. Raises ``SandboxMissing`` with one line where it cannot be used."""
        try:
            await self._choose_version()
            found = await self._ask("GET", "/info")
        except SandboxFailed as error:
            raise SandboxMissing(f"workspaces need a Docker engine of version 20.10 or newer: {error}") from None
        security = found.get("SecurityOptions") or ()
        self._is_rootless, self._is_remapped = ROOTLESS in security, REMAPPED in security
        if self._is_rootless and self._has_users:
            raise SandboxMissing(ROOTLESS_OF_ANOTHER)
        lacking = [sentence for name, sentence in FEATURES.items() if not found.get(name)]
        self.unbounded = (*lacking, DISK_MISSING, *(() if self._has_users else (UIDS_MISSING,)))

    async def make_place(self, spec: WorkspaceSpec) -> None:
        try:
            await trio.to_thread.run_sync(partial(self._make_place, spec))
        except OSError as error:
            raise SandboxFailed(f"the place of the workspace cannot be made: {error}") from None

    async def has_place(self, workspace_id: str) -> bool:
        return place_of(self._root, workspace_id).state.is_dir()

    def way_out(self, spec: WorkspaceSpec) -> WayOut | None:
        socket = place_of(self._root, spec.workspace_id).network / PROXY_NAME
        return WayOut(socket, self._user_id(spec) if self._has_users else None)

    async def launch(self, spec: WorkspaceSpec) -> Agent:
        place = place_of(self._root, spec.workspace_id)
        await self.remove(spec.workspace_id)
        place.socket.unlink(missing_ok=True)
        try:
            made = await self._create(spec)
        except EngineRefused as refused:
            if refused.status != 404:
                raise
            await self._pull(spec.base or self._image)
            made = await self._create(spec)
        await self._ask("POST", f"/containers/{made['Id']}/start")
        return Agent(partial(dial_unix, place.socket))

    async def ending(self, workspace_id: str) -> str | None:
        found = await self._inspect(workspace_id)
        if found is None:
            return "its container was removed"
        state = found["State"]
        if state["Status"] in ("created", "running"):
            return None
        why = "it ran out of memory" if state.get("OOMKilled") else f"exit code {state.get('ExitCode')}"
        said = await self._said(found["Id"])
        return f"its container is {state['Status']} ({why}): {state.get('Error') or said}"

    async def remove(self, workspace_id: str) -> None:
        found = await self._inspect(workspace_id)
        if found is not None:
            self._check(found["Config"]["Labels"] or {}, self._name(workspace_id))
            await self._delete(found["Id"])

    async def remove_place(self, workspace_id: str) -> None:
        await remove(place_of(self._root, workspace_id).directory)

    async def remove_orphans(self) -> None:
        filters = msgspec.json.encode({"label": [f"{HOST_LABEL}={self._mark.host_id}"]}).decode()
        found = await self._ask("GET", "/containers/json", query={"all": "true", "filters": filters})
        orphans = [one for one in found["items"] if one["Labels"].get(EPOCH_LABEL) != str(self._mark.epoch)]
        for one in orphans:
            self._check(one["Labels"], one["Id"])
            await self._delete(one["Id"])

    # --- the way there ------------------------------------------------------------------------

    async def _choose_version(self) -> None:
        self._api = _spoken(await self._http.ask("GET", "/version"))

    async def _ask(
        self, method: str, path: str, *, query: Mapping[str, str] | None = None, body: Json | None = None
    ) -> Json:
        try:
            return await self._http.ask(method, f"{self._api}{path}", query=query, body=body)
        except EngineRefused as refused:
            if refused.status != 400 or NOT_ITS_VERSION not in str(refused):
                raise
        await self._choose_version()
        return await self._http.ask(method, f"{self._api}{path}", query=query, body=body)

    # --- one container ------------------------------------------------------------------------

    def _name(self, workspace_id: str) -> str:
        return f"chatcluster-{workspace_id}"

    def _check(self, labels: Json, what: str) -> None:
        self._mark.check(labels.get(HOST_LABEL, ""), labels.get(EPOCH_LABEL, ""), f"container {what[:80]}")

    async def _inspect(self, workspace_id: str) -> Json | None:
        try:
            return await self._ask("GET", f"/containers/{self._name(workspace_id)}/json")
        except EngineRefused as refused:
            if refused.status == 404:
                return None
            raise

    async def _delete(self, container_id: str) -> None:
        """End and remove it; another removal that is under way is waited for."""
        with trio.move_on_after(GONE_SECONDS_MAX):
            while True:
                try:
                    await self._ask("DELETE", f"/containers/{container_id}", query={"force": "true", "v": "1"})
                except EngineRefused as refused:
                    if refused.status == 404:
                        return
                    if refused.status != 409:
                        raise
                await trio.sleep(LOOK_SECONDS)
        raise SandboxFailed(f"container {container_id[:12]} cannot be removed")

    async def _create(self, spec: WorkspaceSpec) -> Json:
        query = {"name": self._name(spec.workspace_id)}
        return await self._ask("POST", "/containers/create", query=query, body=self._body(spec))

    def _body(self, spec: WorkspaceSpec) -> Json:
        user, group = self._user_id(spec), self._user_id(spec) if self._has_users else os.getegid()
        environment = environment_of(spec, by_proxy=bool(spec.allowed_hosts))
        labels = {WORKSPACE_LABEL: spec.workspace_id, HOST_LABEL: str(self._mark.host_id)}
        return {
            "Image": spec.base or self._image,
            "Entrypoint": command_of(spec, *([f"--gateway={NETWORK}/{PROXY_NAME}"] if spec.allowed_hosts else [])),
            "Cmd": [],
            "User": "0:0" if self._is_rootless else f"{user}:{group}",
            "WorkingDir": WORK,
            "Env": [f"{name}={value}" for name, value in environment.items()],
            "Hostname": "workspace",
            "NetworkDisabled": True,
            "Labels": {**labels, EPOCH_LABEL: str(self._mark.epoch)},
            "HostConfig": self._host_config(spec),
        }

    def _host_config(self, spec: WorkspaceSpec) -> Json:
        place, limits = place_of(self._root, spec.workspace_id), spec.limits
        bound = {HOME: place.home, WORK: place.work, STATE: place.state}
        mounts = [{"Type": "bind", "Source": str(path), "Target": target} for target, path in bound.items()]
        network = {"Type": "bind", "Source": str(place.network), "Target": NETWORK, "ReadOnly": True}
        config: dict[str, Any] = {
            "Mounts": [*mounts, network] if spec.allowed_hosts else mounts,
            "NetworkMode": "none",
            "Memory": limits.memory_bytes,
            "MemorySwap": limits.memory_bytes,
            "PidsLimit": limits.processes_max,
            "CapDrop": ["ALL"],
            "SecurityOpt": ["no-new-privileges"],
            "ReadonlyRootfs": True,
            "Tmpfs": {"/tmp": f"rw,exec,nosuid,nodev,mode=1777,size={tmp_bytes(limits)}"},
            "ShmSize": shared_memory_bytes(limits),
            "RestartPolicy": {"Name": "no"},
            "LogConfig": {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "1"}},
        }
        if limits.cpus:
            config["NanoCpus"] = round(limits.cpus * NANO)
        if self._is_remapped:
            config["UsernsMode"] = "host"
        return config

    async def _pull(self, image: str) -> None:
        """Raises ``SandboxFailed``. What goes wrong in the middle is told in the answer itself, line by line."""
        name, _, tag = image.rpartition(":") if ":" in image.rpartition("/")[2] else (image, "", "latest")
        query = {"fromImage": image} if "@" in image else {"fromImage": name, "tag": tag}
        try:
            told = await self._http.read(
                "POST", f"{self._api}/images/create", query=query, seconds_max=PULL_SECONDS_MAX
            )
        except EngineRefused as refused:
            raise SandboxFailed(f"the image {image} is not there, and cannot be pulled: {refused}") from None
        for line in told.splitlines():
            with suppress(AttributeError, *UNDECODABLE):
                said = msgspec.json.decode(line)
                if error := said.get("error") or said.get("errorDetail", {}).get(
                    "message"
                ):  # newer engines: the latter
                    raise SandboxFailed(f"the image {image} cannot be pulled: {str(error)[:SAID_CHARACTERS_MAX]}")

    async def _said(self, container_id: str) -> str:
        """The end of what it said."""
        query = {"stdout": "1", "stderr": "1", "tail": "5"}
        try:
            log = await self._http.read("GET", f"{self._api}/containers/{container_id}/logs", query=query)
        except SandboxFailed:
            return "what it said is not known"
        words = " ".join(_unframed(log).decode("utf-8", "replace").split())
        return words[-SAID_CHARACTERS_MAX:] or "it said nothing"

    # --- its directories ----------------------------------------------------------------------

    def _user_id(self, spec: WorkspaceSpec) -> int:
        return user_id_of(spec.owner_id) if self._has_users else os.geteuid()

    def _make_place(self, spec: WorkspaceSpec) -> None:
        place: Place = place_of(self._root, spec.workspace_id)
        mode = 0o711 if self._has_users else 0o700
        for directory in (place.directory, place.directory / "disk"):
            directory.mkdir(mode=mode, exist_ok=True)
            directory.chmod(mode)
        for directory in (place.state, place.home, place.work):
            directory.mkdir(mode=0o700, exist_ok=True)
            directory.chmod(directory.stat().st_mode | 0o700)
            if self._has_users:
                os.chown(directory, self._user_id(spec), self._user_id(spec), follow_symlinks=False)


def _spoken(told: Json) -> str:
    """The version to speak with an engine that tells its newest and its oldest. Raises ``SandboxFailed``."""
    newest, oldest = (_version(told.get(name)) for name in ("ApiVersion", "MinAPIVersion"))
    if newest < API_VERSION:
        raise SandboxFailed(f"its API is {told.get('ApiVersion') or 'of no version'}")
    major, minor = max(API_VERSION, oldest)
    return f"/v{major}.{minor}"


def _version(text: object) -> tuple[int, int]:
    """Nought where it is none."""
    found = re.fullmatch(r"(\d{1,4})\.(\d{1,4})", str(text))
    return (0, 0) if found is None else (int(found[1]), int(found[2]))


def _unframed(log: bytes) -> bytes:
    """Both outputs of a container's log, in their order."""
    said = bytearray()
    while len(log) >= LOG_HEADER_BYTES:
        end = LOG_HEADER_BYTES + int.from_bytes(log[4:LOG_HEADER_BYTES])
        said += log[LOG_HEADER_BYTES:end]
        log = log[end:]
    return bytes(said)


@asynccontextmanager
async def open_docker(socket: Path, root: Path, host_id: UUID, image: str) -> AsyncIterator[DockerEngine]:
    """The engine that listens on ``socket``, with workspaces below ``root``. Raises ``SandboxMissing``, ``OSError``."""
    directory = prepared(root)
    async with open_engine(f"the Docker engine at {socket}", "http://docker", socket=socket) as http:
        engine = DockerEngine(http, directory, Mark(host_id, next_epoch(directory)), image)
        await engine.check()
        yield engine
