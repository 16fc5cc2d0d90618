"""A cluster with a workspace host and real sandboxes: a chat works in its workspace, and goes on there when its owner
is killed in mid-command."""

from __future__ import annotations

import json
from contextlib import aclosing
from typing import Any

import msgspec
import pytest
import trio
from chaos.cluster import Cluster, open_cluster
from chaos.options import ClusterOptions, FaultOptions, Load, Options
from chaos.workspaces import run_workspaces
from killed_owner import kill

from chatcluster.client.chat_view import ChatView
from chatcluster.client.client import Client
from chatcluster.parts import ToolResultPart
from chatcluster.workspaces.sandbox import can_sandbox

pytestmark = [
    pytest.mark.cluster,
    pytest.mark.skipif(can_sandbox() is not None, reason=str(can_sandbox())),
]
SECONDS_MAX = 300.0


def of_replicas(count: int) -> ClusterOptions:
    return ClusterOptions(replicas=count, up_arguments=("--workspaces",))


async def answered(client: Client, chat_id: str, content: str) -> ChatView:
    """The chat once it rests behind this message and its answer: a stream may begin with an older state."""
    sent = await client.send(chat_id, content)
    view = ChatView()
    async with aclosing(client.stream(chat_id)) as events:
        async for cursor, event in events:
            view.apply(cursor, event)
            if view.ready and view.at_rest and max(view.messages, default=0) > sent["message"]["id"]:
                break
    return view


async def turn(client: Client, chat_id: str, *calls: tuple[str, dict[str, Any]]) -> list[str]:
    """The results of calls that the model is ordered to make, one after the other."""
    orders = [
        f"[[step={step} call={name} {msgspec.json.encode(arguments).decode().replace(']]', '] ]')}]]"
        for step, (name, arguments) in enumerate(calls, 1)
    ]
    view = await answered(client, chat_id, " ".join((*orders, f"[[step={len(calls) + 1} say=over]]")))
    parts = [part for message in view.messages.values() for part in message.parts]
    return [part.text for part in parts if isinstance(part, ToolResultPart)][-len(calls) :]


async def diff_status(client: Client, chat_id: str, changed: trio.Event) -> None:
    """``changed`` once the list tells that two lines were added."""
    async with aclosing(client.watch()) as events:
        async for event in events:
            if event["type"] == "diff_status" and (event["chat_id"], event["diff_status"]["additions"]) == (chat_id, 2):
                changed.set()
                return


async def works(cluster: Cluster) -> None:
    async with Client(cluster.url, cluster.token) as client, trio.open_nursery() as nursery:
        chat_id = (await client.create())["id"]
        changed = trio.Event()
        nursery.start_soon(diff_status, client, chat_id, changed)
        git = "git init -q . && git -c user.name=a -c user.email=a@b commit -q --allow-empty -m begin"
        made, written, *_, served, listed = await turn(
            client,
            chat_id,
            ("create_workspace", {"template_id": "default"}),
            ("write_file", {"path": "AGENTS.md", "content": "Use tabs.\n"}),
            ("execute", {"command": f"{git} && git add -A && git -c user.name=a -c user.email=a@b commit -qm more"}),
            ("write_file", {"path": "a.py", "content": "print(6 * 7)\nprint('b')\n"}),
            ("execute", {"command": "git add -N a.py; python3 a.py"}),
            ("execute", {"command": "echo up; sleep 1000", "run_in_background": True}),
            ("process_list", {}),
        )
        assert '"agent_status": "ready"' in made
        assert json.loads(written)["ok"]
        assert json.loads(served)["background_process_id"]
        assert [process["running"] for process in json.loads(listed)["processes"]].count(True) == 1
        await changed.wait()
        diff = await client._read(f"/chats/{chat_id}/diff")
        (said,) = await turn(client, chat_id, ("execute", {"command": "git diff"}))
        assert diff["is_live"]
        assert diff["patch"] == json.loads(said)["output"]
        assert "Use tabs." in await told(client, chat_id), "the instructions reach the model"


async def told(client: Client, chat_id: str) -> str:
    """All that the model is told."""
    view = await answered(client, chat_id, "[[mode=request]]")
    return str(view.messages[max(view.messages)].parts)


SERVER = """
import json, sys, time
for line in sys.stdin:
    message = json.loads(line)
    name = message.get("params", {}).get("name")
    if name == "nap":
        with open("napped", "a") as file:
            file.write("once\\n")
        time.sleep(8)
    results = {
        "initialize": {"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": {"name": "own"}},
        "tools/list": {"tools": [{"name": name, "inputSchema": {"type": "object"}} for name in ("nap", "greet")]},
        "tools/call": {"content": [{"type": "text", "text": f"done: {name}"}]},
    }
    if "id" in message:
        print(json.dumps({"jsonrpc": "2.0", "id": message["id"], "result": results[message["method"]]}), flush=True)
"""


async def brings_tools(cluster: Cluster) -> None:
    """Its own server of tools; the chat's owner is killed while one of them naps."""
    async with Client(cluster.url, cluster.token) as client:
        chat_id = (await client.create())["id"]
        file = json.dumps({"mcpServers": {"own": {"command": "/usr/bin/python3", "args": ["server.py"]}}})
        await turn(
            client,
            chat_id,
            ("create_workspace", {"template_id": "default"}),
            ("write_file", {"path": "server.py", "content": SERVER}),
            ("write_file", {"path": ".mcp.json", "content": file}),
        )
        assert await turn(client, chat_id, ("own__greet", {})) == ["done: greet"]
        await client.send(chat_id, "[[step=1 call=own__nap {}]] [[step=2 say=over]]")
        view, killed = ChatView(), False
        async with aclosing(client.stream(chat_id)) as events:
            async for cursor, event in events:
                view.apply(cursor, event)
                parts = [part for message in view.messages.values() for part in message.parts]
                if not killed and any(getattr(part, "name", "") == "own__nap" for part in parts):
                    await kill(cluster, str(view.worker_id))
                    killed = True
                results = [part.text for part in parts if isinstance(part, ToolResultPart)]
                if killed and view.at_rest and results[-1:] == ["done: nap"]:
                    break
        assert view.epoch > 1, "by two owners"
        (napped,) = await turn(client, chat_id, ("read_file", {"path": "napped"}))
        assert json.loads(napped)["content"] == "once\n"


async def test_a_chat_works_in_its_workspace_what_changed_is_told_and_tools_that_it_brings_outlive_their_caller() -> (
    None
):
    with trio.fail_after(SECONDS_MAX):
        async with open_cluster(Options(cluster=of_replicas(2))) as cluster:
            await works(cluster)
            await brings_tools(cluster)


async def test_p7_commands_run_once_and_whole_whoever_is_killed() -> None:
    asked = Options(load=Load(chats=1), faults=FaultOptions(kills=2), cluster=of_replicas(3))
    with trio.fail_after(2 * SECONDS_MAX):
        async with open_cluster(asked) as cluster:
            summary = await run_workspaces(asked, cluster, lambda _: None)
    assert summary["violations"] == 0, summary["details"]
    assert summary["kills"] == 2
