"""``Series`` on a ``MemoryDatabase``."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from chatcluster.memory.database import MemoryDatabase
from chatcluster.memory.link import Link
from chatcluster.ports.series import FIRST_TOKEN_MS, Minute, Point

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


class MemorySeries:
    def __init__(self, database: MemoryDatabase, link: Link | None = None) -> None:
        self._database = database
        self._link = link or Link()

    async def add(self, minutes: tuple[Minute, ...]) -> None:
        async with self._link.crossing("add_minutes"):
            self._database.kept.minutes.extend(minutes)

    async def read(self, *, steps: int, step_minutes: int) -> tuple[Point, ...]:
        async with self._link.crossing("read_series"):
            step = timedelta(minutes=step_minutes)
            last = EPOCH + (self._database.now() - EPOCH) // step * step
            return tuple(self._point(last - back * step, step) for back in reversed(range(steps)))

    def _point(self, at: datetime, step: timedelta) -> Point:
        found = [minute for minute in self._database.kept.minutes if at <= minute.at < at + step]
        lost = [one for one in self._database.kept.takeovers if one.cause == "takeover"]
        return Point(
            at=at,
            turns=sum(minute.turns for minute in found),
            failed=sum(minute.failed for minute in found),
            interrupted=sum(minute.interrupted for minute in found),
            output_tokens=sum(minute.output_tokens for minute in found),
            first_tokens=_added([minute.first_tokens for minute in found]),
            takeovers=sum(at <= one.freed_at < at + step for one in lost),
        )


def _added(counts: Sequence[Sequence[int]]) -> list[int]:
    return [sum(each) for each in zip([0] * (len(FIRST_TOKEN_MS) + 1), *counts, strict=True)]
