"""What each front door costs beside our own stream: new chats, whose answer is read in the request that asks for it.

The doors take turns in each repeat, so that what the machine does meanwhile is the same for all of them.
"""

from __future__ import annotations

from bench.bench import Bench, Workload
from bench.cluster import Cluster, Setup
from bench.figures import Case
from bench.load.dooring import DOORS

CONCURRENCY = 8
TOKENS, TOKENS_PER_SECOND = 200, 100
UNIT = "token"
SLOTS = 200
OWN = "own"


async def measure(bench: Bench) -> list[Case]:
    cases = {door: Case("doors", door, UNIT) for door in DOORS}
    async with bench.cluster(Setup(model_inside=False, settings={"slots": SLOTS})) as cluster:
        for _ in range(bench.repeats):
            own: dict[str, float] = {}
            for door, case in cases.items():
                run = await _measured(bench, cluster, door)
                own = run if door == OWN else own
                case.runs.append({**run, **_beside(own, run)} if door != OWN else run)
    return list(cases.values())


async def _measured(bench: Bench, cluster: Cluster, door: str) -> dict[str, float]:
    result, costs, late = await bench.metered(
        cluster,
        "answers",
        addresses=cluster.addresses,
        door=door,
        concurrency=CONCURRENCY,
        content=f"[[tokens={TOKENS} tps={TOKENS_PER_SECOND}]]",
        each=2 if bench.quick else 5,
    )
    tokens = result["answers"] * TOKENS
    whole = {"whole_ms": result["whole_ms"]}
    return {**result["first"], **whole, "failed": result["failed"], **costs.figures(tokens), **late}


def _beside(own: dict[str, float], run: dict[str, float]) -> dict[str, float]:
    """How many times as much as our own stream, measured just before. A tool's answer comes as a whole."""
    pairs = (("first_times", "p50_ms"), ("whole_times", "whole_ms"), ("cpu_times", "replica_cpu_s"))
    return {times: run[figure] / own[figure] for times, figure in pairs if own.get(figure) and figure in run}


WORKLOAD = Workload("doors", "answers in new chats through each front door, beside our own stream", measure)
