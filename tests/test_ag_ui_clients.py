"""AG-UI's client, unmodified, against replicas of real processes (P1, P3).

It checks the order of events, and keeps the messages: they are what the history says.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from cluster_processes import Cluster
from mcp_world import test_server
from node_clients import NodeClient, node_client
from test_ai_sdk_clients import Site, add_asking_server, words

pytestmark = pytest.mark.cluster

WEATHER = {"name": "get_weather", "description": "", "parameters": {"type": "object", "properties": {}}}


@pytest.fixture
async def cluster(database_url: str, empty_redis_url: str, tmp_path: Path) -> AsyncIterator[Cluster]:
    async with Cluster(database_url, empty_redis_url, tmp_path) as cluster:
        yield await cluster.start(2, sse_heartbeat_seconds=3600)


@pytest.fixture
async def page() -> AsyncIterator[NodeClient]:
    async with node_client("ag_ui.mjs", "@ag-ui/client") as client:
        yield client


def text_of(outcome: Any) -> str:
    return "".join(one.get("content") or "" for one in outcome["messages"] if one["role"] == "assistant")


async def it_asks_and_asks_again(cluster: Cluster, page: NodeClient) -> None:
    site = Site(cluster)
    first = await page("run", text="[[tokens=12 reasoning=3]]", **site.order)
    assert (first["failed"], first["outcome"], text_of(first)) == (None, "success", words(12))
    assert [one["role"] for one in first["messages"]] == ["user", "reasoning", "assistant"]
    assert (first["events"][0], first["events"][-1]) == ("RUN_STARTED", "RUN_FINISHED")
    second = await page("run", text="[[mode=request]]", **{**site.order, "messages": first["messages"]})
    assert "w11" in text_of(second)
    history = await site.history()
    assert [one["role"] for one in history] == ["user", "assistant"] * 2


async def who_comes_back_has_all_of_it_and_nothing_twice(cluster: Cluster, page: NodeClient) -> None:
    site = Site(cluster)
    told = await page("leave", text="[[tokens=60 tps=40]]", **site.order)
    assert text_of(told["left"]) != words(60)
    assert (told["failed"], told["outcome"], text_of(told)) == (None, "success", words(60))
    assert [one["role"] for one in told["messages"]] == ["user", "assistant"]
    assert [one["role"] for one in await site.history()] == ["user", "assistant"], "nothing was asked twice"
    again = await page("run", **{**site.order, "messages": told["messages"]})
    assert again["messages"] == told["messages"]


async def errors_are_its_own(cluster: Cluster, page: NodeClient) -> None:
    failed = await page("run", text="[[fail=401]]", **Site(cluster).order)
    assert (failed["failed"]["code"], "401" in failed["failed"]["message"]) == ("auth", True)
    wrong = await page("run", text="x", **{**Site(cluster).order, "token": "ccl_wrong"})
    assert (wrong["failed"]["status"], "invalid_token" in wrong["failed"]["message"]) == (401, True)
    empty = await page("run", text=" ", **Site(cluster).order)
    assert (empty["failed"]["status"], "must not be empty" in empty["failed"]["message"]) == (400, True)


async def a_tool_of_the_page_is_called_and_the_turn_goes_on(cluster: Cluster, page: NodeClient) -> None:
    site = Site(cluster)
    asked = '[[call=get_weather {"city": "Oslo"}]]'
    told = await page("pageTool", text=asked, output="12 degrees", tools=[WEATHER], **site.order)
    assert (told["asked"]["outcome"], told["call"]["function"]["name"]) == ("success", "get_weather")
    assert told["call"]["function"]["arguments"] == '{"city": "Oslo"}'
    assert (told["failed"], told["outcome"]) == (None, "success")
    assert "12 degrees" in text_of(told)
    assert [one["role"] for one in told["messages"]] == ["user", "assistant", "tool", "assistant"]


async def a_tool_of_the_cluster_is_shown(cluster: Cluster, page: NodeClient) -> None:
    asked = '[[call=spawn_agent {"prompt": "[[tokens=3]]"}]]'
    told = await page("run", text=asked, **Site(cluster).order)
    assert (told["failed"], told["outcome"]) == (None, "success")
    assert [one["role"] for one in told["messages"]] == ["user", "assistant", "tool", "assistant"]


async def a_person_is_asked_and_the_turn_goes_on(slug: str, cluster: Cluster, page: NodeClient) -> None:
    order: dict[str, Any] = {"text": f'[[call={slug}__weather {{"city": "Oslo"}}]]', "props": {"mcpServers": [slug]}}
    answer = {"status": "resolved", "payload": {"approved": True}}
    told = await page("approve", answer=answer, **order, **Site(cluster).order)
    (interrupt,) = told["asked"]["interrupts"]
    assert (told["asked"]["outcome"], interrupt["metadata"]["arguments"]) == ("interrupt", '{"city": "Oslo"}')
    assert (told["failed"], told["outcome"]) == (None, "success")
    assert "degrees" in next(one["content"] for one in told["messages"] if one["role"] == "tool")
    refused = await page("approve", answer={"status": "cancelled"}, **order, **Site(cluster).order)
    assert "denied" in next(one["content"] for one in refused["messages"] if one["role"] == "tool")


@pytest.fixture
def tool_server() -> Iterator[str]:
    with test_server() as server:
        yield server.url


async def test_what_a_page_does_with_the_client_it_does_here(
    cluster: Cluster, page: NodeClient, tool_server: str
) -> None:
    await it_asks_and_asks_again(cluster, page)
    await who_comes_back_has_all_of_it_and_nothing_twice(cluster, page)
    await errors_are_its_own(cluster, page)
    await a_tool_of_the_page_is_called_and_the_turn_goes_on(cluster, page)
    await a_tool_of_the_cluster_is_shown(cluster, page)
    slug = await add_asking_server(cluster, tool_server)
    await a_person_is_asked_and_the_turn_goes_on(slug, cluster, page)
