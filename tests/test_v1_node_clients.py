"""OpenAI's client for JavaScript, two majors, unmodified, against replicas of real processes that are killed (P1, P3).

Its ``.stream()`` helper keeps a snapshot of its own, and throws at any event that does not fit: it never does.
"""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from cluster_processes import WAIT_SECONDS, Cluster, Process
from node_clients import NodeClient, node_client, prepared_node
from test_ai_sdk_clients import UNFINISHED, words

pytestmark = pytest.mark.cluster

VERSIONS = ("openai6", "openai7")
GONE: list[Process] = []
"""Replicas that were drained or frozen: their processes may be there."""
Scene = Callable[[Cluster, NodeClient], Awaitable[None]]


@pytest.fixture
async def cluster(database_url: str, empty_redis_url: str, tmp_path: Path) -> AsyncIterator[Cluster]:
    async with Cluster(database_url, empty_redis_url, tmp_path) as cluster:
        yield await cluster.start(3, sse_heartbeat_seconds=3600)


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


@pytest.mark.parametrize("package", VERSIONS)
async def test_p3_p4_what_serves_the_helper_is_killed_and_then_the_owner_and_it_ends_up_with_the_history(
    cluster: Cluster, package: str
) -> None:
    async with node_client("openai.mjs", package) as client:
        serving = cluster.replicas[0]

        async def kill_serving(_: Any) -> None:
            serving.send(signal.SIGKILL)

        told = await client("follow", input="[[tokens=80 tps=20]]", on_told=kill_serving, **order_of(cluster))
        assert told["broke"] is not None, "never a clean end in the middle"
        await is_as_history_says(cluster, told)

        async def kill_owner(response_id: Any) -> None:
            (await owner_of(cluster, response_id)).send(signal.SIGKILL)

        await reads_on_while_the_owner_dies(cluster, client, kill_owner)


@pytest.mark.parametrize("package", VERSIONS)
async def test_p6_what_serves_the_helper_is_drained_and_then_the_owner_freezes_and_it_ends_up_with_the_history(
    cluster: Cluster, package: str
) -> None:
    async with node_client("openai.mjs", package) as client:

        async def drain_serving(_: Any) -> None:
            GONE.append(cluster.replicas[0])
            cluster.replicas[0].send(signal.SIGTERM)

        told = await client("follow", input="[[tokens=80 tps=40]]", on_told=drain_serving, **order_of(cluster))
        await is_as_history_says(cluster, told)
        reader = cluster.add(slots=0)
        await reader.next_ready()

        async def freeze_owner(response_id: Any) -> None:
            GONE.append(await owner_of(cluster, response_id))
            GONE[-1].send(signal.SIGSTOP)

        order = {"url": reader.url, "other": reader.url, "token": cluster.token}
        told = await client("follow", input=UNFINISHED, on_told=freeze_owner, **order)
        assert told["broke"] is None, "what serves the stream is well"
        await is_as_history_says(cluster, told)


async def reads_on_while_the_owner_dies(
    cluster: Cluster, client: NodeClient, kill: Callable[[Any], Awaitable[None]]
) -> None:
    """Which of the two has the chat is not known before: where it is what is read from, the other one is read then."""
    told = await client("follow", input=UNFINISHED, on_told=kill, **order_of(cluster, 1, 2))
    await is_as_history_says(cluster, told)


async def get(cluster: Cluster, path: str) -> Any:
    alive = next(one for one in cluster.replicas if one not in GONE and one.process.poll() is None)
    headers = {"Authorization": f"Bearer {cluster.token}"}
    async with httpx.AsyncClient(headers=headers, timeout=WAIT_SECONDS) as client:
        return (await client.get(f"{alive.url}{path}")).json()


async def owner_of(cluster: Cluster, response_id: str) -> Process:
    chat_id = (await get(cluster, f"/v1/responses/{response_id}"))["chat_id"]
    return cluster.owner_of(await get(cluster, f"/api/v1/chats/{chat_id}"))


async def is_as_history_says(cluster: Cluster, told: Any) -> None:
    assert told["last"]["type"] == "response.completed"
    (item,) = told["last"]["response"]["output"]
    messages = await get(cluster, f"/api/v1/chats/{told['last']['response']['chat_id']}/messages")
    assert item["content"][0]["text"] == words(80) == messages["messages"][-1]["parts"][0]["text"]
    assert told["again"] == told["seen"], "each event once, in order"
