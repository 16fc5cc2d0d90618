"""The vocabulary of a run: what each figure is called, its unit, and how the repeats become one value. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from bench.samples import median

Figures = Mapping[str, float]
"""The figures of one repeat of a case, by name."""


@dataclass(frozen=True)
class Kind:
    """``unit`` may name ``{unit}``, the workload's unit of work. ``merge`` makes one value of the repeats'."""

    label: str
    unit: str
    digits: int = 1
    merge: Callable[[Sequence[float]], float] = median
    higher_is_better: bool = False


KINDS = {
    "p50_ms": Kind("p50", "ms", 2),
    "p99_ms": Kind("p99", "ms", 2),
    "max_ms": Kind("max", "ms", 1, max),
    "times_short": Kind("beside a short chat", "times", 2),
    "first_times": Kind("first token beside our own stream", "times", 2),
    "whole_ms": Kind("whole answer, p50", "ms", 0),
    "whole_times": Kind("whole answer beside our own stream", "times", 2),
    "cpu_times": Kind("CPU of the replicas beside it", "times", 2),
    "reader_times": Kind("CPU beside a reader of the API", "times", 2),
    "throughput": Kind("throughput", "{unit}s/s", 0, higher_is_better=True),
    "chats": Kind("chats", "", 0, higher_is_better=True),
    "caught_up_ms": Kind("last one caught up", "ms", 0),
    "others_late_ms": Kind("a live part of the others, at most", "ms late", 0),
    "lost": Kind("lost", "", 0, max),
    "doubled": Kind("doubled", "", 0, max),
    "samples": Kind("samples", "", 0),
    "feed_reads": Kind("database reads of the feeds", "", 0),
    "unserved": Kind("readers not served", "", 0, max),
    "failed": Kind("failed", "", 0, max),
    "without_parts": Kind("turns shown without parts", "", 0),
    "reader_kb": Kind("memory", "kB/reader", 1),
    "all_run_ms": Kind("until all run", "ms", 0),
    "workspace_mb": Kind("memory", "MB/{unit}", 1),
    "host_mb": Kind("memory of their host", "MB", 0),
    "host_share": Kind("their host at rest", "of a core", 3),
    "agents_share": Kind("what runs in them at rest", "of a core", 3),
    "grown_kb": Kind("memory grown with chats at rest", "kB", 0),
    "idle_transactions": Kind("transactions at rest", "/s", 1),
    "idle_transactions_grown": Kind("more of them with chats at rest", "/s", 1),
    "own_transactions": Kind("transactions of the turn itself", "/{unit}", 2),
    "transactions": Kind("transactions in all", "/{unit}", 2),
    "redis_commands": Kind("Redis commands", "/{unit}", 1),
    "replica_cpu_s": Kind("CPU of the replicas", "s/1000 {unit}s", 3),
    "postgres_cpu_s": Kind("of Postgres", "s/1000 {unit}s", 3),
    "redis_cpu_s": Kind("of Redis", "s/1000 {unit}s", 3),
    "model_cpu_s": Kind("of the model's server", "s/1000 {unit}s", 3),
    "load_share": Kind("load generator", "of a core", 2),
    "others_share": Kind("everything else on the machine", "of a core", 2),
    "peak_mb": Kind("largest replica", "MB", 0, max),
    "heartbeat_late_ms": Kind("latest heartbeat", "ms late", 0, max),
    "leases_lost": Kind("leases lost", "", 0, max),
    "python_ms": Kind("machine: Python loop", "ms", 1),
    "commit_ms": Kind("commit", "ms", 2),
    "redis_ms": Kind("Redis hop", "ms", 3),
}
"""In the order in which they are shown."""


@dataclass
class Case:
    """One workload under one condition, and what its repeats gave."""

    workload: str
    name: str
    unit: str
    runs: list[Figures] = field(default_factory=list)

    def merged(self) -> dict[str, float]:
        """One value for each figure, in the order of ``KINDS``."""
        return {
            name: kind.merge(values)
            for name, kind in KINDS.items()
            if (values := [run[name] for run in self.runs if name in run])
        }

    def spread(self, figure: str) -> tuple[float, float]:
        """The least and the greatest value of a figure among the repeats."""
        values = [run[figure] for run in self.runs if figure in run]
        return min(values), max(values)


def shown(figure: str, value: float, unit: str) -> str:
    """A value for people, with its unit."""
    kind = KINDS[figure]
    return f"{value:.{kind.digits}f} {kind.unit.format(unit=unit)}".rstrip().replace(" /", "/")
