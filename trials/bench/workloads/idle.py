"""What readers cost that read nothing, and what chats cost that nobody reads."""

from __future__ import annotations

import trio

from bench.bench import Bench, Workload
from bench.cluster import Cluster, Setup
from bench.figures import Case
from bench.meters import Costs, Meters, resident_kb

READERS = 5000
READERS_QUICK = 1000
CHATS_AT_REST = 100_000
WARM_SECONDS = 2.0
WATCH_SECONDS = 10.0
"""No less with ``--quick``: what is asked at intervals of up to ten seconds may fall into one watch and not into the
other, and in two seconds two of those are a transaction a second."""
SETTLE_SECONDS = 1.0
INSERT_CHATS = """
    INSERT INTO chats (id, owner_id, title, status, snapshot_version, history_version)
    SELECT gen_random_uuid(), users.id, 'at rest', 'waiting', 1, 1 FROM users, generate_series(1, $1::int)
"""
INSERT_MESSAGES = """
    INSERT INTO messages (chat_id, revision, role, content)
    SELECT id, 1, role, '[{"type": "text", "text": "Something that was said some time ago."}]'::json
    FROM chats, (VALUES ('user'), ('assistant')) AS said (role)
"""


async def measure(bench: Bench) -> list[Case]:
    readers = READERS_QUICK if bench.quick else READERS
    at_rest = Case("idle", f"{CHATS_AT_REST} chats at rest", "")
    reading = Case("idle", f"{readers} readers", "reader")
    for _ in range(bench.repeats):
        async with bench.cluster(Setup(replicas=1)) as cluster:
            await trio.sleep(WARM_SECONDS)
            at_rest.runs.append(await _rest(bench, cluster))
            reading.runs.append(await _read(bench, cluster, readers))
    return [at_rest, reading]


async def _rest(bench: Bench, cluster: Cluster) -> dict[str, float]:
    """A cluster without readers, before there are any chats and after."""
    before, before_kb = await _watch(bench, cluster)
    await cluster.servers.sql(INSERT_CHATS, CHATS_AT_REST)
    await cluster.servers.sql(INSERT_MESSAGES)
    await cluster.servers.sql("ANALYZE chats, messages")
    after, after_kb = await _watch(bench, cluster)
    rates = [costs.transactions.total() / costs.seconds for costs in (before, after)]
    return {
        "grown_kb": after_kb - before_kb,
        "idle_transactions": rates[1],
        "idle_transactions_grown": rates[1] - rates[0],
        "leases_lost": after.leases_lost,
    }


async def _watch(bench: Bench, cluster: Cluster) -> tuple[Costs, int]:
    meters = Meters(cluster, bench.load)
    await meters.start()
    await trio.sleep(WATCH_SECONDS)
    return await meters.stop(), resident_kb(cluster.replicas[0].pid)


async def _read(bench: Bench, cluster: Cluster, readers: int) -> dict[str, float]:
    """A chat of its own for every reader: nothing is shared."""
    [replica] = cluster.replicas
    rows = await cluster.servers.sql("SELECT id::text FROM chats LIMIT $1", readers)
    before_kb = resident_kb(replica.pid)
    after_kb = 0

    async def look(_: object) -> None:
        nonlocal after_kb
        await trio.sleep(SETTLE_SECONDS)
        after_kb = resident_kb(replica.pid)

    meters = Meters(cluster, bench.load)
    await meters.start()
    async with meters.watching_heartbeats():
        chats = [chat_id for (chat_id,) in rows]
        await bench.load.order(
            "idle",
            on_said=look,
            address=replica.address,
            chats=chats,
            readers=readers,
            hold_seconds=2 * SETTLE_SECONDS,
        )
        costs = await meters.stop()
    return {
        "reader_kb": (after_kb - before_kb) / readers,
        "heartbeat_late_ms": meters.heartbeat_late_ms,
        **costs.figures(readers),
    }


WORKLOAD = Workload("idle", "5000 idle readers on one replica; 100 000 chats at rest", measure, repeats_max=1)
