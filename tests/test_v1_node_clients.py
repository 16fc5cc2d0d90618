"""OpenAI's client for JavaScript, two majors, unmodified, against replicas of real processes (P1, P3).

Its ``.stream()`` helper keeps a snapshot of its own, and throws at any event that does not fit: it never does.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
import trio
from cluster_processes import Cluster
from node_clients import NodeClient, node_client, prepared_node
from test_ai_sdk_clients import words

pytestmark = pytest.mark.cluster

VERSIONS = ("openai6", "openai7")
Scene = Callable[[Cluster, NodeClient], Awaitable[None]]


@pytest.fixture
async def cluster(database_url: str, empty_redis_url: str, tmp_path: Path) -> AsyncIterator[Cluster]:
    async with Cluster(database_url, empty_redis_url, tmp_path) as cluster:
        yield await cluster.start(2, sse_heartbeat_seconds=3600)


def order_of(cluster: Cluster, one: int = 0, other: int = 1) -> dict[str, Any]:
    return {"url": cluster.replicas[one].url, "other": cluster.replicas[other].url, "token": cluster.token}


async def it_creates_retrieves_goes_on_and_deletes(cluster: Cluster, client: NodeClient) -> None:
    told = await client("whole", input="hi [[tokens=9]]", **order_of(cluster))
    assert (told["models"], told["made"]["status"], told["text"]) == (["simulated"], "completed", words(9))
    assert told["found"]["output"] == told["made"]["output"]
    assert (told["items"], told["gone"]) == (["hi [[tokens=9]]"], "NotFoundError")
    assert "w8" in told["next"]


async def what_follows_any_event_is_exactly_the_rest(cluster: Cluster, client: NodeClient) -> None:
    """Also where an attempt came to nothing in the middle."""
    told = await client("events", input="[[tokens=12 reasoning=3 cut_after=6 times=1]]", **order_of(cluster))
    made = told["made"]
    assert [event["sequence_number"] for event in made] == list(range(len(made)))
    assert told["again"] == made
    assert told["rests"] == [made[number + 1 :] for number in range(len(made))]


async def the_helper_never_throws(cluster: Cluster, client: NodeClient) -> None:
    cases = {
        "[[tokens=12 reasoning=3]]": ("completed", words(12)),
        "[[tokens=12 reasoning=3 cut_after=7 times=1]]": ("completed", words(12)),
        "[[tokens=3 finish=length]]": ("incomplete", words(3)),
        "[[fail=401]]": ("failed", ""),
        '[[call=spawn_agent {"prompt": "[[tokens=2]]"}]]': ("completed", None),
    }
    for asked, (status, text) in cases.items():
        told = await client("helper", input=asked, **order_of(cluster))
        assert told["response"]["status"] == status, asked
        assert text is None or told["text"] == text, asked
        assert told["rest"] == told["seen"] - 2


async def functions_are_called_by_the_client(cluster: Cluster, client: NodeClient) -> None:
    told = await client("functions", input='[[call=get_weather {"city": "Oslo"}]]', **order_of(cluster))
    assert (told["call"]["name"], told["call"]["arguments"]) == ("get_weather", '{"city": "Oslo"}')
    assert "12 degrees" in told["text"]


async def what_runs_in_the_background_is_cancelled(cluster: Cluster, client: NodeClient) -> None:
    told = await client("cancel", input="[[tokens=10000 tps=40]]", **order_of(cluster))
    assert (told["made"], told["status"], told["last"]) == ("queued", "cancelled", "response.incomplete")
    assert told["busy"] == {"name": "ConflictError", "code": "chat_busy"}
    assert told["tries"] == 1, "the client does not hammer"
    assert words(10000).startswith(told["text"])


async def errors_are_those_that_the_client_knows(cluster: Cluster, client: NodeClient) -> None:
    told = await client("errors", **order_of(cluster))
    assert (told["token"]["name"], told["token"]["code"]) == ("AuthenticationError", "invalid_api_key")
    assert (told["missing"]["name"], told["missing"]["code"]) == ("NotFoundError", "response_not_found")
    assert (told["refused"]["name"], told["refused"]["param"]) == ("BadRequestError", "tools")
    assert told["failed"]["status"] == "failed"
    assert "401" in told["failed"]["error"]["message"]


async def a_chat_completion_is_made_and_streamed(cluster: Cluster, client: NodeClient) -> None:
    told = await client("completion", input="[[tokens=7]]", **order_of(cluster))
    assert told["made"] == told["streamed"] == words(7)


async def test_what_a_program_does_with_the_client_it_does_here(cluster: Cluster) -> None:
    scenes: list[Scene] = [
        it_creates_retrieves_goes_on_and_deletes,
        what_follows_any_event_is_exactly_the_rest,
        the_helper_never_throws,
        functions_are_called_by_the_client,
        what_runs_in_the_background_is_cancelled,
        errors_are_those_that_the_client_knows,
        a_chat_completion_is_made_and_streamed,
    ]

    async def run(package: str) -> None:
        async with node_client("openai.mjs", package) as client:
            for scene in scenes:
                await scene(cluster, client)

    await trio.to_thread.run_sync(prepared_node)
    async with trio.open_nursery() as nursery:
        for package in VERSIONS:
            nursery.start_soon(run, package)
