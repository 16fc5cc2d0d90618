"""Which workspaces nobody works in any more: judged by their host's own clock, whatever the database's says (P10)."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from uuid import UUID

from chatcluster.ports.workspaces import LastUse
from chatcluster.workspaces.host.idle import IdleWatch

ONE, OTHER = UUID(int=1), UUID(int=2)
NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def use(workspace_id: UUID, seconds_left: float, *, last_used_at: datetime = NOON) -> LastUse:
    return LastUse(workspace_id, last_used_at, seconds_left)


def test_one_is_idle_when_the_time_is_over_that_it_had_when_its_use_was_seen_first() -> None:
    watch = IdleWatch()
    assert watch.observe([use(ONE, 60), use(OTHER, 90)], 100.0) == ()
    for seconds_left in (40, -86_400, 86_400):
        assert watch.observe([use(ONE, seconds_left), use(OTHER, seconds_left)], 159.0) == ()
    assert watch.observe([use(ONE, 40), use(OTHER, 40)], 160.0) == (use(ONE, 40),)


def test_use_gives_it_time_anew_whatever_the_database_takes_for_its_moment() -> None:
    watch = IdleWatch()
    watch.observe([use(ONE, 60)], 100.0)
    for moment in (NOON + timedelta(seconds=50), NOON - timedelta(days=1)):
        assert watch.observe([use(ONE, 60, last_used_at=moment)], 150.0) == ()
    assert watch.observe([use(ONE, 0, last_used_at=moment)], 209.0) == ()
    assert watch.observe([use(ONE, 0, last_used_at=moment)], 210.0) != ()


def test_what_runs_no_more_is_forgotten() -> None:
    watch = IdleWatch()
    watch.observe([use(ONE, 60)], 100.0)
    watch.observe([], 101.0)
    assert watch.observe([use(ONE, 60)], 200.0) == ()
