"""What is said about runs: each broken promise with what was being done, and a tally over many seeds."""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator

from checker import PROMISES, Violation

from simulation.run import Run
from simulation.trace import LEGEND, Entry, Trace

PROGRESS_SECONDS = 10.0
FAILED_SEEDS_SHOWN_MAX = 100
OPERATIONS = frozenset({"asks", "answered", "refused", "unanswered", "gives up"})
EFFECTS = frozenset({"claim", "commit", "buried"})


def whole_trace(run: Run) -> Iterator[str]:
    """The world of the seed, and everything that happened in it."""
    yield run.plan.description()
    yield LEGEND
    yield from run.trace.lines()


def broken_promises(run: Run) -> Iterator[str]:
    """Each violation: the promise, where and when it was broken, and what clients, owners and faults did before.

    One often has many like it behind it, for which the same had been done: that is said once.
    """
    said: list[Entry] = []
    for violation in run.verdict.violations:
        yield f"seed {run.plan.seed} breaks {_headline(violation)}"
        before, said = said, what_led_to(violation, run.trace)
        for entry in said if said != before else ():
            yield f"    {entry}"


def _headline(violation: Violation) -> str:
    at = "in the end" if violation.time is None else f"at {violation.time:.4f} s"
    reader = f", {violation.reader}" if violation.reader else ""
    return f"{PROMISES[violation.kind]} ({violation.kind}) {at}, chat {violation.chat[:4]}{reader}: {violation.detail}"


def what_led_to(violation: Violation, trace: Trace) -> list[Entry]:
    """The operations that the violation speaks of, or else the last one; the last effect of an owner, and fault."""
    until = float("inf") if violation.time is None else violation.time
    before = [entry for entry in trace.entries if entry.time <= until]
    of_chat = [entry for entry in before if entry.concerns(violation.chat)]
    operations = [entry for entry in of_chat if entry.what in OPERATIONS]
    named = [entry for entry in operations if any(text in violation.detail for text in _quoted(entry))]
    effects = [entry for entry in of_chat if entry.what in EFFECTS]
    faults = [entry for entry in before if entry.what == "fault"]
    chosen = [*(named or operations[-1:]), *effects[-1:], *faults[-1:]]
    return sorted(chosen, key=lambda entry: entry.time)


def _quoted(entry: Entry) -> Iterator[str]:
    return (repr(detail) for detail in entry.details if isinstance(detail, str))


class Tally:
    """What came of the seeds so far."""

    def __init__(self) -> None:
        self.failed: list[int] = []
        self.seeds = 0
        self._counts: Counter[str] = Counter()
        self._faults: Counter[str] = Counter()
        self._answers = 0
        self._virtual_seconds = 0.0
        self._began = self._said = time.monotonic()

    def add(self, run: Run) -> None:
        self.seeds += 1
        self._virtual_seconds += run.virtual_seconds
        self._answers += run.answers
        self._faults += run.faults
        self._counts.update({kind.value: count for kind, count in run.verdict.counts.items()})
        if not run.kept:
            self.failed.append(run.plan.seed)
        if time.monotonic() - self._said > PROGRESS_SECONDS:
            self._said = time.monotonic()
            print(f"{self.seeds} seeds, {len(self.failed)} failed", file=sys.stderr)

    def summary(self) -> dict[str, object]:
        seconds = time.monotonic() - self._began
        return {
            "seeds": self.seeds,
            "seeds_failed": len(self.failed),
            "failed": self.failed[:FAILED_SEEDS_SHOWN_MAX],
            "violations": dict(sorted(self._counts.items())),
            "faults": dict(sorted(self._faults.items())),
            "answers": self._answers,
            "virtual_seconds": round(self._virtual_seconds),
            "seconds": round(seconds, 1),
            "seeds_per_second": round(self.seeds / seconds, 1),
        }
