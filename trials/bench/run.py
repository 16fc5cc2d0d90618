"""A whole run: every workload, each repeat on every side in turns, with the machine's calibration beside it."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from bench.bench import Bench, Workload
from bench.calibration import calibrate
from bench.errors import BenchError, leaves
from bench.figures import Case
from bench.generator import open_load
from bench.servers import Servers, open_servers
from bench.sides import NOW, open_sides
from bench.workloads import BY_NAME


@dataclass(frozen=True)
class Plan:
    """``against``: a commit to be measured in turns with this tree, or None."""

    names: Sequence[str]
    repeats: int
    quick: bool
    against: str | None = None


@dataclass
class Results:
    """The cases of each side by its name, and what could not be measured."""

    cases: dict[str, list[Case]] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)

    @property
    def now(self) -> list[Case]:
        return self.cases.get(NOW, [])

    def add(self, side: str, measured: Sequence[Case]) -> None:
        """Put the runs of a repeat to those of the same case."""
        known = {(case.workload, case.name): case for case in self.cases.setdefault(side, [])}
        for case in measured:
            if before := known.get((case.workload, case.name)):
                before.runs += case.runs
            else:
                self.cases[side].append(case)


async def run(plan: Plan, say: Callable[[str], Any]) -> Results:
    """Measure all workloads of the plan; one that breaks does not stop the others. Raises ``BenchError`` where there
    is nothing to measure with."""
    results = Results()
    async with open_sides(plan.against) as sides, open_servers(sides) as servers:
        for name in plan.names:
            workload = BY_NAME[name]
            times = min(plan.repeats, workload.repeats_max)
            started = time.monotonic()
            say(f"{name}, {times} time{'s'[: times - 1]}: {workload.what}")
            try:
                await _measure(workload, servers, times, plan.quick, results)
            except* (BenchError, OSError) as group:
                results.errors += [f"{name}: {error} (logs: {servers[0].directory})" for error in leaves(group)]
                servers[0].keep_logs = True
            say(f"{name}: {time.monotonic() - started:.0f} s")
    return results


async def _measure(workload: Workload, servers: Sequence[Servers], times: int, quick: bool, results: Results) -> None:
    """A single side has all its repeats from the same cluster; several sides take turns, each with a new one. Every
    other round begins with the other side: what comes second has a server that still cleans up behind the first."""
    rounds, repeats = (times, 1) if len(servers) > 1 else (1, times)
    for number in range(rounds):
        for seen in servers if number % 2 == 0 else servers[::-1]:
            machine = await calibrate(seen)
            async with open_load(seen.token) as load:
                cases = await workload.measure(Bench(seen, load, repeats, quick))
            for case in cases:
                case.runs = [{**figures, **machine} for figures in case.runs]
            results.add(seen.side.name, cases)
