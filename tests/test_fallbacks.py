"""Fall-backs on a real cluster: a provider that refuses, and one that breaks off, with what that costs."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from cluster_processes import Cluster, Json, follow

from chatcluster.client import Client

pytestmark = pytest.mark.cluster


@pytest.fixture
async def cluster(database_url: str, empty_redis_url: str, tmp_path: Path) -> AsyncIterator[Cluster]:
    async with Cluster(database_url, empty_redis_url, tmp_path) as cluster:
        yield await cluster.start(1, simulator=("--tokens-per-second", "0"))


async def answered(client: Client, prompt: str) -> Json:
    """The answer to a message in a chat of its own."""
    chat_id = (await client.create(prompt))["id"]
    await follow(client, chat_id, lambda view: view.at_rest)
    answer: Json = (await client.history(chat_id))[-1]
    return answer


async def test_a_chat_is_answered_where_its_model_is_refused_and_what_both_cost_is_booked(cluster: Cluster) -> None:
    url = f"{cluster.simulator_url}/v1"
    async with cluster.client(cluster.replicas[0]) as client:
        await client.admin.add_provider("cloud", base_url=url)
        await client.admin.add_provider("away", base_url=f"{cluster.simulator_url}/nowhere")
        price = {"output": 1_000_000}
        await client.admin.add_model("spare", provider="cloud", provider_model="spare-1", prices=price)
        await client.admin.add_model("lost", provider="away", provider_model="lost-1", prices=price)
        await client.admin.add_model(
            "main",
            provider="cloud",
            provider_model="main-1",
            fallbacks=["lost", "spare"],
            is_default=True,
            prices=price,
        )
        refused = await answered(client, "one [[fail=401 code=invalid_api_key times=1 tokens=3]]")
        broken_off = await answered(client, "two [[error_after=2 code=insufficient_quota times=1 tokens=3]]")
        usage = await client.admin.usage(group_by="model")
    texts = [[part["text"] for part in message["parts"]] for message in (refused, broken_off)]
    assert texts == [["w0 w1 w2 "]] * 2
    assert [message["model"] for message in (refused, broken_off)] == ["spare-1"] * 2
    booked = {group["key"]: group for group in usage["groups"]}
    assert set(booked) == {"main", "spare"}, "what was refused before it began costs nothing"
    assert booked["spare"]["output_tokens"] == 6
