"""P10: who waits for a fault that he has nothing to do with, and which waits a fault is charged with."""

from __future__ import annotations

import pytest
from chaos.bystanders import TOKENS_PER_SECOND, Delay, Pace, figures, violations, worst
from checker import Fault, Kind

PACE = 1 / TOKENS_PER_SECOND
GREEDY = Fault(kind="greedy", time=10.0, until=15.0)
KILL = Fault(kind="kill", time=10.0, until=10.1, worker_id="a")
FROZEN = Fault(kind="freeze-connection", time=10.0, until=14.0, worker_id="a")
CRASH = Fault(kind="postgres-crash", time=10.0, until=12.0)


def delay(seconds: float, *, began: float = 11.0, workers: frozenset[str] = frozenset("b")) -> Delay:
    return Delay(began, began + seconds, seconds, "a first token", "chat", workers)


def noted(*events: tuple[bytes, str, float]) -> list[tuple[str, float]]:
    """What a turn that was sent at 1.0 notes: what, and by how much it came too late."""
    found: list[tuple[str, float]] = []
    time = 0.0

    def note(what: str, began: float, due: float) -> None:
        found.append((what, round(time - due, 6)))

    pace = Pace(note)
    pace.sent(1.0)
    for kind, text, time in events:
        pace.see(kind, text, time)
    return found


def test_a_turn_at_the_pace_of_its_model_has_no_delay() -> None:
    assert noted((b"part", "", 1.0), (b"part", "", 1.0 + PACE), (b"status", '"waiting"', 1.0 + PACE)) == [
        ("a first token", 0.0),
        ("the next token", 0.0),
        ("the end of its turn", 0.0),
    ]


def test_each_wait_beyond_it_is_noted_by_what_was_waited_for() -> None:
    assert noted((b"part", "", 1.5), (b"part", "", 2.5 + PACE), (b"status", '"error"', 4.5 + PACE)) == [
        ("a first token", 0.5),
        ("the next token", 1.0),
        ("the end of its turn", 2.0),
    ]


def test_rest_before_anything_was_said_is_not_the_end_of_the_turn() -> None:
    assert noted((b"status", '"waiting"', 1.1)) == []


def test_an_answer_that_comes_whole_counts_as_its_first_token() -> None:
    assert noted((b"message", '"role":"assistant"', 1.5), (b"status", '"waiting"', 1.5))[0] == ("a first token", 0.5)


@pytest.mark.parametrize(
    ("fault", "late", "charged"),
    [
        (GREEDY, delay(0.8), True),
        (GREEDY, delay(0.8, began=5.0), False),
        (GREEDY, delay(0.8, began=16.5), True),
        (GREEDY, delay(0.8, began=17.5), False),
        (KILL, delay(0.8), True),
        (KILL, delay(0.8, workers=frozenset("ab")), False),
        (FROZEN, delay(0.8, workers=frozenset("a")), False),
        (CRASH, delay(0.8), False),
    ],
)
def test_a_fault_is_charged_with_what_overlaps_it_but_not_for_those_whom_it_hits(
    fault: Fault, late: Delay, charged: bool
) -> None:
    assert worst(fault, [fault], [late]) == (late if charged else None)


def test_while_a_server_is_away_nobody_else_is_to_blame() -> None:
    assert worst(GREEDY, [GREEDY, CRASH], [delay(3.0)]) is None
    assert list(violations([GREEDY, CRASH], [delay(3.0)])) == []


@pytest.mark.parametrize(("seconds", "expected"), [(1.9, []), (2.1, [Kind.BYSTANDER])])
def test_p10_more_than_two_seconds_is_a_violation(seconds: float, expected: list[Kind]) -> None:
    assert [found.kind for found in violations([GREEDY], [delay(seconds)])] == expected


def test_a_delay_without_any_fault_is_the_machines() -> None:
    assert list(violations([GREEDY], [delay(5.0, began=30.0)])) == []


@pytest.mark.parametrize(("seconds", "expected"), [(2.9, []), (3.1, [Kind.LATE])])
def test_through_a_replica_whose_connections_froze_a_little_more_is_allowed(
    seconds: float, expected: list[Kind]
) -> None:
    through = delay(seconds, workers=frozenset("a"))
    assert [found.kind for found in violations([FROZEN], [through])] == expected


@pytest.mark.parametrize(
    "other", [CRASH, Fault(kind="stop", time=5.0, until=10.0, worker_id="c")], ids=["server", "owner"]
)
def test_what_froze_and_was_hit_by_another_fault_as_well_has_the_bounds_of_that(other: Fault) -> None:
    through = delay(7.5, workers=frozenset("ac"))
    assert list(violations([FROZEN, other], [through])) == []


def test_the_worst_is_told_by_kind_of_fault() -> None:
    assert figures([GREEDY, KILL], [delay(0.25, began=14.5), delay(0.5, began=30.0)]) == {
        "worst": 0.25,
        "greedy": 0.25,
        "kill": 0.0,
    }
