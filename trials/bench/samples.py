"""Percentiles of many samples. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence


def percentile(ordered: Sequence[float], fraction: float) -> float:
    """The smallest sample that at least ``fraction`` of all samples do not exceed (nearest rank).

    ``ordered`` is ascending. Raises ``ValueError`` without samples.
    """
    if not ordered:
        raise ValueError("there are no samples")
    return ordered[max(0, math.ceil(fraction * len(ordered)) - 1)]


def spread(samples: Sequence[float]) -> dict[str, float]:
    """Samples in milliseconds as the figures of a latency; without samples there are none."""
    if not samples:
        return {}
    ordered = sorted(samples)
    return {"p50_ms": percentile(ordered, 0.50), "p99_ms": percentile(ordered, 0.99), "max_ms": ordered[-1]}


def median(values: Sequence[float]) -> float:
    """The middle value, or the mean of the two in the middle. Raises ``ValueError`` without values."""
    if not values:
        raise ValueError("there are no values")
    ordered = sorted(values)
    middle = len(ordered) // 2
    return ordered[middle] if len(ordered) % 2 else (ordered[middle - 1] + ordered[middle]) / 2
