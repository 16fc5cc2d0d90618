"""Another commit of this repository, checked out beside: what is measured against, or has to get along with us.

It runs on the packages of this virtual environment. What it depends on and is not here, because we need it no longer,
is installed beside it, at the versions of its own constraints.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import tomllib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from importlib import metadata
from pathlib import Path

import trio
from packaging.requirements import Requirement

ROOT = Path(__file__).resolve().parent.parent
GIT_SECONDS_MAX = 60.0
PIP_SECONDS_MAX = 300.0


class CheckoutFailed(Exception):
    """The message says what git or pip had against it."""


@asynccontextmanager
async def checked_out(commit: str, *, purpose: str) -> AsyncIterator[tuple[Path, Path]]:
    """The tree of ``commit``, and a folder of packages that only it needs (which may be missing), for the length of
    the block; ``purpose`` is in their names. Raises ``CheckoutFailed``."""
    with tempfile.TemporaryDirectory(prefix=f"chatcluster-{purpose}-") as name:
        tree, packages = Path(name) / "tree", Path(name) / "packages"
        await _git("worktree", "add", "--detach", str(tree), commit)
        try:
            await _install_missing(tree, packages)
            yield tree, packages
        finally:
            with trio.CancelScope(shield=True):  # bounded by GIT_SECONDS_MAX
                await _git("worktree", "remove", "--force", str(tree))


def has_file(commit: str, path: str) -> bool:
    """Whether that commit has this file. Of a commit that git does not know it is said when it is checked out."""
    command = ["git", "-C", str(ROOT), "cat-file", "-e"]
    return subprocess.run([*command, f"{commit}:{path}"], capture_output=True, check=False).returncode == 0


async def _install_missing(tree: Path, packages: Path) -> None:
    project = tomllib.loads((tree / "pyproject.toml").read_text())["project"]
    missing = [text for text in project["dependencies"] if not _is_here(Requirement(text))]
    if not missing:
        return
    constraints = tree / "scripts" / "constraints.txt"
    pinned = ["--constraint", str(constraints)] if constraints.exists() else []
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    await _run(f"pip install {' '.join(missing)}", PIP_SECONDS_MAX, *pip, "--target", str(packages), *pinned, *missing)


def _is_here(requirement: Requirement) -> bool:
    if requirement.marker is not None and not requirement.marker.evaluate():
        return True
    try:
        return requirement.specifier.contains(metadata.version(requirement.name), prereleases=True)
    except metadata.PackageNotFoundError:
        return False


async def _git(*words: str) -> None:
    await _run(f"git {words[0]} {words[1]}", GIT_SECONDS_MAX, "git", "-C", str(ROOT), *words)


async def _run(name: str, seconds_max: float, *command: str) -> None:
    with trio.move_on_after(seconds_max):
        done = await trio.run_process(command, check=False, capture_stderr=True, stdout=subprocess.DEVNULL)
        if done.returncode:
            reason = done.stderr.decode(errors="replace").strip().splitlines()[-1:]
            raise CheckoutFailed(f"{name}: {''.join(reason)}")
        return
    raise CheckoutFailed(f"{name} took longer than {seconds_max:.0f} s")
