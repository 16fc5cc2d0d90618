"""How the agent refuses."""

from __future__ import annotations

import errno

from chatcluster.workspace_wire import Code

STATUSES = {
    Code.INVALID_TOKEN: 401,
    Code.NOT_FOUND: 404,
    Code.UNKNOWN_CALL: 404,
    Code.FILE_NOT_FOUND: 404,
    Code.CALL_CONFLICT: 409,
    Code.STALE_EPOCH: 409,
    Code.NOT_RUNNING: 409,
    Code.NOT_ALLOWED: 403,
    Code.TOO_LARGE: 413,
    Code.TOO_MANY: 429,
    Code.DISK_FULL: 507,
    Code.INTERNAL: 500,
}
"""400 for all others."""
AGENT_FAILED = "the agent of the workspace failed at this; its host has the error"

_OF_FILES = {
    errno.ENOENT: Code.FILE_NOT_FOUND,
    errno.EACCES: Code.NOT_ALLOWED,
    errno.EPERM: Code.NOT_ALLOWED,
    errno.EROFS: Code.NOT_ALLOWED,
    errno.EBUSY: Code.NOT_ALLOWED,
    errno.ENOSPC: Code.DISK_FULL,
    errno.EDQUOT: Code.DISK_FULL,
    errno.EFBIG: Code.DISK_FULL,
    errno.EISDIR: Code.NOT_A_FILE,
    errno.ENXIO: Code.NOT_A_FILE,
}


class Refused(Exception):
    """A request that is not carried out, or a call that failed."""

    def __init__(self, code: Code, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message

    @property
    def status(self) -> int:
        return STATUSES.get(self.code, 400)


def of_file(error: OSError, path: str) -> Refused:
    """What the operating system said of this path."""
    code = _OF_FILES.get(error.errno or 0, Code.INVALID_PATH)
    return Refused(code, f"{path}: {error.strerror or error}")
