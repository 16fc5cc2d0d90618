"""Sandboxes of this machine for tests, and what is outside of them; ``sandbox_fixtures`` has them made."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from chatcluster.ports.workspace import WorkspaceLimits, WorkspaceSpec
from chatcluster.workspaces.sandbox import can_sandbox

LIMITS = WorkspaceLimits(
    memory_bytes=256 << 20,
    processes_max=64,
    disk_bytes=64 << 20,
    tmp_bytes=16 << 20,
    output_bytes_max=1 << 20,
)
SECRET = "a-secret-of-the-machine"

needs_sandboxes = pytest.mark.skipif(can_sandbox() is not None, reason=can_sandbox() or "")


def spec_of(
    name: str, *, owner: str = "owner", limits: WorkspaceLimits = LIMITS, allowed_hosts: tuple[str, ...] = ()
) -> WorkspaceSpec:
    return WorkspaceSpec(workspace_id=name, owner_id=owner, limits=limits, allowed_hosts=allowed_hosts)


@contextmanager
def open_directory() -> Iterator[Path]:
    """One that everybody may enter, as tests run as root, and a sandbox's user is not."""
    directory = Path(tempfile.mkdtemp(prefix="cc-ws-", dir="/tmp"))
    directory.chmod(0o755)
    (directory / "secret").write_text(SECRET)
    (directory / "secret").chmod(0o644)
    try:
        yield directory
    finally:
        shutil.rmtree(directory)
