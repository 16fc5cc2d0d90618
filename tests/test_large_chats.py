"""P10: one huge chat, or a full queue, read by many, neither stalls a replica nor fills its memory. On a replica of its
own, which measures itself."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
import trio
from chaos.vitals import MEMORY_BYTES_MAX, STEP_SECONDS_MAX, Vitals
from cluster_processes import Cluster, Process, connected, run_sql

from chatcluster.chat import QUEUE_MESSAGES_MAX

pytestmark = [pytest.mark.cluster, pytest.mark.postgres, pytest.mark.redis]

PATIENCE_SECONDS = 300.0
INSERT_MESSAGES = """
    INSERT INTO messages (chat_id, revision, role, content)
    SELECT id, history_version, 'user', json_build_array(json_build_object('type', 'text', 'text', repeat($1, $2)))
    FROM chats, generate_series(1, $3)
"""
LONG_ENOUGH = "hello " * 2_000
"""No short history, which a replica keeps whole while it has readers: what is inserted here is told by no version."""
SHAPES = {
    "100 MB in large messages": ("lorem ipsum ", 43_000, 200, 6),
    "20 000 small messages": ("lorem ipsum ", 10, 20_000, 20),
    "8 MB in one message": ("lorem ipsum ", 700_000, 3, 20),
    "2 MB in one message, all of it escaped": ("\n", 990_000, 3, 20),
    "100 MB in one message": ("lorem ipsum ", 8_700_000, 1, 3),
    "characters that are escaped": ('"\n\x01\U0001f600', 100_000, 30, 20),
}
"""What each message says, how often, in how many messages; and by how many it is read. Six copies of 100 MB are twice
what a replica may hold, and one in three forms is as much."""

QUEUE_READERS = 20


@pytest.fixture
async def cluster(database_url: str, redis_url: str, tmp_path: Path) -> AsyncIterator[Cluster]:
    async with Cluster(database_url, redis_url, tmp_path, anew=True) as cluster:
        yield await cluster.start(1, loop_watch=True)


async def vitals_of(replica: Process) -> Vitals:
    vitals = Vitals()
    async with httpx.AsyncClient() as http:
        vitals.take((await http.get(f"{replica.url}/metrics")).text)
    return vitals


@pytest.mark.parametrize("shape", SHAPES)
async def test_p10_a_huge_chat_with_many_readers_neither_stalls_its_replica_nor_fills_its_memory(
    cluster: Cluster, database_url: str, shape: str
) -> None:
    words, times, count, readers = SHAPES[shape]
    (replica,) = cluster.replicas
    async with cluster.client(replica) as client:
        chat_id = (await client.create(LONG_ENOUGH))["id"]
        await _until_at_rest(replica, cluster.token, chat_id)
        await run_sql(database_url, INSERT_MESSAGES, words, times, count)

        async def read() -> None:
            """As every client does, from its cursor on where it is broken off: a busy machine may refuse a page."""
            messages, cursor, told = 0, None, False
            while not told:
                async with connected(replica.url, cluster.token, chat_id, cursor) as events:
                    async for event_id, event in events:
                        cursor = event_id
                        messages += event["type"] == "message"
                        if told := event["type"] == "queue":
                            break
            assert messages == count + 2

        with trio.fail_after(PATIENCE_SECONDS):
            async with trio.open_nursery() as nursery:
                for _ in range(readers):
                    nursery.start_soon(read)
                nursery.start_soon(_list, replica, cluster.token, chat_id, count + 2)
    await _require_good_health(replica)


async def test_p10_a_queue_that_is_full_and_its_many_readers_harm_their_replica_as_little(cluster: Cluster) -> None:
    (replica,) = cluster.replicas
    async with cluster.client(replica) as client:
        chat_id = (await client.create("[[tokens=100000 tps=5]]"))["id"]
        queued = await _fill_queue(replica, cluster.token, chat_id)
        assert queued > 5

        async def read() -> None:
            async with connected(replica.url, cluster.token, chat_id) as events:
                async for _, event in events:
                    if event["type"] == "queue":
                        assert len(event["queue"]) == queued
                        return

        with trio.fail_after(PATIENCE_SECONDS):
            async with trio.open_nursery() as nursery:
                for _ in range(QUEUE_READERS):
                    nursery.start_soon(read)
    await _require_good_health(replica)


async def _require_good_health(replica: Process) -> None:
    vitals = await vitals_of(replica)
    assert vitals.memory_bytes_max > 0, "it measures itself"
    assert vitals.memory_bytes_max <= MEMORY_BYTES_MAX
    assert vitals.step_seconds_max <= STEP_SECONDS_MAX


async def _fill_queue(replica: Process, token: str, chat_id: str) -> int:
    """Send long messages to a busy chat until its queue is full: how many it took."""
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {token}"}, timeout=PATIENCE_SECONDS) as http:
        for count in range(QUEUE_MESSAGES_MAX):
            message = {"content": "lorem ipsum " * 43_000}
            answer = await http.post(f"{replica.url}/api/v1/chats/{chat_id}/messages", json=message)
            if answer.status_code == 409:
                assert answer.json()["error"]["code"] == "queue_full"
                return count
            assert answer.status_code == 202
    return QUEUE_MESSAGES_MAX


async def _until_at_rest(replica: Process, token: str, chat_id: str) -> None:
    async with connected(replica.url, token, chat_id) as events:
        async for _, event in events:
            if event["type"] == "status" and event["status"] == "waiting":
                return


async def _list(replica: Process, token: str, chat_id: str, count: int) -> None:
    """All pages, by the listing."""
    seen, after, has_more = 0, 0, True
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {token}"}, timeout=PATIENCE_SECONDS) as http:
        while has_more:
            answer = await http.get(f"{replica.url}/api/v1/chats/{chat_id}/messages?after={after}&limit=500")
            if answer.status_code in (429, 503):  # a busy machine may refuse a page
                await trio.sleep(0.1)
                continue
            page = answer.raise_for_status().json()
            seen += len(page["messages"])
            after, has_more = page["messages"][-1]["id"], page["has_more"]
    assert seen == count
