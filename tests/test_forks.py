"""Forks: a chat of its own with the whole turns of another one up to some point (P1, P9), in both stores."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
import trio
from click.testing import CliRunner
from cluster_processes import WAIT_SECONDS, Cluster
from web_world import World, client_of, error_code

from chatcluster.chat import Fence, FinishTurn
from chatcluster.cli.commands import commands
from chatcluster.parts import NewMessage, Role, TextPart
from chatcluster.ports import Replica

Json = dict[str, Any]


def words(count: int) -> str:
    return "".join(f"w{number} " for number in range(count))


@pytest.fixture
async def cluster(database_url: str, empty_redis_url: str, tmp_path: Path) -> AsyncIterator[Cluster]:
    async with Cluster(database_url, empty_redis_url, tmp_path) as cluster:
        yield await cluster.start(2)


def told(history: list[Json]) -> list[tuple[str, Any]]:
    return [(one["role"], one["parts"]) for one in history]


@pytest.mark.cluster
async def test_a_fork_has_the_whole_turns_up_to_a_message_and_goes_its_own_way(cluster: Cluster) -> None:
    async with cluster.client(cluster.replicas[0]) as client, cluster.client(cluster.replicas[1]) as other:
        chat = await client.create("[[tokens=3]]", title="Trip", system_prompt="Be kind.")
        await rested(client, chat["id"])
        await client.send(chat["id"], "[[tokens=5]]")
        await rested(client, chat["id"])
        history = await client.history(chat["id"])
        fork = await other.fork(chat["id"], history[1]["id"], key="fork-1")
        assert (fork["status"], fork["title"], fork["id"] != chat["id"]) == ("waiting", "Trip", True)
        assert told(await other.history(fork["id"])) == told(history[:2])
        assert (await client.fork(chat["id"], history[1]["id"], key="fork-1"))["id"] == fork["id"], "a repeat"
        assert told(await client.history((await client.fork(chat["id"]))["id"])) == told(history)
        assert (await client.chat(fork["id"]))["system_prompt"] == "Be kind."
        server = ["--url", cluster.replicas[0].url, "--token", cluster.token]
        command = ["fork", chat["id"], str(history[1]["id"]), *server]
        typed = await trio.to_thread.run_sync(lambda: CliRunner().invoke(commands, command))
        assert typed.exit_code == 0, typed.output
        assert told(await client.history(typed.output.split()[0])) == told(history[:2])
        await client.send(fork["id"], "[[mode=request]]")
        await rested(client, fork["id"])
        (*_, answer) = await client.history(fork["id"])
        assert "w2" in answer["parts"][0]["text"]
        assert "w4" not in answer["parts"][0]["text"], "of the turn that it does not have"
        assert told(await client.history(chat["id"])) == told(history), "the original is what it was"
        await client.delete(chat["id"])
        assert len(await client.history(fork["id"])) == 4, "and may go"


async def rested(client: Any, chat_id: str) -> None:
    """By the database: a stream may begin with a status from before the message that was just sent."""
    with trio.fail_after(WAIT_SECONDS):
        while (await client.chat(chat_id))["status"] != "waiting":  # noqa: ASYNC110 - it is in another process
            await trio.sleep(0.02)


async def made(client: httpx.AsyncClient, world: World, *answers: str) -> str:
    chat_id = ""
    for number, text in enumerate(answers):
        if not chat_id:
            chat_id = (await client.post("/api/v1/chats", json={"content": "hi"})).json()["id"]
        else:
            await client.post(f"/api/v1/chats/{chat_id}/messages", json={"content": f"hi {number}"})
        await answer(world, text)
    return chat_id


async def answer(world: World, text: str) -> None:
    """The answer of a replica that claims the chat."""
    replica = Replica(uuid4(), "one", "one:1", "1.0", slots=8)
    await world.registry.register(replica)
    (claimed,) = await world.store.claim(replica.worker_id, free_slots=8, batch=8)
    chat = claimed.chat
    fence = Fence(chat.id, replica.worker_id, chat.epoch, chat.history_version)
    await world.store.commit(fence, FinishTurn((NewMessage(Role.ASSISTANT, (TextPart(text),), "stop"),)))
    await world.registry.retire(replica.worker_id)


async def test_a_message_within_a_turn_is_refused_and_those_nearby_are_named() -> None:
    world = World()
    async with client_of(world) as client:
        chat_id = await made(client, world, "one", "two")
        ids = [one["id"] for one in (await client.get(f"/api/v1/chats/{chat_id}/messages")).json()["messages"]]
        path = f"/api/v1/chats/{chat_id}/fork"
        refused = await client.post(path, json={"message_id": ids[2]})
        assert (refused.status_code, error_code(refused)) == (409, "not_turn_end")
        assert (refused.json()["error"]["before"], refused.json()["error"]["after"]) == (ids[1], ids[3])
        before = world.written()
        unknown = await client.post(path, json={"message_id": 10_000})
        assert (unknown.status_code, error_code(unknown)) == (404, "message_not_found")
        wrong = await client.post(path, json={"message_id": "x"})
        assert (wrong.status_code, error_code(wrong)) == (400, "invalid_request")
        assert world.written() == before
        assert (await client.post(path)).status_code == 201
        async with world.client(await world.token("eve")) as eve:
            stolen = await eve.post(path, json={"message_id": ids[1]})
            assert (stolen.status_code, error_code(stolen)) == (404, "chat_not_found")


async def test_a_turn_under_way_is_left_behind() -> None:
    world = World()
    async with client_of(world) as client:
        chat_id = await made(client, world, "one")
        await client.post(f"/api/v1/chats/{chat_id}/messages", json={"content": "more"})
        fork = (await client.post(f"/api/v1/chats/{chat_id}/fork")).json()
        assert fork["status"] == "waiting"
        messages = (await client.get(f"/api/v1/chats/{fork['id']}/messages")).json()["messages"]
        assert [one["role"] for one in messages] == ["user", "assistant"]


async def test_a_history_that_is_too_long_is_refused_before_anything_is_written() -> None:
    world = World(history_bytes_max=64 << 10)
    async with client_of(world) as client:
        chat_id = await made(client, world, "x" * (65 << 10))
        before = world.written()
        refused = await client.post(f"/api/v1/chats/{chat_id}/fork")
        assert (refused.status_code, error_code(refused)) == (409, "chat_full")
        assert world.written() == before
