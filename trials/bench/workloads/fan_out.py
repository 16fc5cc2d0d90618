"""How old the tokens of one chat are when many read it."""

from __future__ import annotations

from bench.bench import Bench, Workload
from bench.cluster import Setup
from bench.figures import Case
from bench.workloads.stream import read_tokens

READERS = (1, 10, 100, 500, 1000)
UNIT = "event"


async def measure(bench: Bench) -> list[Case]:
    cases = {count: Case("fan-out", f"{count} reader{'s'[: count - 1]}", UNIT) for count in READERS}
    async with bench.cluster(Setup()) as cluster:
        for _ in range(bench.repeats):
            for count, case in cases.items():
                [chat_id] = await bench.chats(cluster, 1)
                addresses = cluster.addresses
                reads = [(addresses[(index + 1) % len(addresses)], chat_id) for index in range(count)]
                seconds = bench.seconds(2.5, 2.0)
                case.runs.append(await read_tokens(bench, cluster, [(addresses[0], chat_id)], reads, seconds))
    return list(cases.values())


WORKLOAD = Workload("fan-out", "1 chat × 50 tokens/s, 1 to 1000 readers on 2 replicas", measure)
