"""``/mcp`` with the protocol's own client for JavaScript, as it is published."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from cluster_processes import Cluster
from node_clients import node_client

pytestmark = pytest.mark.cluster

SDK = "@modelcontextprotocol/sdk/client/index.js"


def words(count: int) -> str:
    return "".join(f"w{number} " for number in range(count))


@pytest.fixture
async def cluster(database_url: str, empty_redis_url: str, tmp_path: Path) -> AsyncIterator[Cluster]:
    async with Cluster(database_url, empty_redis_url, tmp_path) as cluster:
        yield await cluster.start(2)


async def test_chats_are_tools(cluster: Cluster) -> None:
    serving, _ = cluster.replicas
    at: dict[str, Any] = {"url": serving.url, "token": cluster.token}
    async with node_client("mcp.mjs", SDK) as client:
        assert "chat_wait" in await client("tools", **at)
        told = await client("ask", **at, content="[[tokens=5]]")
        assert (told["status"], told["text"], told["roles"]) == ("waiting", words(5), ["user", "assistant"])
        assert "chats_list" in await client("mistaken", **at)
        assert "token is not valid" in await client("refused", url=serving.url, token="ccl_wrong")


async def test_a_call_outlives_the_replica_that_serves_it_and_its_client_does_nothing_for_it(cluster: Cluster) -> None:
    """P1, P4: the client goes on by itself, with the ID of the first event, at whichever replica takes it."""
    serving, other = cluster.replicas
    progress: list[float] = []

    async def kill(told: Any) -> None:
        progress.append(told["progress"])
        if "characters" in told["message"]:
            serving.send(signal.SIGKILL)

    at: dict[str, Any] = {"url": serving.url, "other": other.url, "token": cluster.token}
    async with node_client("mcp.mjs", SDK) as client:
        told = await client("outlive", **at, content="[[tokens=60 tps=40]] [[silence_after=5 times=1]]", on_told=kill)
    assert (told["status"], told["text"]) == ("waiting", words(60))
    assert told["asked"] == ["POST", "GET"]
    assert progress == sorted(progress), "it goes on from where it was"
