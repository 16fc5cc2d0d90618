"""Many seeds, one after the other or several at a time, each in a process of its own then."""

from __future__ import annotations

import signal
from collections.abc import Generator, Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from functools import partial
from multiprocessing import get_context

from simulation.planted import planted
from simulation.run import Run, run_seed
from simulation.trace import Trace


def runs(seeds: Iterable[int], jobs: int, plant: str | None) -> Generator[Run, None, None]:
    """The runs of these seeds, in order, with a planted bug or without. Closed early, it ends with those under way."""
    with _bug(plant):
        if jobs == 1:
            yield from map(run_seed, seeds)
            return
        with ProcessPoolExecutor(jobs, get_context("spawn"), _leave_ctrl_c_to_the_parent) as pool:
            try:
                for run in pool.map(partial(_run_elsewhere, plant), seeds):
                    yield run if run.kept else run_seed(run.plan.seed)
            finally:
                pool.shutdown(cancel_futures=True)


def _bug(plant: str | None) -> AbstractContextManager[None]:
    return planted(plant) if plant else nullcontext()


def _leave_ctrl_c_to_the_parent() -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)


def _run_elsewhere(plant: str | None, seed: int) -> Run:
    """Without the trace, which is long: the seed makes it again."""
    with _bug(plant):
        return replace(run_seed(seed), trace=Trace())
