"""The snippets that docs/doors.md shows for clients in JavaScript, as they stand, each a program of its own."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import trio
from cluster_processes import WAIT_SECONDS, Cluster
from node_clients import FOLDER, prepared_node
from test_ai_sdk_clients import words
from test_readme_doors import DOORS

pytestmark = pytest.mark.cluster

NAMES = ("openai-js", "ai-sdk", "ag-ui")
NEWEST = {"ai": "ai7", "openai": "openai7", "@ag-ui": "@ag-ui"}
"""What a program gets that installs a client."""


@pytest.fixture
async def cluster(database_url: str, empty_redis_url: str, tmp_path: Path) -> AsyncIterator[Cluster]:
    async with Cluster(database_url, empty_redis_url, tmp_path) as cluster:
        yield await cluster.start(1)


def program(name: str, folder: Path) -> Path:
    """A snippet beside the packages that it imports."""
    found = re.search(rf"<!-- a door: {name} -->\n```js\n(.*?)```", DOORS.read_text(), re.DOTALL)
    assert found is not None, f"docs/doors.md shows no snippet for {name}"
    modules = folder / "node_modules"
    modules.mkdir(exist_ok=True)
    for package, installed in NEWEST.items():
        if not (modules / package).exists():
            (modules / package).symlink_to(FOLDER / "node_modules" / installed)
    path = folder / f"{name}.mjs"
    path.write_text(found[1].replace("Tell me a story", "[[tokens=9]]").replace("story-1", name))
    return path


async def test_each_snippet_prints_the_answer(cluster: Cluster, tmp_path: Path) -> None:
    node = await trio.to_thread.run_sync(prepared_node)
    url = cluster.replicas[0].url
    own = {"CHATCLUSTER_URL": url, "CHATCLUSTER_TOKEN": cluster.token}
    environment = os.environ | own | {"OPENAI_BASE_URL": f"{url}/v1", "OPENAI_API_KEY": cluster.token}
    for name in NAMES:
        with trio.fail_after(WAIT_SECONDS):
            done = await trio.run_process(
                [node, str(program(name, tmp_path))], capture_stdout=True, stderr=subprocess.STDOUT, env=environment
            )
        assert done.stdout.decode() == words(9) + "\n", name
