"""The servers that a workspace's ``.mcp.json`` names, as the agent has them: real processes, and one at a URL."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import h11
import pytest
import trio
from agent_process import AgentProcess, ended, request, running_agent

from chatcluster.workspace_errors import StaleEpoch
from chatcluster.workspace_mcp import McpServer, McpState
from chatcluster.workspace_wire import CallAnswer, CallState, Kind
from chatcluster.workspaces.agent.mcp.content import result_of, tools_of
from chatcluster.workspaces.agent.mcp.file import Config, Wrong, parsed

SERVER = str(Path(__file__).with_name("workspace_mcp_server.py"))
SDK_SERVER = """
from mcp.server import MCPServer
server = MCPServer("sdk", instructions="Of the SDK.")
@server.tool()
def add(a: int, b: int) -> int:
    "Adds"
    return a + b
server.run("stdio")
"""


@pytest.fixture
async def agent(tmp_path: Path) -> AsyncIterator[AgentProcess]:
    async with running_agent(tmp_path) as agent:
        yield agent


def write(agent: AgentProcess, **servers: Any) -> None:
    (agent.work / ".mcp.json").write_text(json.dumps({"mcpServers": servers}))


def stdio(*arguments: str, **env: str) -> dict[str, Any]:
    return {"command": sys.executable, "args": [SERVER, *arguments], "env": env}


async def servers(agent: AgentProcess, wait_seconds: float = 20.0) -> dict[str, McpServer]:
    answer = await agent.client.mcp(wait_seconds=wait_seconds)
    return {server.name: server for server in answer.servers}


async def call(agent: AgentProcess, call_id: str, tool: str, server: str = "s", **arguments: Any) -> CallAnswer:
    await agent.client.put(call_id, request(Kind.MCP, server=server, tool=tool, arguments=arguments))
    return await ended(agent.client, call_id)


def text_of(answer: CallAnswer) -> str:
    assert answer.state is CallState.EXITED, answer.error
    return str(answer.result["content"][0]["text"])


def noted(agent: AgentProcess) -> list[str]:
    path = agent.work / "noted"
    return path.read_text().splitlines() if path.exists() else []


# --- what it says --------------------------------------------------------------------------------


async def test_its_tools_are_listed_and_called_in_the_working_directory(agent: AgentProcess) -> None:
    assert await servers(agent) == {}
    write(agent, s=stdio("${NONE:-other}", KEY="${HOME:-x}"))
    found = (await servers(agent))["s"]
    assert (found.state, found.instructions, found.tools[0].name) == (McpState.READY, "Be brief.", "echo")
    assert json.loads(found.tools[0].schema)["properties"] == {"text": {"type": "string"}}
    assert text_of(await call(agent, "c1", "echo", text="hello")) == "hello"
    directory, arguments, key = json.loads(text_of(await call(agent, "c2", "where")))
    assert (directory, arguments) == (str(agent.work), ["other"])
    assert key != "${HOME:-x}"


async def test_a_server_of_the_sdk_is_spoken_to(agent: AgentProcess) -> None:
    write(agent, sdk={"command": sys.executable, "args": ["-c", SDK_SERVER]})
    assert [tool.name for tool in (await servers(agent, 30))["sdk"].tools] == ["add"]
    assert text_of(await call(agent, "c1", "add", "sdk", a=2, b=3)) == "5"


async def test_a_call_is_made_once_and_its_result_outlives_whoever_asked(agent: AgentProcess) -> None:
    write(agent, s=stdio())
    wanted = request(Kind.MCP, server="s", tool="slow", arguments={})
    assert (await agent.client.put("c1", wanted)).state is CallState.RUNNING
    assert [one.call_id for one in await agent.client.under_way()] == ["c1"]
    again = request(Kind.MCP, epoch=2, server="s", tool="slow", arguments={})
    await agent.client.put("c1", again)
    with pytest.raises(StaleEpoch):
        await agent.client.put("c1", wanted)
    await agent.client.put("c2", request(Kind.MCP, epoch=2, server="s", tool="echo", arguments={}))
    assert text_of(await ended(agent.client, "c1")) == "late"
    assert noted(agent).count("called slow") == 1
    assert await agent.client.under_way() == ()


async def test_a_call_that_is_cancelled_or_takes_too_long_is_told_its_server(agent: AgentProcess) -> None:
    write(agent, s=stdio())
    await agent.client.put("c1", request(Kind.MCP, server="s", tool="slow", arguments={}))
    await servers(agent)
    with trio.fail_after(60):
        await agent.client.cancel("c1", 1, chat_id="chat")
    assert (await agent.client.call("c1")).state is CallState.KILLED
    limited = request(Kind.MCP, server="s", tool="slow", arguments={})
    await agent.client.put("c2", limited.__class__(**{**_fields(limited), "deadline_seconds": 0.3}))
    late = await ended(agent.client, "c2")
    assert late.state is CallState.KILLED
    assert "0.3 seconds" in (late.error or "")
    assert text_of(await call(agent, "c3", "echo", text="on")) == "on"
    assert "cancelled" in noted(agent)


async def test_what_a_server_asks_of_a_client_is_refused_and_an_error_is_a_result(agent: AgentProcess) -> None:
    write(agent, s=stdio())
    assert "offers nothing" in text_of(await call(agent, "c1", "ask"))
    answer = await call(agent, "c2", "refuse")
    assert "not today" in text_of(answer)
    assert answer.result["is_error"]


async def test_a_byte_that_is_no_text_costs_itself_and_not_the_server(agent: AgentProcess) -> None:
    write(agent, s=stdio())
    assert text_of(await call(agent, "c1", "latin")) == "caf\ufffd \ufffd"
    assert text_of(await call(agent, "c2", "echo", text="on")) == "on"
    assert noted(agent).count("began") == 1


# --- what goes wrong -----------------------------------------------------------------------------


async def test_a_server_that_dies_in_a_call_is_told_with_its_last_words_and_costs_no_other(agent: AgentProcess) -> None:
    write(agent, s=stdio(), other=stdio())
    answer = await call(agent, "c1", "die")
    assert answer.state is CallState.FAILED
    assert "exit code 3" in (answer.error or "")
    assert "out of luck" in (answer.error or "")
    assert "unknown" in (answer.error or "")
    found = await servers(agent)
    assert (found["s"].state, found["other"].state) == (McpState.FAILED, McpState.READY)
    assert "not run" in ((await call(agent, "c2", "echo")).error or "")
    assert text_of(await call(agent, "c3", "echo", "other", text="here")) == "here"


async def test_a_result_or_a_line_that_is_too_large_is_said(agent: AgentProcess) -> None:
    write(agent, s=stdio())
    assert "too large" in text_of(await call(agent, "c1", "big"))
    assert "bytes at a time" in ((await call(agent, "c2", "long")).error or "")


async def test_what_cannot_be_begun_says_why(agent: AgentProcess) -> None:
    write(
        agent,
        none={"command": "/no/such/program"},
        odd={"type": "carrier-pigeon", "command": "x"},
        empty={},
        variable={"command": "${NO_SUCH_VARIABLE}"},
        closed={"url": "http://127.0.0.1:9/mcp"},
        off={"command": "x", "disabled": True},
    )
    found = await servers(agent)
    assert {name: server.state for name, server in found.items()} == dict.fromkeys(
        ("none", "odd", "empty", "variable", "closed"), McpState.FAILED
    )
    assert "127" in found["none"].error
    assert "carrier-pigeon" in found["odd"].error
    assert "NO_SUCH_VARIABLE" in found["variable"].error
    assert "cannot be reached" in found["closed"].error
    (agent.work / ".mcp.json").write_text("{")
    assert "not what it should be" in (await agent.client.mcp()).error


async def test_a_server_that_the_file_names_no_more_is_ended_and_others_stay(agent: AgentProcess) -> None:
    write(agent, s=stdio(), gone=stdio())
    await servers(agent)
    await agent.client.put("c1", request(Kind.MCP, server="gone", tool="slow", arguments={}))
    write(agent, s=stdio())
    assert list(await servers(agent)) == ["s"]
    assert "unknown" in ((await ended(agent.client, "c1")).error or "")
    assert noted(agent).count("began") == 2
    write(agent, s=stdio(KEY="another"))
    await servers(agent)
    assert noted(agent).count("began") == 3


async def test_a_slow_start_is_waited_for_as_long_as_whoever_asks_likes(agent: AgentProcess) -> None:
    gate = agent.work / "gate"
    os.mkfifo(gate)
    write(agent, s=stdio(GATE=str(gate)))
    assert (await servers(agent, 0.1))["s"].state is McpState.STARTING
    opened = await trio.to_thread.run_sync(os.open, gate, os.O_WRONLY, abandon_on_cancel=True)
    os.close(opened)
    assert (await servers(agent))["s"].state is McpState.READY
    await call(agent, "c1", "grow")
    assert "grown" in [tool.name for tool in (await servers(agent))["s"].tools]


# --- at a URL ------------------------------------------------------------------------------------


class AtUrl:
    """A server by "streamable HTTP": JSON for what begins, a stream of events for calls."""

    def __init__(self) -> None:
        self.heard: list[tuple[dict[str, str], dict[str, Any]]] = []

    async def serve(self, stream: trio.SocketStream) -> None:
        connection = h11.Connection(h11.SERVER)
        head, body = None, b""
        while not isinstance(event := connection.next_event(), h11.EndOfMessage):
            if event is h11.NEED_DATA:
                connection.receive_data(bytes(await stream.receive_some(1 << 16)))
            elif isinstance(event, h11.Request):
                head = {name.decode(): value.decode() for name, value in event.headers}
            elif isinstance(event, h11.Data):
                body += event.data
        message = json.loads(body)
        self.heard.append((head or {}, message))
        status, kind, content = self._answer(message)
        headers = [("content-type", kind), ("content-length", str(len(content))), ("mcp-session-id", "one")]
        data = connection.send(h11.Response(status_code=status, headers=headers)) or b""
        await stream.send_all(data + (connection.send(h11.Data(content)) or b""))
        await stream.aclose()

    def _answer(self, message: dict[str, Any]) -> tuple[int, str, bytes]:
        number = message.get("id")
        if number is None:
            return 202, "application/json", b""
        results: dict[str, Any] = {
            "initialize": {"protocolVersion": "2025-06-18", "capabilities": {}, "serverInfo": {}},
            "tools/list": {"tools": [{"name": "there", "inputSchema": {"type": "object"}}]},
            "tools/call": {"content": [{"type": "text", "text": "from afar"}]},
        }
        answer = json.dumps({"jsonrpc": "2.0", "id": number, "result": results[message["method"]]}).encode()
        if message["method"] != "tools/call":
            return 200, "application/json", answer
        other = json.dumps({"jsonrpc": "2.0", "method": "notifications/message", "params": {}}).encode()
        no_messages = b": hello\r\nid: 1\r\ndata:\r\n\r\ndata: ping\r\n\r\n"
        return 200, "text/event-stream", no_messages + b"data: " + other + b"\r\n\r\ndata: " + answer + b"\r\n\r\n"


async def test_a_server_at_a_url_is_spoken_to_in_one_session(agent: AgentProcess) -> None:
    server = AtUrl()
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, server.serve, [listener])
        port = listener.socket.getsockname()[1]
        write(agent, s={"type": "http", "url": f"http://127.0.0.1:{port}/mcp?a=b", "headers": {"X-Key": "k"}})
        assert [tool.name for tool in (await servers(agent))["s"].tools] == ["there"]
        assert text_of(await call(agent, "c1", "there")) == "from afar"
        nursery.cancel_scope.cancel()
    head, message = server.heard[-1]
    assert (head["x-key"], head["mcp-session-id"], head["mcp-protocol-version"]) == ("k", "one", "2025-06-18")
    assert message["params"]["_meta"] == {"chatcluster/call-id": "c1"}


class Deep(AtUrl):
    def _answer(self, message: dict[str, Any]) -> tuple[int, str, bytes]:
        return 200, "application/json", b"[" * 100_000


async def test_p10_a_server_at_a_url_that_says_what_cannot_be_read_costs_its_tools_and_not_the_workspace(
    agent: AgentProcess,
) -> None:
    async with trio.open_nursery() as nursery:
        (listener,) = await trio.open_tcp_listeners(0, host="127.0.0.1")
        nursery.start_soon(trio.serve_listeners, Deep().serve, [listener])
        port = listener.socket.getsockname()[1]
        write(agent, deep={"type": "http", "url": f"http://127.0.0.1:{port}/mcp"}, s=stdio())
        found = await servers(agent)
        nursery.cancel_scope.cancel()
    assert (found["deep"].state, found["s"].state) == (McpState.FAILED, McpState.READY)
    assert "too deeply" in found["deep"].error
    assert text_of(await call(agent, "c1", "echo", text="hello")) == "hello"


# --- what is kept, without a server --------------------------------------------------------------


def test_lists_are_bounded_and_what_is_none_is_left_out() -> None:
    good = [{"name": f"t{number}", "inputSchema": {}} for number in range(300)]
    taken, left_out = tools_of([*good, {"name": ""}, "no", {"name": "a\nb", "inputSchema": {}}, {"name": "x"}])
    assert (len(taken), left_out) == (200, 104)
    large = [{"name": f"t{number}", "description": "d" * 8000, "inputSchema": {}} for number in range(40)]
    assert 0 < len(tools_of(large)[0]) < 20


@pytest.mark.parametrize("answer", [None, [], {"task": {}}, {"content": "x"}, {"content": [{}] * 1001}])
def test_what_is_no_result_is_an_error(answer: Any) -> None:
    assert result_of(answer).is_error


@pytest.mark.parametrize("answer", [{}, {"isError": False}, {"_meta": {}, "content": []}])
def test_a_result_of_nothing_is_one(answer: Any) -> None:
    assert not result_of(answer).is_error
    assert result_of({"structuredContent": {"a": 1}}).content[0].text == '{"a":1}'


def test_each_piece_of_a_result_is_kept_or_named() -> None:
    blocks = [
        {"type": "text", "text": "a"},
        {"type": "image", "data": "aGk=", "mimeType": "image/png"},
        {"type": "image", "data": "***"},
        {"type": "resource_link", "uri": "file:///a", "name": "a"},
        {"type": "resource", "resource": {"uri": "file:///b", "text": "inside"}},
        {"type": "audio", "data": "aGk="},
        7,
        {"type": "resource", "resource": {"uri": "file:///c", "blob": "aGk="}},
        {"type": "resource", "resource": {"uri": "file:///d", "blob": "AP8="}},
    ]
    kept = result_of({"content": blocks}).content
    assert [piece.text for piece in kept[:2]] == ["a", None]
    assert (kept[1].data, kept[3].uri, kept[4].text) == ("aGk=", "file:///a", "inside")
    assert "cannot be decoded" in (kept[2].text or "")
    assert "audio" in (kept[5].text or "")
    assert (kept[7].text, "2 bytes that are no text" in (kept[8].text or "")) == ("hi", True)
    assert result_of({"content": [], "structuredContent": {"a": 1}}).content[0].text == '{"a":1}'


def test_the_file_is_read_as_it_is_written_elsewhere() -> None:
    text = b'{"mcpServers": {"a": {"command": "x", "args": ["${A}/b"]}, "b": {"type": "http", "url": "https://b.org"}}}'
    found = parsed(text, {"A": "root"})
    assert found == {"a": Config(argv=("x", "root/b")), "b": Config(url="https://b.org")}
    many = json.dumps({"mcpServers": {f"s{n}": {"command": "x"} for n in range(17)}}).encode()
    assert isinstance(parsed(many, {}), Wrong)
    assert parsed(b"{}", {}) == {}
    assert parsed(b"\xef\xbb\xbf" + text, {"A": "root"}) == found
    assert parsed(b'{"mcpServers": {"a": {"command": "caf\xe9"}}}', {}) == {"a": Config(argv=("caf\ufffd",))}


def _fields(value: Any) -> dict[str, Any]:
    return {name: getattr(value, name) for name in value.__struct_fields__}
