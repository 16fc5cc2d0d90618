"""What this replica did in each minute, counted from what the loops report, and added to the cluster's rows for charts.

Every ten seconds what was counted goes to the database, if there is anything: so a replica that is killed loses at most
that, and one that rests writes nothing. Where the database does not answer, counting goes on for an hour's minutes, and
what was not known to be written is written with the next ones: a commit of unknown outcome may count twice. Nothing but
charts depends on it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from operator import add

import trio

from chatcluster import telemetry
from chatcluster.errors import StoreUnavailable
from chatcluster.ports.series import FIRST_TOKEN_MS, Minute, Point, Series
from chatcluster.usage import TOKENS_MAX

WRITE_SECONDS = 10.0
MINUTES_MAX = 60
"""So many minutes that could not be written are kept; older ones are given up."""


def _utc_now() -> datetime:
    return datetime.now(UTC)


class Tally:
    """``now`` tells the time of day."""

    def __init__(self, series: Series, now: Callable[[], datetime] = _utc_now) -> None:
        self._series = series
        self._now = now
        self._minutes: dict[datetime, Minute] = {}

    @contextmanager
    def listening(self) -> Iterator[Tally]:
        """Count what is reported while the block runs."""
        telemetry.subscribe(self.listen)
        try:
            yield self
        finally:
            telemetry.unsubscribe(self.listen)

    def listen(self, name: str, fields: dict[str, object]) -> None:
        """Count one event."""
        if name == "chat.turn":
            minute = self._minute()
            minute.turns += 1
            minute.failed += fields.get("outcome") == "error"
            minute.interrupted += fields.get("outcome") == "interrupted"
        elif name == "model.answered":
            minute = self._minute()
            minute.output_tokens += min(max(0, _number(fields.get("output_tokens"))), TOKENS_MAX)  # a provider's word
            minute.first_tokens[bisect_left(FIRST_TOKEN_MS, _number(fields.get("first_token_ms")))] += 1

    def _minute(self) -> Minute:
        at = self._now().replace(second=0, microsecond=0)
        if at not in self._minutes:
            self._minutes[at] = Minute(at=at)
            if len(self._minutes) > MINUTES_MAX:
                del self._minutes[min(self._minutes)]
        return self._minutes[at]

    async def run(self) -> None:
        """Write until cancelled."""
        while True:
            await trio.sleep(WRITE_SECONDS)
            await self.write()

    async def write(self) -> None:
        """Add what was counted to the rows. What cannot be written now is kept for the next time."""
        if not self._minutes:
            return
        counted, self._minutes = self._minutes, {}
        try:
            await self._series.add(tuple(counted[at] for at in sorted(counted)))
        except StoreUnavailable as error:
            telemetry.event("series.not_written", error=str(error))
            self._take_back(counted)

    def _take_back(self, counted: dict[datetime, Minute]) -> None:
        for at, minute in counted.items():
            self._minutes[at] = _added(minute, self._minutes.get(at, Minute(at=at)))
        for at in sorted(self._minutes)[:-MINUTES_MAX]:
            del self._minutes[at]


def _added(one: Minute, other: Minute) -> Minute:
    return Minute(
        at=one.at,
        turns=one.turns + other.turns,
        failed=one.failed + other.failed,
        interrupted=one.interrupted + other.interrupted,
        output_tokens=one.output_tokens + other.output_tokens,
        first_tokens=list(map(add, one.first_tokens, other.first_tokens)),
    )


def first_token_ms(point: Point, share: float) -> float | None:
    """How long this share of the answers had their first token within, as exactly as counts tell; None without any.

    Above the last bound it is that bound.
    """
    wanted, below = share * sum(point.first_tokens), 0
    if not wanted:
        return None
    for number, count in enumerate(point.first_tokens[:-1]):
        if below + count >= wanted:
            floor = FIRST_TOKEN_MS[number - 1] if number else 0
            return floor + (FIRST_TOKEN_MS[number] - floor) * (wanted - below) / count
        below += count
    return float(FIRST_TOKEN_MS[-1])


def _number(value: object) -> int:
    return value if isinstance(value, int) else 0
