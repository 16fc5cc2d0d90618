"""The system calls that a sandbox does without: a filter of seccomp. Bubblewrap loads it for the whole sandbox; in a
container the agent does, for what it begins (``Filter``), beside whatever its engine filters.

Nothing there has a right to most of them anyway; what is not there to be called cannot be broken. Some need no right:
the kernel's keys, which a parent of this process may have left in reach; io_uring, which does what a filter does not
see; and sockets of a hypervisor (``AF_VSOCK``), which no network namespace closes. So a sandbox has the families
``FAMILIES`` alone. What runs there is of the same user as its agent, process 1: it may not set limits and priorities of
that, nor take leases of files, which keep a process that opens one waiting for most of a minute. ``sync`` is told that
it is done: it would have all disks of the machine written, those of its databases too; what writes one file or one file
system goes on. Programs for another machine than this one's (32 bits on one of 64) do not run.
"""

from __future__ import annotations

import ctypes
import errno
import platform
import socket
import struct
from functools import cache
from pathlib import Path

SECCOMP_MISSING = "system calls are not filtered: that takes Linux with seccomp on x86_64 or aarch64"
FAMILIES = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK)

_ACTIONS = Path("/proc/sys/kernel/seccomp/actions_avail")
_ARCHITECTURES = {"x86_64": 0xC000003E, "aarch64": 0xC00000B7}
_SYNC = {"x86_64": 162, "aarch64": 81}
_SOCKET = {"x86_64": 41, "aarch64": 198}
_IOCTL = {"x86_64": 16, "aarch64": 29}
_REFUSED = {
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "bpf": (321, 280),
    "perf_event_open": (298, 241),
    "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "kexec_load": (246, 104),
    "kexec_file_load": (320, 294),
    "init_module": (175, 105),
    "finit_module": (313, 273),
    "delete_module": (176, 106),
    "mount": (165, 40),
    "umount2": (166, 39),
    "pivot_root": (155, 41),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "mount_setattr": (442, 442),
    "unshare": (272, 97),
    "setns": (308, 268),
    "open_by_handle_at": (304, 265),
    "lookup_dcookie": (212, 18),
    "quotactl": (179, 60),
    "syslog": (103, 116),
    "acct": (163, 89),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "reboot": (169, 142),
}
"""System calls that are refused: their numbers on x86_64 and on aarch64."""
_OF_A_PROCESS = {
    "prlimit64": (302, 261),
    "sched_setparam": (142, 118),
    "sched_setscheduler": (144, 119),
    "sched_setaffinity": (203, 122),
    "sched_setattr": (314, 274),
}
"""System calls whose first argument is a process."""
_OF_MANY = {"setpriority": ((141, 140), 2), "ioprio_set": ((251, 30), 3)}
"""Their second argument is a process or a group, unless the first one is this, for all of a user's."""
_AGENT = 1
_FCNTL = {"x86_64": 72, "aarch64": 25}
_SET_LEASE = 1024
_NO_NEW_PRIVILEGES, _SET_SECCOMP, _BY_FILTER = 38, 22, 2
_TERMINAL_INPUT = (0x5412, 0x541C)
"""``TIOCSTI`` and ``TIOCLINUX``: what types for others."""
_X32 = 0x4000_0000
"""The beginning of the second set of numbers that x86_64 has."""

_LOAD, _IS, _IS_FROM, _RETURN = 0x20, 0x15, 0x35, 0x06
_NUMBER, _ARCHITECTURE, _FIRST, _SECOND = 0, 4, 16, 24
_ALLOW, _ERRNO = 0x7FFF_0000, 0x0005_0000


@cache
def seccomp_filter() -> bytes | None:
    """The program of this machine; None where there can be none."""
    machine = platform.machine()
    if machine not in _ARCHITECTURES or not _ACTIONS.exists():
        return None
    return _program(machine)


class Filter:
    """The filter of what the agent begins, where nobody loaded it for the agent itself."""

    def __init__(self, program: bytes) -> None:
        self._program = ctypes.create_string_buffer(program, len(program))
        self._described = struct.pack("@HP", len(program) // len(_RETURN_ALLOW), ctypes.addressof(self._program))
        self._prctl = ctypes.CDLL(None, use_errno=True).prctl

    def confine(self) -> None:
        """Filter the system calls of this process and all that come of it. Raises ``OSError``."""
        for arguments in ((_NO_NEW_PRIVILEGES, 1, None), (_SET_SECCOMP, _BY_FILTER, self._described)):
            if self._prctl(*arguments, 0, 0) != 0:
                raise OSError(ctypes.get_errno(), "system calls cannot be filtered")


def filter_of_commands() -> Filter | None:
    """None where there can be none."""
    program = seccomp_filter()
    return None if program is None else Filter(program)


def _program(machine: str) -> bytes:
    column = list(_ARCHITECTURES).index(machine)
    refused = [_if(numbers[column], _answer(errno.EPERM)) for numbers in _REFUSED.values()]
    of_agent = [_if(numbers[column], *_but_of_agent(_FIRST)) for numbers in _OF_A_PROCESS.values()]
    of_agent += [
        _if(numbers[column], _step(_LOAD, _FIRST), _if(of_user, _answer(errno.EPERM)), *_but_of_agent(_SECOND))
        for numbers, of_user in _OF_MANY.values()
    ]
    families = [_if(family, _RETURN_ALLOW) for family in FAMILIES]
    requests = [_if(request, _answer(errno.EPERM)) for request in _TERMINAL_INPUT]
    return b"".join(
        (
            _step(_LOAD, _ARCHITECTURE),
            _step(_IS, _ARCHITECTURES[machine], then=1),
            _answer(errno.ENOSYS),
            _step(_LOAD, _NUMBER),
            _step(_IS_FROM, _X32, otherwise=1),
            _answer(errno.ENOSYS),
            *refused,
            *of_agent,
            _if(_SYNC[machine], _answer(0)),
            _if(_FCNTL[machine], _step(_LOAD, _SECOND), _if(_SET_LEASE, _answer(errno.EINVAL)), _RETURN_ALLOW),
            _if(_SOCKET[machine], _step(_LOAD, _FIRST), *families, _answer(errno.EAFNOSUPPORT)),
            _if(_IOCTL[machine], _step(_LOAD, _SECOND), *requests, _RETURN_ALLOW),
            _RETURN_ALLOW,
        )
    )


def _step(code: int, value: int, *, then: int = 0, otherwise: int = 0) -> bytes:
    """One instruction; ``then`` and ``otherwise`` are how many are passed over."""
    return struct.pack("=HBBI", code, then, otherwise, value)


def _answer(error: int) -> bytes:
    return _step(_RETURN, _ERRNO | error)


_RETURN_ALLOW = _step(_RETURN, _ALLOW)


def _if(value: int, *steps: bytes) -> bytes:
    """The steps, which return, where what is loaded is this value."""
    block = b"".join(steps)
    return _step(_IS, value, otherwise=len(block) // len(_RETURN_ALLOW)) + block


def _but_of_agent(argument: int) -> tuple[bytes, ...]:
    return _step(_LOAD, argument), _if(_AGENT, _answer(errno.EPERM)), _RETURN_ALLOW
