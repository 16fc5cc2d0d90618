"""Paths as text and as bytes: see ``workspace_wire.py`` for how bytes that are no UTF-8 are written."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass

from chatcluster.workspace_wire import Code
from chatcluster.workspaces.agent.refused import Refused

PATH_BYTES_MAX = 4096

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


@dataclass(frozen=True)
class Places:
    """Where relative paths start."""

    home: bytes
    work: bytes

    def find(self, path: str) -> bytes:
        """The absolute path of what is written; links in it are the operating system's to follow."""
        found = raw(path)
        if found == b"~" or found.startswith(b"~/"):
            return self.home + found[1:]
        return os.path.join(self.work, found)

    def directory(self, path: str) -> bytes:
        """A working directory: the workspace's own where none is said."""
        return self.find(path) if path else self.work
