"""Pods of a Kubernetes cluster, by its API, with the token of this process's service account.

A workspace is three objects of one name: a volume claim, which has its files and its agent's ledger and stays until the
workspace is deleted, and for each start a pod and the secret with the token that its agent asks for. The pod is reached
at its own address, so this process has to run in the cluster. It has no service account, no capability, no right to
write its image, limits of memory, processors and disk, and a user ID of its owner's; a runtime class of its own makes
the wall stronger. Its directories are made by a container that runs before, as that user: those that the cluster makes
are root's, and git takes no repository in one for the user's own. Its network is closed by a NetworkPolicy, without
which no pod is made: whether that is enforced is the network plugin's affair, and said. What its template lists is
reached by a proxy of this process, on connections that this process makes to the agent and lends it
(``network_proxy.py``): the pod itself may connect to nobody.

Objects are marked with who made them (``containers.py``), and deleted by their UID, so none that came later.

What happens on failure: a pod that cannot come up (no image, no node, no volume) is removed and its start fails with
what the cluster says of it. A pod that is evicted or ends is one whose agent has ended; its claim stays.
"""

from __future__ import annotations

import os
import re
import secrets
import ssl
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import trio

from chatcluster.ports.workspace import WorkspaceSpec
from chatcluster.workspace_errors import EngineRefused, SandboxFailed, SandboxMissing
from chatcluster.workspaces.agent.gateway import PORT
from chatcluster.workspaces.container_provider import Agent
from chatcluster.workspaces.containers import Mark, command_of, environment_of, next_epoch
from chatcluster.workspaces.engine_http import EngineHttp, Json, open_engine
from chatcluster.workspaces.places import user_id_of
from chatcluster.workspaces.sandbox import HOME, STATE, WORK

