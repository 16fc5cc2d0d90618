"""How soon a reader that was away has the first part that it missed."""

from __future__ import annotations

from bench.bench import Bench, Workload
from bench.cluster import Setup
from bench.figures import Case

CHATS = 4
TOKENS_PER_SECOND = 50
PARTS = 5
AWAY_SECONDS = 0.1
UNIT = "return"


async def measure(bench: Bench) -> list[Case]:
    case = Case("resume", "by cursor", UNIT)
    seconds = bench.seconds(4.0, 3.0)
    tokens = round(TOKENS_PER_SECOND * seconds)
    async with bench.cluster(Setup()) as cluster:
        for _ in range(bench.repeats):
            addresses = cluster.addresses
            created = await bench.chats(cluster, CHATS)
            result, costs, late = await bench.metered(
                cluster,
                "resume",
                chats=[(chat_id, addresses[index % len(addresses)]) for index, chat_id in enumerate(created)],
                addresses=addresses,
                content=f"[[mode=clock tokens={tokens} tps={TOKENS_PER_SECOND}]]",
                expected=tokens,
                parts=PARTS,
                away_seconds=AWAY_SECONDS,
                seconds_max=2 * seconds + 5,
            )
            counts = {name: result[name] for name in ("lost", "doubled", "failed")}
            counts["samples"] = result["count"]
            case.runs.append({**result["returns"], **counts, **costs.figures(result["count"]), **late})
    return [case]


WORKLOAD = Workload("resume", "a reader drops and comes back by cursor in mid-stream, on the other replica", measure)
