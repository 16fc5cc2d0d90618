"""A Docker engine as its API is documented (1.41 to 1.52), as far as workspaces ask for it. No engine is behind it."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from uuid import uuid4

import msgspec
import trio
from fake_engine import Answered, Asked, Json, RunningContainer, only, serve

INFO = {"MemoryLimit": True, "PidsLimit": True, "CpuCfsQuota": True, "ServerVersion": "20.10.24"}
BODY = {
    **dict.fromkeys(("Image", "User", "WorkingDir", "Hostname"), str),
    "Entrypoint": list,
    "Cmd": list,
    "Env": list,
    "Labels": dict,
    "NetworkDisabled": bool,
    "HostConfig": dict,
}
HOST_CONFIG = {
    **dict.fromkeys(("Memory", "MemorySwap", "PidsLimit", "ShmSize", "NanoCpus"), int),
    **dict.fromkeys(("Mounts", "CapDrop", "SecurityOpt"), list),
    **dict.fromkeys(("NetworkMode", "UsernsMode"), str),
    "ReadonlyRootfs": bool,
    "Tmpfs": dict,
    "RestartPolicy": dict,
    "LogConfig": dict,
}
MEMORY_BYTES_MIN = 6 << 20
VERSION = {"ApiVersion": "1.41", "MinAPIVersion": "1.12", "Version": "20.10.24"}


@dataclass
class Made:
    id: str
    name: str
    body: Json
    running: RunningContainer | None = None

    @property
    def status(self) -> str:
        if self.running is None:
            return "created"
        return "running" if self.running.is_running else "exited"


@dataclass
class FakeDocker:
    """``images`` are there, ``registry`` has some that can be pulled."""

    directory: Path
    images: set[str] = field(default_factory=lambda: {"workspace:1"})
    registry: set[str] = field(default_factory=set)
    info: Json = field(default_factory=lambda: dict(INFO))
    version: Json = field(default_factory=lambda: dict(VERSION))
    containers: dict[str, Made] = field(default_factory=dict)
    pulled: list[str] = field(default_factory=list)
    is_away: bool = False
    """It takes connections, as a socket of systemd's does, and closes them."""

    async def answer(self, asked: Asked) -> Answered:
        await trio.lowlevel.checkpoint()
        if self.is_away:
            raise trio.BrokenResourceError
        if (asked.method, asked.path) == ("GET", "/version"):
            return Answered(200, self.version)
        spoken, _, path = asked.path.removeprefix("/").partition("/")
        if not self.version["MinAPIVersion"] <= spoken.removeprefix("v") <= self.version["ApiVersion"]:
            return Answered(400, {"message": f"client version {spoken} is too old, or too new"})
        match (asked.method, *path.split("/")):
            case ("GET", "info"):
                return Answered(200, self.info)
            case ("POST", "containers", "create"):
                return self._create(asked.query["name"], asked.body)
            case ("GET", "containers", "json"):
                return self._list(asked.query)
            case ("POST", "images", "create"):
                return self._pull(f"{asked.query['fromImage']}:{asked.query['tag']}")
            case (method, "containers", name, *rest):
                found = next((one for one in self.containers.values() if name in (one.id, one.name)), None)
                if found is None:
                    return Answered(404, {"message": f"No such container: {name}"})
                return self._of_one(method, rest, found, asked.query)
        raise AssertionError(f"{asked.method} {asked.path} is not asked of an engine")

    def _of_one(self, method: str, rest: list[str], found: Made, query: dict[str, str]) -> Answered:
        match (method, *rest):
            case ("POST", "start"):
                return self._start(found)
            case ("GET", "json"):
                return Answered(200, self._inspected(found))
            case ("GET", "logs"):
                return Answered(200, _framed(found))
            case ("DELETE",):
                if found.status == "running" and query.get("force") not in ("1", "true"):
                    return Answered(409, {"message": "You cannot remove a running container"})
                self.end(found)
                del self.containers[found.id]
                return Answered(204)
        raise AssertionError(f"{method} {rest} is not asked of a container")

    def of(self, name: str) -> Made | None:
        return next((one for one in self.containers.values() if one.name == name), None)

    def end(self, found: Made) -> None:
        """As an operator would, or the kernel for want of memory."""
        if found.running is not None:
            found.running.kill()

    def _create(self, name: str, body: Json) -> Answered:
        only(BODY, body, "a container")
        config = body["HostConfig"]
        only(HOST_CONFIG, config, "HostConfig")
        assert re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_.-]+", name)
        assert config["Memory"] >= MEMORY_BYTES_MIN
        assert config["MemorySwap"] >= config["Memory"]
        assert re.fullmatch(r"\d+:\d+", body["User"])
        if body["Image"] not in self.images:
            return Answered(404, {"message": f"No such image: {body['Image']}"})
        if self.of(name) is not None:
            return Answered(409, {"message": f'Conflict. The container name "/{name}" is already in use'})
        for mount in config["Mounts"]:
            only({"Type": str, "Source": str, "Target": str, "ReadOnly": bool}, mount, "a mount")
            if not Path(mount["Source"]).is_dir():
                return Answered(400, {"message": f"bind source path does not exist: {mount['Source']}"})
        made = Made(uuid4().hex * 2, name, body)
        self.containers[made.id] = made
        return Answered(201, {"Id": made.id, "Warnings": []})

    def _start(self, found: Made) -> Answered:
        if found.status == "running":
            return Answered(304)
        config = found.body["HostConfig"]
        found.running = RunningContainer(
            [*found.body["Entrypoint"], *found.body["Cmd"]],
            dict(pair.split("=", 1) for pair in found.body["Env"]),
            {mount["Target"]: Path(mount["Source"]) for mount in config["Mounts"]},
            self.directory / f"{found.id}.log",
        )
        return Answered(204)

    def _inspected(self, found: Made) -> Json:
        code = 0 if found.running is None else found.running.exit_code
        state = {"Status": found.status, "Running": found.status == "running", "ExitCode": code, "OOMKilled": False}
        return {
            "Id": found.id,
            "Name": f"/{found.name}",
            "State": {**state, "Error": ""},
            "Config": {"Labels": found.body["Labels"], "Image": found.body["Image"]},
        }

    def _list(self, query: dict[str, str]) -> Answered:
        wanted = msgspec.json.decode(query.get("filters", "{}")).get("label", [])
        found = [
            {"Id": one.id, "Names": [f"/{one.name}"], "Labels": one.body["Labels"], "State": one.status}
            for one in self.containers.values()
            if all(
                f"{label.partition('=')[0]}={one.body['Labels'].get(label.partition('=')[0])}" == label
                for label in wanted
            )
            and (query.get("all") in ("1", "true") or one.status == "running")
        ]
        return Answered(200, found)

    def _pull(self, image: str) -> Answered:
        if image.startswith("private/"):
            return Answered(404, {"message": "pull access denied"})
        lines = [{"status": f"Pulling from {image}"}]
        if image in self.registry:
            self.images.add(image)
            self.pulled.append(image)
        else:
            lines.append({"error": f"manifest for {image} not found", "errorDetail": {}})  # type: ignore[dict-item]
        return Answered(200, b"\r\n".join(map(msgspec.json.encode, lines)))


def _framed(found: Made) -> bytes:
    said = b"" if found.running is None else found.running.log.read_bytes()
    return b"".join(b"\x02\0\0\0" + len(line).to_bytes(4) + line for line in said.splitlines(keepends=True)[-5:])


@asynccontextmanager
async def open_fake_docker(directory: Path) -> AsyncIterator[tuple[FakeDocker, Path]]:
    """The engine, and the socket that it listens on."""
    docker, path = FakeDocker(directory), directory / "docker.sock"
    listening = trio.socket.socket(trio.socket.AF_UNIX)
    await listening.bind(str(path))
    listening.listen(50)
    async with trio.open_nursery() as nursery:
        handler = partial(serve, answer=docker.answer)
        nursery.start_soon(partial(trio.serve_listeners, handler, [trio.SocketListener(listening)]))
        try:
            yield docker, path
        finally:
            for made in list(docker.containers.values()):
                docker.end(made)
            nursery.cancel_scope.cancel()
