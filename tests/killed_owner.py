"""The death of a chat's owner, in a cluster of two replicas as chaos runs it."""

from __future__ import annotations

import random
import signal

from chaos.api import Api
from chaos.cluster import Cluster
from chaos.fleet import Fleet


async def kill(cluster: Cluster, worker_id: str) -> None:
    api = Api(cluster.url, cluster.token, random.Random())
    try:
        fleet = Fleet(api, size=2)
        await fleet.ready()
        owner = fleet.owner(worker_id)
        assert owner is not None
        await fleet.signal(owner, await fleet.process(owner), signal.SIGKILL)
    finally:
        await api.aclose()
