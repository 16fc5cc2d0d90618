"""How soon hundreds of readers are back in a long answer, and what those notice who had stayed."""

from __future__ import annotations

from bench.bench import Bench, Workload
from bench.cluster import Cluster, Setup
from bench.figures import Case

READERS = (200, 500)
PARTS = 2000
OTHERS = 20
TOKENS_PER_SECOND = 50
SECONDS = 3.0
UNIT = "part"


async def measure(bench: Bench) -> list[Case]:
    cases = {count: Case("rejoin", f"{count} readers", UNIT) for count in READERS}
    async with bench.cluster(Setup(settings={"coalesce_ms": 0})) as cluster:
        for _ in range(bench.repeats):
            for count, case in cases.items():
                case.runs.append(await _rejoin(bench, cluster, count))
    return list(cases.values())


async def _rejoin(bench: Bench, cluster: Cluster, readers: int) -> dict[str, float]:
    """One part a token: with coalescing two thousand parts would take half a minute to say."""
    [chat_id] = await bench.chats(cluster, 1)
    tokens = PARTS + round(SECONDS * TOKENS_PER_SECOND)
    result, costs, late = await bench.metered(
        cluster,
        "rejoin",
        chat_id=chat_id,
        sends_to=cluster.addresses[0],
        addresses=cluster.addresses,
        others=OTHERS,
        readers=readers,
        content=f"burst:{PARTS} [[mode=clock tokens={tokens} tps={TOKENS_PER_SECOND}]]",
        burst=PARTS,
        expected=tokens,
        seconds_max=2 * SECONDS,
    )
    return {
        "caught_up_ms": result["caught_up_ms"],
        "others_late_ms": result["others"].get("max_ms", 0.0),
        **{name: result[name] for name in ("lost", "doubled", "unserved")},
        **costs.figures(readers * result["parts"]),
        **late,
    }


WORKLOAD = Workload("rejoin", "200 / 500 readers rejoin a running chat at 2000 parts, 20 others follow it", measure)
