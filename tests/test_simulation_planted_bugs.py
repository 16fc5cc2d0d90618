"""The simulation finds bugs: each one that is planted breaks its promise from a seed among the first 300."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from checker import Kind
from simulation.planted import BUGS, planted
from simulation.planted_harms import HARMFUL
from simulation.run import run_seed
from simulation.seeding import LOSING, plan_of

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
    "commits-out-of-turn": {Kind.GAP},
    "impatient-messages": {Kind.TEXT},
    "outdated-frames": {Kind.REPEAT, Kind.STALE, Kind.TEXT, Kind.GAP},
    "lost-partials": {Kind.TEXT},
    "ignored-interrupts": {Kind.UNSTOPPED},
    "swallowed-moves": {Kind.TEXT, Kind.UNASKED, Kind.ANSWERED_TWICE},
    "message-without-an-epoch": {Kind.OWNER},
    "forgotten-strays": {Kind.STUCK},
    "wall-clock-leases": {Kind.OWNER},
    "one-connection-is-a-life": {Kind.FALSE_TAKEOVER},
    "deaths-of-the-old-primary": {Kind.FALSE_TAKEOVER},
    "said-too-late": {Kind.UNSAID},
    "once-again": {Kind.RUN_TWICE},
    "forgotten-deaths": {Kind.RUN_TWICE},
    "silent-repeats": {Kind.RESULT},
    "unasked": {Kind.UNSAID},
    "two-answers": {Kind.ANSWER},
    "forgotten-approvals": {Kind.ANSWER},
    "lost-client-results": {Kind.RESULT},
    "no-sweep": {Kind.STUCK},
    "lost-steering": {Kind.LOST},
    "deaf-tools": {Kind.UNSAID},
    "half-calls": {Kind.TOOL},
    "once-given-back": {Kind.RUN_TWICE, Kind.RESULT},
    "crowded": {Kind.UNSAID},
    "distrusted-ledgers": {Kind.RESULT},
    "repeats-that-are-none": {Kind.RESULT},
    "forgetful-agents": {Kind.RUN_TWICE},
    "forgotten-replies": {Kind.ANSWER},
    "cancelled-in-secret": {Kind.ANSWER},
    "unanswered-summarised": {Kind.LOST},
    "heard-summaries": {Kind.TEXT},
    "forgotten-money": {Kind.MONEY},
    "money-twice": {Kind.MONEY},
    "unreported": {Kind.STUCK},
    "forgotten-orders": {Kind.UNSTOPPED},
    "any-report": {Kind.RESULT},
    "forgotten-versions-again": {Kind.GAP, Kind.UNASKED, Kind.TEXT},
    "claim-reads-histories": {Kind.BYSTANDER},
    "claim-without-skip-locked": {Kind.BYSTANDER},
    "burial-without-skip-locked": {Kind.BYSTANDER},
    "one-failure-fails-the-pipeline": {Kind.BYSTANDER, Kind.TEXT},
    "takeover-counts-as-attempt": {Kind.BYSTANDER},
    "unbounded-takeovers": {Kind.BYSTANDER},
    "fifo-claims": {Kind.BYSTANDER},
    "kept-places": {Kind.BYSTANDER},
    "histories-one-by-one": {Kind.BYSTANDER},
    "one-model-connection": {Kind.BYSTANDER},
    "trusted-hints": {Kind.CRASH},
}
"""The promise that each of these breaks, as the checker names it."""

HARM = {
    "claim-reads-histories": "unreadable",
    "claim-without-skip-locked": "locked",
    "burial-without-skip-locked": "locked_of_the_dead",
    "one-failure-fails-the-pipeline": "refused",
    "takeover-counts-as-attempt": "deadly",
    "unbounded-takeovers": "deadly",
    "fifo-claims": "greedy",
    "kept-places": "greedy",
    "histories-one-by-one": "stalled",
    "one-model-connection": "model",
    "trusted-hints": "hints",
}
"""What has to happen in a quiet world for the bug to show: no other seed is looked at."""


FAULT = {"forgotten-versions-again": LOSING}
"""What has to happen in any other world, if it is rare."""

TRACKED = {"distrusted-ledgers", "repeats-that-are-none", "forgetful-agents"}
"""They show where there are workspaces."""
ASKED = {"forgotten-replies", "cancelled-in-secret"}
"""They show where tools ask the user."""
FAMILIES = {"unreported", "forgotten-orders", "any-report"}
"""They show where there are agents."""

FOUND_BY = {
    "no-epoch-check": 40,
    "unbounded-lease-trust": 130,
    "cursor-by-message-id": 20,
    "dial-without-worker-id": 17,
    "unnoticed-gap": 25,
    "unrecognised-commit": 60,
    "forgotten-idempotency": 7,
    "no-poll": 30,
    "impatient-messages": 3,
    "lost-partials": 5,
    "ignored-interrupts": 43,
    "swallowed-moves": 59,
    "forgotten-strays": 47,
    "wall-clock-leases": 30,
    "deaths-of-the-old-primary": 7,
    "once-again": 39,
    "silent-repeats": 39,
    "two-answers": 223,
    "forgotten-approvals": 9,
    "lost-client-results": 39,
    "no-sweep": 43,
    "half-calls": 1,
    "once-given-back": 138,
    "distrusted-ledgers": 63,
    "repeats-that-are-none": 63,
    "forgetful-agents": 63,
    "forgotten-replies": 9,
    "cancelled-in-secret": 43,
    "unanswered-summarised": 37,
    "heard-summaries": 37,
    "forgotten-money": 55,
    "unreported": 135,
    "forgotten-orders": 43,
    "any-report": 55,
    "forgotten-versions-again": 21,
    "burial-without-skip-locked": 90,
    "one-failure-fails-the-pipeline": 24,
    "fifo-claims": 18,
    "kept-places": 18,
    "histories-one-by-one": 6,
}
"""Where to look first: the seed that found it the last time. If it does not any more, the others are tried."""


def seeds_for(name: str) -> Iterator[int]:
    """Those in whose world it could show: harms have worlds of their own, in which there is no other fault."""
    if name in FOUND_BY:
        yield FOUND_BY[name]
    harm, fault = HARM.get(name), FAULT.get(name)
    for seed in range(SEEDS_MAX):
        plan = plan_of(seed)
        happens = (fault is None or fault in plan.troubles.faults) and (name not in TRACKED or plan.temper.tracked > 0)
        happens = happens and (name not in ASKED or plan.temper.questions > 0)
        happens = happens and (name not in FAMILIES or plan.temper.agents > 0)
        if (plan.troubles.quiet and harm in plan.troubles.harms) if harm else not plan.troubles.quiet and happens:
            yield seed


def test_each_bug_that_can_be_planted_is_looked_for() -> None:
    assert FOUND_AS.keys() == BUGS.keys()
    assert HARM.keys() == {name for name in FOUND_AS if BUGS[name] in HARMFUL}


@pytest.mark.parametrize("name", BUGS)
def test_a_planted_bug_is_found_as_what_it_breaks(name: str) -> None:
    """The world is the default one, and the same seeds are clean without the bug (``test_simulation.py``)."""
    with planted(name):
        for seed in seeds_for(name):
            counts = run_seed(seed).verdict.counts
            if any(counts[kind] for kind in FOUND_AS[name]):
                return
    pytest.fail(f"no seed below {SEEDS_MAX} finds {name}")
