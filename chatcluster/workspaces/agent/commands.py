"""A command: a shell in a session of its own, and its output, from its beginning to its end."""

from __future__ import annotations

import os
from pathlib import Path

import trio

from chatcluster.workspace_wire import Code, Execute
from chatcluster.workspaces.agent.output import Output
from chatcluster.workspaces.agent.processes import Child, Processes
from chatcluster.workspaces.agent.refused import Refused

SHELL = "/bin/bash" if os.path.exists("/bin/bash") else "/bin/sh"
UNKILLABLE_SECONDS = 1.0
COMMAND_BYTES_MAX = (128 << 10) - 1
"""The longest command: so long one argument of a program may be, on Linux."""


class Command:
    """``reason`` says why it was ended, if it did not end by itself. It has ``ended`` once the ledger says so."""

    def __init__(self, processes: Processes, number: int, child: Child, output: Output) -> None:
        self._processes = processes
        self._number = number
        self.child = child
        self.output = output
        self.reason: str | None = None
        self.began = trio.current_time()
        self.ended = trio.Event()

    async def wait(self, deadline_seconds: float | None) -> None:
        """Until it has ended, by itself or by its deadline."""
        seconds = float("inf") if deadline_seconds is None else deadline_seconds
        with trio.move_on_after(seconds):
            await self.child.ended.wait()
            return
        self.reason = self.reason or f"it took longer than {seconds:g} seconds"
        await self._processes.end(self._number)
        await self.child.ended.wait()

    async def wait_beyond(self, offset: int) -> None:
        """Until more of its output is kept than ``offset``, or it has ended."""
        await self.output.wait_beyond(offset)

    async def end(self, reason: str) -> None:
        """End all of its processes. What does not end by a kill either is not waited for."""
        if not self.child.ended.is_set():
            self.reason = self.reason or reason
        await self._processes.end(self._number)
        with trio.move_on_after(UNKILLABLE_SECONDS):
            await self.ended.wait()

    def trouble(self) -> str | None:
        """What its caller should know besides how it ended."""
        if self.output.is_cut_by_disk:
            return f"{Code.DISK_FULL.value}: its output was kept only in part, as the disk is full"
        return None


def begin_command(
    processes: Processes, number: int, wanted: Execute, directory: bytes, path: Path, *, kept_bytes_max: int
) -> Command:
    """Start it. Raises ``Refused``: then nothing of it runs."""
    if "\0" in wanted.command or any(
        "\0" in name + value or "=" in name or not name for name, value in wanted.env.items()
    ):
        raise Refused(Code.INVALID_REQUEST, "a command and its environment have no zero bytes, and names have no =")
    if len(wanted.command.encode()) > COMMAND_BYTES_MAX:
        words = f"a command has {COMMAND_BYTES_MAX} bytes at most: write what is long to a file first, with write_file"
        raise Refused(Code.TOO_LARGE, words)
    if not os.path.isdir(directory):
        raise Refused(Code.COMMAND_NOT_STARTED, f"there is no directory {wanted.workdir or os.fsdecode(directory)}")
    reading, writing = os.pipe2(os.O_CLOEXEC)
    try:
        output = Output(reading, path, kept_bytes_max)
    except OSError as error:
        os.close(reading)
        os.close(writing)
        raise Refused(Code.DISK_FULL, f"its output cannot be kept: {error.strerror}") from None
    try:
        child = processes.begin(
            [SHELL, "-c", "--", wanted.command],
            directory=directory,
            environment={**os.environ, **wanted.env},
            call=number,
            output=writing,
        )
    except (OSError, ValueError) as error:
        output.close()
        raise Refused(Code.COMMAND_NOT_STARTED, f"the command cannot be started: {_why(error)}") from None
    finally:
        os.close(writing)
    return Command(processes, number, child, output)


def _why(error: Exception) -> str:
    if not isinstance(error, OSError) or error.strerror is None:
        return str(error)
    return error.strerror if error.filename is None else f"{os.fsdecode(error.filename)}: {error.strerror}"
