"""The summary of a run: the JSON object that is its last line."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Sequence
from typing import Any

from checker import Kind, Recovery, Verdict

from chaos.vitals import Vitals

OF_TIME = frozenset({Kind.LATE, Kind.UNSTOPPED, Kind.BYSTANDER})
"""Violations that a machine that is slow enough makes of itself."""


def spread(seconds: Sequence[float]) -> dict[str, float | int | None]:
    """Median, 99th percentile and maximum, and of how many."""
    ordered = sorted(seconds)
    if not ordered:
        return {"p50": None, "p99": None, "max": None, "count": 0}
    return {
        "p50": round(ordered[(len(ordered) - 1) // 2], 4),
        "p99": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))], 4),
        "max": round(ordered[-1], 4),
        "count": len(ordered),
    }


def takeovers(recoveries: Sequence[Recovery], kind: str) -> list[float]:
    """For each chat that was taken over after such a fault, the time until its first reader elsewhere saw a part."""
    first: dict[tuple[float, str], float] = {}
    for recovery in recoveries:
        if recovery.fault.kind == kind and recovery.takeover_seconds is not None:
            key = (recovery.fault.time, recovery.chat)
            first[key] = min(first.get(key, float("inf")), recovery.takeover_seconds)
    return list(first.values())


def begun_anew(recoveries: Sequence[Recovery]) -> int:
    """How many answers were cut by a fault and begun again by another replica."""
    return len({(it.fault.time, it.chat) for it in recoveries if it.takeover_seconds is not None})


def summarize(
    verdict: Verdict,
    measured: Sequence[Recovery],
    told: Sequence[Recovery],
    faults: Counter[str],
    answered: dict[str, list[float]],
    *,
    unjudged: Collection[Kind] = (),
    vitals: Vitals | None = None,
    **counts: Any,
) -> dict[str, Any]:
    """``measured`` are the recoveries that readers on surviving replicas saw, ``told`` those of all readers;
    ``answered`` the seconds by kind in which writes were answered after the return of a server. What is ``unjudged``
    is counted, but not among the violations.
    """
    vitals = vitals or Vitals()
    main = "kill" if faults["kill"] or not faults else next(iter(faults))
    return {
        "kills": faults["kill"],
        **counts,
        **vitals.summary(),
        **{str(kind): verdict.counts[kind] for kind in Kind},
        "takeover_seconds": spread(takeovers(measured, main)),
        "told_seconds": spread(_signs(told)),
        "faults": {
            kind: {
                "count": count,
                "takeover_seconds": spread(takeovers(measured, kind)),
                "told_seconds": spread(_signs(told, kind)),
                **({"answered_seconds": spread(answered[kind])} if kind in answered else {}),
            }
            for kind, count in faults.items()
        },
        "previews_cut_short_by_faults": verdict.excused,
        "lost_by_failover": verdict.lost_by_failover,
        "violations": sum(count for kind, count in verdict.counts.items() if kind not in unjudged) + vitals.violations,
    }


def _signs(told: Sequence[Recovery], kind: str = "") -> list[float]:
    return [
        recovery.sign_seconds
        for recovery in told
        if recovery.sign_seconds is not None and kind in ("", recovery.fault.kind)
    ]
