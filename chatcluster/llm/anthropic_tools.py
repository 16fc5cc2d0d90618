"""Tools, calls and results on the Messages wire: those of ours, the provider's own search, and its words for the
screen of a workspace (``computer_toolset.py``), where the model's options want them. Pure."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec

from chatcluster.json_bounds import bounded
from chatcluster.llm.computer_toolset import ENTRY, SET, TOOL, MemberCall, is_screen, member_call
from chatcluster.llm.conversation import AnsweredCall
from chatcluster.llm.slices import encoded_text
from chatcluster.llm.wire import SEARCH, Route, search_settings
from chatcluster.parts import UNDECODABLE, encode
from chatcluster.ports import ModelRequest, ToolSpec

NO_TOOL = ToolSpec("none", "There are no tools.", {})
SEARCH_TOOL = {"type": "web_search_20250305", "name": SEARCH}
MARK = b',"cache_control":{"type":"ephemeral"}'


def wire_tools(request: ModelRequest, route: Route, *, has_calls: bool) -> Iterator[bytes]:
    """The tools that are offered; where none is, one that is none: calls of the past without tools are refused."""
    search, has_set = search_settings(request, route), offers_set(request, route)
    tools = [ENTRY if has_set and is_screen(tool) else _wire_tool(tool) for tool in request.tools]
    offered = [*tools, *([] if search is None else [SEARCH_TOOL | search])]
    *others, last = offered or [_wire_tool(NO_TOOL) if has_calls else {}]
    if not last:
        return
    yield b',"tools":['
    for tool in others:
        yield from encoded_text(encode(tool) + b",")
    yield from encoded_text(encode(last)[:-1] + MARK + b"}]")
    if not (offered and request.may_call_tools):
        yield b',"tool_choice":{"type":"none"}'


def offers_set(request: ModelRequest, route: Route) -> bool:
    """Whether the model is told of the screen in its provider's words."""
    return route.options.computer_tool is not None and any(map(is_screen, request.tools))


def member_of(call: AnsweredCall) -> MemberCall | None:
    """The call in the provider's words, where it is one of the screen, and they have any for it."""
    if call.name != TOOL:
        return None
    try:
        return member_call(msgspec.json.decode(bounded(call.arguments.encode())))
    except UNDECODABLE:
        return None


def wire_call(call: AnsweredCall, member: MemberCall | None) -> dict[str, Any]:
    wire: dict[str, Any] = {"type": "tool_use", "id": call.id}
    if member is not None:
        return wire | {"name": member.name, "input": member.input, "toolset_name": SET}
    return wire | {"name": call.name, "input": msgspec.Raw(call.arguments.encode())}


def _wire_tool(tool: ToolSpec) -> dict[str, Any]:
    wire: dict[str, Any] = {"name": tool.name}
    if tool.description:
        wire["description"] = tool.description
    wire["input_schema"] = tool.parameters or {"type": "object", "properties": {}}
    return wire
