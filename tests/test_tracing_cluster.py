"""Real replicas, one of which is killed in mid-answer, tell a real endpoint of one turn (see ``tracing/spans.py``)."""

from __future__ import annotations

import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from cluster_processes import WAIT_SECONDS, Cluster, follow
from span_receiver import Receiver, attributes_of, open_receiver

pytestmark = pytest.mark.cluster
LOOK_SECONDS = 0.1


@pytest.fixture
async def receiver(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Receiver]:
    with open_receiver() as receiver:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", receiver.url.removesuffix("/v1/traces"))
        yield receiver


@pytest.fixture
async def cluster(
    receiver: Receiver, database_url: str, empty_redis_url: str, tmp_path: Path
) -> AsyncIterator[Cluster]:
    async with Cluster(database_url, empty_redis_url, tmp_path) as cluster:
        yield cluster


async def test_a_turn_whose_owner_was_killed_is_one_trace(cluster: Cluster, receiver: Receiver) -> None:
    await cluster.start(2)
    reader, _ = cluster.replicas
    async with cluster.client(reader) as client:
        chat_id = (await client.create("[[tokens=40 tps=40 silence_after=39 times=1]]"))["id"]
        view = await follow(client, chat_id, lambda view: bool(view.preview_text))
        owner = cluster.owner_of({"worker_id": str(view.worker_id)})
        owner.send(signal.SIGKILL)
    (alive,) = cluster.others(owner)
    async with cluster.client(alive) as client:
        await follow(client, chat_id, lambda view: view.at_rest and len(view.messages) == 2)
    with trio.fail_after(WAIT_SECONDS):
        while not (roots := [span for span in receiver.spans if not span.parent_span_id]):  # noqa: ASYNC110
            await trio.sleep(LOOK_SECONDS)
    (turn,) = roots
    (attempt,) = [span for span in receiver.spans if span.parent_span_id]
    assert (turn.name, attempt.name) == ("invoke_agent chatcluster", "chat simulated")
    assert (attempt.trace_id, attempt.parent_span_id) == (turn.trace_id, turn.span_id)
    assert turn.start_time_unix_nano <= attempt.start_time_unix_nano < attempt.end_time_unix_nano
    told = attributes_of(turn)
    assert (told["gen_ai.conversation.id"], told["chatcluster.outcome"]) == (chat_id, "finished")
    assert told["chatcluster.takeovers"] == attributes_of(attempt)["chatcluster.takeovers"] == 1
    assert told["gen_ai.usage.output_tokens"] == attributes_of(attempt)["gen_ai.usage.output_tokens"] == 40
