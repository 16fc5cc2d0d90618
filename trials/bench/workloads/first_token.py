"""How soon the first part of an answer is at a reader on another replica."""

from __future__ import annotations

from bench.bench import Bench, Workload
from bench.cluster import Cluster, Setup
from bench.figures import Case

TURN = "[[tokens=10 tps=0]]"
UNIT = "turn"
CHATS_PER_SENDER = {1: 16, 10: 4, 50: 2}
"""Histories stay short: a chat that has had hundreds of turns is another matter."""
SLOTS = 200


async def measure(bench: Bench) -> list[Case]:
    cases = {concurrency: Case("first-token", f"concurrency {concurrency}", UNIT) for concurrency in CHATS_PER_SENDER}
    async with bench.cluster(Setup(settings={"slots": SLOTS})) as cluster:
        for _ in range(bench.repeats):
            for concurrency, case in cases.items():
                case.runs.append(await take_turns(bench, cluster, concurrency, bench.seconds(2.0, 1.0), "first"))
    return list(cases.values())


async def take_turns(
    bench: Bench, cluster: Cluster, concurrency: int, seconds: float, latency: str
) -> dict[str, float]:
    """The figures of one run: messages to one replica, readers on another, all replicas in both parts."""
    count = concurrency * CHATS_PER_SENDER.get(concurrency, 2)
    addresses = cluster.addresses
    chats = [
        (chat_id, addresses[index % len(addresses)], addresses[(index + 1) % len(addresses)])
        for index, chat_id in enumerate(await bench.chats(cluster, count))
    ]
    result, costs, late = await bench.metered(
        cluster,
        "turns",
        chats=chats,
        concurrency=concurrency,
        content=TURN,
        warm_seconds=bench.seconds(0.5, 0.3),
        seconds=seconds,
    )
    return {
        **result[latency],
        "throughput": result["turns"] / result["seconds"],
        "failed": result["failed"],
        "without_parts": result["without_parts"],
        **costs.own_transactions(result["turns"]),
        **costs.figures(result["turns"]),
        **late,
    }


WORKLOAD = Workload("first-token", "message to an idle chat → first part at a reader on another replica", measure)
