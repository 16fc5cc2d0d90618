"""The snippets of docs/doors.md for clients of other APIs, as they stand, against a cluster that loses a replica."""

from __future__ import annotations

import re
import signal
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
import trio
from cluster_processes import WAIT_SECONDS, Cluster
from test_readme_client import balanced

pytestmark = pytest.mark.cluster

DOORS = Path(__file__).parent.parent / "docs" / "doors.md"
SNIPPET = r"<!-- a door: {name} -->\n```python\n(.*?)```"


def snippet(name: str) -> str:
    found = re.search(SNIPPET.format(name=name), DOORS.read_text(), re.DOTALL)
    assert found is not None, f"docs/doors.md shows no snippet for {name}"
    return found[1]


@pytest.fixture
async def cluster(database_url: str, empty_redis_url: str, tmp_path: Path) -> AsyncIterator[Cluster]:
    async with Cluster(database_url, empty_redis_url, tmp_path) as cluster:
        yield await cluster.start(2)


async def run(cluster: Cluster, name: str, monkeypatch: pytest.MonkeyPatch, *, kill: bool = False) -> dict[str, Any]:
    """The names that a snippet leaves, run behind a load balancer; one replica is killed meanwhile."""
    names: dict[str, Any] = {"print": lambda *_: None}
    async with balanced(cluster) as url, trio.open_nursery() as nursery:
        monkeypatch.setenv("CHATCLUSTER_URL", url)
        monkeypatch.setenv("CHATCLUSTER_TOKEN", cluster.token)
        monkeypatch.setenv("OPENAI_BASE_URL", f"{url}/v1")
        monkeypatch.setenv("OPENAI_API_KEY", cluster.token)

        async def kill_one() -> None:
            while not (names.get("text") or (name == "mcp" and await is_answering(cluster))):  # noqa: ASYNC110
                await trio.sleep(0.01)
            cluster.replicas[0].send(signal.SIGKILL)

        if kill:
            nursery.start_soon(kill_one)
        with trio.fail_after(2 * WAIT_SECONDS):
            code = compile(snippet(name).replace("Tell me a story", "[[tokens=80 tps=40]]"), "doors.md", "exec")
            await trio.to_thread.run_sync(exec, code, names)
        nursery.cancel_scope.cancel()
    return names


async def is_answering(cluster: Cluster) -> bool:
    """Whether a chat is at work: a snippet that waits in one call has no text before its end."""
    async with cluster.client(cluster.replicas[0]) as client:
        return any(chat["status"] == "running" for chat in (await client.chats())["chats"])


async def test_completions(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    names = await run(cluster, "completions", monkeypatch)
    assert names["text"] == "".join(f"w{number} " for number in range(80))


async def test_responses(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    names = await run(cluster, "responses", monkeypatch, kill=True)
    assert names["response"].status == names["again"].status == "completed"
    assert names["response"].output_text == "".join(f"w{number} " for number in range(80))
    assert names["text"].endswith(names["response"].output_text)


async def test_mcp(cluster: Cluster, monkeypatch: pytest.MonkeyPatch) -> None:
    names = await run(cluster, "mcp", monkeypatch, kill=True)
    assert names["text"] == "".join(f"w{number} " for number in range(80))
