"""A message of a chat as items. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import Any

from chatcluster.content import FilePart, ImagePart, seen
from chatcluster.file_types import IMAGES
from chatcluster.parts import (
    Message,
    Part,
    ReasoningPart,
    Role,
    SourcePart,
    TextPart,
    ToolCallPart,
    ToolResultPart,
    text_of,
)
from chatcluster.web.doors.chunks import arguments_of
from chatcluster.web.doors.openai.ids import kept_item_id
from chatcluster.web.doors.openai.spoken import annotation
from chatcluster.web.doors.voices import UNSPOKEN, Citation


def items_of(message: Message) -> Iterator[dict[str, Any]]:
    """What a message says is one item, where it begins to; each call and each result another."""
    content = list(_content(message))
    for place, part in enumerate(message.parts):
        match part:
            case TextPart() | FilePart() if content:
                said = {"role": str(message.role), "status": "completed", "content": content}
                yield {"id": kept_item_id("msg", message.id), "type": "message", **said}
                content = []
            case ReasoningPart(text=text):
                summary = [{"type": "summary_text", "text": text}]
                yield {"id": kept_item_id("rs", message.id, place), "type": "reasoning", "summary": summary}
            case ToolCallPart(id=call_id, name=name):
                call = {"call_id": call_id, "name": name, "arguments": arguments_of(part), "status": "completed"}
                yield {"id": kept_item_id("fc", message.id, place), "type": "function_call", **call}
            case ToolResultPart(call_id=call_id):
                output = {"call_id": call_id, "output": _output(part), "status": "completed"}
                yield {"id": kept_item_id("fco", message.id, place), "type": "function_call_output", **output}


def _output(result: ToolResultPart) -> str | list[dict[str, Any]]:
    """A text; with images, the pieces."""
    pieces = [piece for piece in result.content if not isinstance(piece, str)]
    if not any(isinstance(piece, ImagePart) for piece in pieces):
        return result.text
    return [
        {"type": "input_image", "detail": "auto", "image_url": f"data:{piece.media_type};base64,{piece.data}"}
        if isinstance(piece, ImagePart)
        else {"type": "input_text", "text": ToolResultPart(result.call_id, (piece,)).text}
        for piece in pieces
    ]


def _content(message: Message) -> Iterator[dict[str, Any]]:
    kind = "output_text" if message.role is Role.ASSISTANT else "input_text"
    parts = seen(message.parts)
    for place, part in enumerate(parts):
        match part:
            case TextPart(text=text):
                cited = {"annotations": [*_annotations(parts, place)]} if kind == "output_text" else {}
                yield {"type": kind, "text": text, **cited}
            case FilePart(media_type=media_type) if media_type in IMAGES:
                yield {"type": "input_image", "detail": "auto", "file_id": str(part.file_id), "image_url": None}
            case FilePart():
                yield {"type": "input_file", "file_id": str(part.file_id), "filename": part.name}


def _annotations(parts: Sequence[Part], place: int) -> Iterator[dict[str, Any]]:
    """The sources behind the text at this place."""
    at = len(text_of(parts[place : place + 1]))
    for part in takewhile(lambda behind: isinstance(behind, UNSPOKEN), parts[place + 1 :]):
        if isinstance(part, SourcePart):
            yield annotation(Citation(at, part))
