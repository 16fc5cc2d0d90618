"""What charts show: counted by each replica, added up in every ``Series``, and told in equal steps."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from contract_worlds import World, open_world

from chatcluster.errors import StoreUnavailable
from chatcluster.memory.series import MemorySeries
from chatcluster.ports.series import FIRST_TOKEN_MS, Minute, Point, Series
from chatcluster.postgres.series import PostgresSeries
from chatcluster.series import MINUTES_MAX, Tally, first_token_ms
from chatcluster.usage import TOKENS_MAX

NONE = [0] * (len(FIRST_TOKEN_MS) + 1)


@dataclass
class Place:
    world: World
    series: Series
    now: datetime
    """The whole minute that it is, by the database's clock."""

    def ago(self, minutes: int) -> datetime:
        return self.now - timedelta(minutes=minutes)


pytest_plugins = ["contract_fixtures"]


@pytest.fixture
async def place(url: str | None) -> AsyncIterator[Place]:
    async with open_world(url) as world:
        database = world.store._database  # type: ignore[attr-defined]
        now = database.now() if url is None else datetime.now(UTC)
        series = MemorySeries(database) if url is None else PostgresSeries(database)
        yield Place(world, series, now.replace(second=0, microsecond=0))


def waits(*numbers: int) -> list[int]:
    return [numbers.count(number) for number in range(len(NONE))]


async def test_nothing_is_told_as_nothing_in_every_step(place: Place) -> None:
    points = await place.series.read(steps=15, step_minutes=1)
    assert len(points) == 15
    steps = {after.at - before.at for before, after in pairwise(points)}
    assert steps == {timedelta(minutes=1)}
    assert {(point.turns, point.takeovers, tuple(point.first_tokens)) for point in points} == {(0, 0, tuple(NONE))}


async def test_p10_no_number_that_a_provider_tells_keeps_others_from_being_counted(place: Place) -> None:
    tally = Tally(place.series, lambda: place.now)
    for _ in range(3):
        tally.listen("model.answered", {"first_token_ms": 1, "output_tokens": 2**63 - 1})
    tally.listen("model.answered", {"first_token_ms": 1, "output_tokens": -5})
    await tally.write()
    await tally.write()
    points = await place.series.read(steps=2, step_minutes=1)
    assert sum(point.output_tokens for point in points) == 3 * TOKENS_MAX


async def test_what_several_replicas_add_is_added_up(place: Place) -> None:
    at = place.ago(3)
    one = Minute(at=at, turns=3, failed=1, interrupted=1, output_tokens=100, first_tokens=waits(0, 2))
    other = Minute(at=at, turns=2, output_tokens=50, first_tokens=waits(2, 15))
    await place.series.add((one,))
    await place.series.add((Minute(at=place.ago(5), turns=7), other))
    points = [point for point in await place.series.read(steps=15, step_minutes=1) if point.turns]
    assert points == [
        Point(place.ago(5), 7, 0, 0, 0, NONE, 0),
        Point(at, 5, 1, 1, 150, waits(0, 2, 2, 15), 0),
    ]


async def test_longer_steps_begin_at_multiples_of_their_length_and_hold_all_of_their_minutes(place: Place) -> None:
    await place.series.add(tuple(Minute(at=place.ago(back), turns=1, first_tokens=waits(1)) for back in range(120)))
    points = await place.series.read(steps=96, step_minutes=15)
    assert sum(point.turns for point in points) == sum(sum(point.first_tokens) for point in points) == 120
    assert all(point.at.minute % 15 == 0 for point in points)
    assert {point.turns for point in points[-8:-1]} == {15}


async def test_what_is_older_than_the_span_is_left_out(place: Place) -> None:
    await place.series.add((Minute(at=place.ago(20), turns=1),))
    assert not any(point.turns for point in await place.series.read(steps=15, step_minutes=1))


async def test_takeovers_are_those_of_replicas_that_were_lost(place: Place) -> None:
    worker = await place.world.worker()
    await place.world.chat("hello")
    await place.world.claim(worker)
    await place.world.registry.bury(worker, None)
    points = await place.series.read(steps=15, step_minutes=1)
    assert sum(point.takeovers for point in points) == 1


# --- counting ---------------------------------------------------------------------------------


@dataclass
class ScriptedSeries:
    added: list[Minute] = field(default_factory=list)
    is_away: bool = False

    async def add(self, minutes: tuple[Minute, ...]) -> None:
        if self.is_away:
            raise StoreUnavailable("away")
        self.added.extend(minutes)

    async def read(self, *, steps: int, step_minutes: int) -> tuple[Point, ...]:
        return ()


@dataclass
class Clock:
    now: datetime = datetime(2026, 1, 1, 12, 0, 30, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.now


def answered(tally: Tally, first_token_ms: int = 60) -> None:
    tally.listen("model.answered", {"first_token_ms": first_token_ms, "output_tokens": 10})
    tally.listen("chat.turn", {"outcome": "finished"})


async def test_a_replica_counts_turns_and_answers_in_the_minute_in_which_they_end() -> None:
    series, clock = ScriptedSeries(), Clock()
    tally = Tally(series, clock)
    answered(tally)
    tally.listen("chat.turn", {"outcome": "error"})
    tally.listen("chat.turn", {"outcome": "interrupted"})
    tally.listen("model.answered", {"first_token_ms": 10**9, "output_tokens": None})
    tally.listen("http.request", {})
    first = clock.now.replace(second=0)
    clock.now += timedelta(minutes=1)
    answered(tally, 50)
    await tally.write()
    assert series.added == [
        Minute(at=first, turns=3, failed=1, interrupted=1, output_tokens=10, first_tokens=waits(1, 15)),
        Minute(at=first + timedelta(minutes=1), turns=1, output_tokens=10, first_tokens=waits(0)),
    ]
    await tally.write()
    assert len(series.added) == 2, "what rests writes nothing"


async def test_what_could_not_be_written_is_added_the_next_time_and_bounded() -> None:
    series, clock = ScriptedSeries(is_away=True), Clock()
    tally = Tally(series, clock)
    answered(tally)
    await tally.write()
    answered(tally)
    await tally.write()
    for _ in range(2 * MINUTES_MAX):
        clock.now += timedelta(minutes=1)
        answered(tally)
        await tally.write()
    series.is_away = False
    await tally.write()
    assert len(series.added) == MINUTES_MAX
    assert series.added[-1].at == clock.now.replace(second=0)


async def test_counts_of_the_same_minute_are_joined_when_they_could_not_be_written() -> None:
    series = ScriptedSeries(is_away=True)
    tally = Tally(series, Clock())
    answered(tally)
    await tally.write()
    answered(tally, 10**9)
    series.is_away = False
    await tally.write()
    (minute,) = series.added
    assert (minute.turns, minute.output_tokens, minute.first_tokens) == (2, 20, waits(1, 15))


@pytest.mark.parametrize(
    ("counts", "share", "ms"),
    [
        (waits(), 0.5, None),
        (waits(0, 0), 0.5, 25.0),
        (waits(0, 2), 0.5, 50.0),
        (waits(0, 2), 0.95, 190.0),
        (waits(15), 0.5, 60_000.0),
    ],
)
def test_the_wait_for_a_first_token_is_read_from_the_counts(counts: list[int], share: float, ms: float | None) -> None:
    told = first_token_ms(Point(datetime(2026, 1, 1, tzinfo=UTC), 0, 0, 0, 0, counts, 0), share)
    assert told == (None if ms is None else pytest.approx(ms))
