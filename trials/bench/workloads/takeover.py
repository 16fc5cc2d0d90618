"""How long a reader waits for the next part when the replica that works on its chat is killed."""

from __future__ import annotations

from bench.bench import Bench, Workload
from bench.cluster import Cluster, Setup
from bench.figures import Case
from bench.meters import Meters
from bench.samples import spread

KILLS = 30
KILLS_QUICK = 6
CHATS = 4
TOKENS_PER_SECOND = 50
SECONDS_MAX = 10.0
UNIT = "kill"


async def measure(bench: Bench) -> list[Case]:
    """All kills are one run: of a few the 99th percentile would be the maximum, and the median of such ones less.

    Each kill is followed by a new replica in the place of the dead one. So everyone survives one kill, and falls to
    the next: what the survivor has lost by then is counted once.
    """
    waited_ms: list[float] = []
    failed = 0
    leases_lost = 0.0
    async with bench.cluster(Setup()) as cluster:
        meters = Meters(cluster, bench.load)
        async with meters.watching_heartbeats():
            for _ in range(KILLS_QUICK if bench.quick else KILLS):
                went_on_ms = await _kill_one(bench, cluster)
                waited_ms += [sample for sample in went_on_ms if sample > 0]
                failed += sum(sample <= 0 for sample in went_on_ms)
                leases_lost += await meters.leases_lost()
                await cluster.add()
    run = {
        **spread(waited_ms),
        "samples": len(waited_ms),
        "failed": failed,
        "heartbeat_late_ms": meters.heartbeat_late_ms,
        "leases_lost": leases_lost,
    }
    return [Case("takeover", "SIGKILL", UNIT, [run])]


async def _kill_one(bench: Bench, cluster: Cluster) -> list[float]:
    """How long each chat of the killed replica was silent at its reader, in milliseconds; negative for ever."""
    victim, survivor = cluster.replicas[0], cluster.replicas[1]
    killed_ns = 0

    async def kill(_: object) -> None:
        nonlocal killed_ns
        killed_ns = await cluster.kill(victim)

    result = await bench.load.order(
        "takeover",
        on_said=kill,
        chats=await bench.chats(cluster, CHATS),
        sends_to=victim.address,
        victim=victim.worker_id,
        reads_at=survivor.address,
        content=f"[[mode=clock tokens={round(SECONDS_MAX * TOKENS_PER_SECOND)} tps={TOKENS_PER_SECOND}]]",
        seconds_max=SECONDS_MAX,
    )
    return [(went_on_ns - killed_ns) / 1e6 for went_on_ns in result["went_on_ns"]]


WORKLOAD = Workload(
    "takeover", "SIGKILL of the owner → next part at an attached reader, 30 kills", measure, repeats_max=1
)
