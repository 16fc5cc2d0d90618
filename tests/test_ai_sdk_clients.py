"""Vercel's AI SDK, versions 6 and 7, unmodified, against replicas of real processes (P1, P3).

What a page ends up with is what the history says, part by part.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import uuid4

import httpx
import pytest
import trio
from cluster_processes import WAIT_SECONDS, Cluster
from mcp_world import test_server
from node_clients import NodeClient, node_client, prepared_node

pytestmark = pytest.mark.cluster

VERSIONS = ("ai6", "ai7")
WEATHER = {"name": "get_weather", "parameters": {"type": "object", "properties": {"city": {"type": "string"}}}}


@pytest.fixture
async def cluster(database_url: str, empty_redis_url: str, tmp_path: Path) -> AsyncIterator[Cluster]:
    async with Cluster(database_url, empty_redis_url, tmp_path) as cluster:
        yield await cluster.start(2, sse_heartbeat_seconds=3600)


async def with_each_version(cluster: Cluster, *scenes: Callable[[Cluster, NodeClient], Awaitable[None]]) -> None:
    """Scenes of a page, one after the other, with both versions of the SDK at once."""

    async def run(package: str) -> None:
        async with node_client("ai_sdk.mjs", package) as page:
            for scene in scenes:
                await scene(cluster, page)

    await trio.to_thread.run_sync(prepared_node)
    async with trio.open_nursery() as nursery:
        for package in VERSIONS:
            nursery.start_soon(run, package)


def words(count: int) -> str:
    return "".join(f"w{number} " for number in range(count))


class Site:
    """Where a page asks: one replica, and another one to come back to."""

    def __init__(self, cluster: Cluster, one: int = 0, other: int = 1, chat: str | None = None) -> None:
        self.cluster = cluster
        self.chat = chat or f"chat/{uuid4().hex}"
        self.order: dict[str, Any] = {
            "id": self.chat,
            "url": cluster.replicas[one].url,
            "other": cluster.replicas[other].url,
            "token": cluster.token,
        }

    async def get(self, path: str) -> Any:
        alive = next(one for one in self.cluster.replicas if one.process.poll() is None)
        headers = {"Authorization": f"Bearer {self.cluster.token}"}
        async with httpx.AsyncClient(headers=headers, timeout=WAIT_SECONDS) as client:
            return (await client.get(f"{alive.url}{path}")).json()

    async def history(self) -> list[Any]:
        found: list[Any] = (await self.get(f"/api/ai/chat/{quote(self.chat, safe='')}"))["messages"]
        return found

    async def is_as_history_says(self, outcome: Any) -> None:
        """All parts, but for what only a page knows: its own IDs of what its user said."""
        told = [(one["role"], [plain(part) for part in one["parts"]]) for one in outcome["messages"]]
        history = await self.history()
        assert told == [(one["role"], [plain(part) for part in one["parts"]]) for one in history]
        answers = [one["id"] for one in outcome["messages"] if one["role"] == "assistant"]
        assert answers == [one["id"] for one in history if one["role"] == "assistant"]


def plain(part: Any) -> Any:
    """Without what the client keeps of a part besides what it says."""
    kept = ("type", "text", "state", "toolName", "toolCallId", "input", "output", "errorText", "providerExecuted")
    named = {key: part[key] for key in kept if part.get(key) is not None}
    if named["type"] == "text" and "state" not in part:
        return {"type": "text", "text": part["text"]}
    return named


async def it_asks_is_answered_and_asks_again(cluster: Cluster, page: NodeClient) -> None:
    site = Site(cluster)
    first = await page("send", text="hi [[tokens=24 reasoning=5]]", **site.order)
    assert (first["status"], first["error"], first["text"]) == ("ready", None, words(24))
    assert [part["type"] for part in first["messages"][1]["parts"]] == ["step-start", "reasoning", "text"]
    await site.is_as_history_says(first)
    only_last = {**site.order, "messages": first["messages"], "onlyLast": True}
    second = await page("send", text="[[tokens=3]]", **only_last)
    await site.is_as_history_says(second)
    assert (await page("resume", **{**site.order, "messages": second["messages"]}))["messages"] == second["messages"]
    nothing = await page("resume", **Site(cluster).order)
    assert (nothing["status"], nothing["error"], nothing["messages"]) == ("ready", None, [])


async def a_reload_in_mid_answer_ends_up_with_all_of_it_and_doubles_nothing(cluster: Cluster, page: NodeClient) -> None:
    site = Site(cluster)
    again = await page("reload", text="[[tokens=60 tps=40]]", **site.order)
    assert (again["stoppedAs"], again["status"], again["text"]) == ("ready", "ready", words(60))
    assert len(again["before"]) == len(again["messages"]) == 2
    await site.is_as_history_says(again)


async def only_the_route_to_stop_stops(cluster: Cluster, page: NodeClient) -> None:
    site = Site(cluster)
    stopped = await page("stop", text="[[tokens=10000 tps=40]]", **site.order)
    assert (stopped["answer"], stopped["status"], stopped["error"]) == ({"success": True}, "ready", None)
    assert words(10000).startswith(stopped["text"])
    assert stopped["text"] != words(10000)
    await site.is_as_history_says(stopped)


async def an_answer_is_asked_for_anew_and_a_question_is_changed(cluster: Cluster, page: NodeClient) -> None:
    site, other = Site(cluster), Site(cluster)
    again = await page("regenerate", text="[[tokens=4]]", **site.order)
    assert (again["text"], len(again["messages"])) == (words(4), 2)
    assert again["messages"][1]["id"] != again["first"][1]["id"]
    await site.is_as_history_says(again)
    changed = await page("edit", text="[[tokens=2]]", changed="[[tokens=6]]", **other.order)
    assert (changed["text"], len(changed["messages"])) == (words(6), 2)
    await other.is_as_history_says(changed)


async def an_error_is_one(cluster: Cluster, page: NodeClient) -> None:
    site = Site(cluster)
    failed = await page("send", text="[[fail=401]]", **site.order)
    assert failed["status"] == "error"
    assert "401" in failed["error"]
    wrong = await page("send", text="x", **{**site.order, "token": "ccl_wrong"})
    assert (wrong["status"], "invalid_token" in wrong["error"]) == ("error", True)
    refused = await page("send", text=" ", **Site(cluster).order)
    assert "content must not be empty" in refused["error"]
    busy = Site(cluster)
    first = await page("reload", text="[[tokens=10000 tps=50]]", **{**busy.order, "other": "http://127.0.0.1:9"})
    assert first["status"] == "error"
    second = await page("send", text="and?", **busy.order)
    assert "chat_busy" in second["error"]


async def its_own_tool_is_called_and_the_turn_goes_on(cluster: Cluster, page: NodeClient) -> None:
    site = Site(cluster)
    told = await page(
        "clientTool",
        text='[[call=get_weather {"city": "Oslo"}]]',
        output={"degrees": 12},
        body={"tools": [WEATHER]},
        **site.order,
    )
    assert (told["called"], told["status"], told["error"]) == (["get_weather"], "ready", None)
    assert '"degrees":12' in told["text"].replace(" ", "")
    await site.is_as_history_says(told)


async def the_clusters_tools_are_shown_as_they_run(cluster: Cluster, page: NodeClient) -> None:
    site = Site(cluster)
    asked = '[[call=spawn_agent {"prompt": "[[tokens=3]]"}]] [[step=2 call=wait_agent {"chat_id": "$agent1"}]]'
    told = await page("send", text=asked, **site.order)
    assert (told["status"], told["error"]) == ("ready", None)
    tools = [part["toolName"] for part in told["messages"][1]["parts"] if part["type"] == "dynamic-tool"]
    assert tools == ["spawn_agent", "wait_agent"]
    await site.is_as_history_says(told)


async def add_asking_server(cluster: Cluster, url: str) -> str:
    """A server of tools of which each call is approved by a person. Returns its slug."""
    slug = f"tools-{uuid4().hex[:8]}"
    body = {"slug": slug, "url": f"{url}/mcp", "approval": "ask"}
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {cluster.token}"}) as client:
        answer = await client.post(f"{cluster.replicas[0].url}/api/v1/admin/mcp-servers", json=body)
    assert answer.status_code == 201, answer.text
    return slug


async def a_person_is_asked_about_a_call(slug: str, cluster: Cluster, page: NodeClient) -> None:
    order: dict[str, Any] = {"text": f'[[call={slug}__weather {{"city": "Oslo"}}]]', "body": {"mcpServers": [slug]}}
    allowed, denied = Site(cluster), Site(cluster)
    told = await page("approve", approved=True, **order, **allowed.order)
    assert (told["asked"], told["status"], told["error"]) == ([f"{slug}__weather"], "ready", None)
    await allowed.is_as_history_says(told)
    told = await page("approve", approved=False, reason="Not there.", **order, **denied.order)
    assert [part["state"] for part in told["messages"][1]["parts"] if part["type"] == "dynamic-tool"] == [
        "output-denied"
    ]
    await denied.is_as_history_says(told)


@pytest.fixture
def tool_server() -> Iterator[str]:
    with test_server() as server:
        yield server.url


async def test_what_a_page_does_with_the_sdk_it_does_here(cluster: Cluster, tool_server: str) -> None:
    await with_each_version(
        cluster,
        it_asks_is_answered_and_asks_again,
        a_reload_in_mid_answer_ends_up_with_all_of_it_and_doubles_nothing,
        only_the_route_to_stop_stops,
        an_answer_is_asked_for_anew_and_a_question_is_changed,
        an_error_is_one,
        its_own_tool_is_called_and_the_turn_goes_on,
        the_clusters_tools_are_shown_as_they_run,
        partial(a_person_is_asked_about_a_call, await add_asking_server(cluster, tool_server)),
    )
