"""Another commit of this repository, checked out beside: what is measured against, or has to get along with us."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

ROOT = Path(__file__).resolve().parent.parent
GIT_SECONDS_MAX = 60.0


class GitFailed(Exception):
    """The message says what git had against it."""


@asynccontextmanager
async def checked_out(commit: str, *, purpose: str) -> AsyncIterator[Path]:
    """The tree of ``commit``, for the length of the block; ``purpose`` is in its name. Raises ``GitFailed``."""
    with tempfile.TemporaryDirectory(prefix=f"chatcluster-{purpose}-") as name:
        tree = Path(name) / "tree"
        await _git("worktree", "add", "--detach", str(tree), commit)
        try:
            yield tree
        finally:
            with trio.CancelScope(shield=True):  # bounded by GIT_SECONDS_MAX
                await _git("worktree", "remove", "--force", str(tree))


def has_file(commit: str, path: str) -> bool:
    """Whether that commit has this file. Of a commit that git does not know it is said when it is checked out."""
    command = ["git", "-C", str(ROOT), "cat-file", "-e"]
    return subprocess.run([*command, f"{commit}:{path}"], capture_output=True, check=False).returncode == 0


async def _git(*words: str) -> None:
    command = ["git", "-C", str(ROOT), *words]
    with trio.move_on_after(GIT_SECONDS_MAX):
        done = await trio.run_process(command, check=False, capture_stderr=True, stdout=subprocess.DEVNULL)
        if done.returncode:
            reason = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
            raise GitFailed(f"git {words[0]} {words[1]}: {''.join(reason)}")
        return
    raise GitFailed(f"git {words[0]} {words[1]} took longer than {GIT_SECONDS_MAX:.0f} s")
