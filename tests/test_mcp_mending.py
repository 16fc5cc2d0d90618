"""What of a list or a result is none of the protocol costs itself, and nothing beside it."""

from __future__ import annotations

from typing import Any

import httpx2
import mcp_types as types
import pytest
from mcp.client.streamable_http import StreamableHTTPTransport
from mcp.shared.message import SessionMessage
from mcp_types import methods
from pydantic import ValidationError

from chatcluster.content import JsonPart, ResultContent, TextPart
from chatcluster.tools import mcp_mending
from chatcluster.tools.mcp_results import ToolListing, called

VERSIONS = ("2025-06-18", "2025-11-25", "2026-07-28")
OBJECT = {"type": "object"}
GOOD = {"name": "good", "inputSchema": OBJECT}
MENDED: dict[str, Any] = {
    "annotations": {"readOnlyHint": "perhaps"},
    "icons": "none",
    "outputSchema": {"type": "array"},
    "execution": {"taskSupport": "maybe"},
    "_meta": "x",
    "description": 7,
    "title": [],
}
UNUSABLE: list[Any] = [
    None,
    "odd",
    {"inputSchema": OBJECT},
    {"name": 7, "inputSchema": OBJECT},
    {"name": "odd", "inputSchema": True},
    {"name": "odd", "inputSchema": []},
    {"name": "odd", "inputSchema": {"type": "array"}},
    {"name": "odd", "inputSchema": {"type": ["object", "null"]}},
]


@pytest.fixture(autouse=True)
def _installed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(vars(methods), "validate_server_result", methods.validate_server_result)
    monkeypatch.delitem(vars(types.jsonrpc_message_adapter), "validate_json", raising=False)
    monkeypatch.setattr(StreamableHTTPTransport, "_handle_json_response", StreamableHTTPTransport._handle_json_response)
    mcp_mending.install()


def listed(version: str, *tools: Any) -> tuple[list[str], int]:
    raw: dict[str, Any] = {"resultType": "complete", "ttlMs": 0, "cacheScope": "private"} if version > "2026" else {}
    raw["tools"] = [GOOD, *tools]
    methods.validate_server_result("tools/list", version, raw)
    listing = ToolListing()
    listing.take(types.ListToolsResult.model_validate(raw, by_name=False).tools)
    return [tool.name for tool in listing.tools], listing.left_out


def result(version: str, **raw: Any) -> tuple[tuple[ResultContent, ...], bool]:
    raw |= {"resultType": "complete"} if version > "2026" else {}
    methods.validate_server_result("tools/call", version, raw)
    found = called(1, types.CallToolResult.model_validate(raw, by_name=False), bytes_max=1 << 20)
    return found.content, found.is_error


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("field", MENDED)
def test_a_tool_does_without_its_decorations(version: str, field: str) -> None:
    assert listed(version, {"name": "odd", "inputSchema": OBJECT, field: MENDED[field]}) == (["good", "odd"], 0)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("schema", [{}, {"properties": {"a": {"type": "string"}}}, None])
def test_a_schema_that_does_not_say_so_is_one_of_an_object(version: str, schema: Any) -> None:
    assert listed(version, {"name": "odd", "inputSchema": schema}) == (["good", "odd"], 0)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("tool", UNUSABLE)
def test_a_tool_that_is_none_costs_no_other_and_is_counted(version: str, tool: Any) -> None:
    assert listed(version, tool) == (["good"], 1)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    "block",
    [
        {"type": "video", "data": "xx", "mimeType": "video/mp4"},
        {"type": "image", "data": "AAAA"},
        {"type": "resource", "resource": {"uri": "x://y"}},
        {"type": "text", "text": None},
        7,
    ],
)
def test_a_piece_that_cannot_be_read_is_named_in_its_place(version: str, block: Any) -> None:
    (before, named, behind), is_error = result(version, content=[text("a"), block, text("b")], isError=True)
    assert (before, behind, is_error) == (TextPart("a"), TextPart("b"), True)
    assert isinstance(named, TextPart)
    assert named.text.startswith("[content that cannot be read")


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize(
    ("raw", "content"),
    [
        ({"structuredContent": {"a": 1}}, JsonPart('{"a":1}')),
        ({"content": [], "structuredContent": [1, 2]}, JsonPart('{"result":[1,2]}')),
        ({"content": "plain"}, TextPart("plain")),
        ({"content": {"type": "text", "text": "one"}}, TextPart("one")),
        ({"content": [{"type": "text", "text": "t", "annotations": {"audience": ["everybody"]}}]}, TextPart("t")),
        ({"content": [{"type": "text", "text": "t"}], "isError": None}, TextPart("t")),
    ],
)
def test_what_a_result_says_is_taken_however_it_is_said(version: str, raw: Any, content: ResultContent) -> None:
    assert result(version, **raw) == ((content,), False)