AGENT_PORT = 8310
GATEWAY = (f"--lent-gateway=127.0.0.1:{PORT}",)
TOKEN_BYTES = 32
START_SECONDS = 100.0
GONE_SECONDS_MAX = 30.0
LOOK_SECONDS = 0.25
REQUESTS = (50, 64 << 20)
"""Thousandths of a processor, and bytes of memory: what a pod is placed by, where it may have as much."""
VOLUME = "/volume"
DIRECTORIES = {"home": HOME, "work": WORK, "state": STATE}
"""Those of the volume, and where they are for what runs there."""
GRACE_SECONDS = 2
"""The agent was asked to end before; what has not ended by then is killed."""
TOKEN_VARIABLE = "CHATCLUSTER_AGENT_TOKEN"
TOKEN_KEY = "token"
POLICY = "chatcluster-workspaces"
HOST_LABEL, WORKSPACE_LABEL, EPOCH_LABEL = "chatcluster.io/host", "chatcluster.io/workspace", "chatcluster.io/epoch"
PART_LABEL = {"app.kubernetes.io/part-of": POLICY}
"""What the policy selects."""
ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
PODS, SECRETS, CLAIMS = "pods", "secrets", "persistentvolumeclaims"
KINDS = {PODS: "Pod", SECRETS: "Secret", CLAIMS: "PersistentVolumeClaim"}
HOPELESS = frozenset(
    ("ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "CreateContainerError", "RunContainerError")
)
"""Why a container waits, and would for ever."""
UNBOUNDED = (
    "processes are bounded for each user and not for each workspace, unless the nodes' podPidsLimit does it",
    "all but the listed network is closed by a NetworkPolicy, if the cluster's network plugin keeps those",
)

_NAME = re.compile(r"[a-z0-9]([a-z0-9-]{0,57}[a-z0-9])?")


@dataclass(frozen=True, kw_only=True)
class PodOptions:
    """``address``: where agents listen. Pods have addresses of the family that the cluster's API has."""

    image: str
    address: str = "0.0.0.0"
    runtime_class: str = ""
    storage_class: str = ""


class KubernetesEngine:
    """``Engine``."""

    start_seconds = START_SECONDS
    unbounded: tuple[str, ...] = UNBOUNDED

    def __init__(self, http: EngineHttp, namespace: str, mark: Mark, options: PodOptions) -> None:
        self._http = http
        self._namespace = namespace
        self._mark = mark
        self._options = options

    async def check(self) -> None:
        """Raises ``SandboxMissing`` with one line where pods cannot be made, or would not be closed in."""
        policy = f"/apis/networking.k8s.io/v1/namespaces/{self._namespace}/networkpolicies/{POLICY}"
        try:
            await self._http.ask("GET", policy)
            await self._http.ask("GET", self._path(PODS), query={"limit": "1"})
        except EngineRefused as refused:
            raise SandboxMissing(
                f"workspaces need the NetworkPolicy {POLICY} and the rights of deploy/kubernetes-pods.yaml in"
                f" namespace {self._namespace}: {refused}"
            ) from None
        except SandboxFailed as error:
            raise SandboxMissing(str(error)) from None

    async def make_place(self, spec: WorkspaceSpec) -> None:
        name = _name(spec.workspace_id)
        if (found := await self._find(CLAIMS, name)) is not None:
            self._check(found)
            return
        body = {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": str(spec.limits.disk_bytes)}},
            **({"storageClassName": self._options.storage_class} if self._options.storage_class else {}),
        }
        await self._make(CLAIMS, spec.workspace_id, {"spec": body})

    async def has_place(self, workspace_id: str) -> bool:
        found = await self._find(CLAIMS, _name(workspace_id))
        return found is not None and "deletionTimestamp" not in found["metadata"]

    def way_out(self, spec: WorkspaceSpec) -> None:
        """None: its pods are on other machines, and connections are lent to their agents."""

    async def launch(self, spec: WorkspaceSpec) -> Agent:
        await self.remove(spec.workspace_id)
        token = secrets.token_urlsafe(TOKEN_BYTES)
        await self._make(SECRETS, spec.workspace_id, {"type": "Opaque", "stringData": {TOKEN_KEY: token}})
        await self._make(PODS, spec.workspace_id, {"spec": pod_spec(spec, self._options)})
        address = await self._address(spec.workspace_id)
        dial = partial(trio.open_tcp_stream, address, AGENT_PORT)
        return Agent(dial, [("authorization", f"Bearer {token}")])

    async def ending(self, workspace_id: str) -> str | None:
        pod = await self._find(PODS, _name(workspace_id))
        return "its pod was removed" if pod is None else how_it_ended(pod)

    async def remove(self, workspace_id: str) -> None:
        name = _name(workspace_id)
        for kind in (PODS, SECRETS):
            if (found := await self._find(kind, name)) is not None:
                self._check(found)
                await self._delete(kind, found)

    async def remove_place(self, workspace_id: str) -> None:
        found = await self._find(CLAIMS, _name(workspace_id))
        if found is not None:
            self._check(found, any_epoch=True)
            await self._delete(CLAIMS, found, wait=False)

    async def remove_orphans(self) -> None:
        for kind in (PODS, SECRETS):
            listed = await self._http.ask(
                "GET", self._path(kind), query={"labelSelector": f"{HOST_LABEL}={self._mark.host_id}"}
            )
            for found in listed["items"]:
                if found["metadata"]["labels"].get(EPOCH_LABEL) != str(self._mark.epoch):
                    self._check(found)
                    await self._delete(kind, found)

    # --- objects ------------------------------------------------------------------------------

    def _path(self, kind: str, name: str = "") -> str:
        return f"/api/v1/namespaces/{self._namespace}/{kind}{f'/{name}' if name else ''}"

    def _check(self, found: Json, *, any_epoch: bool = False) -> None:
        labels = found["metadata"].get("labels") or {}
        epoch = "" if any_epoch else labels.get(EPOCH_LABEL, "")
        self._mark.check(labels.get(HOST_LABEL, ""), epoch, f"{found['metadata']['name']}")

    async def _find(self, kind: str, name: str) -> Json | None:
        try:
            return await self._http.ask("GET", self._path(kind, name))
        except EngineRefused as refused:
            if refused.status == 404:
                return None
            raise

    async def _make(self, kind: str, workspace_id: str, body: Json) -> None:
        labels = {WORKSPACE_LABEL: workspace_id, HOST_LABEL: str(self._mark.host_id), **PART_LABEL}
        if kind != CLAIMS:  # those outlive the process that makes them
            labels[EPOCH_LABEL] = str(self._mark.epoch)
        metadata = {"name": _name(workspace_id), "labels": labels}
        await self._http.ask(
            "POST", self._path(kind), body={"apiVersion": "v1", "kind": KINDS[kind], "metadata": metadata, **body}
        )

    async def _delete(self, kind: str, found: Json, *, wait: bool = True) -> None:
        """Delete this very object; returns when it is gone."""
        name, uid = found["metadata"]["name"], found["metadata"]["uid"]
        options: Json = {"apiVersion": "v1", "kind": "DeleteOptions", "preconditions": {"uid": uid}}
        if kind == PODS:
            options["gracePeriodSeconds"] = GRACE_SECONDS
        try:
            await self._http.ask("DELETE", self._path(kind, name), body=options)
        except EngineRefused as refused:
            if refused.status not in (404, 409):  # gone, or another one has its name by now
                raise
        if wait:
            await self._wait_until_gone(kind, name, uid)

    async def _wait_until_gone(self, kind: str, name: str, uid: str) -> None:
        with trio.move_on_after(GONE_SECONDS_MAX):
            while True:
                there = await self._find(kind, name)
                if there is None or there["metadata"]["uid"] != uid:
                    return
                await trio.sleep(LOOK_SECONDS)
        gone = "; if its node is gone, delete that node, or the pod by force" if kind == PODS else ""
        raise SandboxFailed(f"{KINDS[kind]} {name} cannot be removed{gone}")

    async def _address(self, workspace_id: str) -> str:
        """The pod's, once its container runs. Raises ``SandboxFailed`` with what the cluster says, if it does not."""
        pod: Json = {}
        end: str | None = None
        with trio.move_on_after(START_SECONDS):
            while end is None:
                pod = await self._find(PODS, _name(workspace_id)) or {}
                status = pod.get("status") or {}
                if status.get("phase") == "Running" and status.get("podIP"):
                    return str(status["podIP"])
                end = how_it_ended(pod) if pod else "its pod was removed"
                await trio.sleep(LOOK_SECONDS)
        await self.remove(workspace_id)
        raise SandboxFailed(end or f"its pod did not run within {START_SECONDS:g} seconds: {why_it_waits(pod)}")


def pod_spec(spec: WorkspaceSpec, options: PodOptions) -> Json:
    """A pod for the workspace. Pure."""
    user, limits = user_id_of(spec.owner_id), spec.limits
    environment = environment_of(spec, by_proxy=bool(spec.allowed_hosts))
    token = {
        "name": TOKEN_VARIABLE,
        "valueFrom": {"secretKeyRef": {"name": _name(spec.workspace_id), "key": TOKEN_KEY}},
    }
    container: dict[str, Any] = {
        **_closed_in(spec, options),
        "name": "agent",
        "command": command_of(
            spec, f"--listen={options.address}:{AGENT_PORT}", *(GATEWAY if spec.allowed_hosts else ())
        ),
        "workingDir": WORK,
        "env": [*({"name": name, "value": value} for name, value in environment.items()), token],
        "ports": [{"name": "agent", "containerPort": AGENT_PORT}],
        "volumeMounts": [
            *({"name": "files", "mountPath": path, "subPath": name} for name, path in DIRECTORIES.items()),
            {"name": "tmp", "mountPath": "/tmp"},
        ],
    }
    before: dict[str, Any] = {
        **_closed_in(spec, options),
        "name": "directories",
        "command": ["mkdir", "-p", "-m", "700", *(f"{VOLUME}/{name}" for name in DIRECTORIES)],
        "volumeMounts": [{"name": "files", "mountPath": VOLUME}],
    }
    return {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "hostname": "workspace",
        "terminationGracePeriodSeconds": GRACE_SECONDS,
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": user,
            "runAsGroup": user,
            "fsGroup": user,
            "fsGroupChangePolicy": "OnRootMismatch",
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "initContainers": [before],
        "containers": [container],
        "volumes": [
            {"name": "files", "persistentVolumeClaim": {"claimName": _name(spec.workspace_id)}},
            {"name": "tmp", "emptyDir": {"sizeLimit": str(limits.tmp_bytes)}},
        ],
        **({"runtimeClassName": options.runtime_class} if options.runtime_class else {}),
    }


def _closed_in(spec: WorkspaceSpec, options: PodOptions) -> Json:
    """What its containers have in common. An image that is there is not asked for again: it may be from there."""
    limits, (cpu, memory) = spec.limits, REQUESTS
    thousandths = max(1, round(limits.cpus * 1000))
    bounds = {"memory": str(limits.memory_bytes), "ephemeral-storage": str(2 * limits.tmp_bytes)}
    return {
        "image": spec.base or options.image,
        "imagePullPolicy": "IfNotPresent",
        "terminationMessagePolicy": "FallbackToLogsOnError",
        "resources": {
            "limits": {**bounds, "cpu": f"{thousandths}m"} if limits.cpus else bounds,
            "requests": {
                "cpu": f"{min(cpu, thousandths) if limits.cpus else cpu}m",
                "memory": str(min(memory, limits.memory_bytes)),
            },
        },
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
    }


def how_it_ended(pod: Json) -> str | None:
    """What is said of a pod that has ended, or never comes up; None of any other. Pure."""
    status = pod.get("status") or {}
    for container in _containers(status):
        state = container.get("state") or {}
        if ended := state.get("terminated"):
            why = f"{ended.get('reason', 'ended')}, exit code {ended.get('exitCode')}"
            return f"its pod has ended ({why}): {ended.get('message') or 'it said nothing'}"
        if (waiting := state.get("waiting") or {}).get("reason") in HOPELESS:
            return f"its pod cannot run ({waiting['reason']}): {waiting.get('message', '')}"
    if status.get("phase") in ("Failed", "Succeeded"):
        return f"its pod has ended ({status.get('reason') or status['phase']}): {status.get('message', '')}"
    return None


def why_it_waits(pod: Json) -> str:
    """Pure."""
    status = pod.get("status") or {}
    containers = ((one.get("state") or {}).get("waiting") or {} for one in _containers(status))
    said = [": ".join(filter(None, (one.get("reason"), one.get("message")))) for one in containers]
    conditions = status.get("conditions") or ()
    said += [one.get("message") or one.get("reason") for one in conditions if one.get("status") == "False"]
    return "; ".join(filter(None, said)) or "the cluster does not say why"


def _containers(status: Json) -> list[Json]:
    """Those of a pod in their order, but for what runs before and has done what it is for."""
    before = [one for one in status.get("initContainerStatuses") or () if not _has_succeeded(one)]
    return [*before, *(status.get("containerStatuses") or ())]


def _has_succeeded(container: Json) -> bool:
    ended = (container.get("state") or {}).get("terminated") or {}
    return ended.get("exitCode") == 0


def _name(workspace_id: str) -> str:
    """The name of a workspace's objects. Raises ``SandboxFailed``."""
    if not _NAME.fullmatch(workspace_id):
        raise SandboxFailed(f"{workspace_id!r} is no ID of a workspace")
    return f"ws-{workspace_id}"


def _authorities(certificate: Path) -> ssl.SSLContext:
    """The cluster's own. Many have not all that Python wants of one from 3.13 on, and are trusted all the same. Raises
    ``OSError``."""
    context = ssl.create_default_context(cafile=str(certificate))
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    return context


@asynccontextmanager
async def open_kubernetes(
    directory: Path,
    host_id: UUID,
    options: PodOptions,
    environment: Mapping[str, str] = os.environ,
    account: Path = ACCOUNT,
) -> AsyncIterator[KubernetesEngine]:
    """The cluster that this process runs in. Raises ``SandboxMissing`` with one line, and ``OSError``."""
    host, port = environment.get("KUBERNETES_SERVICE_HOST"), environment.get("KUBERNETES_SERVICE_PORT", "443")
    if not host:
        raise SandboxMissing("workspaces as pods need a host that runs in the cluster, with a service account")
    try:
        namespace = (account / "namespace").read_text().strip()
        authorities = _authorities(account / "ca.crt")
    except OSError as error:
        raise SandboxMissing(f"the service account of this pod cannot be read: {error}") from None

    def headers() -> Mapping[str, str]:
        return {"authorization": f"Bearer {(account / 'token').read_text().strip()}"}  # it is renewed every hour

    url = f"https://{f'[{host}]' if ':' in host else host}:{port}"
    async with open_engine("the Kubernetes API", url, authorities=authorities, headers=headers) as http:
        options = replace(options, address="::") if ":" in host else options
        engine = KubernetesEngine(http, namespace, Mark(host_id, next_epoch(directory)), options)
        await engine.check()
        yield engine
