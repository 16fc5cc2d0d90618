"""How much later the result of a call comes whose worker is killed while it runs: beyond what the tool itself takes."""

from __future__ import annotations

from tool_server import NAP_SECONDS

from bench.bench import REST, Bench, Workload
from bench.cluster import Cluster, Setup
from bench.errors import BenchError
from bench.figures import Case
from bench.samples import spread
from bench.tool_servers import tool_server

KILLS, KILLS_QUICK = 20, 4
CONTENT = "[[tokens=1 tps=0 step=2]] [[call=napping__nap {}]]"
TRIES_MAX = 10
"""Another replica may be quicker to take the chat."""


async def measure(bench: Bench) -> list[Case]:
    waited_ms = []
    async with bench.cluster(Setup(model_inside=False)) as cluster, tool_server(cluster, "napping"):
        for _ in range(KILLS_QUICK if bench.quick else KILLS):
            waited_ms.append(await _kill_one(bench, cluster))
            await cluster.add()
    run = {**spread(waited_ms), "samples": len(waited_ms)}
    return [Case("tool-takeover", "SIGKILL in mid-call", "kill", [run])]


async def _kill_one(bench: Bench, cluster: Cluster) -> float:
    """From the kill to the result at a reader elsewhere, without the time of the tool, in milliseconds."""
    victim, survivor = cluster.replicas[0], cluster.replicas[1]
    killed_ns = 0

    async def kill(_: object) -> None:
        nonlocal killed_ns
        killed_ns = await cluster.kill(victim)

    for _ in range(TRIES_MAX):
        [chat_id] = await bench.load.order(
            "create", addresses=[victim.address], count=1, content=REST, mcp_servers=["napping"]
        )
        result = await bench.load.order(
            "call_under_kill",
            on_said=kill,
            chat_id=chat_id,
            sends_to=victim.address,
            victim=victim.worker_id,
            reads_at=survivor.address,
            content=CONTENT,
        )
        if result["result_ns"]:
            waited_ms: float = (result["result_ns"] - killed_ns) / 1e6
            return waited_ms - NAP_SECONDS * 1000
    raise BenchError("the victim never has the chat")


WORKLOAD = Workload(
    "tool-takeover", "SIGKILL of the owner in mid-call → the call's result, beyond the tool's own time", measure, 1
)
