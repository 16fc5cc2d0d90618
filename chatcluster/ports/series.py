"""How much a cluster did in each minute of the last week: what charts show."""

from __future__ import annotations

from datetime import datetime
from typing import Protocol

import msgspec

FIRST_TOKEN_MS = (50, 100, 200, 300, 500, 750, 1000, 1500, 2000, 3000, 5000, 7500, 10_000, 20_000, 60_000)
"""Upper bounds of the counts of waits for a first token; one more count has those above all."""


class Minute(msgspec.Struct, kw_only=True):
    """Counts of one minute, which starts at ``at``. Those of all replicas are added up."""

    at: datetime
    turns: int = 0
    """Turns that ended, however they did."""
    failed: int = 0
    interrupted: int = 0
    output_tokens: int = 0
    first_tokens: list[int] = msgspec.field(default_factory=lambda: [0] * (len(FIRST_TOKEN_MS) + 1))


class Point(msgspec.Struct, frozen=True):
    """Some minutes from ``at`` on, added up. ``takeovers``: chats whose replica was lost."""

    at: datetime
    turns: int
    failed: int
    interrupted: int
    output_tokens: int
    first_tokens: list[int]
    takeovers: int


class Series(Protocol):
    async def add(self, minutes: tuple[Minute, ...]) -> None:
        """Add these counts to those that there are. Not recognised when repeated: then they count twice."""
        ...

    async def read(self, *, steps: int, step_minutes: int) -> tuple[Point, ...]:
        """The last so many steps, the oldest first, the one that is under way as the last. Whole, also where nothing
        was."""
        ...
