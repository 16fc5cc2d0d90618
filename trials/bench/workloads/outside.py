"""What a client sees that knows nothing of us: a model server apart, defaults everywhere, a stream for each turn."""

from __future__ import annotations

from bench.bench import Bench, Workload
from bench.cluster import Cluster, Setup
from bench.figures import Case

TURN = "[[tokens=10 tps=0]]"
UNIT = "turn"
CONCURRENCIES = (1, 10, 50)


async def measure(bench: Bench) -> list[Case]:
    cases = {concurrency: Case("outside", f"concurrency {concurrency}", UNIT) for concurrency in CONCURRENCIES}
    async with bench.cluster(Setup(model_inside=False, quiet=False)) as cluster:
        for _ in range(bench.repeats):
            for concurrency, case in cases.items():
                case.runs.append(await _visit(bench, cluster, concurrency))
    return list(cases.values())


async def _visit(bench: Bench, cluster: Cluster, concurrency: int) -> dict[str, float]:
    result, costs, late = await bench.metered(
        cluster,
        "visits",
        addresses=cluster.addresses,
        concurrency=concurrency,
        content=TURN,
        warm_seconds=bench.seconds(1.0, 0.5),
        seconds=bench.seconds(5.0, 2.0),
    )
    return {
        **result["first"],
        "throughput": result["turns"] / result["seconds"],
        "failed": result["failed"],
        **costs.own_transactions(result["turns"]),
        **costs.figures(result["turns"]),
        **late,
    }


WORKLOAD = Workload("outside", "new chat → first part, a stream for each turn, model behind HTTP, defaults", measure)
