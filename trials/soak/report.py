"""The figures as a table: at the start, at the end of the load, at the most, and at the end. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from soak.gauges import Sample
from soak.verdict import Rule

COLUMNS = ("start", "loaded", "most", "end")


def table(samples: Sequence[Sample], loaded: int) -> Iterator[str]:
    """A line for each gauge that is not nothing all the time."""
    yield f"{'':<40}" + "".join(f"{name:>12}" for name in COLUMNS)
    for name in samples[-1]:
        values = [sample.get(name, 0.0) for sample in samples]
        if any(values):
            shown = (values[0], values[loaded], max(values), values[-1])
            yield f"{name:<40}" + "".join(f"{value:>12,.10g}" for value in shown)


def verdict_lines(rules: Sequence[Rule]) -> Iterator[str]:
    """What did not hold, and whether all is flat."""
    broken = [rule for rule in rules if not rule.held]
    for rule in broken:
        yield f"NOT FLAT: {rule.name} is {rule.value:g}, allowed is {rule.limit:g} ({rule.why})"
    yield f"flat after the purge: {'NO' if broken else 'yes'} ({len(rules) - len(broken)} of {len(rules)} rules held)"
