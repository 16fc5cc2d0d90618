"""What is asked of the figures, on two cores with all processes on them. Pure."""

from __future__ import annotations

from typing import NamedTuple


class Target(NamedTuple):
    """``at_least``: the figure must reach the limit; otherwise it must not exceed it."""

    limit: float
    at_least: bool = False

    def met(self, value: float) -> bool:
        return value >= self.limit if self.at_least else value <= self.limit

    def __str__(self) -> str:
        return f"{'≥' if self.at_least else '≤'} {self.limit:g}"


EVERYWHERE = {"heartbeat_late_ms": Target(1000), "leases_lost": Target(0)}
NOTHING_LOST = {"lost": Target(0), "doubled": Target(0)}
ALL_SERVED = {**NOTHING_LOST, "unserved": Target(0)}
"""Who never saw the end of an answer is not among those of whom it is known what they lost."""

FEED_READS = 8
"""On two replicas: message, claim and answer change the chat, and a feed begins with a read."""


def _at_least(limit: float) -> Target:
    return Target(limit, at_least=True)


def _fan_out(p50_ms: float) -> dict[str, Target]:
    return {"p50_ms": Target(p50_ms), "feed_reads": Target(FEED_READS), **ALL_SERVED}


def _door(time: str = "first_times") -> dict[str, Target]:
    return {time: Target(1.25), "cpu_times": Target(1.25), "failed": Target(0)}


COALESCE_MS = 15.0

TARGETS: dict[tuple[str, str], dict[str, Target]] = {
    ("first-token", "concurrency 1"): {"p50_ms": Target(8)},
    ("first-token", "concurrency 10"): {"p50_ms": Target(40)},
    ("first-token", "concurrency 50"): {"throughput": _at_least(150)},
    ("outside", "concurrency 1"): {"p50_ms": Target(25), "own_transactions": Target(3), "failed": Target(0)},
    ("outside", "concurrency 10"): {"p50_ms": Target(100), "failed": Target(0)},
    ("outside", "concurrency 50"): {"throughput": _at_least(100), "failed": Target(0)},
    ("turns", "2 replicas"): {"throughput": _at_least(250), "own_transactions": Target(3)},
    ("stream", "coalescing 15 ms"): {
        "p50_ms": Target(2),
        "p99_ms": Target(15 + COALESCE_MS),
        "replica_cpu_s": Target(0.15),
        **ALL_SERVED,
    },
    ("stream", "coalescing off"): {
        "p50_ms": Target(2),
        "p99_ms": Target(15),
        "replica_cpu_s": Target(0.15),
        **ALL_SERVED,
    },
    ("fan-out", "1 reader"): _fan_out(1),
    ("fan-out", "10 readers"): _fan_out(1.2),
    ("fan-out", "100 readers"): _fan_out(3),
    ("fan-out", "500 readers"): _fan_out(12),
    ("fan-out", "1000 readers"): _fan_out(30),
    ("capacity", "p99 up to 100 ms"): {"chats": _at_least(300), **NOTHING_LOST},
    ("rejoin", "200 readers"): {"caught_up_ms": Target(300), "others_late_ms": Target(100), "unserved": Target(0)},
    ("rejoin", "500 readers"): {"caught_up_ms": Target(1000), "others_late_ms": Target(100), "unserved": Target(0)},
    ("idle", "5000 readers"): {"reader_kb": Target(40)},
    ("idle", "1000 readers"): {"reader_kb": Target(40)},
    ("idle", "100000 chats at rest"): {"grown_kb": Target(1000), "idle_transactions_grown": Target(0.5)},
    ("claim", "1 replica"): {"throughput": _at_least(1500)},
    ("claim", "2 replicas"): {"throughput": _at_least(1500)},
    ("claim", "4 replicas"): {"throughput": _at_least(1500)},
    ("takeover", "SIGKILL"): {"p50_ms": Target(60), "p99_ms": Target(250), "failed": Target(0)},
    ("tool-step", "may be repeated"): {"p50_ms": Target(100), "own_transactions": Target(5)},
    ("tool-step", "once"): {"p50_ms": Target(100), "own_transactions": Target(6)},
    ("family", "3 agents"): {"p50_ms": Target(1000)},
    ("tool-takeover", "SIGKILL in mid-call"): {"p50_ms": Target(100)},
    ("requests", "GET of /livez"): {"replica_cpu_s": Target(0.6)},
    ("requests", "GET of a chat"): {"replica_cpu_s": Target(0.9)},
    ("requests", "a stream opened and closed"): {"replica_cpu_s": Target(1.6)},
    ("long-history", "first part, 20000 messages"): {"times_short": Target(2), "failed": Target(0)},
    ("long-history", "a reader's first event, 20000 messages"): {"times_short": Target(2)},
    **{("doors", door): _door() for door in ("responses", "completions", "ai-sdk", "ag-ui")},
    ("doors", "mcp"): _door("whole_times"),
    ("page", "words to a tab"): {"reader_times": Target(1.1), **ALL_SERVED},
    ("page", "a tab that comes"): {"reader_times": Target(1.1)},
    ("workspaces", "one after the other"): {"p50_ms": Target(1000)},
    ("workspaces", "100 of them"): {"workspace_mb": Target(25), "host_share": Target(0.1)},
    ("resume", "by cursor"): {"p50_ms": Target(15), "failed": Target(0), **NOTHING_LOST},
}


def targets_of(workload: str, case: str) -> dict[str, Target]:
    """The targets of a case, with those that hold in every one."""
    return {**TARGETS.get((workload, case), {}), **EVERYWHERE}
