"""What a feed has shown lately of history and ended turns: what most readers that join or come back need, without the
database."""

from __future__ import annotations

from chatcluster.parts import EndedTurn, Entry, strings_of

OVERHEAD_BYTES = 200
"""What an entry costs besides its text, roughly."""


class RecentEntries:
    """The newest entries, up to ``bytes_max``. It has all with ``revision > since``, and says so honestly."""

    def __init__(self, bytes_max: int) -> None:
        self.since = 0
        self._bytes_max = bytes_max
        self._bytes = 0
        self._entries: list[Entry] = []

    def __repr__(self) -> str:
        return f"<RecentEntries {len(self._entries)} since {self.since}>"

    def begin(self, version: int) -> None:
        """Forget everything; what is newer than ``version`` will come."""
        self._entries.clear()
        self._bytes = 0
        self.since = version

    def add(self, entry: Entry) -> None:
        self._entries.append(entry)
        self._bytes += _size(entry)
        while self._bytes > self._bytes_max:
            oldest = self._entries.pop(0)
            self._bytes -= _size(oldest)
            self.since = oldest.revision

    def after(self, version: int) -> tuple[Entry, ...] | None:
        """Entries with a revision above ``version``, or None if some of them may be forgotten."""
        if version < self.since:
            return None
        return tuple(entry for entry in self._entries if entry.revision > version)


def _size(entry: Entry) -> int:
    if isinstance(entry, EndedTurn):
        return OVERHEAD_BYTES
    return OVERHEAD_BYTES + sum(len(text) for part in entry.parts for text in strings_of(part))
