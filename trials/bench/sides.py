"""Two versions in turns: the commit that is measured against is checked out beside, and each side runs its own code.

A side is a version of the replicas, with a database of its own that its own migrations made. The servers, the load
generator and the simulated model that stands apart are this tree's for both, so that what differs is the version of the
replicas alone. Both run on the packages of this virtual environment.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import trio

from bench.errors import BenchError

ROOT = Path(__file__).resolve().parent.parent.parent
NOW = "now"
THEN = "then"
GIT_SECONDS_MAX = 60.0


@dataclass(frozen=True)
class Side:
    """``environment`` makes Python find this side's packages; ``name`` is also that of its database."""

    name: str
    environment: Mapping[str, str] = field(default_factory=dict)


def side_of(name: str, tree: Path) -> Side:
    """The side whose code is in ``tree``, wherever its version keeps the bench."""
    folders = [tree, *(folder for folder in (tree / "trials", tree / "tests") if (folder / "bench").is_dir())]
    return Side(name, {"PYTHONPATH": os.pathsep.join(map(str, folders))})


OWN = side_of(NOW, ROOT)


@asynccontextmanager
async def open_sides(commit: str | None) -> AsyncIterator[tuple[Side, ...]]:
    """This tree, and before it the other commit if one is named. Raises ``BenchError`` if git does not know it."""
    if commit is None:
        yield (OWN,)
        return
    with tempfile.TemporaryDirectory(prefix="chatcluster-bench-against-") as name:
        tree = Path(name) / "tree"
        await _git("worktree", "add", "--detach", str(tree), commit)
        try:
            yield (side_of(THEN, tree), OWN)
        finally:
            with trio.CancelScope(shield=True):  # bounded by GIT_SECONDS_MAX
                await _git("worktree", "remove", "--force", str(tree))


async def _git(*words: str) -> None:
    command = ["git", "-C", str(ROOT), *words]
    with trio.move_on_after(GIT_SECONDS_MAX):
        done = await trio.run_process(command, check=False, capture_stderr=True, stdout=subprocess.DEVNULL)
        if done.returncode:
            reason = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
            raise BenchError(f"git {words[0]} {words[1]}: {''.join(reason)}")
        return
    raise BenchError(f"git {words[0]} {words[1]} took longer than {GIT_SECONDS_MAX:.0f} s")
