"""How quickly replicas take chats that wait, do nothing with them, and put them to rest."""

from __future__ import annotations

import time

import trio

from bench.bench import Bench, Workload
from bench.cluster import Cluster, Setup
from bench.figures import Case
from bench.meters import Meters

CHATS = 20_000
REPLICAS = (1, 2, 4)
POLL_SECONDS = 0.05
UNIT = "claim"
INSERT = """
    INSERT INTO chats (id, owner_id, title, status, snapshot_version, history_version, claimable_since)
    SELECT gen_random_uuid(), users.id, 'waits', 'running', 1, 1, statement_timestamp()
    FROM users, generate_series(1, $1::int)
"""
UNDONE = "SELECT count(*) FROM chats WHERE claimable_since IS NOT NULL OR worker_id IS NOT NULL"


async def measure(bench: Bench) -> list[Case]:
    cases = {count: Case("claim", f"{count} replica{'s'[: count - 1]}", UNIT) for count in REPLICAS}
    for _ in range(bench.repeats):
        for count, case in cases.items():
            async with bench.cluster(Setup(replicas=count)) as cluster:
                case.runs.append(await _claim(bench, cluster))
    return list(cases.values())


async def _claim(bench: Bench, cluster: Cluster) -> dict[str, float]:
    """Chats without a message have nothing to be answered: a turn is the claim and the commit of its end."""
    meters = Meters(cluster, bench.load)
    await meters.start()
    async with meters.watching_heartbeats():
        await cluster.servers.sql(INSERT, CHATS)
        started = time.monotonic()
        await cluster.servers.wake_claimers()
        done = await _until_done(cluster, started + bench.seconds(3.0, 2.0))
        seconds = time.monotonic() - started
        costs = await meters.stop()
    return {"throughput": done / seconds, **costs.figures(done), "heartbeat_late_ms": meters.heartbeat_late_ms}


async def _until_done(cluster: Cluster, deadline: float) -> int:
    """How many chats were put to rest until all were, or until the deadline."""
    undone = CHATS
    while undone and time.monotonic() < deadline:
        await trio.sleep(POLL_SECONDS)
        [(undone,)] = await cluster.servers.sql(UNDONE)
    return CHATS - undone


WORKLOAD = Workload("claim", "20 000 runnable chats, empty turns, 1 / 2 / 4 replicas", measure, repeats_max=3)
