"""The client that README shows, line by line as it stands there, against a cluster that loses what serves it."""

from __future__ import annotations

import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import pytest
import trio
from cluster_processes import WAIT_SECONDS, Cluster, Process

pytestmark = pytest.mark.cluster

HERE = Path(__file__).parent
BLOCK = re.compile(r"<!-- a client: .*? -->\n```python\n(.*?)```", re.DOTALL)
TOKENS = 60


def lines_of_readme() -> str:
    found = BLOCK.search((HERE.parent / "README.md").read_text())
    assert found is not None, "README.md shows no client"
    return found[1]


@asynccontextmanager
async def balanced(cluster: Cluster) -> AsyncIterator[str]:
    """A load balancer, as far as it matters: each connection goes to a replica that takes it."""

    async def serve(stream: trio.SocketStream) -> None:
        async with stream, await _connected(cluster.replicas) as replica, trio.open_nursery() as nursery:
            nursery.start_soon(_pass_on, stream, replica, nursery.cancel_scope)
            nursery.start_soon(_pass_on, replica, stream, nursery.cancel_scope)

    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, serve, [listener])
        yield f"http://127.0.0.1:{listener.socket.getsockname()[1]}"
        nursery.cancel_scope.cancel()


async def _connected(replicas: list[Process]) -> trio.SocketStream:
    for replica in replicas:
        with suppress(OSError):
            return await trio.open_tcp_stream("127.0.0.1", int(replica.ready[-1]["port"]))
    raise AssertionError("no replica is left")


async def _pass_on(source: trio.SocketStream, sink: trio.SocketStream, scope: trio.CancelScope) -> None:
    try:
        async for data in source:
            await sink.send_all(data)
    except trio.BrokenResourceError:
        pass
    scope.cancel()


async def test_the_client_in_readme_gets_its_answer_whole_while_what_serves_it_is_killed(
    database_url: str, empty_redis_url: str, tmp_path: Path
) -> None:
    """P3, P4: the replica that took the question is killed in mid-answer; the other one gives it again, and goes on."""
    names: dict[str, Any] = {}
    exec(compile(lines_of_readme(), "README.md", "exec"), names)
    cluster = Cluster(database_url, empty_redis_url, tmp_path)
    shown: list[str] = []
    killed = trio.Event()

    def show(preview: str) -> None:
        shown.append(preview)
        if len(preview.split()) >= 5 and not killed.is_set():
            trio.from_thread.run_sync(cluster.replicas[0].send, signal.SIGKILL)
            trio.from_thread.run_sync(killed.set)

    async with cluster:
        await cluster.start(2)
        async with balanced(cluster) as url:
            with trio.fail_after(WAIT_SECONDS):
                prompt = f"[[tokens={TOKENS} tps=60]]"
                messages, outcome = await trio.to_thread.run_sync(names["ask"], url, cluster.token, prompt, show)
    answer = "".join(f"w{index} " for index in range(TOKENS))
    assert killed.is_set()
    assert outcome == "finished"
    assert [message["parts"][0]["text"] for message in messages] == [prompt, answer]
    assert all(answer.startswith(preview) for preview in shown), "never doubled, never a gap"
