"""The disk of a workspace: a file with a file system of a bounded size, where this process may mount one.

It is made sparse, so it takes what is written to it, and it is mounted by the sandbox in a mount namespace of its own
(``launch.sh``): when the sandbox ends, however it ends, nothing is left mounted. Elsewhere a disk is a plain directory,
which bounds the size of each file alone.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

DISK_MISSING = "disks are not bounded, but for the size of a file: that takes root, mkfs.ext4 and loop devices"
PROBE_BYTES = 1 << 20
PROBE_SECONDS = 10.0
MAKE_SECONDS = 30.0
_FEATURES = ["-q", "-F", "-m", "0", "-E", "lazy_itable_init=1,lazy_journal_init=1,root_owner=0:0"]


@cache
def can_mount() -> bool:
    """Whether images can be mounted here, tried once."""
    if os.geteuid() != 0 or any(shutil.which(name) is None for name in ("mkfs.ext4", "unshare", "mount", "setpriv")):
        return False
    with tempfile.TemporaryDirectory() as name:
        image = Path(name) / "image"
        try:
            make_image(image, PROBE_BYTES)
            mount = ["mount", "-t", "ext4", "-o", "loop,nosuid,nodev", str(image), name]
            subprocess.run(in_own_mounts(mount), check=True, capture_output=True, timeout=PROBE_SECONDS)
        except (OSError, subprocess.SubprocessError):
            return False
    return True


def make_image(path: Path, size_bytes: int) -> None:
    """A file with an empty file system. Raises ``OSError`` and ``subprocess.SubprocessError``."""
    unfinished = path.with_suffix(".new")
    with unfinished.open("wb") as file:
        file.truncate(size_bytes)
    subprocess.run(["mkfs.ext4", *_FEATURES, str(unfinished)], check=True, capture_output=True, timeout=MAKE_SECONDS)
    unfinished.rename(path)


def in_own_mounts(command: list[str]) -> list[str]:
    """The command in a mount namespace of its own, from which nothing comes out."""
    return ["unshare", "--mount", "--propagation", "private", "--", *command]