def text(words: str) -> dict[str, str]:
    return {"type": "text", "text": words}


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("raw", [{}, {"content": None}, {"_meta": {"a": 1}}, {"isError": False}])
def test_a_result_of_nothing_says_that_it_is_done(version: str, raw: dict[str, Any]) -> None:
    assert result(version, **raw) == ((TextPart("(The tool returned nothing.)"),), False)


@pytest.mark.parametrize("raw", [{"task": {"taskId": "t"}}, {"toolResult": 1}])
def test_what_says_something_else_is_no_result(raw: dict[str, Any]) -> None:
    with pytest.raises(ValidationError):
        result("2025-06-18", **raw)


@pytest.mark.parametrize(
    ("said", "kept"), [(b"cut \\ud83d", "cut \ufffd"), (b"caf\xe9", "caf\ufffd"), ("cut \\ud83d", "cut \ufffd")]
)
def test_a_message_with_what_no_text_can_hold_is_read(said: bytes | str, kept: str) -> None:
    """A server that cuts a text in the middle of a character has run all the same."""
    before, after = '{"jsonrpc": "2.0", "id": 1, "result": {"text": "', '"}}'
    data = before + said + after if isinstance(said, str) else before.encode() + said + after.encode()
    message = types.jsonrpc_message_adapter.validate_json(data, by_name=False)
    assert isinstance(message, types.JSONRPCResponse)
    assert message.result == {"text": kept}


def test_a_message_that_is_none_is_refused() -> None:
    for data in (b"", b"{", b"<html>", b'{"jsonrpc": "2.0"}', b'{"jsonrpc": "1.0", "id": 1, "result": {}}'):
        with pytest.raises(ValidationError):
            types.jsonrpc_message_adapter.validate_json(data, by_name=False)


def test_a_message_need_not_say_of_which_version_it_is() -> None:
    message = types.jsonrpc_message_adapter.validate_json(' {"id": 1, "result": {}}', by_name=False)
    assert message == types.JSONRPCResponse(jsonrpc="2.0", id=1, result={})


@pytest.mark.parametrize("data", ["ping", "null", "7", "{}", '{"method": 7}', '{"jsonrpc": "2.0"}'])
def test_an_event_that_can_be_no_answer_is_passed_over(data: str) -> None:
    assert types.jsonrpc_message_adapter.validate_json(data, by_name=False) == mcp_mending.PASSED_OVER


@pytest.mark.parametrize("data", ['{"id": 1, "result"', '{"id": 1, "result": 7}', '[{"id": 1, "result": {}}]'])
def test_an_event_that_may_be_the_answer_is_refused(data: str) -> None:
    with pytest.raises(ValidationError):
        types.jsonrpc_message_adapter.validate_json(data, by_name=False)


class Heard:
    def __init__(self) -> None:
        self.messages: list[Any] = []

    async def send(self, message: SessionMessage | Exception) -> None:
        self.messages.append(message.message if isinstance(message, SessionMessage) else message)


@pytest.mark.parametrize("request_id", [b"null", b"99", b'"7"'])
@pytest.mark.parametrize("said", [b'"result": {}', b'"error": {"code": -32600, "message": "bad"}'])
async def test_an_answer_is_of_its_request_whatever_id_it_says(request_id: bytes, said: bytes) -> None:
    response = httpx2.Response(200, content=b'{"jsonrpc": "2.0", "id": %s, %s}' % (request_id, said))
    heard: Any = Heard()
    transport = StreamableHTTPTransport("http://localhost/mcp")
    await transport._handle_json_response(response, heard, request_id=7)
    (message,) = heard.messages
    assert message.id == 7
