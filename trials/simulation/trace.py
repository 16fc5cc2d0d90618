"""What a run leaves to be read: who did what, when. Lines are made only if somebody wants to see them.

Chats and workers are named by the first letters of their IDs: enough to tell them apart in one run.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterator
from typing import NamedTuple
from uuid import UUID

LEGEND = """\
   seconds  what          details. Chats and workers by the first letters of their IDs; r01/ab12: worker ab12 in the
                          first process of replica r0; v7: snapshot version 7; 7.2-5: a cursor, frame 5 of epoch 2"""

_ID = re.compile(r"\b([0-9a-f]{4})[0-9a-f]{4}(-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")


class Entry(NamedTuple):
    time: float
    what: str
    details: tuple[object, ...]

    def __str__(self) -> str:
        line = f"{self.time:10.4f}  {self.what:12}  " + "  ".join(map(_text, self.details))
        return _ID.sub(r"\1", line)

    def concerns(self, chat: str) -> bool:
        return any(isinstance(detail, UUID) and str(detail) == chat for detail in self.details)


class Trace:
    def __init__(self) -> None:
        self.entries: list[Entry] = []

    def note(self, time: float, what: str, *details: object) -> None:
        self.entries.append(Entry(time, what, details))

    def lines(self) -> Iterator[str]:
        return map(str, self.entries)

    def digest(self) -> str:
        """Equal for equal runs."""
        whole = hashlib.sha256()
        for line in self.lines():
            whole.update(line.encode() + b"\n")
        return whole.hexdigest()


def _text(value: object) -> str:
    if isinstance(value, bytes):
        return value.decode(errors="replace")
    if isinstance(value, list):
        return "[" + ", ".join(map(_text, value)) + "]"
    return str(value)
