"""``chatcluster`` commands in processes of their own, at once: forked off one that has imported everything.

To import a replica takes a second of a core, and a cluster of tests has three processes. What is forked is otherwise
what is started: a session, an environment, descriptors and an end of its own. It runs the command line, and ends by it.

    tests ── order, descriptors ──▶ zygote ──fork──▶ keeper ──fork──▶ the command

The keeper waits for the command and says on a pipe how it ended, as the command is no child of the tests. Whatever
ends the tests ends all of them: the zygote reads an end of file, and the kernel kills what is below it.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path

import msgspec

from chatcluster.local.embedded import child

PR_SET_PDEATHSIG = 1
ORDER_BYTES_MAX = 1 << 20
STATUS_BYTES = 4


class Order(msgspec.Struct):
    """What the zygote is asked for. The descriptors of the log, of the keeper's pipe and, if it has one, the ready pipe
    come along."""

    arguments: list[str]
    environment: dict[str, str]


class ForkedProcess:
    """As much of ``subprocess.Popen`` as tests use."""

    def __init__(self, pid: int, status_fd: int) -> None:
        self.pid = pid
        self.returncode: int | None = None
        self._status_fd = status_fd

    def poll(self) -> int | None:
        if self.returncode is None and select.select([self._status_fd], [], [], 0)[0]:
            self.wait()
        return self.returncode

    def wait(self) -> int:
        if self.returncode is None:
            data = os.read(self._status_fd, STATUS_BYTES)
            os.close(self._status_fd)
            self.returncode = int.from_bytes(data, "big", signed=True) if data else -signal.SIGKILL
        return self.returncode

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            with suppress(ProcessLookupError):  # the keeper has seen its end, and is about to tell
                os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def fork(
    arguments: Sequence[str], *, log: Path, environment: Mapping[str, str], ready_fd: int | None = None
) -> ForkedProcess:
    """Run ``chatcluster`` with these arguments; its output goes to ``log``. It gets ``ready_fd`` as ``--ready-fd``."""
    zygote = _zygote()
    read_fd, write_fd = os.pipe()
    try:
        with child.open_log(log) as output:
            descriptors = [output.fileno(), write_fd, *([] if ready_fd is None else [ready_fd])]
            order = Order(list(arguments), dict(environment))
            socket.send_fds(zygote, [msgspec.msgpack.encode(order)], descriptors)
    finally:
        os.close(write_fd)
    return ForkedProcess(int.from_bytes(zygote.recv(4), "big"), read_fd)


@cache
def _zygote() -> socket.socket:
    """That of this process, from the first order to the end of the tests."""
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-P", __file__, str(theirs.fileno())], pass_fds=[theirs.fileno()], start_new_session=True
        )

    def end() -> None:
        ours.close()
        process.wait()

    atexit.register(end)
    return ours


def _serve(orders: socket.socket) -> None:
    import chatcluster.cluster
    import chatcluster.llm.simulator.server
    from chatcluster.cli.commands import main

    assert chatcluster.cluster
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # keepers are nobody's business
    gc.collect()
    gc.freeze()
    zygote = os.getpid()
    while True:
        data, descriptors, *_ = socket.recv_fds(orders, ORDER_BYTES_MAX, 3)
        if not data:
            return
        if not os.fork():
            if not _is_command(orders, descriptors, zygote):
                os._exit(0)
            order = msgspec.msgpack.decode(data, type=Order)
            _become(order, *descriptors[:2])
            main(order.arguments + [f"--ready-fd={fd}" for fd in descriptors[2:]])
        for descriptor in descriptors:
            os.close(descriptor)


def _is_command(orders: socket.socket, descriptors: list[int], zygote: int) -> bool:
    """True in the process of the command; in its keeper False, once the command has ended and that was told."""
    _die_with(zygote)
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    keeper, pid = os.getpid(), os.fork()
    if not pid:
        _die_with(keeper)
        orders.close()
        return True
    orders.sendall(pid.to_bytes(4, "big"))
    log, status_fd, *ready = descriptors
    for descriptor in (log, *ready):
        os.close(descriptor)
    _, status = os.waitpid(pid, 0)
    os.write(status_fd, os.waitstatus_to_exitcode(status).to_bytes(STATUS_BYTES, "big", signed=True))
    return False


def _become(order: Order, log: int, status_fd: int) -> None:
    os.setsid()
    nowhere = os.open(os.devnull, os.O_RDONLY)
    for source, target in ((nowhere, 0), (log, 1), (log, 2)):
        os.dup2(source, target)
    for descriptor in (nowhere, log, status_fd):
        os.close(descriptor)
    os.environ.clear()
    os.environ.update(order.environment)


def _die_with(parent: int) -> None:
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


if __name__ == "__main__":
    _serve(socket.socket(fileno=int(sys.argv[1])))
