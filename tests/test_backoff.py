"""Waits between tries: they grow, have an end, and begin anew; and the one error that stands for a group."""

from __future__ import annotations

import pytest

from chatcluster.backoff import Backoff, grown_seconds
from chatcluster.errors import errors_in, first_error


def test_waits_double_up_to_the_cap_and_are_short_again_once_it_went_well() -> None:
    backoff = Backoff(0.1, 1.0)
    assert [backoff.next_seconds() for _ in range(6)] == pytest.approx([0.1, 0.2, 0.4, 0.8, 1.0, 1.0])
    backoff.reset()
    assert backoff.next_seconds() == 0.1


def test_a_drawn_wait_is_about_as_long_as_the_one_that_is_due() -> None:
    backoff = Backoff(1.0, 1.0, jitter=(0.8, 1.1))
    drawn = [backoff.drawn_seconds() for _ in range(100)]
    assert all(0.8 <= seconds <= 1.1 for seconds in drawn)
    assert len(set(drawn)) > 1


def test_it_tells_whether_something_has_failed_since_it_went_well() -> None:
    backoff = Backoff(0.1, 1.0)
    seen = [backoff.has_begun]
    backoff.next_seconds()
    seen.append(backoff.has_begun)
    backoff.reset()
    assert [*seen, backoff.has_begun] == [False, True, False]


def test_the_cap_may_change_while_waits_grow() -> None:
    """A server that refuses for good is asked more seldom from then on, not at once as seldom as can be."""
    backoff = Backoff(0.1, 0.2)
    assert [backoff.next_seconds() for _ in range(3)] == pytest.approx([0.1, 0.2, 0.2])
    backoff.cap_seconds = 10.0
    assert [backoff.next_seconds() for _ in range(2)] == pytest.approx([0.4, 0.8])


def test_an_outage_may_last_for_months() -> None:
    backoff = Backoff(0.1, 5.0, factor=1.6)
    assert [backoff.drawn_seconds() for _ in range(100_000)][-1] <= 5.0
    assert grown_seconds(0.1, 100_000, 5.0) == 5.0
    assert grown_seconds(0.1, 0, 5.0) == 0.1


def test_one_error_stands_for_a_group_and_all_can_be_listed() -> None:
    first, second, third = ValueError("first"), KeyError("second"), ValueError("third")
    group = ExceptionGroup("outer", [ExceptionGroup("inner", [first, second]), third])
    assert first_error(group) is first
    assert list(errors_in(group)) == [first, second, third]
