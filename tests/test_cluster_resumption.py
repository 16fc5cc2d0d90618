"""Real processes are killed in mid-answer, and the next owner goes on with the very answer (P3, P4)."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import httpx
import msgspec
import pytest
import trio
from cluster_processes import WAIT_SECONDS, Cluster, Process, follow

from chatcluster.client import Client
from chatcluster.client.chat_view import ChatView
from chatcluster.parts import AttemptFrame, ResumedFrame, Role, text_of

pytestmark = pytest.mark.cluster

TOKENS = 60
SHOWN = 30
"""So many are shown when the owner is killed: more is not said in the first attempt, however late that is."""
WHOLE = "".join(f"w{index} " for index in range(TOKENS))

Start = Callable[[str], Awaitable[Cluster]]


@pytest.fixture
async def start(database_url: str, empty_redis_url: str, tmp_path: Path) -> AsyncIterator[Start]:
    """Starts three replicas whose model can do this with an answer that was begun."""
    async with AsyncExitStack() as clusters:

        async def start_cluster(continuation: str) -> Cluster:
            cluster = await clusters.enter_async_context(Cluster(database_url, empty_redis_url, tmp_path))
            await cluster.start(3, encryption_keys="MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=")
            kind = "openai-responses" if continuation == "background" else "openai"
            async with cluster.client(cluster.replicas[0]) as client:
                await client.admin.add_provider("sim", base_url=cluster.model_url, kind=kind, key="simulated")
                fields = {"provider": "sim", "provider_model": "simulated", "continuation": continuation}
                await client.admin.add_model("model", **fields)
            return cluster

        yield start_cluster


async def counts(cluster: Cluster) -> dict[str, Any]:
    async with httpx.AsyncClient() as http:
        told: dict[str, Any] = (await http.get(cluster.model_url.removesuffix("/v1") + "/healthz")).json()
    return told


class Watched(ChatView):
    """A view that remembers how attempts began."""

    def __init__(self) -> None:
        super().__init__()
        self.begun: list[str] = []

    def apply(self, cursor: str, event: Any) -> None:
        super().apply(cursor, event)
        if isinstance(event, AttemptFrame | ResumedFrame):
            self.begun.append("attempt" if isinstance(event, AttemptFrame) else event.how)


async def killed_in_mid_answer(cluster: Cluster) -> tuple[Watched, str]:
    """What a reader on another replica saw, and the answer that is history then."""
    async with cluster.client(cluster.replicas[0]) as client:
        prompt = f"[[tokens={TOKENS} tps=60 silence_after={SHOWN} times=1]]"
        chat = await client.create(prompt, model="model")
        owner = await owner_once_shown(cluster, client, chat["id"], SHOWN)
    view = Watched()
    survivor: Process = cluster.others(owner)[0]
    async with cluster.client(survivor) as client, trio.open_nursery() as nursery:

        async def read() -> None:
            await follow(client, chat["id"], lambda view: view.at_rest and len(view.messages) == 2, view=view)

        nursery.start_soon(read)
        owner.send(signal.SIGKILL)
    (answer,) = (message for message in view.messages.values() if message.role is Role.ASSISTANT)
    return view, text_of(answer.parts)


async def owner_once_shown(cluster: Cluster, client: Client, chat_id: str, tokens: int) -> Process:
    view = await follow(client, chat_id, lambda view: len(view.preview_text.split()) >= tokens)
    return cluster.owner_of({"worker_id": str(view.worker_id)})


async def test_p4_an_answer_in_the_background_is_attached_to_and_made_once(start: Start) -> None:
    cluster = await start("background")
    view, answer = await killed_in_mid_answer(cluster)
    assert answer == WHOLE
    assert view.begun == ["attempt", "attached"]
    told = await counts(cluster)
    assert (told["generations"], told["generated"]) == (1, TOKENS)


async def test_p3_a_model_goes_on_from_the_words_that_there_are(start: Start) -> None:
    cluster = await start("prefix")
    view, answer = await killed_in_mid_answer(cluster)
    assert answer == WHOLE
    assert view.begun == ["attempt", "continued"]
    told = await counts(cluster)
    assert told["generations"] == 2
    assert told["generated"] == TOKENS, "what was shown is not generated again"


async def test_p5_a_stop_after_the_takeover_cancels_the_answer_at_its_provider(start: Start) -> None:
    cluster = await start("background")
    async with cluster.client(cluster.replicas[0]) as client:
        chat = await client.create("[[tokens=10000 tps=20]]", model="model")
        owner = await owner_once_shown(cluster, client, chat["id"], 5)
    owner.send(signal.SIGKILL)
    async with cluster.client(cluster.others(owner)[0]) as client:
        await follow(client, chat["id"], lambda view: view.epoch == 2 and len(view.preview_text.split()) >= 10)
        await client.interrupt(chat["id"])
        view = await follow(client, chat["id"], lambda view: view.at_rest)
    (answer,) = (message for message in view.messages.values() if message.role is Role.ASSISTANT)
    assert text_of(answer.parts).startswith("w0 w1 w2 w3 w4 w5 w6 w7 w8 w9 ")
    with trio.fail_after(WAIT_SECONDS):
        while (told := await counts(cluster))["cancelled"] == 0:  # noqa: ASYNC110 - it is another process's
            await trio.sleep(0.05)
    assert told["generated"] < 10000


async def test_a_model_is_told_all_prompts_by_whatever_replica(start: Start) -> None:
    cluster = await start("none")
    async with cluster.client(cluster.replicas[0]) as client:
        await client.admin.set_system_prompt("Deployment.")
        await client.set_prompt("I am Ada.")
        assert (await client.admin.system_prompt(), await client.prompt()) == ("Deployment.", "I am Ada.")
        chat = await client.create("[[mode=request]]", model="model", system_prompt="Own.")
    for replica in cluster.replicas[1:]:
        async with cluster.client(replica) as client:
            view = await follow(client, chat["id"], lambda view: view.at_rest and len(view.messages) == 2)
            request = msgspec.json.decode(text_of(list(view.messages.values())[-1].parts))
            assert request["messages"][0] == {
                "role": "system",
                "content": "Deployment.\n\nOwn.\n\n<user-instructions>\nI am Ada.\n</user-instructions>",
            }
            assert (await client.chat(chat["id"]))["system_prompt"] == "Own."
