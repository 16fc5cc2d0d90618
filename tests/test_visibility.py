"""What is for the model alone is shown to nobody, whichever way one looks at a chat: system texts, what only a provider
understands, and the summary as the model is given it. The chat's own prompt is a field of the chat, for its owner."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import aclosing
from pathlib import Path
from uuid import UUID

import httpx
import pytest
import trio
from cluster_processes import WAIT_SECONDS, Cluster, follow

from chatcluster.client import Client
from chatcluster.client.chat_view import ChatView
from chatcluster.context import HEADING

pytestmark = pytest.mark.cluster
DEPLOYMENT, OWN, USER = "secret of the deployment", "secret of the chat", "secret of the user"
SEALED = "sealed-"
"""What the simulated provider signs its reasoning with."""
HIDDEN = (DEPLOYMENT, OWN, USER, SEALED, HEADING[:60])


@pytest.fixture
async def cluster(database_url: str, empty_redis_url: str, tmp_path: Path) -> AsyncIterator[Cluster]:
    key = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
    async with Cluster(database_url, empty_redis_url, tmp_path) as cluster:
        yield await cluster.start(1, simulator=("--tokens-per-second", "0"), encryption_keys=key)


async def told_chat(cluster: Cluster, client: Client) -> str:
    """A chat whose model was told all of it, thought, and summarised what was said."""
    await client.admin.add_provider("sim", base_url=cluster.model_url, kind="openai-responses", key="simulated")
    fields = {"provider": "sim", "provider_model": "simulated", "options": {"reasoning_effort": "low"}}
    await client.admin.add_model("model", **fields)
    await client.admin.set_system_prompt(DEPLOYMENT)
    await client.set_prompt(USER)
    chat_id: str = (await client.create("hello [[tokens=5 reasoning=3]]", system_prompt=OWN))["id"]
    await follow(client, chat_id, lambda view: view.at_rest and len(view.messages) == 2)
    await client.compact(chat_id)
    await follow(client, chat_id, lambda view: view.at_rest and len(view.messages) == 4)
    await client.send(chat_id, "what were you told? [[mode=request]]")
    await follow(client, chat_id, lambda view: view.at_rest and len(view.messages) == 6)
    return chat_id


async def streamed(client: Client, chat_id: str) -> str:
    view, said = ChatView(), ""
    with trio.fail_after(WAIT_SECONDS):
        async with aclosing(client.stream(chat_id)) as events:
            async for cursor, event in events:
                view.apply(cursor, event)
                said += repr(event)
                if view.at_rest and len(view.messages) == 6:
                    return said
    raise AssertionError("the stream ended")


async def test_what_is_for_the_model_alone_is_shown_to_nobody(cluster: Cluster) -> None:
    url = cluster.replicas[0].url
    async with cluster.client(cluster.replicas[0]) as client:
        chat_id = await told_chat(cluster, client)
        request = (await client.history(chat_id))[-1]["parts"][-1]["text"]
        assert all(text in request for text in (DEPLOYMENT, OWN, USER, HEADING[:60])), "the model was told"
        await client.edit(chat_id, (await client.history(chat_id))[4]["id"], "thank you [[tokens=3 reasoning=2]]")
        await follow(client, chat_id, lambda view: view.at_rest and len(view.messages) == 6)
        fork_id = (await client.fork(chat_id))["id"]
        looks = {"stream": await streamed(client, chat_id), "list": repr(await client.chats())}
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {cluster.token}"}) as http:
        for path in (
            f"/api/v1/chats/{chat_id}/messages",
            f"/api/v1/chats/{chat_id}/export?format=json",
            f"/api/v1/chats/{chat_id}/export?format=markdown",
            f"/api/v1/chats/{fork_id}/messages",
            f"/api/ai/chat/{chat_id}",
            f"/v1/conversations/conv_{UUID(chat_id).hex}/items",
        ):
            looks[path] = await _looked(http, f"{url}{path}")
        whole = await _looked(http, f"{url}/api/v1/chats/{chat_id}")
    for path, said in looks.items():
        assert not [text for text in HIDDEN if text in said], path
    assert [text for text in HIDDEN if text in whole] == [OWN], "the chat's own is its owner's to see"


async def _looked(http: httpx.AsyncClient, url: str) -> str:
    answer = await http.get(url)
    assert answer.status_code == 200, answer.text
    return answer.text
