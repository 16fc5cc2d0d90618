"""What a command writes: read from a pipe, kept in a file up to a limit, counted beyond it.

The pipe is read until its last writer has closed it: what a command left behind may write on. At the end of the
command itself ``settle`` takes what is in the pipe by then, so its output is whole when it is said to have ended.
"""

from __future__ import annotations

import fcntl
import os
import struct
import termios
from contextlib import suppress
from pathlib import Path

import trio

READ_BYTES = 64 << 10


class Output:
    """The reading end ``pipe`` is this object's to close."""

    def __init__(self, pipe: int, path: Path, kept_bytes_max: int) -> None:
        os.set_blocking(pipe, False)
        self._pipe = pipe
        self._file = _opened(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        self._kept_bytes_max = kept_bytes_max
        self._waiting = trio.lowlevel.ParkingLot()
        self.total_bytes = 0
        self.kept_bytes = 0
        self.is_cut_by_disk = False
        self._is_settled = False

    async def follow(self) -> None:
        """Read until nobody can write any more."""
        try:
            while (data := await self._read()) != b"":
                self._take(data)
        finally:
            self.close()

    def close(self) -> None:
        os.close(self._pipe)
        os.close(self._file)
        self._pipe = -1

    def settle(self) -> None:
        """Take what was written until now, without waiting; what comes later is read and not kept."""
        if self._pipe >= 0:
            self._take_what_is_there()
        self._is_settled = True
        self._waiting.unpark_all()

    def _take_what_is_there(self) -> None:
        (left,) = struct.unpack("i", fcntl.ioctl(self._pipe, termios.FIONREAD, b"\0" * 4))
        while left > 0 and (data := os.read(self._pipe, min(left, READ_BYTES))):
            self._take(data)
            left -= len(data)

    async def wait_beyond(self, offset: int) -> None:
        """Until more is kept than ``offset``, or there will be no more."""
        while self.kept_bytes <= offset and not self._is_settled:
            await self._waiting.park()

    async def _read(self) -> bytes:
        await trio.lowlevel.checkpoint()
        while True:
            try:
                return os.read(self._pipe, READ_BYTES)
            except BlockingIOError:
                await trio.lowlevel.wait_readable(self._pipe)

    def _take(self, data: bytes) -> None:
        self.total_bytes += len(data)
        room = self._kept_bytes_max - self.kept_bytes
        if room <= 0 or self._is_settled or self.is_cut_by_disk:
            return
        try:
            written = os.write(self._file, data[:room])
        except OSError:
            written = 0
        self.kept_bytes += written
        self.is_cut_by_disk = written < min(room, len(data))  # what comes later would be in the wrong place
        self._waiting.unpark_all()


def read_piece(path: Path, offset: int, limit: int) -> bytes:
    """A piece of what was kept; nothing where the file is gone, or closed for now, as by a command's lease of it."""
    try:
        descriptor = _opened(path, os.O_RDONLY | os.O_NONBLOCK)
    except (FileNotFoundError, PermissionError, BlockingIOError):
        return b""
    with open(descriptor, "rb") as file:
        file.seek(offset)
        return file.read(limit)


def _opened(path: Path, flags: int) -> int:
    """A command runs as the same user: it may have closed the file, or the way there, to that user."""
    try:
        return os.open(path, flags | os.O_CLOEXEC, 0o600)
    except PermissionError:
        for directory in (path.parent.parent, path.parent):
            directory.chmod(0o700)
        with suppress(FileNotFoundError):
            path.chmod(0o600)
        return os.open(path, flags | os.O_CLOEXEC, 0o600)
