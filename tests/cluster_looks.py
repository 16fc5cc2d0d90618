"""What a test asks a replica of a cluster again and again, until it is so: no event tells of it."""

from __future__ import annotations

from typing import Any

import httpx
import trio
from cluster_processes import WAIT_SECONDS, Cluster, Process


async def is_taken_for_dead(frozen: Process, other: Process, cluster: Cluster) -> None:
    with trio.fail_after(WAIT_SECONDS):
        while True:
            alive = {one["worker_id"] for one in (await get(other, cluster, "/replicas"))["replicas"]}
            if frozen.worker_id not in alive:
                return
            await trio.sleep(0.1)


async def all_are_at_rest(replica: Process, cluster: Cluster, count: int) -> None:
    with trio.fail_after(WAIT_SECONDS):
        while True:
            chats = (await get(replica, cluster, "/chats?limit=100"))["chats"]
            assert len(chats) == count, "nothing was asked twice"
            if all(chat["status"] == "waiting" for chat in chats):
                return
            await trio.sleep(0.1)


async def get(replica: Process, cluster: Cluster, path: str) -> Any:
    headers = {"Authorization": f"Bearer {cluster.token}"}
    async with httpx.AsyncClient(headers=headers, timeout=WAIT_SECONDS) as client:
        answer = await client.get(f"{replica.url}/api/v1{path}")
        assert answer.status_code == 200, answer.text
        return answer.json()
