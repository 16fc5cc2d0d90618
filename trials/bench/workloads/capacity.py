"""How many chats at fifty tokens a second two replicas carry before tokens come late."""

from __future__ import annotations

from bench.bench import Bench, Workload
from bench.cluster import Cluster, Setup
from bench.figures import Case
from bench.workloads.stream import SLOTS, UNIT, read_across

FIRST = 100
STEP = 50
STEP_QUICK = 100
CHATS_MIN = 10
CHATS_MAX = 1000
P99_MS_MAX = 100.0
STEPS_BACK = 2
"""Each repeat starts a little below what the one before it found."""


async def measure(bench: Bench) -> list[Case]:
    case = Case("capacity", f"p99 up to {P99_MS_MAX:.0f} ms", UNIT)
    start = FIRST
    async with bench.cluster(Setup(settings={"slots": SLOTS})) as cluster:
        for _ in range(bench.repeats):
            found = await _search(bench, cluster, start)
            case.runs.append(found)
            start = max(STEP, int(found["chats"]) - STEPS_BACK * STEP)
    return [case]


async def _search(bench: Bench, cluster: Cluster, start: int) -> dict[str, float]:
    """The figures of the largest number that is carried, in steps from ``start`` upwards, or else by half and half."""
    best: dict[str, float] | None = None
    count = start
    step = STEP_QUICK if bench.quick else STEP
    while CHATS_MIN <= count <= CHATS_MAX:
        run = {"chats": float(count), **await _carry(bench, cluster, count)}
        if _is_carried(run):
            best = run
            count += step
        elif best is None:
            count //= 2
        else:
            break
    return best or {"chats": 0.0, "heartbeat_late_ms": run["heartbeat_late_ms"]}


async def _carry(bench: Bench, cluster: Cluster, count: int) -> dict[str, float]:
    chats = await bench.chats(cluster, count)
    return await read_across(bench, cluster, chats, bench.seconds(4.0, 3.0))


def _is_carried(run: dict[str, float]) -> bool:
    late = run.get("p99_ms", float("inf")) > P99_MS_MAX
    return not late and not run["lost"] and not run["doubled"] and not run["unserved"]


WORKLOAD = Workload("capacity", "chats × 50 tokens/s until p99 > 100 ms, 2 replicas", measure, repeats_max=3)
