"""Two versions in turns: the commit that is measured against is checked out beside, and each side runs its own code.

A side is a version of the replicas, with a database of its own that its own migrations made. The servers, the load
generator and the simulated model that stands apart are this tree's for both, so that what differs is the version of the
replicas alone. Both run on the packages of this virtual environment; what only the other commit needs is installed
beside it.
"""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from checkout import ROOT, CheckoutFailed, checked_out

from bench.errors import BenchError

NOW = "now"
THEN = "then"


@dataclass(frozen=True)
class Side:
    """``environment`` makes Python find this side's packages; ``name`` is also that of its database."""

    name: str
    environment: Mapping[str, str] = field(default_factory=dict)


def side_of(name: str, tree: Path, *packages: Path) -> Side:
    """The side whose code is in ``tree``, wherever its version keeps the bench, and ``packages`` of its own."""
    bench = [folder for folder in (tree / "trials", tree / "tests") if (folder / "bench").is_dir()]
    folders = [tree, *bench, *packages]
    return Side(name, {"PYTHONPATH": os.pathsep.join(map(str, folders))})


OWN = side_of(NOW, ROOT)


@asynccontextmanager
async def open_sides(commit: str | None) -> AsyncIterator[tuple[Side, ...]]:
    """This tree, and before it the other commit if one is named. Raises ``BenchError`` if git does not know it, or
    pip does not get what only it needs."""
    if commit is None:
        yield (OWN,)
        return
    try:
        async with checked_out(commit, purpose="bench-against") as (tree, packages):
            yield (side_of(THEN, tree, packages), OWN)
    except CheckoutFailed as error:
        raise BenchError(str(error)) from None
