"""A cluster whose model sees: it fills in a form in a real browser on the screen of a workspace, its owner is killed
while it types, and the page says what was done to it."""

from __future__ import annotations

import json
import shutil
from collections.abc import AsyncIterator
from contextlib import aclosing, asynccontextmanager

import httpx
import pytest
import trio
from chaos.cluster import Cluster, open_cluster
from chaos.options import ClusterOptions, Options
from killed_owner import kill
from seeing_model import NAME, SeeingModel, seeing_model

from chatcluster.client.chat_view import ChatView
from chatcluster.client.workspaces import WorkspaceClient
from chatcluster.parts import ToolResultPart
from chatcluster.workspaces.host.packages import missing_for_desktop
from chatcluster.workspaces.sandbox import can_sandbox

MISSING = [*missing_for_desktop(), *(["chromium"] if shutil.which("chromium") is None else [])]
pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(can_sandbox() is not None, reason=str(can_sandbox())),
    pytest.mark.skipif(bool(MISSING), reason=f"a browser on a screen needs {', '.join(MISSING)}"),
]
SECONDS_MAX = 240.0
LOOK_SECONDS = 0.2


@asynccontextmanager
async def cluster_of(model: SeeingModel) -> AsyncIterator[Cluster]:
    arguments = ("--workspaces", f"--llm-base-url={model.url}", "--llm-model=seeing", "--llm-api-key=none")
    async with open_cluster(Options(cluster=ClusterOptions(replicas=2, up_arguments=arguments))) as cluster:
        yield cluster


async def followed(client: WorkspaceClient, chat_id: str, message_id: int, view: ChatView) -> None:
    """Until the chat rests behind the message."""
    async with aclosing(client.stream(chat_id)) as events:
        async for cursor, event in events:
            view.apply(cursor, event)
            if view.ready and view.at_rest and max(view.messages, default=0) > message_id:
                return


async def typing_is_seen(cluster: Cluster, chat_id: str, model: SeeingModel) -> None:
    """The screen, as those see it who look on: it changes while the model types."""
    while not model.is_typing.is_set():  # noqa: ASYNC110 - in a thread
        await trio.sleep(LOOK_SECONDS)
    tags: set[str] = set()
    url = f"{cluster.url}/api/v1/chats/{chat_id}/workspace/screen"
    async with httpx.AsyncClient(headers={"Authorization": f"Bearer {cluster.token}"}, trust_env=False) as client:
        while len(tags) < 3:
            picture = await client.get(url)
            picture.raise_for_status()
            assert picture.content.startswith(b"\x89PNG")
            tags.add(picture.headers["etag"])
            await trio.sleep(LOOK_SECONDS)


async def test_p7_a_form_is_filled_in_once_though_its_owner_is_killed_while_it_types() -> None:
    view = ChatView()
    with trio.fail_after(SECONDS_MAX), seeing_model() as model:
        async with cluster_of(model) as cluster, (client := WorkspaceClient(cluster.url, cluster.token)):
            limits = {"memory_bytes_max": 2 << 30, "processes_max": 1000}
            await client.put_template("screen", desktop=True, limits=limits)
            chat_id = (await client.create())["id"]
            sent = await client.send(chat_id, "Fill in the form.")
            async with trio.open_nursery() as nursery:
                nursery.start_soon(followed, client, chat_id, sent["message"]["id"], view)
                await typing_is_seen(cluster, chat_id, model)
                await kill(cluster, str(view.worker_id))
    results = [part for message in view.messages.values() for part in message.parts if isinstance(part, ToolResultPart)]
    assert not any(result.is_error for result in results), [result.text for result in results]
    (said,) = json.loads(results[-1].text)["content"].splitlines()
    assert json.loads(said) == {"name": NAME, "clicks": ["name", "agreed", "send"]}, "each was done once, and whole"
    assert view.epoch > 1, "by two owners"
