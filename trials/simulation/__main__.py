"""The command line of the simulation; ``scripts/simulate`` calls it."""

from __future__ import annotations

import json
import signal
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager

import click

from simulation.jobs import runs
from simulation.planted import BUGS
from simulation.report import Tally, broken_promises, whole_trace

EXIT_VIOLATIONS = 1
EXIT_INTERRUPTED = 130


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 110})
@click.option("--seeds", type=click.IntRange(1), default=200, show_default=True, help="How many seeds")
@click.option("--start", type=click.IntRange(0), default=0, show_default=True, help="The first of them")
@click.option("--seed", type=click.IntRange(0), help="Replay this one, and show everything that happens")
@click.option("--jobs", type=click.IntRange(1, 256), default=1, show_default=True, help="Seeds at the same time")
@click.option("--until-failure", is_flag=True, help="Stop at the first seed that breaks a promise, and show its trace")
@click.option("--plant", type=click.Choice(sorted(BUGS)), help="Run with this bug, to see that it is found")
def simulate(*, seeds: int, start: int, seed: int | None, jobs: int, until_failure: bool, plant: str | None) -> None:
    """Run a cluster in one process, with faults, from seeds, and check that every promise is kept.

    Replicas, clients and readers are the real loops on ports in memory, on a virtual clock and a seeded scheduler: a
    seed gives the same run every time. It decides the size of the world, what clients do, and which faults happen:
    processes die, freeze and drain, lose Postgres or Redis or both; statements fail before or after they took effect;
    hints are lost, doubled, late and out of order; Redis forgets everything; the provider stalls, fails and breaks off;
    clocks go at different speeds; standbys take over without the last transactions. In some worlds there are tools,
    which must not run twice, and agents of workspaces, whose calls are gone on with. Some worlds have victims as well:
    chats that cannot be read, that kill the replica that loads them, whose rows are locked, whose streams or models are
    broken; and some have nothing else, so that no other chat may wait for more than its model. In the end all is
    mended, and the checker decides.

    The last line of the output is one JSON object. The exit status is 1 if any promise was broken, 130 after Ctrl-C
    (which ends the run with the seeds that are under way).

    \b
    scripts/simulate --seeds 200
    scripts/simulate --seeds 10000 --start 5000 --jobs 4
    scripts/simulate --seed 17
    scripts/simulate --plant no-epoch-check --until-failure
    """
    tally = Tally()
    numbers = range(start, start + seeds) if seed is None else [seed]
    with _interrupts_noticed() as interrupted, closing(runs(numbers, jobs, plant)) as under_way:
        for run in under_way:
            tally.add(run)
            failed = until_failure and not run.kept
            for line in whole_trace(run) if seed is not None or failed else ():
                print(line)
            for line in broken_promises(run):
                print(line, flush=True)
            if failed or interrupted:
                break
    print(json.dumps(tally.summary()))
    sys.exit(EXIT_VIOLATIONS if tally.failed else EXIT_INTERRUPTED if interrupted else 0)


@contextmanager
def _interrupts_noticed() -> Iterator[list[int]]:
    """For the length of the block the first Ctrl-C is put on the list, and the second one kills."""
    noticed: list[int] = []

    def notice(number: int, _: object) -> None:
        noticed.append(number)
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        print("Ending with the seeds that are under way.", file=sys.stderr)

    before = signal.signal(signal.SIGINT, notice)
    try:
        yield noticed
    finally:
        signal.signal(signal.SIGINT, before)


if __name__ == "__main__":
    simulate()
