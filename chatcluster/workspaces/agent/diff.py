"""What has changed in the working directory, as git tells it.

Git runs within the sandbox, with the rights of what runs there, and in no other place. What a repository says of
programs to be run is turned off as far as git lets it be: hooks, external diffs, text conversions, monitors, pagers;
the index is not written. What git says is read up to a limit, and the rest is said to be left out.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
from collections.abc import Iterator

import trio

from chatcluster.workspace_wire import DIFF_FILES_MAX, PATCH_BYTES_MAX, Code, DiffAnswer, DiffFile
from chatcluster.workspaces.agent.names import Places, shown
from chatcluster.workspaces.agent.processes import SERVICE_CALL, Processes
from chatcluster.workspaces.agent.refused import Refused

LIST_BYTES_MAX = 4 << 20
READ_BYTES = 64 << 10
SECONDS_MAX = 4.0
EMPTY_TREE = "4b825dc642cb6eb9a060e54bf8d69288fbee4904"

_INERT = [
    *("-c", "core.hooksPath=/dev/null", "-c", "core.fsmonitor=false", "-c", "core.pager=cat", "-c", "diff.external="),
    *(
        "-c",
        "core.quotePath=true",
        "-c",
        "submodule.recurse=false",
        "-c",
        "protocol.allow=never",
        "-c",
        "color.ui=false",
    ),
    *("-c", "safe.directory=*", "-c", "core.untrackedCache=false", "-c", "diff.noprefix=false", "--no-pager"),
]
_ENVIRONMENT = {
    "GIT_CONFIG_NOSYSTEM": "1",
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_OPTIONAL_LOCKS": "0",
    "GIT_TERMINAL_PROMPT": "0",
    "GIT_ATTR_NOSYSTEM": "1",
    "LC_ALL": "C.UTF-8",
}
_DIFF = ["diff", "--no-ext-diff", "--no-textconv", "--ignore-submodules=all", "--find-renames"]
_STATUSES = {"A": "added", "M": "modified", "D": "deleted", "R": "renamed", "C": "copied", "T": "type_changed"}


class Git:
    """Git in one directory."""

    def __init__(self, processes: Processes, directory: bytes) -> None:
        self._processes = processes
        self._directory = directory

    async def run(self, *arguments: str, limit: int) -> tuple[int | None, bytes]:
        """The exit code, None if it was ended because it said more than ``limit`` bytes, and what it said."""
        reading, writing = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        os.set_blocking(writing, True)
        try:
            child = self._processes.begin(
                ["git", *_INERT, *arguments],
                directory=self._directory,
                environment={"PATH": os.environ.get("PATH", os.defpath), "HOME": "/nonexistent", **_ENVIRONMENT},
                call=SERVICE_CALL,
                output=writing,
                errors=subprocess.DEVNULL,
            )
        except OSError as error:
            os.close(reading)
            raise Refused(Code.DIFF_FAILED, f"git cannot be run: {error.strerror}") from None
        finally:
            os.close(writing)
        said = b""
        try:
            said = await _read_up_to(reading, limit + 1)
            if len(said) > limit:
                return None, said[:limit]
            await child.ended.wait()
            return child.exit_code, said
        finally:
            os.close(reading)
            if not child.ended.is_set():
                self._processes.kill_group(child)


async def diff(processes: Processes, places: Places, base: str, directory: str) -> DiffAnswer:
    """Raises ``Refused``."""
    git = Git(processes, places.directory(directory))
    try:
        with trio.fail_after(SECONDS_MAX):
            return await _diff(git, base)
    except trio.TooSlowError:
        raise Refused(Code.DIFF_FAILED, f"git took more than {SECONDS_MAX:g} seconds") from None


async def _diff(git: Git, base: str) -> DiffAnswer:
    code, status = await git.run(
        "status",
        "--porcelain=v2",
        "-z",
        "--branch",
        "--untracked-files=normal",
        "--ignore-submodules=all",
        "--no-renames",
        limit=LIST_BYTES_MAX,
    )
    if code not in (0, None):
        return DiffAnswer(is_repository=False)
    branch, head, untracked, unmerged = _status(status)
    against = await _commit(git, base) if base else head
    _, names = await git.run(*_DIFF, "--name-status", "-z", against or EMPTY_TREE, "--", limit=LIST_BYTES_MAX)
    _, numbers = await git.run(*_DIFF, "--numstat", "-z", against or EMPTY_TREE, "--", limit=LIST_BYTES_MAX)
    code, patch = await git.run(*_DIFF, against or EMPTY_TREE, "--", limit=PATCH_BYTES_MAX)
    found = [*_changed(names, _counts(numbers), unmerged), *untracked]
    digest = hashlib.sha256(b"\0".join((status, names, numbers, patch))).hexdigest()[:32]
    return DiffAnswer(
        is_repository=True,
        branch=branch,
        base=against,
        files=tuple(found[:DIFF_FILES_MAX]),
        additions=sum(file.additions or 0 for file in found),
        deletions=sum(file.deletions or 0 for file in found),
        patch=patch.decode("utf-8", "replace"),
        is_truncated=code is None or len(found) > DIFF_FILES_MAX or len(status) >= LIST_BYTES_MAX,
        digest=digest,
    )


async def _commit(git: Git, base: str) -> str:
    code, said = await git.run("rev-parse", "--verify", "--quiet", "--end-of-options", f"{base}^{{commit}}", limit=1000)
    if code != 0:
        raise Refused(Code.DIFF_FAILED, f"there is no commit {base}")
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
