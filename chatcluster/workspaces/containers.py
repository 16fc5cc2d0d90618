"""A workspace as a container, whichever engine makes it: what runs in it, what it is told, how it is marked. Pure.

Its image has the agent (``python3 -m chatcluster.workspaces.agent``), and everything that commands shall find. It is
marked with the host that it belongs to, and with the **epoch** of the process of that host which made it: a number that
each process takes anew, one above the last. What has a lower one is an orphan, and is removed; a higher one says that
this process is the stale one.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from uuid import UUID

from chatcluster.ports.workspace import WorkspaceSpec
from chatcluster.workspace_errors import SandboxFailed
from chatcluster.workspaces.sandbox import DISPLAY, HOME, PROXY, STATE, WORK

EPOCH_FILE = "provider-epoch"
PATH = f"{HOME}/.local/bin:/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin"


@dataclass(frozen=True)
class Mark:
    """What everything carries that a process of a host makes."""

    host_id: UUID
    epoch: int

    def check(self, host_id: str, epoch: str, what: str) -> None:
        """Raises ``SandboxFailed`` where an object is not this process's to remove or to replace."""
        if host_id != str(self.host_id):
            raise SandboxFailed(f"{what} belongs to another host")
        if epoch.isdecimal() and int(epoch) > self.epoch:
            raise SandboxFailed(f"{what} was made by a later process of this host: this one is stale")


def next_epoch(directory: Path) -> int:
    """The one of this process: no later one of the same directory has it again. Raises ``OSError``."""
    path = directory / EPOCH_FILE
    last = path.read_text().strip() if path.exists() else "0"
    epoch = (int(last) if last.isdecimal() else 0) + 1
    partial = path.with_name(EPOCH_FILE + ".partial")
    partial.write_text(f"{epoch}\n")
    partial.replace(path)
    return epoch


def command_of(spec: WorkspaceSpec, *more: str) -> list[str]:
    """What a container runs: the agent, which ends when its leash is let go."""
    limits = spec.limits
    return [
        *("python3", "-I", "-m", "chatcluster.workspaces.agent"),
        *(f"--state={STATE}", f"--home={HOME}", f"--work={WORK}", "--leashed"),
        f"--output-bytes-max={limits.output_bytes_max}",
        f"--processes-max={limits.processes_max}",
        f"--open-files-max={limits.open_files_max}",
        f"--file-bytes-max={limits.disk_bytes}",
        *([f"--screen={spec.screen[0]}x{spec.screen[1]}"] if spec.desktop else []),
        *more,
    ]


def environment_of(spec: WorkspaceSpec, *, by_proxy: bool = False) -> dict[str, str]:
    """``by_proxy``: it has a network, by the agent's gateway."""
    values = {"PATH": PATH, "HOME": HOME, "USER": "user", "LOGNAME": "user", "LANG": "C.UTF-8", "TERM": "dumb"}
    desktop = {"DISPLAY": DISPLAY} if spec.desktop else {}
    return {**values, "TMPDIR": "/tmp", **desktop, **(PROXY if by_proxy else {}), **spec.environment}
