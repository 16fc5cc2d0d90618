"""What every replica looks for now and then, so that nothing is forgotten when another one dies: each in a task."""

from __future__ import annotations

import trio

from chatcluster.deadlines import sweep_deadlines
from chatcluster.families import sweep_families
from chatcluster.notices import Notices
from chatcluster.ports import Store


async def sweep(store: Store, notices: Notices) -> None:
    """Sweep until cancelled."""
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sweep_deadlines, store, notices)
        nursery.start_soon(sweep_families, store, notices)
