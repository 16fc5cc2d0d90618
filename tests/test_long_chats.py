"""A chat of ten times its model's context goes on, on real processes that are killed on the way.

``LONG_CHAT_TURNS=500 pytest tests/test_long_chats.py`` makes it as long as one likes.
"""

from __future__ import annotations

import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from cluster_processes import Cluster, Json, Process, follow

from chatcluster.client import Client
from chatcluster.client.chat_view import ChatView
from chatcluster.parts import Role

pytestmark = pytest.mark.cluster

TURNS = int(os.environ.get("LONG_CHAT_TURNS", "40"))
CONTEXT_TOKENS = 400
WORDS = 100
KILL_EVERY = 10
WAYS = ("openai", "anthropic", "too-large", "gemini", "vllm", "llamacpp")


@pytest.fixture
async def cluster(database_url: str, empty_redis_url: str, tmp_path: Path) -> AsyncIterator[Cluster]:
    async with Cluster(database_url, empty_redis_url, tmp_path) as cluster:
        yield cluster


async def at_rest(client: Client, chat_id: str, number: int, view: ChatView | None = None) -> Json:
    """The chat, once its ``number`` messages of the user are there and answered, or there is an error. ``view`` is
    what is known of it, so that a long chat is not read from its beginning for each of its turns."""

    def rests(view: ChatView) -> bool:
        if not (view.at_rest and view.messages):
            return False
        messages = view.messages.values()
        is_answered = view.status == "error" or next(reversed(messages)).role is not Role.USER
        return is_answered and sum(message.role is Role.USER for message in messages) == number

    await follow(client, chat_id, rests, view=view)
    chat: Json = await client.chat(chat_id)
    return chat


async def kill_owner(cluster: Cluster, chat: Json) -> Process:
    """Kill the chat's owner, and start another replica; a replica that lives."""
    owner = next((one for one in cluster.replicas if one.ready and one.worker_id == chat["worker_id"]), None)
    if owner is not None:
        owner.send(signal.SIGKILL)
        await owner.exit_code()
        await cluster.add(**SETTINGS).next_ready()
    return next(one for one in cluster.replicas if one.process.poll() is None)


SETTINGS = {"llm_context_tokens": CONTEXT_TOKENS}


def words_of(message: Json) -> str:
    return "".join(part.get("text", "") for part in message["parts"])


async def test_a_chat_of_ten_times_the_context_goes_on_through_kills(cluster: Cluster) -> None:
    """Nothing unanswered is lost, no prompt is longer than the context, and there is no spiral."""
    options = ("--context-tokens", str(CONTEXT_TOKENS), "--tokens-per-second", "0")
    await cluster.start(2, simulator=options, **SETTINGS)
    replica, chat_id, view = cluster.replicas[0], "", ChatView()
    for number in range(TURNS):
        is_killed = number % KILL_EVERY == KILL_EVERY - 1
        prompt = f"turn {number} [[tokens={WORDS} tps={200 if is_killed else 0}]]"
        async with cluster.client(replica) as client:
            chat = await (client.send(chat_id, prompt) if chat_id else client.create(prompt))
            chat_id = chat_id or chat["id"]
            if is_killed:
                await follow(client, chat_id, lambda view: view.status == "running" or view.at_rest)
                replica = await kill_owner(cluster, await client.chat(chat_id))
        async with cluster.client(replica) as client:
            assert (await at_rest(client, chat_id, number + 1, view))["status"] == "waiting"
    async with cluster.client(replica) as client:
        history = await client.history(chat_id)
    asked = [words_of(message).split(" [[")[0] for message in history if message["role"] == "user"]
    answers = [words_of(message) for message in history if message["role"] == "assistant" and words_of(message)]
    assert asked == [f"turn {number}" for number in range(TURNS)]
    assert answers == ["".join(f"w{index} " for index in range(WORDS))] * TURNS
    counts = await _health(cluster)
    assert counts["overflows"] == 0
    assert TURNS // 6 <= counts["summaries"] <= TURNS


async def _health(cluster: Cluster) -> Json:
    async with httpx.AsyncClient() as http:
        counts: Json = (await http.get(f"{cluster.simulator_url}/healthz")).json()
        return counts


async def test_a_provider_that_says_too_long_in_any_way_is_answered_by_one_summary(cluster: Cluster) -> None:
    await cluster.start(1, simulator=("--tokens-per-second", "0"))
    async with cluster.client(cluster.replicas[0]) as client:
        for way in WAYS:
            chat_id = (await client.create("hello [[tokens=50]]"))["id"]
            await at_rest(client, chat_id, 1)
            await client.send(chat_id, f"more [[too_long={way} tokens=3]]")
            chat = await at_rest(client, chat_id, 2)
            assert chat["status"] == "waiting", (way, chat["last_error"])
            history = await client.history(chat_id)
            kinds = [part["type"] for message in history for part in message["parts"]]
            assert kinds == ["text", "text", "text", "tool_call", "tool_result", "text"], way


async def test_a_chat_is_summarised_by_request_and_goes_on_from_there(cluster: Cluster) -> None:
    await cluster.start(1, simulator=("--tokens-per-second", "0"))
    async with cluster.client(cluster.replicas[0]) as client:
        chat_id = (await client.create("hello [[tokens=50]]"))["id"]
        await at_rest(client, chat_id, 1)
        await client.compact(chat_id)
        await follow(client, chat_id, lambda view: view.at_rest and len(view.messages) == 4)
        await client.send(chat_id, "what were you told? [[mode=request]]")
        await at_rest(client, chat_id, 2)
        told = words_of((await client.history(chat_id))[-1])
    assert "[summary 1: 2 messages, 0 steps taken]" in told
    assert "w49" not in told
