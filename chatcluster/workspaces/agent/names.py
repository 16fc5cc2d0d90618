"""Paths as text and as bytes: see ``workspace_wire.py`` for how bytes that are no UTF-8 are written."""

from __future__ import annotations

import errno
import os
import re
from dataclasses import dataclass

from chatcluster.workspace_wire import Code
from chatcluster.workspaces.agent.refused import Refused

PATH_BYTES_MAX = 4096
OUTPUTS = (1, 2)
OWN = "this is the agent's own"

_WRITTEN = re.compile(rb"\\x([89a-fA-F][0-9a-fA-F]|5[cC])")


def shown(path: bytes) -> str:
    """A path as it is written for people; ``raw`` reads it back."""
    escaped = _WRITTEN.sub(lambda match: rb"\x5c" + match[0][1:], path)
    return escaped.decode("utf-8", "backslashreplace")


def raw(path: str) -> bytes:
    """The bytes that a path is written for. Raises ``Refused`` for what can be no path."""
    try:
        encoded = path.encode()
    except UnicodeEncodeError:
        raise Refused(Code.INVALID_PATH, "the path is not text") from None
    found = _WRITTEN.sub(lambda match: bytes.fromhex(match[1].decode()), encoded)
    if not found or b"\0" in found:
        raise Refused(Code.INVALID_PATH, "the path is empty or has a zero byte")
    if len(found) > PATH_BYTES_MAX:
        raise Refused(Code.INVALID_PATH, f"the path has more than {PATH_BYTES_MAX} bytes")
    return found


def resolved(path: bytes) -> bytes:
    """Where the path leads, behind all links. Raises ``OSError``."""
    try:
        return os.path.realpath(path)
    except RecursionError:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP)) from None


@dataclass(frozen=True)
class Places:
    """Where relative paths start. ``apart``: the directory of the agent itself, which is nobody else's.
    ``file_bytes_max``: of one file that is written; 0: as it is."""

    home: bytes
    work: bytes
    apart: bytes = b""
    file_bytes_max: int = 0

    def find(self, path: str) -> bytes:
        """The absolute path of what is written; links in it are the operating system's to follow."""
        found = raw(path)
        if found == b"~" or found.startswith(b"~/"):
            return self.home + found[1:]
        return os.path.join(self.work, found)

    def directory(self, path: str) -> bytes:
        """A working directory: the workspace's own where none is said."""
        return self.find(path) if path else self.work

    def check_open(self, opened: int) -> None:
        """Whether this file, or what is in this directory, is for others than the agent itself: what it has of its own,
        what the kernel tells of its process alone, and what it says itself, which no path leads to but ``/dev/stdout``,
        is not. Raises ``OSError``."""
        if any(os.path.sameopenfile(opened, outputs) for outputs in OUTPUTS):
            raise PermissionError(errno.EACCES, OWN)
        self.check(os.readlink(b"/proc/self/fd/%d" % opened))

    def check(self, path: bytes) -> None:
        """As ``check_open``, for a path without links. Raises ``OSError``."""
        path += b"/"
        if path.startswith(b"/proc/%d/" % os.getpid()) or (self.apart and path.startswith(self.apart + b"/")):
            raise PermissionError(errno.EACCES, OWN)
