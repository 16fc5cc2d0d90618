"""What an MCP server sends, as what chatcluster keeps: lists of tools, and results. Pure but for the SDK's types."""

from __future__ import annotations

import json
import math
from base64 import b64decode, b64encode
from collections.abc import Iterable, Iterator
from typing import Any

import mcp_types as types
import msgspec

from chatcluster.content import ImagePart, JsonPart, ResourcePart, ResultContent, TextPart, storable, strings_of
from chatcluster.file_errors import UnsupportedFile
from chatcluster.file_types import IMAGES, TEXT, Sniffer
from chatcluster.frames import UNDECODABLE
from chatcluster.json_bounds import bounded
from chatcluster.tools.mcp_wire import Called, ListedTool

PIECES_MAX = 1000
TOOLS_MAX = 500
TOOL_NAME_CHARS_MAX = 128
DESCRIPTION_CHARS_MAX = 8192
SCHEMA_BYTES_MAX = 64 << 10
EXTREMES_MAX = 20
"""The most extreme numbers in one schema: the replica reads all of them at once."""
LIST_BYTES_MAX = 256 << 10
"""Names, descriptions and schemas of one server: the model reads all of it in every step."""
INSTRUCTIONS_CHARS_MAX = 16_384


class TooMuch(Exception):
    """The result is larger than its tool may have."""


# --- lists ------------------------------------------------------------------------------------


class ToolListing:
    """The tools of a server that can be taken, page by page: of a page nothing else is kept. ``left_out``: how many
    cannot be, as far as was read; once it ``is_full``, no further page needs to be."""

    def __init__(self) -> None:
        self.left_out = 0
        self.is_full = False
        self._taken: dict[str, ListedTool] = {}
        self._size = 0

    @property
    def tools(self) -> tuple[ListedTool, ...]:
        """The tools in the server's order."""
        return tuple(self._taken.values())

    def take(self, tools: Iterable[types.Tool]) -> None:
        for tool in tools:
            found = _listed_tool(tool)
            known = None if found is None else self._taken.get(found.name)
            if found is not None and known is None and self._has_room_for(found):
                self._taken[found.name] = found
            elif found is None or known != found:  # else a page came twice
                self.left_out += 1

    def _has_room_for(self, tool: ListedTool) -> bool:
        self._size += len(msgspec.json.encode(tool))
        self.is_full = self._size > LIST_BYTES_MAX or len(self._taken) == TOOLS_MAX
        return not self.is_full


def _listed_tool(tool: types.Tool) -> ListedTool | None:
    usable = tool.name and len(tool.name) <= TOOL_NAME_CHARS_MAX and storable(tool.name) == tool.name
    if tool.execution is not None and tool.execution.task_support == "required":
        return None  # it is no call that has a result
    schema = _schema_of(tool)
    if not usable or schema is None:
        return None
    hints = tool.annotations or types.ToolAnnotations()
    description = tool.description or tool.title or hints.title or ""
    return ListedTool(
        name=tool.name,
        description=storable(description)[:DESCRIPTION_CHARS_MAX],
        schema=schema,
        read_only=hints.read_only_hint is True,
        idempotent=hints.idempotent_hint is True,
    )


def _schema_of(tool: types.Tool) -> str | None:
    """The schema as JSON that we can read and store, if it is one of an object and not too large."""
    if tool.input_schema.get("type", "object") != "object":
        return None
    text = json.dumps({"type": "object", **tool.input_schema}).replace("\\u0000", "\\ufffd")
    try:
        msgspec.json.decode(bounded(text.encode(), extremes_max=EXTREMES_MAX), type=dict[str, Any])
    except UNDECODABLE:
        return None
    return text if len(text) <= SCHEMA_BYTES_MAX else None


def instructions_of(text: str | None) -> str:
    return storable(text or "")[:INSTRUCTIONS_CHARS_MAX]


# --- results ----------------------------------------------------------------------------------


