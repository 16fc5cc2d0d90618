"""The simulation finds bugs: each one that is planted breaks its promise from a seed among the first 300."""

from __future__ import annotations

import pytest
from checker import Kind
from simulation.planted import BUGS, planted
from simulation.run import run_seed

SEEDS_MAX = 300

FOUND_AS = {
    "no-epoch-check": {Kind.OWNER},
    "hint-as-data": {Kind.STALE, Kind.GAP},
    "unbounded-lease-trust": {Kind.OWNER},
    "cursor-by-message-id": {Kind.REPEAT, Kind.GAP, Kind.UNASKED},
    "dial-without-worker-id": {Kind.TEXT, Kind.GAP, Kind.STALE},
    "unnoticed-gap": {Kind.GAP},
    "no-stream-fence": {Kind.OWNER},
    "unrecognised-commit": {Kind.ANSWERED_TWICE, Kind.TOOL},
    "forgotten-idempotency": {Kind.DUPLICATED},
    "no-poll": {Kind.GAP},
    "impatient-messages": {Kind.TEXT},
    "outdated-frames": {Kind.REPEAT, Kind.STALE, Kind.TEXT, Kind.GAP},
    "lost-partials": {Kind.TEXT},
    "ignored-interrupts": {Kind.UNSTOPPED},
    "swallowed-moves": {Kind.TEXT, Kind.UNASKED, Kind.ANSWERED_TWICE},
    "wall-clock-leases": {Kind.OWNER},
    "one-connection-is-a-life": {Kind.FALSE_TAKEOVER},
    "deaths-of-the-old-primary": {Kind.FALSE_TAKEOVER},
}
"""The promise that each of these breaks, as the checker names it."""


def test_each_bug_that_can_be_planted_is_looked_for() -> None:
    assert FOUND_AS.keys() == BUGS.keys()


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_found_as_what_it_breaks(name: str) -> None:
    """The world is the default one, and the same seeds are clean without the bug (``test_simulation.py``)."""
    with planted(name):
        for seed in range(SEEDS_MAX):
            counts = run_seed(seed).verdict.counts
            if any(counts[kind] for kind in FOUND_AS[name]):
                return
    pytest.fail(f"no seed below {SEEDS_MAX} finds {name}")
