"""What flat means: each rule with its tolerance, over the samples of a run. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from soak.gauges import DUE_NAMES, Sample

MEMORY_MB_MAX = 300.0
MEMORY_GROWTH_MAX = 0.05
FILES_GROWTH_MAX = 20
SIZE_GROWTH_MAX = 0.05
SIZE_SLACK_MB = 2.0
DEAD_SHARE_MAX = 0.25
DEAD_ROWS_SLACK = 5_000
"""Autovacuum begins at a fifth of a table, and comes once a minute."""
LEFT_SHARE_MAX = 0.01
REDIS_KEYS_SHARE_MAX = 0.02
REDIS_KEYS_SLACK = 50


class Rule(NamedTuple):
    """``value`` of ``name`` must not be above ``limit``."""

    name: str
    value: float
    limit: float
    why: str

    @property
    def held(self) -> bool:
        return self.value <= self.limit


def judge(samples: Sequence[Sample], *, loaded: int, endless_keys: int) -> list[Rule]:
    """``loaded`` is the index of the last sample under load: what comes after it is the day's end, and the purge."""
    first, full, last = samples[0], samples[loaded], samples[-1]
    peak = {name: max(sample.get(name, 0.0) for sample in samples) for name in last}
    return [
        *_replicas(first, full, last, peak),
        *_tables(full, last),
        *_purged(peak, last),
        Rule("redis keys", last["redis keys"], _share(peak["redis keys"], REDIS_KEYS_SHARE_MAX) + REDIS_KEYS_SLACK, ""),
        Rule("redis keys without an end", endless_keys, 0, "each stream of a chat at rest ends 10 min later"),
    ]


def _replicas(first: Sample, full: Sample, last: Sample, peak: Sample) -> Iterator[Rule]:
    for name in last:
        if name.endswith(" memory MB") and name.startswith("replica"):
            grown = max(full[name], first[name]) * (1 + MEMORY_GROWTH_MAX)
            yield Rule(f"{name}, at most", peak[name], MEMORY_MB_MAX, "in all of it")
            yield Rule(name, last[name], round(grown, 1), "5 % above what it was at the end of the load")
        elif name.endswith(" files"):
            yield Rule(name, last[name], first[name] + FILES_GROWTH_MAX, "20 above what it was at the start")


def _tables(full: Sample, last: Sample) -> Iterator[Rule]:
    for name in last:
        if name.endswith((" table MB", " indexes MB")):
            limit = full.get(name, 0.0) * (1 + SIZE_GROWTH_MAX) + SIZE_SLACK_MB
            yield Rule(name, last[name], round(limit, 2), "5 % and 2 MB above what it was at the end of the load")
        elif name.endswith(" dead rows"):
            live = last[name.replace(" dead rows", " live rows")]
            yield Rule(name, last[name], _share(live, DEAD_SHARE_MAX) + DEAD_ROWS_SLACK, "a quarter of the live ones")


def _purged(peak: Sample, last: Sample) -> Iterator[Rule]:
    for name in DUE_NAMES:
        yield Rule(name, last[name], _share(peak[name], LEFT_SHARE_MAX), "a hundredth of what there was")


def _share(value: float, share: float) -> int:
    return int(value * share)
