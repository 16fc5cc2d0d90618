"""How old tokens are when they reach a reader on another replica: fifty chats, fifty tokens a second each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from bench.bench import Bench, Workload
from bench.cluster import Cluster, Setup
from bench.figures import Case
from bench.meters import Costs

CHATS = 50
TOKENS_PER_SECOND = 50
UNIT = "token"
SPREAD_SECONDS = 0.5
SLOTS = 1000
CASES = {"coalescing 15 ms": 15, "coalescing off": 0}


async def measure(bench: Bench) -> list[Case]:
    cases = []
    for name, coalesce_ms in CASES.items():
        case = Case("stream", name, UNIT)
        setup = Setup(model_inside=False, settings={"coalesce_ms": coalesce_ms, "slots": SLOTS})
        async with bench.cluster(setup) as cluster:
            for _ in range(bench.repeats):
                chats = await bench.chats(cluster, CHATS)
                case.runs.append(await read_across(bench, cluster, chats, bench.seconds(10.0, 3.0)))
        cases.append(case)
    return cases


async def read_across(bench: Bench, cluster: Cluster, chats: Sequence[str], seconds: float) -> dict[str, float]:
    """Each chat's message goes to one replica, and its reader is on the next."""
    addresses = cluster.addresses
    sends = [(addresses[index % len(addresses)], chat_id) for index, chat_id in enumerate(chats)]
    reads = [(addresses[(index + 1) % len(addresses)], chat_id) for index, chat_id in enumerate(chats)]
    return await read_tokens(bench, cluster, sends, reads, seconds)


async def read_tokens(
    bench: Bench,
    cluster: Cluster,
    sends: Sequence[tuple[str, str]],
    reads: Sequence[tuple[str, str]],
    seconds: float,
    *,
    cookie: str = "",
) -> dict[str, float]:
    """The figures of answers of ``seconds`` that are sent for and read at these (address, chat)."""
    tokens = round(TOKENS_PER_SECOND * seconds)
    result, costs, late = await bench.metered(
        cluster,
        "stream",
        sends=sends,
        reads=reads,
        content=f"[[mode=clock tokens={tokens} tps={TOKENS_PER_SECOND}]]",
        expected=tokens,
        spread_seconds=SPREAD_SECONDS,
        seconds_max=2 * seconds + 10,
        cookie=cookie,
    )
    return _figures(result, costs, late)


def _figures(result: Any, costs: Costs, late: dict[str, float]) -> dict[str, float]:
    return {
        **result["age"],
        "throughput": result["tokens"] / costs.seconds,
        **{name: result[name] for name in ("lost", "doubled", "unserved")},
        "feed_reads": costs.transactions["read"],
        **costs.figures(result["tokens"]),
        **late,
    }


WORKLOAD = Workload("stream", "50 chats × 50 tokens/s, model behind HTTP, readers on the other replica", measure)
