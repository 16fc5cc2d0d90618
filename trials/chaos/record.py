"""The record of a run: JSON lines, from which each violation can be reconstructed.

``t`` is in seconds since the start of the run. A line is one of:

* ``{"t", "chat", "reader", "replica", "id", "event", "data"}``: an event as a reader got it
* ``{"t", "chat", "reader", "replica", "connection": "open" | "closed" | …, "cursor"}``
* ``{"t", "chat", "write": …}``: a request, and what was answered
* ``{"t", "fault": …}``, ``{"t", "recovery": …}``, ``{"t", "violation": …}``, ``{"t", "final": …}``

To follow one reader: ``grep '"reader":"3.away"' chaos.jsonl``; ``grep '"violation"'`` shows where to look.
"""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import Any

import msgspec
import trio

BUFFER_BYTES = 1 << 18


class Record:
    """Appends to a file; buffered, and flushed when something is wrong and at the end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = open(path, "wb", buffering=BUFFER_BYTES)  # noqa: SIM115 - closed by our own __exit__
        self._start = trio.current_time()

    def __enter__(self) -> Record:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()

    def seconds(self, time: float) -> float:
        """A time of trio's clock as one of the record."""
        return time - self._start

    def event(self, time: float, chat: str, reader: str, replica: str, cursor: str, kind: str, data: bytes) -> None:
        """``data`` is JSON already: it goes into the record as it came."""
        head = f'{{"t":{time - self._start:.4f},"chat":"{chat}","reader":"{reader}","replica":"{replica}"'
        self._file.write(f'{head},"id":"{cursor}","event":"{kind}","data":'.encode() + data + b"}\n")

    def note(self, **fields: Any) -> None:
        """Anything else, now."""
        line = msgspec.json.encode({"t": round(trio.current_time() - self._start, 4), **fields})
        self._file.write(line + b"\n")

    def flush(self) -> None:
        self._file.flush()
