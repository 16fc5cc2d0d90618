"""Messages of a chat as items, and pages of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any
from uuid import UUID

from chatcluster.content import FilePart, ImagePart
from chatcluster.errors import InvalidRequest
from chatcluster.file_types import IMAGES
from chatcluster.parts import Message, ReasoningPart, Role, TextPart, ToolCallPart, ToolResultPart
from chatcluster.ports.responses import StoredResponse
from chatcluster.web.doors.openai.ids import ItemNotSeparable, message_of_item, no_such_item
from chatcluster.web.doors.openai.telling import resumed_by
from chatcluster.web.request import ApiRequest

ITEMS_DEFAULT, ITEMS_MAX = 20, 100
PAGE_MESSAGES, PAGE_BYTES = 200, 1 << 20
LISTED_MESSAGES_MAX = 2000
"""The most messages whose items are listed: of a longer chat the newest."""


async def input_items(request: ApiRequest, stored: StoredResponse) -> list[dict[str, Any]]:
    """What began the response: all that its transaction brought, up to the message that is answered."""
    resumed = resumed_by(stored)
    if resumed is not None:
        return [{"id": f"in_{number}", **item} for number, item in enumerate(resumed.given) if isinstance(item, dict)]
    messages = await _messages(request, stored.chat_id, after=stored.revision - 1, up_to=stored.revision)
    return [item for one in messages if one.id <= stored.message_id for item in items_of(one)]


async def conversation_items(request: ApiRequest, chat_id: UUID, version: int) -> list[dict[str, Any]]:
    return [item for one in await _messages(request, chat_id, after=0, up_to=version) for item in items_of(one)]


async def _messages(request: ApiRequest, chat_id: UUID, *, after: int, up_to: int) -> list[Message]:
    read: list[Message] = []
    after_id = 0
    while True:
        page = await request.services.store.read_messages(
            chat_id,
            after_version=after,
            after_id=after_id,
            up_to_version=up_to,
            limit=PAGE_MESSAGES,
            bytes_max=PAGE_BYTES,
        )
        read.extend(page.messages)
        del read[:-LISTED_MESSAGES_MAX]
        if page.next_revision is None:
            return read
        after_id = page.messages[-1].id


def items_of(message: Message) -> Iterator[dict[str, Any]]:
    """What a message says is one item, where it begins to; each call and each result another."""
    content = list(_content(message))
    for place, part in enumerate(message.parts):
        match part:
            case TextPart() | FilePart() if content:
                said = {"role": str(message.role), "status": "completed", "content": content}
                yield {"id": f"msg_{message.id:x}", "type": "message", **said}
                content = []
            case ReasoningPart(text=text):
                summary = [{"type": "summary_text", "text": text}]
                yield {"id": f"rs_{message.id:x}_{place}", "type": "reasoning", "summary": summary}
            case ToolCallPart(id=call_id, name=name, arguments=arguments):
                call = {"call_id": call_id, "name": name, "arguments": arguments, "status": "completed"}
                yield {"id": f"fc_{message.id:x}_{place}", "type": "function_call", **call}
            case ToolResultPart(call_id=call_id):
                output = {"call_id": call_id, "output": _output(part), "status": "completed"}
                yield {"id": f"fco_{message.id:x}_{place}", "type": "function_call_output", **output}


def separable_message(items: Sequence[dict[str, Any]], item_id: str) -> int:
    """The message that an item is all of, apart from the reasoning that led to it.

    Raises ``ItemNotFound``, and ``ItemNotSeparable`` where others stand beside it."""
    message_id = message_of_item(item_id)
    beside = [item for item in items if message_of_item(item["id"]) == message_id]
    if message_id is None or all(item["id"] != item_id for item in beside):
        raise no_such_item(item_id)
    others = [item["id"] for item in beside if item["id"] != item_id and item["type"] != "reasoning"]
    if others:
        raise ItemNotSeparable(
            f"{item_id} is one answer with {', '.join(others[:5])}: items of one answer stay together"
        )
    return message_id


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
    for part in message.parts:
        match part:
            case TextPart(text=text):
                yield {"type": kind, "text": text, **({"annotations": []} if kind == "output_text" else {})}
            case FilePart(media_type=media_type) if media_type in IMAGES:
                yield {"type": "input_image", "detail": "auto", "file_id": str(part.file_id), "image_url": None}
            case FilePart():
                yield {"type": "input_file", "file_id": str(part.file_id), "filename": part.name}


def page_of(items: Sequence[dict[str, Any]], limit: int, order: str, after: str | None) -> dict[str, Any]:
    """A page, as lists are in this API. Raises ``InvalidRequest`` for an order, or an item, that there is not."""
    if order not in ("asc", "desc"):
        raise InvalidRequest("order is asc or desc", param="order")
    ordered = list(items if order == "asc" else reversed(items))
    if after is not None:
        places = [place for place, item in enumerate(ordered) if item["id"] == after]
        if not places:
            raise InvalidRequest(f"there is no item {after[:80]!r} to go on from", param="after")
        ordered = ordered[places[0] + 1 :]
    page = ordered[:limit]
    ends = {"first_id": page[0]["id"] if page else None, "last_id": page[-1]["id"] if page else None}
    return {"object": "list", "data": page, **ends, "has_more": len(ordered) > limit}
