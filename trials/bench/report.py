"""What is printed, and what is kept: the table, the comparison, the JSON. Pure."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any

from bench.figures import KINDS, Case, shown
from bench.targets import Target, targets_of

INDENT = "  "
LABEL_CHARS = 36
CHANGE_MIN = 0.05
"""A smaller change of a figure without a target is noise."""
CONDITIONS = {"load_share", "others_share", "samples", "python_ms", "commit_ms", "redis_ms"}
"""Figures about the measurement: neither better nor worse."""


def table(cases: Sequence[Case]) -> str:
    """Every figure with a target in a row of its own; the others of a case in one line below."""
    lines: list[str] = []
    for case in cases:
        lines += ["", f"{case.workload}, {case.name}"]
        targets = targets_of(case.workload, case.name)
        merged = case.merged()
        for name in (name for name in merged if name in targets):
            lines.append(_row(case, name, merged[name], targets[name]))
        others = [
            f"{KINDS[name].label} {shown(name, merged[name], case.unit)}" for name in merged if name not in targets
        ]
        lines += _wrapped(others)
    return "\n".join(lines[1:])


def _row(case: Case, name: str, value: float, target: Target) -> str:
    least, greatest = case.spread(name)
    digits = KINDS[name].digits
    repeats = f"{least:.{digits}f} to {greatest:.{digits}f}" if len(case.runs) > 1 else ""
    verdict = "met" if target.met(value) else "NOT MET"
    label = f"{KINDS[name].label:<{LABEL_CHARS}}"
    return f"{INDENT}{label} {shown(name, value, case.unit):<22} {target!s:<9} {verdict:<8} {repeats}"


def _wrapped(items: Sequence[str], width: int = 110) -> Iterator[str]:
    line = ""
    for item in items:
        if line and len(line) + len(item) > width:
            yield f"{INDENT}{line}"
            line = ""
        line += ("; " if line else "") + item
    if line:
        yield f"{INDENT}{line}"


def missed(cases: Iterable[Case]) -> list[str]:
    """The targets that were not met, a line each."""
    return [
        f"{case.workload}, {case.name}: {KINDS[name].label} {shown(name, merged[name], case.unit)}, asked {target}"
        for case in cases
        for merged in [case.merged()]
        for name, target in targets_of(case.workload, case.name).items()
        if name in merged and not target.met(merged[name])
    ]


def as_json(cases: Iterable[Case], conditions: Mapping[str, Any]) -> str:
    """An object for each workload, on a line of its own: its cases, with their figures and their repeats."""
    workloads: dict[str, Any] = {}
    for case in cases:
        merged = case.merged()
        targets = targets_of(case.workload, case.name)
        workloads.setdefault(case.workload, {})[case.name] = {
            "unit": case.unit,
            "figures": merged,
            "targets": {
                name: {"limit": target.limit, "at_least": target.at_least, "met": target.met(merged[name])}
                for name, target in targets.items()
                if name in merged
            },
            "runs": [dict(run) for run in case.runs],
        }
    return "".join(
        json.dumps({"workload": name, "cases": named, "conditions": dict(conditions)}) + "\n"
        for name, named in workloads.items()
    )


def read_run(text: str) -> dict[str, Any]:
    """The cases by workload, from what ``as_json`` made of an earlier run. Raises ``ValueError`` if it is none."""
    run: dict[str, Any] = {}
    with suppress(ValueError, TypeError, KeyError):
        for line in text.splitlines():
            told = json.loads(line)
            run[told["workload"]] = dict(told["cases"])
    if not run:
        raise ValueError("this is not what --json writes")
    return run


def comparison(old: Mapping[str, Any], cases: Iterable[Case]) -> str:
    """Old, new and new ÷ old of the figures that both runs have: those with a target, and others that have changed."""
    lines = []
    for case in cases:
        before = old.get(case.workload, {}).get(case.name, {}).get("figures", {})
        targets = targets_of(case.workload, case.name)
        rows = [
            _change(case, name, before[name], value)
            for name, value in case.merged().items()
            if name in before and name not in CONDITIONS and (name in targets or _has_changed(before[name], value))
            if before[name] or value
        ]
        if rows:
            lines += ["", f"{case.workload}, {case.name}", *rows]
    return "\n".join(lines[1:]) or "The two runs have no case in common."


def _has_changed(old: float, new: float) -> bool:
    return abs(new - old) > CHANGE_MIN * abs(old)


def _change(case: Case, name: str, old: float, new: float) -> str:
    kind = KINDS[name]
    ratio = f"× {new / old:.2f}" if old else ""
    better = (new > old) == kind.higher_is_better
    verdict = "" if not _has_changed(old, new) else "better" if better else "worse"
    then, now = f"{old:.{kind.digits}f}", shown(name, new, case.unit)
    return f"{INDENT}{kind.label:<{LABEL_CHARS}} {then:>10} → {now:<24} {ratio:<8} {verdict}".rstrip()
