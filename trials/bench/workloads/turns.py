"""How many plain turns of ten tokens two replicas get through."""

from __future__ import annotations

from bench.bench import Bench, Workload
from bench.cluster import Setup
from bench.figures import Case
from bench.workloads.first_token import SLOTS, UNIT, take_turns

CONCURRENCY = 100


async def measure(bench: Bench) -> list[Case]:
    case = Case("turns", "2 replicas", UNIT)
    async with bench.cluster(Setup(settings={"slots": SLOTS})) as cluster:
        for _ in range(bench.repeats):
            case.runs.append(await take_turns(bench, cluster, CONCURRENCY, bench.seconds(4.0, 2.0), "turn"))
    return [case]


WORKLOAD = Workload("turns", "plain 10-token turns at saturation, 2 replicas, one reader each", measure)
