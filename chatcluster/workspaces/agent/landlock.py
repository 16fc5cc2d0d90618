"""A wall between what the agent runs and the agent's own directory, of its ledger and of what calls wrote.

Commands run as the agent's user, so no mode of a file keeps anything from them. Each process that the agent begins
gets a Landlock domain: it writes wherever it could, but not below the agent's directory, nor beside it. So it can
neither forge the ledger nor fill a disk that is not the workspace's own. It may read there: that is its own past.

The kernel has to have Landlock of ``ABI_MIN``, as Linux has from 5.19 on unless it is turned off. Elsewhere there is no
such wall, and a host says so (``LANDLOCK_MISSING``).
"""

from __future__ import annotations

import ctypes
import os
import struct
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ABI_MIN = 2
"""Without the second version no file could be moved from one directory to another."""
ABI_TRUNCATE = 3
LANDLOCK_MISSING = (
    "a workspace can fill the disk of its host by way of its agent's directory: the kernel has no Landlock (5.19)"
)

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_VERSION, _PATH_BENEATH = 1, 1
_NO_NEW_PRIVILEGES = 38
_WRITES = 1 << 1
_CHANGES = sum(1 << bit for bit in range(4, 13))
"""Rights in directories: to make or remove what is in them."""
_MOVES, _TRUNCATES = 1 << 13, 1 << 14


@cache
def landlock_abi() -> int:
    """Which version of Landlock the kernel has; 0 if none, or if it is turned off."""
    return max(0, int(_library().syscall(_CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(_VERSION))))


class Wall:
    """Around everything but ``apart``. Raises ``OSError``."""

    def __init__(self, apart: Path) -> None:
        rights = _WRITES | _CHANGES | _MOVES | (_TRUNCATES if landlock_abi() >= ABI_TRUNCATE else 0)
        handled = struct.pack("=Q", rights)
        self._rules = _checked(_library().syscall(_CREATE_RULESET, handled, ctypes.c_size_t(len(handled)), 0))
        os.set_inheritable(self._rules, False)
        for directory in _all_but(apart.resolve()):
            self._allow(directory, rights)

    def confine(self) -> None:
        """Close the wall around this process and all that come of it. Raises ``OSError``."""
        _checked(_library().prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0))
        _checked(_library().syscall(_RESTRICT_SELF, self._rules, 0))

    def _allow(self, directory: str, rights: int) -> None:
        try:
            opened = os.open(directory, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        except OSError:
            return  # a place that is closed to this user as it is
        try:
            rule = struct.pack("=Qi", rights, opened)
            _checked(_library().syscall(_ADD_RULE, self._rules, _PATH_BENEATH, rule, 0))
        finally:
            os.close(opened)


def wall_of_sandbox(state: Path) -> Wall | None:
    """The wall, where the agent is process 1, so that the sandbox is its own; None elsewhere, and where none can be."""
    return Wall(state) if os.getpid() == 1 and landlock_abi() >= ABI_MIN else None


def _all_but(apart: Path) -> Iterator[str]:
    """The directories beside each one on the way there."""
    on_the_way = {apart, *apart.parents}
    for way in apart.parents:
        with os.scandir(way) as entries:
            yield from (one.path for one in entries if one.is_dir() and Path(one.path) not in on_the_way)


@cache
def _library() -> ctypes.CDLL:
    return ctypes.CDLL(None, use_errno=True)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
