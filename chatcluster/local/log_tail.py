"""Show people what a child process writes into its log file: everything, or only what asks for attention."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import trio

from chatcluster import telemetry

POLL_SECONDS = 0.2
READ_BYTES_MAX = 256 << 10
LOUD_LEVELS = frozenset({"warning", "error", "critical"})
METADATA = frozenset({"ts", "level", "event", "exception"})


async def follow(log: Path, name: str, say: Callable[[str], None], *, everything: bool) -> None:
    """Say each new line of ``log`` that matters, behind ``name``, until cancelled.

    A line of structured log matters if its level is warning or above; any other text does, because nothing
    but a failure writes it. More than 256 KiB between two looks are skipped: the file has them.
    """
    tail, unreadable = Tail(log), telemetry.Seldom("log.not_read")
    while True:
        await trio.sleep(POLL_SECONDS)
        try:
            lines = tail.new_lines()
        except OSError as error:  # somebody moved it, or took our rights: it is no reason to end a cluster
            unreadable.event(log=log.name, error=str(error))
            continue
        for line in lines:
            text = describe(line, everything=everything)
            if text:
                say(f"{name}: {text}")


class Tail:
    """The whole lines that a file gets from now on. Local files: a look at one blocks for microseconds."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._position = self._size()
        self._unfinished = b""

    def new_lines(self) -> list[bytes]:
        size = self._size()
        if size < self._position:
            self._position, self._unfinished = 0, b""  # it was put aside, and a new one begun
        if size == self._position:
            return []
        with open(self._path, "rb") as file:
            file.seek(max(self._position, size - READ_BYTES_MAX))
            data = file.read(READ_BYTES_MAX)
            self._position = file.tell()
        *lines, unfinished = (self._unfinished + data).split(b"\n")
        self._unfinished = unfinished[-READ_BYTES_MAX:]
        return lines

    def _size(self) -> int:
        return self._path.stat().st_size if self._path.exists() else 0


def describe(line: bytes, *, everything: bool) -> str:
    """A log line for people; empty if it is not worth their while."""
    try:
        entry = msgspec.json.decode(line, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return line.decode(errors="replace").rstrip()
    if not everything and entry.get("level") not in LOUD_LEVELS:
        return ""
    fields = " ".join(f"{key}={value}" for key, value in entry.items() if key not in METADATA)
    text = f"{entry.get('event', '')} {fields}".strip()
    return f"{text}\n{entry['exception']}" if "exception" in entry else text
