"""The settings of a workspace host, besides those that it has in common with a replica: see ``setting_fields.py``."""

from __future__ import annotations

import socket
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from chatcluster.errors import ConfigError
from chatcluster.setting_checks import flag_name
from chatcluster.setting_fields import Section, setting
from chatcluster.setting_sections import ALL_ADDRESSES
from chatcluster.workspaces.reach import Network, networks

PROVIDERS = ("process", "docker", "kubernetes")


@dataclass(frozen=True, kw_only=True)
class HostSettings(Section):
    workspaces_dir: str = setting(
        ".chatcluster/workspaces", "Where the workspaces of this host have their files; one host for each directory"
    )
    workspaces_provider: str = setting(
        "process", "What makes workspaces: process (sandboxes of this machine), docker or kubernetes"
    )
    workspaces_image: str = setting(
        "chatcluster-workspace:latest", "Image of templates whose base is `host`, with docker and kubernetes"
    )
    workspace_cpus: float = setting(0.0, "Processors that one workspace may use; 0: all", minimum=0, maximum=1024)
    workspaces_private_networks: str = setting(
        "", "Networks of your own that a template's `network` may lead to, such as 10.0.0.0/8,192.168.0.0/16"
    )
    docker_socket: str = setting("/var/run/docker.sock", "Where the Docker engine of this machine listens")
    kubernetes_runtime_class: str = setting("", "Runtime class of workspaces' pods, such as gvisor")
    kubernetes_storage_class: str = setting("", "Storage class of workspaces' volume claims. Default: the cluster's")
    workspaces_name: str = setting("", "Name of this host in listings. Default: the machine's")
    workspaces_host: str = setting("127.0.0.1", "Address that this host listens on")
    workspaces_port: int = setting(8300, "Port that this host listens on; 0 picks a free one", minimum=0, maximum=65535)
    workspaces_advertise: str = setting("", "Address at which replicas reach it. Default: host:port")
    workspaces_max: int = setting(100, "Workspaces that run here at a time", minimum=1, maximum=10_000)
    default_template: bool = setting(
        False, "Make a template `default` if there is none of that name, so that there is something to begin with"
    )
    workspace_start_seconds_max: float = setting(
        120.0, "A workspace that takes longer to start has failed", minimum=1, maximum=3600
    )

    def check(self) -> None:
        if self.workspaces_provider not in PROVIDERS:
            raise ConfigError(f"workspaces-provider must be one of {', '.join(PROVIDERS)}")
        networks(self.workspaces_private_networks)
        for name in ("workspaces_dir", "workspaces_image", "docker_socket"):
            if not getattr(self, name).strip():
                raise ConfigError(f"{flag_name(name)} must not be empty")
        self.require_visible("workspaces_name", "workspaces_advertise")
        if not _is_address(self.workspaces_advertise.strip()):
            raise ConfigError("workspaces-advertise must be host:port, as replicas reach this host")

    @property
    def private_networks(self) -> tuple[Network, ...]:
        return networks(self.workspaces_private_networks)

    @property
    def directory(self) -> Path:
        return Path(self.workspaces_dir).absolute()

    @property
    def display_name(self) -> str:
        return self.workspaces_name.strip() or socket.gethostname()

    def advertised_address(self, port: int) -> str:
        host = socket.gethostname() if self.workspaces_host in ALL_ADDRESSES else self.workspaces_host
        return self.workspaces_advertise.strip() or (f"[{host}]:{port}" if ":" in host else f"{host}:{port}")


def _is_address(text: str) -> bool:
    """Whether it is a host, with a port or without; or nothing."""
    try:
        parts = urlsplit(f"//{text}")
        return parts.port != 0 and parts.netloc == text and "@" not in text and (not text or bool(parts.hostname))
    except ValueError:
        return False
