"""What has changed in the working directory, as git tells it.

Git runs within the sandbox, with the rights of what runs there, and in no other place. It is configured as for commands
there, so they would be told the same. Programs that a repository wants git to run are turned off as far as git lets
them be: hooks, external diffs, text conversions, monitors, pagers, transports; filters are not, as without them it
would be another diff. The index is not written. What git says is read up to a limit, and the rest is said to be left
out; where git fails there is no answer, and no half of one.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from itertools import islice

import msgspec
import trio

from chatcluster.workspace_wire import DIFF_FILES_MAX, PATCH_BYTES_MAX, Code, DiffAnswer, DiffFile
from chatcluster.workspaces.agent.names import Places, shown
from chatcluster.workspaces.agent.processes import LOOK_CALL, Processes
from chatcluster.workspaces.agent.refused import Refused

LIST_BYTES_MAX = 4 << 20
READ_BYTES = 64 << 10
SECONDS_MAX = 4.0
ENTRIES_MAX = 1000
"""So much of a directory is looked through for a repository."""
NOT_THERE = 127
"""So a shell ends that finds no such program."""

_INERT = [
    *("-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "core.pager=cat", "-c", "diff.external="),
    *("-c", "submodule.recurse=false", "-c", "diff.relative=false", "-c", "safe.directory=*"),
    *("-c", "core.untrackedCache=false", "--no-pager"),
]
_ENVIRONMENT = {
    "GIT_ALLOW_PROTOCOL": "none",
    "GIT_NO_LAZY_FETCH": "1",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "LC_ALL": "C.UTF-8",
}
_SUBMODULES = "--ignore-submodules=dirty"
"""Which commit a submodule is at is told; git is not run in it."""
_DIFF = [
    *("diff", "--no-ext-diff", "--no-textconv", "--no-color", "--src-prefix=a/", "--dst-prefix=b/"),
    *(_SUBMODULES, "--submodule=short"),
]
_STATUSES = {"A": "added", "M": "modified", "D": "deleted", "R": "renamed", "C": "copied", "T": "type_changed"}


class Git:
    """Git in one directory."""

    def __init__(self, processes: Processes, directory: bytes, home: bytes) -> None:
        self._processes = processes
        self._directory = directory
        self._environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": os.fsdecode(home), **_ENVIRONMENT}

    async def run(self, *arguments: str, limit: int) -> tuple[int | None, bytes]:
        """The exit code, None if it was ended because it said more than ``limit`` bytes, and what it said. An end by a
        signal has a negative code."""
        reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(writing, True)
        try:
            child = self._processes.begin(
                ["git", *_INERT, *arguments],
                directory=self._directory,
                environment=self._environment,
                call=LOOK_CALL,
                output=writing,
                errors=subprocess.DEVNULL,
            )
        except (OSError, ValueError) as error:
            os.close(reading)
            raise Refused(Code.DIFF_FAILED, f"git cannot be run: {error}") from None
        finally:
            os.close(writing)
        said = b""
        try:
            said = await _read_up_to(reading, limit + 1)
            if len(said) > limit:
                return None, said[:limit]
            await child.ended.wait()
            return (-(child.signal or 0) if child.exit_code is None else child.exit_code), said
        finally:
            os.close(reading)
            if not child.ended.is_set():
                self._processes.kill_group(child)


async def diff(processes: Processes, places: Places, base: str, directory: str) -> DiffAnswer:
    """Of the directory; or of the only repository in it, where it is none itself. Raises ``Refused``."""
    there = places.directory(directory)
    try:
        with trio.fail_after(SECONDS_MAX):
            found = await _diff(Git(processes, there, places.home), base)
            if found.is_repository or (name := _only_repository(there)) is None:
                return found
            below = await _diff(Git(processes, os.path.join(there, name), places.home), base)
            return msgspec.structs.replace(below, directory=shown(name))
    except trio.TooSlowError:
        raise Refused(Code.DIFF_FAILED, f"git took more than {SECONDS_MAX:g} seconds") from None


def _only_repository(directory: bytes) -> bytes | None:
    """The name of the one directory in it that is a repository; None where there are none, or several."""
    found: list[bytes] = []
    with suppress(OSError), os.scandir(directory) as entries:
        for entry in islice(entries, ENTRIES_MAX):
            if entry.is_dir(follow_symlinks=False) and os.path.lexists(os.path.join(entry.path, b".git")):
                found.append(entry.name)
    return found[0] if len(found) == 1 else None


async def _diff(git: Git, base: str) -> DiffAnswer:
    listing = ("--porcelain=v2", "-z", "--branch", "--untracked-files=normal", _SUBMODULES, "--no-renames")
    code, status = await git.run("status", *listing, limit=LIST_BYTES_MAX)
    if code == NOT_THERE:
        raise Refused(Code.DIFF_FAILED, "there is no git in the workspace: its host, or its image, needs it")
    if code not in (0, None):
        if (await git.run("rev-parse", "--git-dir", limit=LIST_BYTES_MAX))[0] == 0:
            raise Refused(Code.DIFF_FAILED, "git status fails in the workspace: run it there to see why")
        return DiffAnswer(is_repository=False)
    branch, head, untracked, unmerged = _status(status)
    against = await _commit(git, base) if base else head
    tree = against or await _empty_tree(git)
    names, has_all_names = await _said(git, "--name-status", "-z", tree, limit=LIST_BYTES_MAX)
    numbers, has_all_numbers = await _said(git, "--numstat", "-z", tree, limit=LIST_BYTES_MAX)
    patch, is_whole = await _said(git, tree, limit=PATCH_BYTES_MAX)
    found = [*_changed(names, _counts(numbers), unmerged), *untracked]
    is_whole = is_whole and code is not None and has_all_names and has_all_numbers
    return DiffAnswer(
        is_repository=True,
        branch=branch,
        base=against,
        files=tuple(found[:DIFF_FILES_MAX]),
        additions=sum(file.additions or 0 for file in found),
        deletions=sum(file.deletions or 0 for file in found),
        patch=patch.decode("utf-8", "replace"),
        is_truncated=not is_whole or len(found) > DIFF_FILES_MAX,
        digest=hashlib.sha256(b"\0".join((status, names, numbers, patch))).hexdigest()[:32],
    )


async def _said(git: Git, *arguments: str, limit: int) -> tuple[bytes, bool]:
    """What ``git diff`` says of the arguments, and whether that is all. Raises ``Refused``."""
    code, said = await git.run(*_DIFF, *arguments, "--", limit=limit)
    if code not in (0, None):
        raise Refused(Code.DIFF_FAILED, "git diff fails in the workspace: run it there to see why")
    return said, code is not None


async def _empty_tree(git: Git) -> str:
    """What there is before the first commit, as this repository names it."""
    code, said = await git.run("hash-object", "-t", "tree", "--stdin", limit=1000)
    if code != 0:
        raise Refused(Code.DIFF_FAILED, "git hash-object fails in the workspace: run it there to see why")
    return said.decode().strip()


async def _commit(git: Git, base: str) -> str:
    code, said = await git.run("rev-parse", "--verify", "--quiet", "--end-of-options", f"{base}^{{commit}}", limit=1000)
    if code != 0:
        raise Refused(Code.NO_COMMIT, f"there is no commit {base}")
    return said.decode().strip()


def _status(said: bytes) -> tuple[str | None, str | None, list[DiffFile], set[bytes]]:
    """Branch, commit, files that are not tracked, and paths that are not merged."""
    branch = head = None
    untracked, unmerged = [], set()
    for record in said.split(b"\0"):
        kind, _, rest = record.partition(b" ")
        if record.startswith(b"# branch.head "):
            branch = record[14:].decode("utf-8", "replace")
        elif record.startswith(b"# branch.oid ") and rest != b"branch.oid (initial)":
            head = record[13:].decode()
        elif kind == b"?":
            untracked.append(DiffFile(path=shown(rest), status="untracked"))
        elif kind == b"u":
            unmerged.add(rest.split(b" ", 9)[-1])
    return branch, head, untracked, unmerged


def _counts(said: bytes) -> dict[bytes, tuple[int | None, int | None]]:
    """Added and deleted lines by path; none of a binary file. A renamed one has both of its paths after it."""
    found: dict[bytes, tuple[int | None, int | None]] = {}
    records = iter(said.split(b"\0"))
    for record in records:
        added, _, rest = record.partition(b"\t")
        deleted, tab, path = rest.partition(b"\t")
        if tab:
            path = path or (next(records, b""), next(records, b""))[1]
            found[path] = (int(added), int(deleted)) if added != b"-" else (None, None)
    return found


def _changed(
    said: bytes, counts: dict[bytes, tuple[int | None, int | None]], unmerged: set[bytes]
) -> Iterator[DiffFile]:
    records = iter(said.split(b"\0"))
    for record in records:
        if not (letter := record[:1].decode("latin-1")):
            return
        old = next(records, b"") if letter in "RC" else None
        path = next(records, b"")
        added, deleted = counts.get(path, (None, None))
        yield DiffFile(
            path=shown(path),
            status="unmerged" if path in unmerged else _STATUSES.get(letter, "modified"),
            old_path=None if old is None else shown(old),
            additions=added,
            deletions=deleted,
        )


async def _read_up_to(pipe: int, limit: int) -> bytes:
    said = bytearray()
    while len(said) < limit:
        await trio.lowlevel.wait_readable(pipe)
        if not (data := os.read(pipe, min(READ_BYTES, limit - len(said)))):
            break
        said += data
    return bytes(said)
