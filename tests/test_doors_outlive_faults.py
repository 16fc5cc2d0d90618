"""Every published client, unmodified, with an answer that outlives six faults: what each ends up with is the history.

The owner is killed, drained and frozen, and so is the replica that serves the stream (P1, P3, P4, P6). The model falls
silent after some words of each attempt, until its client is gone: so each fault hits all clients in mid-answer, however
long it takes until they are there.
"""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest
import trio
from cluster_processes import WAIT_SECONDS, Cluster, Process
from door_callers import Addresses, Answer, Audience, Caller, published_clients, until
from test_ai_sdk_clients import plain, words

pytestmark = [
    pytest.mark.cluster,
    # A client whose connection breaks leaves its generators to the garbage collector.
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning"),
]

REASONING, WORDS = 2, 20
STEPS = (5, 10, 15, 20)
"""So many words each attempt says before it falls silent; the next one says all."""
SERVING: dict[str, Any] = {"slots": 0, "sse_heartbeat_seconds": 3600, "drain_notice_seconds": 0}
WORKING: dict[str, Any] = {"drain_seconds": 0.2, "drain_notice_seconds": 0}


def question_of(name: str) -> str:
    """An earlier block is for a later attempt, as the last one wins that is in force."""
    silences = [
        f"[[silence_after={REASONING + said} times={attempt}]]" for attempt, said in reversed([*enumerate(STEPS, 1)])
    ]
    return f"{name} [[tokens={WORDS} reasoning={REASONING} tps=0]] {' '.join(silences)}"


def new_in(attempt: int) -> str:
    """A word that the attempts before it did not say. The last ones of all may be held for what follows."""
    return f"w{STEPS[attempt - 1] - 3}"


@pytest.fixture
async def cluster(database_url: str, empty_redis_url: str, tmp_path: Path) -> AsyncIterator[Cluster]:
    """One replica that works, and those that own nothing and serve."""
    async with Cluster(database_url, empty_redis_url, tmp_path) as cluster:
        await cluster.start(1, **WORKING)
        serving = [cluster.add(**SERVING) for _ in range(4)]
        for replica in serving:
            await replica.next_ready()
        yield cluster


async def test_what_each_client_ends_up_with_is_the_history_whatever_dies_leaves_or_freezes(cluster: Cluster) -> None:
    _, *serving = cluster.replicas
    addresses = Addresses([replica.url for replica in (*serving, serving[-1])], cluster.token)
    answers: dict[str, Answer] = {}
    async with published_clients() as callers:
        audience = Audience(list(callers))

        async def ask(name: str, caller: Caller) -> None:
            def tell(text: str = "", at: int | None = None) -> None:
                audience.tell(name, text, at)

            answers[name] = await caller(addresses, question_of(name), tell)

        async with trio.open_nursery() as nursery:
            for name, caller in callers.items():
                nursery.start_soon(ask, name, caller)
            await six_faults(cluster, serving, audience)
    await all_is_as_history_says(cluster, addresses, answers)


async def six_faults(cluster: Cluster, serving: Sequence[Process], audience: Audience) -> None:
    owners = [cluster.replicas[0]]

    async def hit_owner(number: signal.Signals) -> None:
        owner, successor = owners[-1], cluster.add(**WORKING)
        await successor.next_ready()
        owners.append(successor)
        owner.send(number)

    async def nobody_notices(attempt: int, *, at: int) -> None:
        await audience.all_heard(new_in(attempt))
        assert set(audience.at.values()) == {at}

    await nobody_notices(1, at=0)
    await hit_owner(signal.SIGKILL)
    await nobody_notices(2, at=0)
    serving[0].send(signal.SIGKILL)
    await audience.all_at(1)
    await hit_owner(signal.SIGTERM)
    await nobody_notices(3, at=1)
    serving[1].send(signal.SIGTERM)
    await audience.all_at(2)
    await hit_owner(signal.SIGSTOP)
    await nobody_notices(4, at=2)
    serving[2].send(signal.SIGSTOP)
    await is_taken_for_dead(serving[2], serving[3], cluster)
    await hit_owner(signal.SIGKILL)
    await all_are_at_rest(serving[3], cluster, len(audience.at))
    serving[2].send(signal.SIGCONT)


async def is_taken_for_dead(frozen: Process, other: Process, cluster: Cluster) -> None:
    async def is_gone() -> bool:
        replicas = (await get(other, cluster, "/replicas"))["replicas"]
        return frozen.worker_id not in {one["worker_id"] for one in replicas}

    await until(is_gone)


async def all_are_at_rest(replica: Process, cluster: Cluster, count: int) -> None:
    async def rest() -> bool:
        chats = (await get(replica, cluster, "/chats?limit=100"))["chats"]
        assert len(chats) == count, "nothing was asked twice"
        return all(chat["status"] == "waiting" for chat in chats)

    await until(rest)


async def get(replica: Process, cluster: Cluster, path: str) -> Any:
    headers = {"Authorization": f"Bearer {cluster.token}"}
    async with httpx.AsyncClient(headers=headers, timeout=WAIT_SECONDS) as client:
        answer = await client.get(f"{replica.url}/api/v1{path}")
        assert answer.status_code == 200, answer.text
        return answer.json()


async def all_is_as_history_says(cluster: Cluster, addresses: Addresses, answers: Mapping[str, Answer]) -> None:
    url = addresses.urls[-1]
    headers = {"Authorization": f"Bearer {cluster.token}"}
    async with (
        httpx.AsyncClient(base_url=url, headers=headers, timeout=WAIT_SECONDS) as api,
        openai.AsyncOpenAI(base_url=f"{url}/v1", api_key=cluster.token) as client,
    ):
        for name, answer in answers.items():
            chat = (await api.get(f"/api/ai/chat/{answer.chat}")).json()
            messages = (await api.get(f"/api/v1/chats/{chat['id']}/messages")).json()["messages"]
            assert [one["role"] for one in messages] == ["user", "assistant"], name
            said = "".join(part["text"] for part in messages[1]["parts"] if part["type"] == "text")
            assert answer.text == said == words(WORDS), name
            if answer.parts:
                shown = chat["messages"][1]["parts"]
                assert [plain(one) for one in answer.parts] == [plain(one) for one in shown], name
            if answer.events:
                await events_are_those_of_all_replicas(client, answer.events)
        await what_follows_each_number_is_the_rest(client, answers["openai, raw"].events)


async def events_are_those_of_all_replicas(client: openai.AsyncOpenAI, events: Sequence[Any]) -> None:
    told = await events_of(client, events[0]["response"]["id"])
    for one, other in zip(events, told, strict=True):
        assert says_all_of(one, other), (one, other)


def says_all_of(one: Any, other: Any) -> bool:
    """Helpers add to what is told."""
    if isinstance(other, dict):
        return all(key in one and says_all_of(one[key], value) for key, value in other.items())
    if isinstance(other, list):
        return len(one) == len(other) and all(map(says_all_of, one, other))
    return bool(one == other)


async def what_follows_each_number_is_the_rest(client: openai.AsyncOpenAI, events: Sequence[Any]) -> None:
    """Across five owners."""
    for number in range(len(events)):
        rest = await events_of(client, events[0]["response"]["id"], starting_after=number)
        assert rest == events[number + 1 :], number


async def events_of(client: openai.AsyncOpenAI, response_id: str, **after: Any) -> list[Any]:
    stream: Any = await client.responses.retrieve(response_id, stream=True, **after)
    return [event.to_dict() async for event in stream]