def called(call_id: int, result: types.CallToolResult, *, bytes_max: int) -> Called:
    """The result of a call. Raises ``TooMuch``."""
    if len(result.content) > PIECES_MAX:
        raise TooMuch(f"the result has {len(result.content)} pieces; {PIECES_MAX} are taken")
    content = [piece for block in result.content for piece in _pieces(block)]
    if result.structured_content is not None:
        content = _with_structure(content, result.structured_content)
    size = sum(len(text.encode()) for piece in content for text in strings_of(piece))
    if size > bytes_max:
        raise TooMuch(f"the result has {size} bytes; {bytes_max} are taken")
    return Called(call_id, tuple(content) or (TextPart("(The tool returned nothing.)"),), bool(result.is_error))


def _with_structure(content: list[ResultContent], structure: Any) -> list[ResultContent]:
    """The content with the structured result, and without the text that says the same, which is for older clients."""
    text = content[0].text if len(content) == 1 and isinstance(content[0], TextPart) else None
    if text is not None and isinstance(structure, dict) and list(structure) == ["result"]:
        value = structure["result"]  # what a server that wants an object makes of a plain value
        if text == value or _is_json_of(text, value):
            return content
    if text is not None and _is_json_of(text, structure):
        content = []
    return [*content, JsonPart(storable(_encoded(structure)))]


def _encoded(structure: Any) -> str:
    """As JSON, which has no number that is infinite or none."""
    try:
        return json.dumps(structure, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    except ValueError:
        return json.dumps(_finite(structure), ensure_ascii=False, separators=(",", ":"))


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {name: _finite(inner) for name, inner in value.items()}
    if isinstance(value, list):
        return [_finite(inner) for inner in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _is_json_of(text: str, value: Any) -> bool:
    try:
        return bool(json.loads(text) == value)
    except (ValueError, RecursionError):
        return False


def _pieces(block: object) -> Iterator[ResultContent]:
    match block:
        case types.TextContent(text=text):
            yield TextPart(storable(text))
        case types.ImageContent(data=data, mime_type=media_type):
            yield _image(data, media_type)
        case types.AudioContent(data=data, mime_type=media_type):
            yield TextPart(f"[audio, {storable(media_type)}, {len(data) * 3 // 4} bytes: it cannot be shown here]")
        case types.ResourceLink():
            name = block.title or block.name
            yield ResourcePart(storable(str(block.uri)), storable(name), _stored(block.mime_type))
        case types.EmbeddedResource(resource=resource):
            yield _embedded(resource)
        case _:
            yield TextPart("[content of a kind that this version does not know]")


def _embedded(resource: types.TextResourceContents | types.BlobResourceContents) -> ResultContent:
    uri, media_type = storable(str(resource.uri)), _stored(resource.mime_type)
    if isinstance(resource, types.TextResourceContents):
        return ResourcePart(uri, media_type=media_type, text=storable(resource.text))
    if media_type is not None and media_type.startswith("image/"):
        return _image(resource.blob, media_type)
    try:
        data = b64decode(_plain_base64(resource.blob), validate=True)
    except ValueError:
        return ResourcePart(uri, media_type=media_type, text="[what it has cannot be decoded]")
    kind = _kind_of(data)  # servers say little of it
    if kind in IMAGES:
        return ImagePart(kind, b64encode(data).decode())
    is_text = kind == TEXT
    text = storable(data.decode()) if is_text else f"[{len(data)} bytes that are no text: they cannot be shown here]"
    return ResourcePart(uri, media_type=media_type, text=text)


def _kind_of(data: bytes) -> str | None:
    sniffer = Sniffer()
    try:
        sniffer.feed(data)
        return sniffer.media_type()
    except UnsupportedFile:
        return None


def _image(data: str, media_type: str) -> ResultContent:
    data = _plain_base64(data)
    try:
        b64decode(data, validate=True)
    except ValueError:
        return TextPart("[an image that cannot be decoded]")
    return ImagePart(storable(media_type), data)


def _plain_base64(data: str) -> str:
    """The base64 without the lines that mail has, and what stands before it in a page."""
    return "".join((data.partition(",")[2] if data.startswith("data:") else data).split())


def _stored(text: str | None) -> str | None:
    return None if text is None else storable(text)
