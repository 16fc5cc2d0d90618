"""``/mcp`` with the protocol's own client for JavaScript, as it is published."""

from __future__ import annotations

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
        yield await cluster.start(1)


async def test_chats_are_tools(cluster: Cluster) -> None:
    (serving,) = cluster.replicas
    at: dict[str, Any] = {"url": serving.url, "token": cluster.token}
    async with node_client("mcp.mjs", SDK) as client:
        assert "chat_wait" in await client("tools", **at)
        told = await client("ask", **at, content="[[tokens=5]]")
        assert (told["status"], told["text"], told["roles"]) == ("waiting", words(5), ["user", "assistant"])
        assert "chats_list" in await client("mistaken", **at)
        assert "token is not valid" in await client("refused", url=serving.url, token="ccl_wrong")
