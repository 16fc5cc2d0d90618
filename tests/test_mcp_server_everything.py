"""The reference server of the protocol's authors, unmodified, by both transports: every tool that it has.

Where there is no Node, or no registry to have it from, the tests are skipped, and say why.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from local_ports import free_port
from mcp_world import McpWorld, listening, mcp_world, text_of
from node_clients import FOLDER, prepared_node

from chatcluster.chat.questions import Replies, Reply, ReplyAction
from chatcluster.content import ImagePart, JsonPart, ResourcePart
from chatcluster.ports import Asked
from chatcluster.ports import ToolResult as Result

PROGRAM = FOLDER / "node_modules" / "@modelcontextprotocol" / "server-everything" / "dist" / "index.js"
TRANSPORTS = {"streamable-http": ("streamableHttp", "/mcp"), "sse": ("sse", "/sse")}
TOOLS: dict[str, dict[str, Any]] = {
    "every__echo": {"message": "hello"},
    "every__get-sum": {"a": 2, "b": 3},
    "every__get-env": {},
    "every__get-annotated-message": {"messageType": "error", "includeImage": True},
    "every__get-resource-links": {"count": 3},
    "every__get-resource-reference": {"resourceType": "Text", "resourceId": 1},
    "every__get-structured-content": {"location": "Chicago"},
    "every__get-tiny-image": {},
    "every__gzip-file-as-resource": {"name": "a.gz", "data": "data:text/plain;base64,aGVsbG8="},
    "every__toggle-simulated-logging": {},
    "every__toggle-subscriber-updates": {},
    "every__trigger-long-running-operation": {"duration": 1, "steps": 4},
    "every__trigger-elicitation-request": {},
    "every__trigger-url-elicitation": {"url": "https://example.org/agree", "errorPath": False},
}
"""All that it offers to a client which has no model and no files of its own, with arguments."""


@contextmanager
def server(node: str, mode: str) -> Iterator[str]:
    port = free_port()
    environment = {"PATH": os.environ["PATH"], "PORT": str(port)}
    nowhere = subprocess.DEVNULL
    process = subprocess.Popen([node, str(PROGRAM), mode], env=environment, stdout=nowhere, stderr=nowhere)
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.kill()
        process.wait()


@pytest.fixture(params=TRANSPORTS)
async def world(request: pytest.FixtureRequest, forked: None) -> AsyncIterator[McpWorld]:
    """With the server as ``every``."""
    mode, path = TRANSPORTS[request.param]
    with server(prepared_node(), mode) as url:
        await listening(url)
        async with mcp_world() as world:
            await world.add("every", url + path, transport=request.param)
            yield world


def as_ada(asked: Asked) -> Replies:
    """Fills in what is there to be filled in."""
    return {
        question.key: Reply(ReplyAction.ACCEPT, None if question.schema is None else {"name": "Ada", "check": True})
        for question in asked.questions
    }


async def test_every_tool_of_it_is_offered_runs_and_says_what_it_has_to_say(world: McpWorld) -> None:
    results: dict[str, Result] = {}
    async with world.turn("every") as turn:
        turn.answer = as_ada
        assert sorted(await turn.names()) == sorted(TOOLS)
        for name, arguments in TOOLS.items():
            results[name] = await turn.run_with(name, arguments)
        assert len(turn.progress) == 4, "of the long operation"
    assert [name for name, result in results.items() if result.is_error] == []
    assert text_of(results["every__get-sum"]) == "The sum of 2 and 3 is 5."
    assert "Ada" in text_of(results["every__trigger-elicitation-request"])
    assert kinds(results["every__get-tiny-image"]) >= {ImagePart}
    assert kinds(results["every__get-resource-links"]) >= {ResourcePart}
    assert kinds(results["every__get-resource-reference"]) >= {ResourcePart}
    assert kinds(results["every__get-structured-content"]) == {JsonPart}
    assert [question.url for asked in turn.asked for question in asked.questions if question.url] == [
        "https://example.org/agree"
    ]


async def test_a_long_result_comes_whole(world: McpWorld) -> None:
    async with world.turn("every") as turn:
        assert text_of(await turn.call("every__echo", message="x" * (1 << 21))) == "Echo: " + "x" * (1 << 21)


def kinds(result: Result) -> set[type]:
    return {type(part) for part in result.content}
