"""Who is dead by lease, for an observer whose own clock is the only one that counts."""

from __future__ import annotations

from uuid import UUID

import pytest

from chatcluster.failure_detector import FailureDetector
from chatcluster.ports import NO_ROW, Heartbeat, Silence

ANN, BOB = UUID(int=1), UUID(int=2)
LEASE_TTL_SECONDS = 5.0
HOUR = 3600.0


@pytest.fixture
def detector() -> FailureDetector:
    return FailureDetector(heartbeat_seconds=1.0, lease_ttl_seconds=LEASE_TTL_SECONDS)


def beat(token: str, age_seconds: float = 0.0, session_locks: int = 2, timeline: int | None = None) -> Heartbeat:
    return Heartbeat(token, age_seconds, session_locks, timeline)


def test_a_token_that_stays_for_a_lease_is_that_of_a_dead_worker(detector: FailureDetector) -> None:
    """P4"""
    for now in (0.0, 1.0, 4.9):
        assert detector.observe({ANN: beat("1"), BOB: beat(f"bob's at {now}")}, now) == {}
    assert detector.observe({ANN: beat("1"), BOB: beat("bob's")}, 5.0) == {ANN: Silence("1")}


def test_each_renewal_starts_the_count_anew(detector: FailureDetector) -> None:
    for now in range(100):
        assert detector.observe({ANN: beat(str(now // 4))}, float(now)) == {}


@pytest.mark.parametrize("step_seconds", [-HOUR, -5.0, 5.0, HOUR])
def test_a_clock_of_the_database_that_steps_buries_nobody(detector: FailureDetector, step_seconds: float) -> None:
    """P10: heartbeats of before the step have any age after it, also a negative one; the next ones come in time."""
    detector.observe({ANN: beat("1"), BOB: beat("1")}, 0.0)
    assert detector.observe({ANN: beat("2"), BOB: beat("2")}, 1.0) == {}
    assert detector.observe({ANN: beat("2", step_seconds), BOB: beat("2", step_seconds)}, 1.5) == {}
    assert detector.observe({ANN: beat("3"), BOB: beat("2", step_seconds + 5.0)}, 5.9) == {}, "ann goes on"
    assert detector.observe({ANN: beat("4"), BOB: beat("2", step_seconds + 5.1)}, 6.0) == {BOB: Silence("2")}


def test_an_observer_that_was_frozen_forgets_what_has_changed_since(detector: FailureDetector) -> None:
    detector.observe({ANN: beat("1")}, 0.0)
    assert detector.observe({ANN: beat("60")}, 60.0) == {}


def test_a_row_that_was_abandoned_before_the_observer_came_takes_two_heartbeats(detector: FailureDetector) -> None:
    """P4: chats of a cluster that died an hour ago do not wait for a lease."""
    old = beat("1", age_seconds=HOUR)
    assert detector.observe({ANN: old}, 0.0) == {}
    assert detector.observe({ANN: old}, 1.9) == {}
    assert detector.observe({ANN: old}, 2.0) == {ANN: Silence("1", unlocked=True)}
    assert detector.observe({ANN: old}, 5.0) == {ANN: Silence("1")}, "locks that a dead connection holds do not count"


@pytest.mark.parametrize("heartbeat", [beat("1", age_seconds=4.9), beat("1", age_seconds=HOUR, session_locks=0)])
def test_a_row_that_is_young_or_has_no_locks_takes_a_whole_lease(
    detector: FailureDetector, heartbeat: Heartbeat
) -> None:
    detector.observe({ANN: heartbeat}, 0.0)
    assert detector.observe({ANN: heartbeat}, 4.9) == {}


def test_a_worker_that_was_seen_to_renew_takes_a_whole_lease(detector: FailureDetector) -> None:
    """P10: a step of the clock makes its row old, and a restart of the database its locks free."""
    detector.observe({ANN: beat("1")}, 0.0)
    detector.observe({ANN: beat("2", age_seconds=HOUR)}, 1.0)
    assert detector.observe({ANN: beat("2", age_seconds=HOUR)}, 5.9) == {}
    assert detector.observe({ANN: beat("2", age_seconds=HOUR)}, 6.0) == {ANN: Silence("2")}


def test_a_failover_begins_all_counts_anew(detector: FailureDetector) -> None:
    """P2: the token may be one that the worker has replaced since, by a renewal that the failover took back."""
    for now in (0.0, 4.9):
        assert detector.observe({ANN: beat("1", timeline=1)}, now) == {}
    for now in (5.0, 9.9):
        assert detector.observe({ANN: beat("1", timeline=2)}, now) == {}
    assert detector.observe({ANN: beat("1", timeline=2)}, 10.0) == {ANN: Silence("1")}


def test_a_worker_that_was_seen_to_renew_is_not_abandoned_after_a_failover_either(detector: FailureDetector) -> None:
    """P10: its row is old there, and its locks are on the server that is gone."""
    detector.observe({ANN: beat("1", timeline=1)}, 0.0)
    detector.observe({ANN: beat("2", timeline=1)}, 1.0)
    detector.observe({ANN: beat("1", age_seconds=HOUR, timeline=2)}, 2.0)
    assert detector.observe({ANN: beat("1", age_seconds=HOUR, timeline=2)}, 6.9) == {}


def test_owners_without_a_row_are_none_at_once(detector: FailureDetector) -> None:
    assert detector.observe({ANN: beat(""), BOB: beat("1")}, 0.0) == {ANN: NO_ROW}


def test_it_says_when_to_look_again_at_the_latest(detector: FailureDetector) -> None:
    """P4: a lease is over when it is over, not when the next look happens to be."""
    detector.observe({ANN: beat("1")}, 0.0)
    assert detector.seconds_to_verdict(0.5) == 4.5
    detector.observe({ANN: beat("1"), BOB: beat("1", age_seconds=HOUR)}, 1.0)
    assert detector.seconds_to_verdict(1.0) == 2.0
    detector.observe({}, 9.0)
    assert detector.seconds_to_verdict(9.0) == float("inf")
