"""What a step with a tool costs: a call that its server answers at once, from the history to its result there."""

from __future__ import annotations

from bench.bench import REST, Bench, Workload
from bench.cluster import Setup
from bench.figures import Case
from bench.tool_servers import tool_server

TURNS, TURNS_QUICK = 200, 40
UNIT = "turn"
EFFECTS = {"may be repeated": "counting__peek", "once": "counting__buy"}


async def measure(bench: Bench) -> list[Case]:
    cases = [Case("tool-step", name, UNIT) for name in EFFECTS]
    async with bench.cluster(Setup(model_inside=False)) as cluster, tool_server(cluster, "counting"):
        [chat_id] = await bench.load.order(
            "create", addresses=cluster.addresses, count=1, content=REST, mcp_servers=["counting"]
        )
        for case, tool in zip(cases, EFFECTS.values(), strict=True):
            for _ in range(bench.repeats):
                turns = TURNS_QUICK if bench.quick else TURNS
                result, costs, beats = await bench.metered(
                    cluster,
                    "call",
                    chat_id=chat_id,
                    sends_to=cluster.addresses[0],
                    reads_at=cluster.addresses[-1],
                    content=f"[[tokens=1 tps=0 step=2]] [[call={tool} {{}}]]",
                    turns=turns,
                )
                costly = {**costs.own_transactions(result["turns"]), **costs.figures(result["turns"])}
                case.runs.append({**result["step"], **costly, **beats})
    return cases


WORKLOAD = Workload("tool-step", "a call that its MCP server answers at once: history → result in history", measure)
