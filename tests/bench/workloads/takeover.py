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
    """The kills are shared out to the repeats. Each is followed by a new replica in the place of the dead one."""
    case = Case("takeover", "SIGKILL", UNIT)
    kills = max(1, round((KILLS_QUICK if bench.quick else KILLS) / bench.repeats))
    async with bench.cluster(Setup()) as cluster:
        for _ in range(bench.repeats):
            meters = Meters(cluster, bench.load)
            waited_ms: list[float] = []
            failed = 0
            async with meters.watching_heartbeats():
                for _ in range(kills):
                    went_on_ms = await _kill_one(bench, cluster)
                    waited_ms += [sample for sample in went_on_ms if sample > 0]
                    failed += sum(sample <= 0 for sample in went_on_ms)
            case.runs.append(
                {
                    **spread(waited_ms),
                    "samples": len(waited_ms),
                    "failed": failed,
                    "heartbeat_late_ms": meters.heartbeat_late_ms,
                }
            )
    return [case]


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
    await cluster.add()
    return [(went_on_ns - killed_ns) / 1e6 for went_on_ns in result["went_on_ns"]]


WORKLOAD = Workload("takeover", "SIGKILL of the owner → next part at an attached reader, 30 kills", measure)
