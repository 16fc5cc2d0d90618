"""Log files of child processes that do not grow without end, while the children go on writing to them.

A child writes to a descriptor that it was started with, and knows of no other file. So a log that is too large is
copied to ``NAME.1``, in place of what was there, and then emptied: what the child writes next is at the new end, as the
file was opened for appending. Between the last piece of the copy and the emptying, a line can be lost.

Where there is no room for the copy, the log is emptied all the same: a full disk is worse than a log that is gone.
"""

from __future__ import annotations

import os
import shutil
from contextlib import suppress
from functools import partial
from pathlib import Path

import trio

from chatcluster import telemetry
from chatcluster.local.embedded.child import LOG_BYTES_MAX

LOOK_SECONDS = 5.0
PIECE_BYTES = 1 << 20


async def keep_small(directory: Path, *, bytes_max: int = LOG_BYTES_MAX) -> None:
    """Keep every ``*.log`` in ``directory``, and in its folder ``logs``, at about ``bytes_max``, until cancelled."""
    while True:
        await trio.sleep(LOOK_SECONDS)
        await trio.to_thread.run_sync(partial(put_large_aside, directory, bytes_max))


def put_large_aside(directory: Path, bytes_max: int) -> None:
    for log in (*directory.glob("*.log"), *directory.glob("logs/*.log")):
        try:
            if log.lstat().st_size > bytes_max:
                _put_aside(log)
        except OSError as error:
            telemetry.event("log.not_rotated", log=log.name, error=str(error))


def _put_aside(log: Path) -> None:
    aside = log.with_name(log.name + ".1")
    with open(os.open(log, os.O_RDWR | os.O_NOFOLLOW), "rb+") as source:
        try:
            aside.unlink(missing_ok=True)
            with open(os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as copy:
                shutil.copyfileobj(source, copy, PIECE_BYTES)
        except OSError as error:
            telemetry.event("log.not_kept", log=log.name, error=str(error))
            with suppress(OSError):
                aside.unlink(missing_ok=True)
        source.truncate(0)
