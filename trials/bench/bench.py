"""What a workload is given: servers, the load generator, how long it may take, and how to have something measured."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

from bench.cluster import Cluster, Setup, open_cluster
from bench.errors import BenchError
from bench.figures import Case
from bench.generator import Load
from bench.meters import Costs, Meters
from bench.servers import Servers

REST = "[[tokens=1 tps=0]]"
"""A first message that is answered at once: the chat then is at rest."""


@dataclass(frozen=True)
class Bench:
    servers: Servers
    load: Load
    repeats: int
    quick: bool

    def seconds(self, usual: float, quick: float) -> float:
        return quick if self.quick else usual

    @asynccontextmanager
    async def cluster(self, setup: Setup) -> AsyncIterator[Cluster]:
        async with open_cluster(self.servers, setup) as cluster:
            yield cluster

    async def chats(self, cluster: Cluster, count: int) -> list[str]:
        """New chats, which come to rest at once."""
        created: list[str] = await self.load.order("create", addresses=cluster.addresses, count=count, content=REST)
        return created

    async def metered(self, cluster: Cluster, do: str, **plan: object) -> tuple[Any, Costs, dict[str, float]]:
        """An order's result, what it cost from its start on, and how late a heartbeat was meanwhile."""
        meters = Meters(cluster, self.load)
        async with meters.watching_heartbeats():
            try:
                result = await self.load.order(do, on_said=meters.start, **plan)
            except BenchError as error:
                raise BenchError(f"{error}; {await cluster.condition()}") from None
            costs = await meters.stop()
        return result, costs, {"heartbeat_late_ms": meters.heartbeat_late_ms}


@dataclass(frozen=True)
class Workload:
    """``measure`` fills the cases with a run for each repeat."""

    name: str
    what: str
    measure: Callable[[Bench], Awaitable[list[Case]]]
    repeats_max: int = 100
