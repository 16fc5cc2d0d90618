"""Agent frameworks of somebody else's, in the examples as they stand, against a cluster that loses the answer's owner.

They are installed into an environment of their own, once for each list of them: what they need is not what a cluster
needs. Where no registry can be reached the tests are skipped, and say so.
"""

from __future__ import annotations

import hashlib
import os
import signal
import subprocess
import venv
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import trio
from cluster_processes import WAIT_SECONDS, Cluster, Process

pytestmark = pytest.mark.cluster

ROOT = Path(__file__).parent.parent
PACKAGES = ("openai-agents==0.24.0", "pydantic-ai-slim[openai,mcp]==2.68.0", "openai==3.57.0", "mcp==2.3.0")
ENVIRONMENTS = ROOT / ".venv-frameworks"
INSTALL_SECONDS_MAX = 600
WORDS = "".join(f"w{number} " for number in range(80))


def prepared_python() -> str:
    """A Python that has the frameworks. Skips the test where there can be none."""
    folder = ENVIRONMENTS / hashlib.sha256(" ".join(PACKAGES).encode()).hexdigest()[:12]
    python, stamp = folder / "bin" / "python", folder / ".installed"
    if not stamp.exists():
        venv.create(folder, with_pip=True, clear=True)
        install = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check", *PACKAGES]
        try:
            subprocess.run(install, check=True, capture_output=True, text=True, timeout=INSTALL_SECONDS_MAX)
        except subprocess.CalledProcessError as error:
            pytest.skip(f"the frameworks could not be installed: {error.stderr[-300:]}")
        stamp.touch()
    return str(python)


@pytest.fixture(scope="module")
def framework_python() -> str:
    return prepared_python()


@pytest.fixture
async def cluster(database_url: str, empty_redis_url: str, tmp_path: Path) -> AsyncIterator[Cluster]:
    """Its first replica owns no chats, and serves readers; what works is killed."""
    async with Cluster(database_url, empty_redis_url, tmp_path) as cluster:
        await cluster.start(1, slots=0)
        for _ in range(2):
            await cluster.add().next_ready()
        yield cluster


async def owner(cluster: Cluster) -> Process:
    """Of the one chat that is at work."""
    while not (owned := [one for one in await chats(cluster) if one["worker_id"]]):  # noqa: ASYNC110
        await trio.sleep(0.05)
    return cluster.owner_of(owned[0])


async def chats(cluster: Cluster) -> list[Any]:
    return list((await get(cluster, "/api/v1/chats"))["chats"])


async def get(cluster: Cluster, path: str) -> Any:
    headers = {"Authorization": f"Bearer {cluster.token}"}
    async with httpx.AsyncClient(base_url=cluster.replicas[0].url, headers=headers, timeout=WAIT_SECONDS) as http:
        return (await http.get(path)).json()


async def example(cluster: Cluster, python: str, name: str, question: str, *, kill: bool = False) -> str:
    """What it prints; ``kill``: the owner of the chat dies once there are words of it."""
    environment = {
        "CHATCLUSTER_URL": cluster.replicas[0].url,
        "CHATCLUSTER_TOKEN": cluster.token,
        "PATH": os.environ.get("PATH", ""),
    }
    command = [python, str(ROOT / "examples" / name), question]
    with trio.fail_after(2 * WAIT_SECONDS):
        process = await trio.lowlevel.open_process(
            command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=environment
        )
        printed = b""
        assert process.stdout is not None
        try:
            while piece := await process.stdout.receive_some():
                printed += piece
                if kill and b"w3 " in printed:
                    kill = False
                    (await owner(cluster)).send(signal.SIGKILL)
        finally:
            process.kill()
            with trio.CancelScope(shield=True):
                returncode = await process.wait()
    assert returncode == 0, printed.decode()
    return printed.decode()


async def said(cluster: Cluster, title: str) -> list[str]:
    """The answers of the chats whose title begins so."""
    answers = []
    for chat in await chats(cluster):
        if chat["title"].startswith(title):
            messages = (await get(cluster, f"/api/v1/chats/{chat['id']}/messages"))["messages"]
            parts = messages[-1]["parts"] if messages[-1]["role"] == "assistant" else []
            answers.append("".join(part.get("text", "") for part in parts))
    return answers


EXAMPLES = ("openai_agents_sdk.py", "pydantic_ai_agent.py")


@pytest.mark.parametrize("name", EXAMPLES)
async def test_p4_the_owner_is_killed_and_the_framework_has_what_the_history_has(
    cluster: Cluster, framework_python: str, name: str
) -> None:
    printed = await example(
        cluster, framework_python, name, "go [[tokens=80 tps=40 silence_after=79 times=1]]", kill=True
    )
    assert sum(replica.process.poll() is not None for replica in cluster.replicas) == 1
    assert await said(cluster, "go") == [WORDS]
    assert printed.rstrip("\n").endswith(WORDS)


@pytest.mark.parametrize("name", EXAMPLES)
async def test_chats_are_tools_of_the_frameworks_agent(cluster: Cluster, framework_python: str, name: str) -> None:
    order = '{"content": "made by a tool", "idempotency_key": "once"}'
    printed = await example(cluster, framework_python, name, f"a chat please [[call=chat_create {order}]]")
    assert "[tool_called]" in printed
    assert "[tool_output]" in printed
    assert "chat_id" in printed, "the model was told what the tool gave"
    while not any(await said(cluster, "made by a tool")):  # noqa: ASYNC110
        await trio.sleep(0.05)
