"""What a run leaves to be read: who did what, when. Lines are made only if somebody wants to see them."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from uuid import UUID


class Trace:
    def __init__(self) -> None:
        self._entries: list[tuple[float, str, tuple[object, ...]]] = []

    def note(self, time: float, what: str, *details: object) -> None:
        self._entries.append((time, what, details))

    def lines(self) -> Iterator[str]:
        for time, what, details in self._entries:
            yield f"{time:10.4f}  {what:12} " + "  ".join(map(_text, details))

    def digest(self) -> str:
        """Equal for equal runs."""
        whole = hashlib.sha256()
        for line in self.lines():
            whole.update(line.encode() + b"\n")
        return whole.hexdigest()


def _text(value: object) -> str:
    """IDs by their first letters: enough to tell them apart in one run."""
    if isinstance(value, UUID):
        return str(value)[:4]
    if isinstance(value, list):
        return "[" + ", ".join(map(_text, value)) + "]"
    return str(value)
