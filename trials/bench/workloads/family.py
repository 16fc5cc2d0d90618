"""What it costs to have others work: a chat spawns three agents, waits for all of them, and says what came of it."""

from __future__ import annotations

from bench.bench import REST, Bench, Workload
from bench.cluster import Setup
from bench.figures import Case

AGENTS = 3
TURNS, TURNS_QUICK = 30, 8
SETTINGS = {"agents": True, "agents_max": 100}
"""For all turns of the one chat: an agent is there for as long as its parent."""
ONE_TOKEN = "[[tokens=1 tps=0]\\u005d"  # in JSON: two brackets in a row would end the order that it is in


def content() -> str:
    """A message that has the model do so."""
    spawn = f' [[call=spawn_agent {{"prompt": "{ONE_TOKEN}"}}]]' * AGENTS
    waits = (f' [[step=2 call=wait_agent {{"chat_id": "$agent{number}"}}]]' for number in range(1, AGENTS + 1))
    return f"[[tps=0]] [[tokens=1 step=3]]{spawn}{''.join(waits)}"


async def measure(bench: Bench) -> list[Case]:
    case = Case("family", f"{AGENTS} agents", "turn")
    async with bench.cluster(Setup(model_inside=False, settings=SETTINGS)) as cluster:
        for _ in range(bench.repeats):
            [chat_id] = await bench.load.order("create", addresses=cluster.addresses, count=1, content=REST)
            result, costs, beats = await bench.metered(
                cluster,
                "call",
                chat_id=chat_id,
                sends_to=cluster.addresses[0],
                reads_at=cluster.addresses[-1],
                content=content(),
                turns=TURNS_QUICK if bench.quick else TURNS,
            )
            costly = {**costs.own_transactions(result["turns"]), **costs.figures(result["turns"])}
            case.runs.append({**result["turn"], **costly, **beats})
    return [case]


WORKLOAD = Workload("family", f"a turn with {AGENTS} agents, which it waits for: message → rest", measure)
