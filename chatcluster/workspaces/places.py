"""Where workspaces are on the disk of their host, and whom their files belong to."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import trio

from chatcluster.workspace_errors import SandboxFailed
from chatcluster.workspaces.agent.server import listening

SOCKET_NAME = "agent.sock"
DESCRIPTOR_MIN = 10
REMOVE_SECONDS = 120.0
FIRST_USER_ID = 1_000_000
USER_IDS = 1 << 20

UIDS_MISSING = "owners are not kept apart by user IDs: that takes root, and a directory and packages that all can read"

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,99}")


@dataclass(frozen=True)
class Place:
    """One workspace's. What is in ``home`` and ``work`` belongs to it, and is not looked at here."""

    directory: Path

    @property
    def image(self) -> Path:
        """The image of its disk, where that is one file."""
        return self.directory / "disk.image"

    @property
    def home(self) -> Path:
        return self.directory / "disk" / "home"

    @property
    def work(self) -> Path:
        return self.directory / "disk" / "work"

    @property
    def state(self) -> Path:
        return self.directory / "state"

    @property
    def etc(self) -> Path:
        return self.directory / "etc"

    @property
    def filter(self) -> Path:
        """The filter of its system calls."""
        return self.directory / "seccomp"

    @property
    def network(self) -> Path:
        """The directory with the socket of its way out, where it has one."""
        return self.directory / "network"

    @property
    def socket(self) -> Path:
        """Where its agent listens while it runs, if it is the agent that makes it."""
        return self.state / SOCKET_NAME

    @property
    def door(self) -> Path:
        """Where its agent listens while it runs, if its host makes it: nothing of this directory is seen inside."""
        return self.directory / SOCKET_NAME


def checked_id(workspace_id: str) -> str:
    """Raises ``SandboxFailed`` for what could not be the name of a directory, or of anything else."""
    if not _NAME.fullmatch(workspace_id):
        raise SandboxFailed(f"{workspace_id!r} is no ID of a workspace")
    return workspace_id


def place_of(root: Path, workspace_id: str) -> Place:
    """Raises ``SandboxFailed``."""
    return Place(root / checked_id(workspace_id))


def user_id_of(owner_id: str) -> int:
    """Outside of the sandbox; the same for all workspaces of an owner."""
    digest = hashlib.sha256(owner_id.encode()).digest()
    return FIRST_USER_ID + int.from_bytes(digest[:4]) % USER_IDS


def leads_all_to(root: Path) -> bool:
    return all(parent.stat().st_mode & 0o001 for parent in (root, *root.parents))


def prepared(root: Path) -> Path:
    """The directory of all workspaces, which others may pass through where each has a user of its own."""
    root.mkdir(parents=True, exist_ok=True)
    if os.geteuid() == 0:
        root.chmod(0o711)
    return root.resolve()


@contextmanager
def door_at(path: Path) -> Iterator[int]:
    """The descriptor of a socket that listens there, for the agent: none of those that ``launch.sh`` uses itself."""
    with listening(path) as made:
        door = fcntl.fcntl(made, fcntl.F_DUPFD_CLOEXEC, DESCRIPTOR_MIN)
    try:
        yield door
    finally:
        os.close(door)


async def remove(directory: Path) -> None:
    """Remove a directory with all that is in it, however deep. It belongs to strangers; links are not followed."""
    command = ["rm", "-rf", "--one-file-system", "--", str(directory)]
    with trio.move_on_after(REMOVE_SECONDS):
        removed = await trio.run_process(command, check=False, capture_stderr=True)
        if removed.returncode == 0:
            return
    raise SandboxFailed(f"{directory} cannot be removed")
