"""The command line of the simulation; ``scripts/simulate`` calls it."""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from contextlib import nullcontext

import click

from simulation.planted import BUGS, planted
from simulation.run import Run, run_seed

EXIT_VIOLATIONS = 1
PROGRESS_SECONDS = 10.0
FAILED_SEEDS_SHOWN_MAX = 100


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--seeds", type=click.IntRange(1), default=200, show_default=True, help="How many seeds")
@click.option("--start", type=click.IntRange(0), default=0, show_default=True, help="The first of them")
@click.option("--seed", type=click.IntRange(0), help="Replay this one, and show everything that happens")
@click.option("--until-failure", is_flag=True, help="Stop at the first seed that breaks a promise, and show its trace")
@click.option("--plant", type=click.Choice(sorted(BUGS)), help="Run with this bug, to see that it is found")
def simulate(*, seeds: int, start: int, seed: int | None, until_failure: bool, plant: str | None) -> None:
    """Run a cluster in one process, with faults, from seeds, and check that every promise is kept.

    Replicas, clients and readers are the real loops on ports in memory, on a virtual clock and a seeded scheduler: a
    seed gives the same run every time. It decides the size of the world, what clients do, and which faults
    happen: processes die, freeze and drain, lose Postgres or Redis or both; statements fail before or after
    they took effect; hints are lost, doubled, late and out of order; Redis forgets everything; the provider
    stalls, fails and breaks off; clocks go at different speeds. In the end all is mended, and the checker decides.

    The last line of the output is one JSON object; the exit status is 1 if any promise was broken.

    \b
    scripts/simulate --seeds 200
    scripts/simulate --seeds 10000 --start 5000
    scripts/simulate --seed 17
    scripts/simulate --plant no-epoch-check --until-failure
    """
    with planted(plant) if plant else nullcontext():
        tally = Tally()
        if seed is not None:
            show(run_seed(seed), tally, whole=True)
        else:
            for number in range(start, start + seeds):
                run = run_seed(number)
                show(run, tally, whole=until_failure and not run.kept)
                if until_failure and not run.kept:
                    break
    print(json.dumps(tally.summary()))
    sys.exit(EXIT_VIOLATIONS if tally.failed else 0)


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


def show(run: Run, tally: Tally, *, whole: bool) -> None:
    """The whole trace, or what is wrong."""
    tally.add(run)
    if whole:
        print(run.plan.description())
        for line in run.trace.lines():
            print(line)
    for violation in run.verdict.violations:
        at = "" if violation.time is None else f" at {violation.time:.4f}"
        who = f" {violation.reader}" if violation.reader else ""
        print(f"seed {run.plan.seed}: {violation.kind}{at}, chat {violation.chat[:4]}{who}: {violation.detail}")


if __name__ == "__main__":
    simulate()
