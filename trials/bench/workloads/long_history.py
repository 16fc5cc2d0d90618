"""What a long history costs: the first part of an answer, and a reader's first event, beside those of a short chat.

The context of the model is small, so that the first turn of a long chat, in the warm-up, puts a summary in the place of
what was said: no chat gets so long without one. What is measured is what comes after that.
"""

from __future__ import annotations

import trio

from bench.bench import Bench, Workload
from bench.cluster import Cluster, Setup
from bench.figures import Case
from bench.workloads.first_token import TURN

LENGTHS = (20, 20_000)
CHATS = 2
CONTEXT_TOKENS = 16_000
FIRST_PART, FIRST_EVENT = "first part", "a reader's first event"
LENGTHEN = """
with history as (
    insert into messages (chat_id, revision, role, finish_reason, content)
    select id, snapshot_version + number, case number % 2 when 1 then 'user' else 'assistant' end,
        case number % 2 when 0 then 'stop' end,
        json_build_array(json_build_object('type', 'text', 'text', 'message ' || number || repeat(' word', 8)))
    from chats, generate_series(1, $2::int) as number
    where id = $1::text::uuid
    order by number
    returning octet_length(content::text) as bytes
)
update chats set
    snapshot_version = snapshot_version + $2::int,
    history_version = snapshot_version + $2::int,
    content_bytes = content_bytes + (select sum(256 + bytes) from history)
where id = $1::text::uuid
"""
WARM_SECONDS, WARM_SECONDS_QUICK = 6.0, 4.0


async def measure(bench: Bench) -> list[Case]:
    cases = {
        (what, length): Case("long-history", f"{what}, {length} messages", unit)
        for what, unit in ((FIRST_PART, "turn"), (FIRST_EVENT, "stream"))
        for length in LENGTHS
    }
    async with bench.cluster(Setup(settings={"llm_context_tokens": CONTEXT_TOKENS})) as cluster:
        for _ in range(bench.repeats):
            for length in LENGTHS:
                chats = await bench.chats(cluster, CHATS)
                await _lengthen(bench, chats, length)
                cases[FIRST_PART, length].runs.append(await _turns(bench, cluster, chats))
                cases[FIRST_EVENT, length].runs.append(await _openings(bench, cluster, chats))
            for what in (FIRST_PART, FIRST_EVENT):
                short, long = (cases[what, length].runs for length in LENGTHS)
                long[-1] = {**long[-1], "times_short": long[-1]["p50_ms"] / short[-1]["p50_ms"]}
    return list(cases.values())


async def _turns(bench: Bench, cluster: Cluster, chats: list[str]) -> dict[str, float]:
    here, there = cluster.addresses
    result, costs, late = await bench.metered(
        cluster,
        "turns",
        chats=[(chat_id, here, there) for chat_id in chats],
        concurrency=1,
        content=TURN,
        warm_seconds=bench.seconds(WARM_SECONDS, WARM_SECONDS_QUICK),
        seconds=bench.seconds(3.0, 1.5),
    )
    return {**result["first"], "failed": result["failed"], **costs.figures(result["turns"]), **late}


async def _openings(bench: Bench, cluster: Cluster, chats: list[str]) -> dict[str, float]:
    result, costs, late = await bench.metered(
        cluster,
        "openings",
        address=cluster.addresses[1],
        chats=chats,
        concurrency=1,
        seconds=bench.seconds(3.0, 1.5),
    )
    return {**result["taken"], **costs.figures(result["count"]), **late}


async def _lengthen(bench: Bench, chats: list[str], length: int) -> None:
    """More messages for chats at rest, from behind, each of a version of its own."""
    while await bench.servers.sql("select 1 from chats where status <> 'waiting'"):  # noqa: ASYNC110 - another process
        await trio.sleep(0.05)
    for chat_id in chats:
        await bench.servers.sql(LENGTHEN, chat_id, length - 2)


WORKLOAD = Workload("long-history", "turns and readers of a chat of 20 000 messages, beside one of 20", measure)
