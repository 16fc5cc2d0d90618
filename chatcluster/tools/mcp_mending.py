"""What an MCP server says of tools and results, mended where it is none of the protocol, in the MCP process.

The SDK takes a list of tools, or a result, as a whole or not at all: one tool with a schema that is none would cost all
tools of its server, and one piece of a kind that is not known the result of a call that has run. So what can be read is
taken: a tool without its decorations, a result without the pieces that cannot be read, of which a word says so. A tool
that cannot be mended loses its name, so that it is left out and counted. Of what is sound, nothing that is made use of
is lost.

To the SDK the first event of a stream that is no message is the end of the call. One that cannot be its answer, as what
keeps a connection alive, is passed over. And of an answer that says another ID than its request, or none, it takes no
notice, unless it comes as an event: its caller would wait until its time is over.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple, Protocol

import mcp_types as types
import msgspec
from mcp.client.streamable_http import StreamableHTTPTransport
from mcp.shared.message import SessionMessage
from mcp_types import methods
from pydantic import TypeAdapter, ValidationError

from chatcluster.json_mending import mended
from chatcluster.tools.mcp_results import PIECES_MAX

KIND_CHARS_MAX = 40
DECORATIONS = ("title", "description", "annotations", "execution")
"""What is said of a tool besides its name and its schema, as far as it is made use of."""
NOTHING_SAID = {"_meta", "isError", "resultType", "content"}
"""A result of nothing else says that it is done."""
PASSED_OVER = types.JSONRPCNotification(jsonrpc="2.0", method="notifications/none")
"""Stands for an event that is no message. No version knows such a notification, so nothing becomes of it."""
UNUSABLE = {"name": "", "inputSchema": {"type": "object"}}

_BLOCK: TypeAdapter[types.ContentBlock] = TypeAdapter(types.ContentBlock)
_validated = methods.validate_server_result
_read = types.jsonrpc_message_adapter.validate_json
_take_object = StreamableHTTPTransport._handle_json_response


def install() -> None:
    """Mend what the SDK is about to look at, in all of this process: it has no place for that."""
    vars(methods)["validate_server_result"] = _validate
    vars(types.jsonrpc_message_adapter)["validate_json"] = _read_mended
    StreamableHTTPTransport._handle_json_response = _take_object_as_the_answer  # type: ignore[method-assign, assignment]


class _Writer(Protocol):
    async def send(self, message: SessionMessage | Exception, /) -> None: ...


class _Addressed(NamedTuple):
    """What is sent here answers the request, whatever it says."""

    writer: _Writer
    request_id: types.RequestId

    async def send(self, message: SessionMessage | Exception, /) -> None:
        if isinstance(message, SessionMessage) and isinstance(
            message.message, types.JSONRPCResponse | types.JSONRPCError
        ):
            message.message.id = self.request_id
        await self.writer.send(message)


async def _take_object_as_the_answer(
    transport: StreamableHTTPTransport, response: Any, writer: _Writer, *, request_id: types.RequestId
) -> None:
    addressed: Any = _Addressed(writer, request_id)
    await _take_object(transport, response, addressed, request_id=request_id)


def _read_mended(data: str | bytes, **options: Any) -> types.JSONRPCMessage:
    try:
        return _read(data, **options)
    except ValidationError:
        is_event = isinstance(data, str)
        said = mended(data.encode("utf-8", "replace") if isinstance(data, str) else data).lstrip()
    try:
        return _read(_with_version(said), **options)
    except ValidationError:
        if is_event and _is_no_answer(said):
            return PASSED_OVER
        raise


def _with_version(said: bytes) -> bytes:
    """A message that does not say so is of the one version of JSON-RPC that there is here."""
    return b'{"jsonrpc":"2.0",' + said[1:] if said.startswith(b"{") else said


def _is_no_answer(said: bytes) -> bool:
    if not said.startswith((b"{", b"[")):
        return True
    try:
        return "id" not in msgspec.json.decode(said, type=dict[str, msgspec.Raw])
    except (msgspec.MsgspecError, RecursionError):
        return False


def _validate(method: str, version: str, data: dict[str, Any]) -> None:
    if (mend := MENDED.get(method)) is not None:
        mend(data)
    _validated(method, version, data)


def mend_list(data: dict[str, Any]) -> None:
    if isinstance(data.get("tools"), list):
        data["tools"] = [_mended_tool(tool) for tool in data["tools"]]


def _mended_tool(tool: Any) -> dict[str, Any]:
    if not isinstance(tool, dict):
        return UNUSABLE
    schema = {} if tool.get("inputSchema") is None else tool["inputSchema"]
    if not isinstance(schema, dict) or schema.get("type", "object") != "object":
        return UNUSABLE
    bare = {"name": tool.get("name"), "inputSchema": {"type": "object", **schema}}
    given = {word: tool[word] for word in DECORATIONS if word in tool}
    if _is_valid(types.Tool.model_validate, bare | given):
        return bare | given
    if not _is_valid(types.Tool.model_validate, bare):
        return UNUSABLE
    sound = {word: value for word, value in given.items() if _is_valid(types.Tool.model_validate, bare | {word: value})}
    return bare | sound


def mend_result(data: dict[str, Any]) -> None:
    if "inputRequests" in data or "requestState" in data:
        return  # no result yet
    if data.get("isError", False) is None:
        del data["isError"]
    structure, content = data.get("structuredContent"), data.get("content")
    if structure is not None and not isinstance(structure, dict):
        data["structuredContent"] = {"result": structure}
    if content is None and (structure is not None or data.keys() <= NOTHING_SAID):
        content = []
    if isinstance(content, str | dict):
        content = [content]
    if isinstance(content, list):
        data["content"] = [_mended_block(block) for block in content] if len(content) <= PIECES_MAX else content


def _mended_block(block: Any) -> Any:
    if isinstance(block, str):
        return {"type": "text", "text": block}
    if _is_valid(_BLOCK.validate_python, block):
        return block
    if not isinstance(block, dict):
        return _text("[content that cannot be read]")
    bare = {word: value for word, value in block.items() if word not in ("annotations", "_meta", "icons")}
    if _is_valid(_BLOCK.validate_python, bare):
        return bare
    return _text(f"[content that cannot be read here, of the kind {str(block.get('type'))[:KIND_CHARS_MAX]!r}]")


def _text(text: str) -> dict[str, Any]:
    return {"type": "text", "text": text}


def _is_valid(validate: Callable[[Any], object], value: Any) -> bool:
    try:
        validate(value)
    except ValidationError:
        return False
    return True


MENDED: Mapping[str, Callable[[dict[str, Any]], None]] = {"tools/list": mend_list, "tools/call": mend_result}
