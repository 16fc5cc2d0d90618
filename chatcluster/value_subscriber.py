"""A reader of a chat that is told values, and not bytes."""

from __future__ import annotations

from typing import Any

from chatcluster.parts import Cursor
from chatcluster.shown import Snapshot, Value
from chatcluster.subscriber import Cut, Subscriber


class ValueSubscriber(Subscriber):
    """A reader that takes values. ``joined`` is where it joined, or began anew, until it is looked at."""

    def __init__(self, **options: Any) -> None:
        super().__init__(**options)
        self.joined: Snapshot | None = None

    def join(self, cursor: Cursor, snapshot: Snapshot, told: int | None = None) -> None:  # noqa: ARG002
        self.joined = snapshot

    def take(self) -> list[Value]:
        """Take all that is pending. Raises ``Cut``."""
        if self._cut is not None:
            raise Cut(self._cut)
        values = [notice.value for notice in self._pending if notice.value is not None]
        self._clear()
        return values

    async def wait(self) -> None:
        """Until there is something to take, or the reader is cut."""
        while not self._pending and self.joined is None and self._cut is None:
            await self._wait()
