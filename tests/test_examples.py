"""The examples run as they stand, against a cluster of this machine with a simulated model."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
from cluster_process import ClusterProcess, clean_environment, cluster_process, wait_until
from local_ports import free_port

pytestmark = pytest.mark.cluster

EXAMPLES = Path(__file__).parent.parent / "examples"


def run(*arguments: str, cwd: Path | None = None) -> str:
    """What a program prints; it has to end well."""
    done = subprocess.run(
        [sys.executable, *arguments], capture_output=True, text=True, timeout=60, cwd=cwd, env=clean_environment()
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def example(cluster: ClusterProcess, name: str, *arguments: str, cwd: Path | None = None) -> str:
    return run(str(EXAMPLES / name), cluster.local.url, cluster.token, *arguments, cwd=cwd)


def chatcluster(cluster: ClusterProcess, *arguments: str) -> str:
    return run("-m", "chatcluster", *arguments, "--url", cluster.local.url, "--token", cluster.token)


def is_listening(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


@contextmanager
def todo_server() -> Iterator[str]:
    """``examples/mcp_server.py``; its URL."""
    port = free_port()
    process = subprocess.Popen([sys.executable, str(EXAMPLES / "mcp_server.py"), str(port)])
    try:
        wait_until(lambda: is_listening(port), 60)
        yield f"http://127.0.0.1:{port}/mcp"
    finally:
        process.kill()
        process.wait()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ClusterProcess]:
    with cluster_process(tmp_path_factory.mktemp("cluster"), "--replicas", "1", "--port", "0") as cluster:
        yield cluster


@pytest.fixture(scope="module")
def todo(cluster: ClusterProcess) -> Iterator[str]:
    """The slug of the server of the examples."""
    with todo_server() as url:
        chatcluster(cluster, "mcp", "add", "todo", url, "--trusted")
        yield "todo"


def test_the_server_in_thirty_lines_is_found_and_listed(cluster: ClusterProcess, todo: str) -> None:
    assert len((EXAMPLES / "mcp_server.py").read_text().splitlines()) <= 36
    report = chatcluster(cluster, "mcp", "test", todo)
    assert [line.split()[:2] for line in report.splitlines()[1:]] == [["todo__show", "read"], ["todo__add", "once"]]


def test_the_command_line_names_servers_of_tools(cluster: ClusterProcess, todo: str) -> None:
    said = chatcluster(cluster, "chat", "--mcp", todo, 'Tea [[call=todo__add {"text": "tea"}]]')
    assert "things to do now" in said


def test_a_chat_calls_the_server_and_shows_what_came_of_it(cluster: ClusterProcess, todo: str) -> None:
    shown = example(cluster, "chat_with_mcp.py", todo, 'Milk [[call=todo__add {"text": "milk"}]]')
    assert '-> todo__add {"text": "milk"}' in shown
    assert "<- There are 1 things to do now." in shown
    assert shown.rstrip().endswith("[finished]")


def test_a_chat_gets_an_answer_from_a_tool_of_its_client(cluster: ClusterProcess, tmp_path: Path) -> None:
    (tmp_path / "one.md").write_text("1")
    shown = example(cluster, "client_tool.py", 'Files? [[call=list_files {"pattern": "*.md"}]]', cwd=tmp_path)
    assert '-> list_files {"pattern": "*.md"}' in shown
    assert shown.count("one.md") >= 2


@pytest.mark.parametrize(("flag", "word", "result"), [("--all", "approved", "things to do"), ("--none", "denied", "")])
def test_a_script_approves_or_denies_what_a_chat_wants_to_do(
    cluster: ClusterProcess, todo: str, flag: str, word: str, result: str
) -> None:
    chatcluster(cluster, "mcp", "set", todo, "--tool", "add=ask")
    with httpx.Client(base_url=f"{cluster.local.url}/api/v1", trust_env=False) as http:
        http.headers["Authorization"] = f"Bearer {cluster.token}"
        twice = '[[call=todo__add {"text": "eggs"}]] [[call=todo__add {"text": "flour"}]]'
        body = {"content": f"Cake {twice}", "mcp_servers": [todo]}
        chat: dict[str, Any] = http.post("/chats", json=body).json()
        shown = example(cluster, "approve.py", chat["id"], flag)
        history = http.get(f"/chats/{chat['id']}/messages").text
    assert shown.count(f"  {word}") == 2
    assert "[finished]" in shown
    assert result in history
