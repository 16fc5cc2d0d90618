"""Processes of the sandbox: begun, ended, reaped.

The agent is process 1, or a subreaper where it runs without a sandbox, so every orphan becomes its child. One task
waits for all children; nothing else does. A command has a session and a process group of its own, no input, and both
outputs on one pipe; a server that the agent talks to has an input. It is the first that memory is taken from when
there is none left.

To end a call: TERM to all of its processes; after ``GRACE_SECONDS`` KILL, again and again until none is left, as each
may have made others in the meantime, for ``KILL_SECONDS_MAX`` at most.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import subprocess
from collections.abc import Mapping, Sequence
from typing import Protocol

import trio

from chatcluster.workspaces.agent.census import MARK, look, members

GRACE_SECONDS = 0.5
KILL_SECONDS_MAX = 3.0
LOOK_SECONDS = 0.02
SERVICE_CALL = 0
"""The programs of a screen are of no call, and end with none."""
LOOK_CALL = -1
"""What looks at the files for the agent: it ends with no call. What a repository makes it leave behind is nobody's."""
FIRST_SERVICE = 1 << 40
"""Numbers from here on are those of servers that the agent runs: each can be ended like a call, but takes nothing
with it that may be another's."""
NEVER = 1 << 62
"""No process begins as late."""
PR_SET_DUMPABLE, PR_SET_CHILD_SUBREAPER = 4, 36

EXPENDABLE = ("/bin/sh", "-c", '{ echo 500 >/proc/self/oom_score_adj; } 2>/dev/null; exec "$@"', "sh")


class Confinement(Protocol):
    def confine(self) -> None:
        """Confine this process and all that come of it. Raises ``OSError``."""
        ...


class FileLimit:
    """The most bytes of a file that is written."""

    def __init__(self, bytes_max: int) -> None:
        self._bytes_max = bytes_max

    def confine(self) -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (self._bytes_max, self._bytes_max))


class Child:
    """A process that was begun here. ``status`` is what ``waitpid`` says of it, once it has ``ended``."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.ended = trio.Event()
        self.status = 0

    @property
    def exit_code(self) -> int | None:
        return os.WEXITSTATUS(self.status) if os.WIFEXITED(self.status) else None

    @property
    def signal(self) -> int | None:
        return os.WTERMSIG(self.status) if os.WIFSIGNALED(self.status) else None


class Processes:
    """``walls``: what each of them is confined by."""

    def __init__(self, *walls: Confinement) -> None:
        self._walls = walls
        self._children: dict[int, tuple[Child, subprocess.Popen[bytes]]] = {}
        self._calls_by_session: dict[int, int] = {}
        self._began_ticks: dict[int, int] = {}
        """When each call began, in the machine's ticks."""

    def begin(
        self,
        argv: Sequence[str | bytes],
        *,
        directory: bytes,
        environment: Mapping[str, str],
        call: int,
        output: int,
        errors: int = subprocess.STDOUT,
        reads: int = subprocess.DEVNULL,
    ) -> Child:
        """Run a program as the call, or for it. Raises ``OSError`` and ``ValueError`` if it cannot be."""
        try:
            process = subprocess.Popen(
                [*EXPENDABLE, *argv],
                cwd=directory,
                env={MARK: str(call), **environment},
                stdin=reads,
                stdout=output,
                stderr=errors,
                start_new_session=True,
                preexec_fn=self._confine if self._walls else None,
            )
        except subprocess.SubprocessError as error:  # it could not be confined
            raise OSError(str(error)) from None
        seen = look(process.pid)
        child = Child(process.pid)
        self._children[process.pid] = child, process
        self._calls_by_session[process.pid] = call
        if call != LOOK_CALL:
            self._began_ticks[call] = NEVER if call >= FIRST_SERVICE else seen.started_ticks if seen else 0
        return child

    def _confine(self) -> None:
        for wall in self._walls:
            wall.confine()

    async def reap(self, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Take note of every child that ends, for ever."""
        with trio.open_signal_receiver(signal.SIGCHLD) as signals:
            task_status.started()
            async for _ in signals:
                self._reap_all()

    def _reap_all(self) -> None:
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return
            if pid == 0:
                return
            if (begun := self._children.pop(pid, None)) is not None:
                child, process = begun
                process.returncode = child.status = status  # its own wait would find nobody
                if self._calls_by_session[pid] in (LOOK_CALL, SERVICE_CALL):  # a screen has some each second
                    del self._calls_by_session[pid]
                child.ended.set()

    def members(self, call: int) -> list[int]:
        """The processes that end with the call. None, if it was not begun by this agent."""
        began = self._began_ticks.get(call)
        return [] if began is None else members(call, self._calls_by_session, self._began_ticks.keys(), began)

    def signal_all(self, call: int, number: int) -> int:
        """Send a signal to all processes of a call, and say how many there are."""
        found = self.members(call)
        for pid in found:
            self._send(pid, number)
        return len(found)

    async def end(self, call: int) -> None:
        """End all processes of a call."""
        if not self.signal_all(call, signal.SIGTERM):
            return
        await self._wait_for_none(call, None, GRACE_SECONDS)
        await self._wait_for_none(call, signal.SIGKILL, KILL_SECONDS_MAX)

    async def _wait_for_none(self, call: int, number: int | None, seconds_max: float) -> None:
        """Until the call has no process any more; meanwhile each that is found gets the signal."""
        deadline = trio.current_time() + seconds_max
        while (found := self.members(call)) and trio.current_time() < deadline:
            for pid in found if number is not None else ():
                self._send(pid, number or 0)
            await trio.sleep(LOOK_SECONDS)

    def kill_group(self, child: Child) -> None:
        """End at once, and only, what is in the group that it was begun in."""
        if child.pid in self._children:
            os.killpg(child.pid, signal.SIGKILL)

    def _send(self, pid: int, number: int) -> None:
        """Send a signal: to the whole group where the process leads one, in a step which no fork can slip through."""
        try:
            if number == signal.SIGKILL and pid in self._calls_by_session and pid in self._children:
                os.killpg(pid, number)
            os.kill(pid, number)
        except (ProcessLookupError, PermissionError):
            pass


def become_parent_of_orphans() -> None:
    """Also where this is not process 1; and nobody in the sandbox may look into this process."""
    prctl = ctypes.CDLL(None, use_errno=True).prctl
    for option, value in ((PR_SET_CHILD_SUBREAPER, 1), (PR_SET_DUMPABLE, 0)):
        if prctl(option, value, 0, 0, 0) != 0:
            raise OSError(ctypes.get_errno(), f"prctl {option}")
