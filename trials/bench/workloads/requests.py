"""What a request costs a replica: alive or not, one chat, a stream opened and closed."""

from __future__ import annotations

from bench.bench import Bench, Workload
from bench.cluster import Cluster, Setup
from bench.figures import Case

CHATS = 20
CONCURRENCY = 4
STREAM = "a stream opened and closed"
CHAT = "GET of a chat"
ALIVE = "GET of /livez"


async def measure(bench: Bench) -> list[Case]:
    units = {ALIVE: "request", CHAT: "request", STREAM: "stream"}
    cases = {name: Case("requests", name, unit) for name, unit in units.items()}
    async with bench.cluster(Setup(replicas=1)) as cluster:
        chats = await bench.chats(cluster, CHATS)
        for _ in range(bench.repeats):
            asked = {ALIVE: ["/livez"], CHAT: [f"/api/v1/chats/{chat_id}" for chat_id in chats]}
            for name, paths in asked.items():
                cases[name].runs.append(await _take(bench, cluster, "asks", paths=paths))
            cases[STREAM].runs.append(await _take(bench, cluster, "openings", chats=chats))
    return list(cases.values())


async def _take(bench: Bench, cluster: Cluster, do: str, **plan: object) -> dict[str, float]:
    seconds = bench.seconds(3.0, 1.5)
    [address] = cluster.addresses
    result, costs, late = await bench.metered(
        cluster, do, address=address, concurrency=CONCURRENCY, seconds=seconds, **plan
    )
    return {
        **result["taken"],
        "throughput": result["count"] / result["seconds"],
        **costs.figures(result["count"]),
        **late,
    }


WORKLOAD = Workload("requests", "GET of /livez and of a chat, and streams opened and closed, one replica", measure)
