"""What workspaces cost their machine: how long a start takes, how long a crowd of them, and what they take at rest.

A start is measured from the request to the moment when the agent answers, one after the other; the crowd is one user's,
asked for at once. Each has a chat of its own.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Sequence

import trio

from bench.bench import Bench, Workload
from bench.cluster import Cluster, Setup
from bench.errors import BenchError
from bench.figures import Case
from bench.meters import cpu_seconds, descendants, resident_kb, share_kb
from bench.samples import spread
from chatcluster.client.workspaces import WorkspaceClient
from chatcluster.local.local_cluster import workspaces_dir
from chatcluster.secrets import new_key

WORKSPACES, WORKSPACES_QUICK = 100, 20
STARTS, STARTS_QUICK = 10, 5
"""How many of them are started one after the other, before the others are asked for."""
RUN_SECONDS_MAX = 300.0
LOOK_SECONDS = 0.01
REST_SECONDS = 10.0
STATES = "SELECT state, detail FROM workspaces"


async def measure(bench: Bench) -> list[Case]:
    count, first = (WORKSPACES_QUICK, STARTS_QUICK) if bench.quick else (WORKSPACES, STARTS)
    single, crowd = Case("workspaces", "one after the other", ""), Case("workspaces", f"{count} of them", "workspace")
    for _ in range(bench.repeats):
        setup = Setup(replicas=1, settings={"encryption_keys": new_key(), "workspaces_per_user": 0})
        async with bench.cluster(setup) as cluster:
            host = await _host(bench, cluster, count)
            chats = await bench.chats(cluster, count)
            async with WorkspaceClient(f"http://{cluster.addresses[0]}", bench.servers.token) as client:
                taken = [
                    await _start(cluster, client, [chat_id], number) for number, chat_id in enumerate(chats[:first])
                ]
                all_run_ms = await _start(cluster, client, chats[first:], first)
            single.runs.append(spread(taken))
            crowd.runs.append({"all_run_ms": all_run_ms, **await _at_rest(host, count)})
        await bench.servers.sql("TRUNCATE workspaces, workspace_hosts CASCADE")
    return [single, crowd]


async def _host(bench: Bench, cluster: Cluster, count: int) -> int:
    """The process ID of a host for so many. Raises ``BenchError`` where this machine can have none."""
    directory = workspaces_dir(bench.servers.directory)
    host, problem = await cluster.add_host(workspaces_dir=directory, workspaces_max=count)
    if problem:
        raise BenchError(f"no workspaces on this machine: {problem}")
    return host


async def _start(cluster: Cluster, client: WorkspaceClient, chats: Sequence[str], running: int) -> float:
    """Make one for each chat, beside those that run, and wait until all run; the milliseconds that it took."""
    began = time.monotonic()
    for chat_id in chats:
        await client.create_workspace(chat_id, "default")
    states: Counter[str] = Counter()
    with trio.move_on_after(RUN_SECONDS_MAX):
        while states["running"] < running + len(chats):
            await trio.sleep(LOOK_SECONDS)
            rows = await cluster.servers.sql(STATES)
            states = Counter(state for state, _ in rows)
            if states["failed"] or states["lost"]:
                raise BenchError(f"a workspace does not start: {'; '.join(detail for _, detail in rows if detail)}")
        return (time.monotonic() - began) * 1000
    raise BenchError(f"{states['running']} of {running + len(chats)} workspaces run after {RUN_SECONDS_MAX:.0f} s")


async def _at_rest(host: int, count: int) -> dict[str, float]:
    inside = descendants(host)
    before = cpu_seconds(host), sum(map(cpu_seconds, inside))
    await trio.sleep(REST_SECONDS)
    after = cpu_seconds(host), sum(map(cpu_seconds, inside))
    return {
        "workspace_mb": sum(map(share_kb, inside)) / 1024 / count,
        "host_mb": resident_kb(host) / 1024,
        "host_share": (after[0] - before[0]) / REST_SECONDS,
        "agents_share": (after[1] - before[1]) / REST_SECONDS,
    }


WORKLOAD = Workload("workspaces", f"how workspaces start, and what {WORKSPACES} take at rest", measure)
