"""What is kept of what a server says: lists of tools, and results, bounded. Pure.

What is none of the protocol is left out, or replaced by words that say so; nothing here raises for what it is given.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterable
from typing import Any

import msgspec

from chatcluster.workspace_mcp import (
    LIST_BYTES_MAX,
    PIECES_MAX,
    RESULT_BYTES_MAX,
    TOOLS_MAX,
    McpContent,
    McpResult,
    McpTool,
)

NAME_CHARACTERS_MAX = 128
DESCRIPTION_CHARACTERS_MAX = 8192
INSTRUCTIONS_CHARACTERS_MAX = 16_384
ADDRESS_CHARACTERS_MAX = 2000
NOTHING = McpContent(text="(The tool returned nothing.)")
NOTHING_SAID = {"_meta", "isError", "resultType", "structuredContent"}
"""A result of these alone has no content, and is one."""
TOO_LARGE = "The result was too large: it has more than {} {}. It has run. Ask for less: a part, a page, a filter."


def tools_of(listed: Iterable[Any]) -> tuple[tuple[McpTool, ...], int]:
    """The tools that can be taken, in their order, and how many cannot."""
    taken: dict[str, McpTool] = {}
    size = left_out = 0
    for one in listed:
        tool = _tool(one)
        size += 0 if tool is None else len(tool.name) + len(tool.description) + len(tool.schema)
        if tool is None or tool.name in taken or size > LIST_BYTES_MAX or len(taken) == TOOLS_MAX:
            left_out += 1
        else:
            taken[tool.name] = tool
    return tuple(taken.values()), left_out


def _tool(one: Any) -> McpTool | None:
    name, schema = _field(one, "name"), one.get("inputSchema") if isinstance(one, dict) else None
    if not 0 < len(name) <= NAME_CHARACTERS_MAX or not name.isprintable():
        return None
    if not isinstance(schema, dict) or schema.get("type", "object") != "object":
        return None
    description = _field(one, "description") or _field(one, "title")
    encoded = msgspec.json.encode({"type": "object", **schema}).decode()
    return McpTool(name=name, description=description[:DESCRIPTION_CHARACTERS_MAX], schema=encoded)


def instructions_of(answer: Any) -> str:
    return _field(answer, "instructions")[:INSTRUCTIONS_CHARACTERS_MAX]


def result_of(answer: Any) -> McpResult:
    """What a call gave."""
    blocks = answer.get("content", [] if answer.keys() <= NOTHING_SAID else None) if isinstance(answer, dict) else None
    if not isinstance(blocks, list):
        return failed("The server answered what is no result.")
    if len(blocks) > PIECES_MAX:
        return failed(TOO_LARGE.format(PIECES_MAX, "pieces"))
    content = tuple(_piece(block) for block in blocks)
    structure = answer.get("structuredContent")
    if structure is not None and not content:
        content = (McpContent(text=msgspec.json.encode(structure).decode()),)
    if sum(len(piece.text or "") + len(piece.data) for piece in content) > RESULT_BYTES_MAX:
        return failed(TOO_LARGE.format(RESULT_BYTES_MAX, "bytes"))
    return McpResult(content=content or (NOTHING,), is_error=answer.get("isError") is True)


def failed(words: str) -> McpResult:
    return McpResult(content=(McpContent(text=words),), is_error=True)


def _piece(block: Any) -> McpContent:
    match _field(block, "type"):
        case "text":
            return McpContent(text=_field(block, "text"))
        case "image":
            return _image(_field(block, "data"), _field(block, "mimeType"))
        case "resource_link":
            return _resource(block, _field(block, "title") or _field(block, "name"), None)
        case "resource":
            return _embedded(block.get("resource"))
        case kind:
            return McpContent(text=f"[content of the kind {kind[:40]!r}: it cannot be shown here]")


def _embedded(resource: Any) -> McpContent:
    media_type, blob = _field(resource, "mimeType"), _field(resource, "blob")
    if blob and media_type.startswith("image/"):
        return _image(blob, media_type)
    return _resource(resource, "", _field(resource, "text") or (_words_of(blob) if blob else None))


def _words_of(blob: str) -> str:
    """The text that the bytes are, or that they are none."""
    try:
        data = base64.b64decode("".join(blob.split()), validate=True)
    except (binascii.Error, ValueError):
        return "[what it has cannot be decoded]"
    text = data.decode("utf-8", "replace")
    is_text = "\0" not in text and text.encode() == data
    return text if is_text else f"[{len(data)} bytes that are no text: they cannot be shown here]"


def _resource(value: Any, name: str, text: str | None) -> McpContent:
    uri, media_type = _field(value, "uri"), _field(value, "mimeType")
    if not uri:
        return McpContent(text=text or "[a resource without an address]")
    return McpContent(text=text, uri=uri[:ADDRESS_CHARACTERS_MAX], name=name[:200], mime_type=media_type[:200])


def _image(data: str, media_type: str) -> McpContent:
    data = "".join((data.partition(",")[2] if data.startswith("data:") else data).split())
    try:
        base64.b64decode(data, validate=True)
    except (binascii.Error, ValueError):
        return McpContent(text="[an image that cannot be decoded]")
    return McpContent(data=data, mime_type=media_type[:200] or "image/png")


def _field(value: Any, name: str) -> str:
    """A text of an object; empty where there is none."""
    found = value.get(name) if isinstance(value, dict) else None
    return found if isinstance(found, str) else ""
