"""The API of a Kubernetes cluster as it is documented, as far as workspaces ask for it, with one node that is this
machine. Pods are agents as processes; each has an address of its own on the loopback."""

from __future__ import annotations

import base64
import re
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any
from uuid import uuid4

import trio
from fake_engine import Answered, Asked, Json, RunningContainer, only, serve

CERTIFICATE = Path(__file__).parent / "localhost.pem"
NAMESPACE = "chats"
TOKEN = "the-token-of-the-service-account"
KINDS = {"pods": "Pod", "secrets": "Secret", "persistentvolumeclaims": "PersistentVolumeClaim"}
POD = {
    **dict.fromkeys(("restartPolicy", "hostname", "runtimeClassName"), str),
    **dict.fromkeys(("automountServiceAccountToken", "enableServiceLinks"), bool),
    **dict.fromkeys(("initContainers", "containers", "volumes"), list),
    "terminationGracePeriodSeconds": int,
    "securityContext": dict,
}
CONTAINER = {
    **dict.fromkeys(("name", "image", "imagePullPolicy", "workingDir", "terminationMessagePolicy"), str),
    **dict.fromkeys(("command", "env", "ports", "volumeMounts"), list),
    **dict.fromkeys(("resources", "securityContext"), dict),
}
CLAIM = {"accessModes": list, "resources": dict, "storageClassName": str}
GONE_SECONDS = 0.02
_LABEL = re.compile(r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?")
_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")


@dataclass
class Thing:
    """An object of the API; of a pod, what it runs."""

    body: Json
    running: RunningContainer | None = None
    address: str = ""
    waits_for: str = ""

    @property
    def status(self) -> Json:
        if self.running is None:
            waiting = {"reason": self.waits_for, "message": f"back-off: {self.waits_for}"}
            return {
                "phase": "Pending",
                "initContainerStatuses": [{"state": {"waiting": waiting}}] if self.waits_for else [],
                "containerStatuses": [{"state": {"waiting": {"reason": "PodInitializing"}}}],
            }
        if self.running.is_running:
            return {"phase": "Running", "podIP": self.address, "containerStatuses": [{"state": {"running": {}}}]}
        ended = {"reason": "Error", "exitCode": self.running.exit_code, "message": self.running.log.read_text()[-2048:]}
        return {"phase": "Failed", "podIP": self.address, "containerStatuses": [{"state": {"terminated": ended}}]}


@dataclass
class FakeKubernetes:
    """``images`` are those that its node has or can get."""

    directory: Path
    nursery: trio.Nursery
    images: set[str] = field(default_factory=lambda: {"workspace:1"})
    things: dict[tuple[str, str], Thing] = field(default_factory=dict)
    policies: set[str] = field(default_factory=lambda: {"chatcluster-workspaces"})
    token: str = TOKEN
    pods_made: int = 0

    async def answer(self, asked: Asked) -> Answered:
        await trio.lowlevel.checkpoint()
        if asked.authorization != f"Bearer {self.token}":
            return _status(401, "Unauthorized")
        match (asked.method, *asked.path.strip("/").split("/")):
            case ("GET", "apis", "networking.k8s.io", "v1", "namespaces", "chats", "networkpolicies", name):
                return Answered(200, {"metadata": {"name": name}}) if name in self.policies else _missing(name)
            case ("POST", "api", "v1", "namespaces", "chats", kind):
                return self._make(kind, asked.body)
            case ("GET", "api", "v1", "namespaces", "chats", kind):
                return self._list(kind, asked.query.get("labelSelector", ""))
            case (method, "api", "v1", "namespaces", "chats", kind, name):
                thing = self.things.get((kind, name))
                if thing is None:
                    return _missing(name)
                return self._get(thing) if method == "GET" else self._delete(kind, name, thing, asked.body)
        return _status(403, f"cannot {asked.method} {asked.path}")

    def of(self, kind: str, name: str) -> Thing | None:
        return self.things.get((kind, name))

    def end(self, thing: Thing) -> None:
        """As an eviction would."""
        if thing.running is not None:
            thing.running.kill()

    def _make(self, kind: str, body: Json) -> Answered:
        assert (body["apiVersion"], body["kind"]) == ("v1", KINDS[kind])
        name, labels = body["metadata"]["name"], body["metadata"]["labels"]
        assert _NAME.fullmatch(name), name
        assert all(_LABEL.fullmatch(value) for value in labels.values()), labels
        if (kind, name) in self.things:
            return _status(409, f'{kind} "{name}" already exists')
        if kind == "pods" and (said := _refused(body["spec"])):
            return _status(422, said)
        body["metadata"]["uid"] = str(uuid4())
        thing = self.things[kind, name] = Thing(body)
        if kind == "pods":
            self.nursery.start_soon(self._run, name, thing)
        elif kind == "secrets":
            body["data"] = {k: base64.b64encode(v.encode()).decode() for k, v in body.pop("stringData").items()}
        else:
            only(CLAIM, body["spec"], "a claim's spec")
            (self.directory / name).mkdir(exist_ok=True)
        return Answered(201, body)

    async def _run(self, name: str, thing: Thing) -> None:
        """What the scheduler and the kubelet do."""
        await trio.sleep(GONE_SECONDS)
        spec = thing.body["spec"]
        (before,), (container,) = spec["initContainers"], spec["containers"]
        if container["image"] not in self.images:
            thing.waits_for = "ImagePullBackOff"
            return
        volumes = {volume["name"]: volume for volume in spec["volumes"]}
        places = {}
        for mount in container["volumeMounts"]:
            claim = volumes[mount["name"]].get("persistentVolumeClaim")
            if claim is not None:
                assert ("persistentvolumeclaims", claim["claimName"]) in self.things
                places[mount["mountPath"]] = self.directory / claim["claimName"] / mount["subPath"]
                if f"{before['volumeMounts'][0]['mountPath']}/{mount['subPath']}" in before["command"]:
                    places[mount["mountPath"]].mkdir(mode=0o700, exist_ok=True)
        self.pods_made += 1
        thing.address = f"127.0.7.{self.pods_made}"
        environment = {one["name"]: self._value(one) for one in container["env"]}
        log = self.directory / f"{name}-{self.pods_made}.log"
        thing.running = RunningContainer(container["command"], environment, places, log, thing.address)

    def _value(self, one: Json) -> str:
        if "value" in one:
            return str(one["value"])
        wanted = one["valueFrom"]["secretKeyRef"]
        return base64.b64decode(self.things["secrets", wanted["name"]].body["data"][wanted["key"]]).decode()

    def _get(self, thing: Thing) -> Answered:
        return Answered(200, {**thing.body, "status": thing.status} if thing.body["kind"] == "Pod" else thing.body)

    def _list(self, kind: str, selector: str) -> Answered:
        name, _, value = selector.partition("=")
        found = [
            thing.body
            for (other, _), thing in self.things.items()
            if other == kind and (not selector or thing.body["metadata"]["labels"].get(name) == value)
        ]
        return Answered(200, {"items": found})

    def _delete(self, kind: str, name: str, thing: Thing, options: Json) -> Answered:
        uid = options.get("preconditions", {}).get("uid")
        if uid not in (None, thing.body["metadata"]["uid"]):
            return _status(409, f"the UID in the precondition ({uid}) does not match")
        if "deletionTimestamp" not in thing.body["metadata"]:
            thing.body["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
            self.nursery.start_soon(self._finish, kind, name, thing)
        return Answered(200, thing.body)

    async def _finish(self, kind: str, name: str, thing: Thing) -> None:
        await trio.sleep(GONE_SECONDS)
        self.end(thing)
        self.things.pop((kind, name), None)


def _refused(spec: Json) -> str | None:
    """Why a pod is refused: a container of it wants more than it may have."""
    only(POD, spec, "a pod's spec")
    for container in (*spec["initContainers"], *spec["containers"]):
        only(CONTAINER, container, "a container")
        limits = container["resources"]["limits"]
        for name, wanted in container["resources"]["requests"].items():
            if name in limits and _quantity(wanted) > _quantity(limits[name]):
                return f'Invalid value: "{wanted}": must be less than or equal to {name} limit of {limits[name]}'
    return None


def _quantity(text: str) -> float:
    number, unit = re.fullmatch(r"(\d+)(m|Mi)?", text).groups()  # type: ignore[union-attr]
    return int(number) * {None: 1.0, "m": 0.001, "Mi": float(1 << 20)}[unit]


def _status(code: int, message: str) -> Answered:
    return Answered(code, {"kind": "Status", "status": "Failure", "message": message, "code": code})


def _missing(name: str) -> Answered:
    return _status(404, f'"{name}" not found')


def make_account(account: Path) -> Path:
    """What a pod is given of its service account."""
    account.mkdir()
    for name, content in {"namespace": NAMESPACE, "token": TOKEN, "ca.crt": CERTIFICATE.read_text()}.items():
        (account / name).write_text(content)
    return account


def listening_port(listener: trio.SSLListener[trio.SocketStream]) -> int:
    accepting = listener.transport_listener
    assert isinstance(accepting, trio.SocketListener)
    return int(accepting.socket.getsockname()[1])


@asynccontextmanager
async def open_fake_kubernetes(directory: Path) -> AsyncIterator[tuple[FakeKubernetes, dict[str, str], Path]]:
    """The cluster; what the environment of a pod in it says; and the directory of its service account."""
    account = make_account(directory / "account")
    context: Any = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(CERTIFICATE)
    async with trio.open_nursery() as nursery:
        cluster = FakeKubernetes(directory, nursery)
        (listener, *_) = await trio.open_ssl_over_tcp_listeners(0, context, host="127.0.0.1")
        handler = partial(serve, answer=cluster.answer)
        nursery.start_soon(partial(trio.serve_listeners, handler, [listener]))
        port = listening_port(listener)
        try:
            yield cluster, {"KUBERNETES_SERVICE_HOST": "localhost", "KUBERNETES_SERVICE_PORT": str(port)}, account
        finally:
            for thing in list(cluster.things.values()):
                cluster.end(thing)
            nursery.cancel_scope.cancel()
