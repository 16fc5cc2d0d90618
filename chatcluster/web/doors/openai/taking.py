"""Items of input as messages, with the caller's files in them.

Files in what a user says are files of the user's. Images that a function gives are part of its result, as those of any
tool: with their bytes, made fit for models."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import islice
from typing import Any
from uuid import UUID

import msgspec

from chatcluster.content import ImagePart
from chatcluster.errors import InvalidRequest
from chatcluster.images import images_scaled
from chatcluster.parts import NewMessage, Part, ToolResultPart
from chatcluster.web.doors.given_files import restored, stored
from chatcluster.web.doors.openai.input_items import ITEMS_MAX, Given, Placed, files_named, given, is_image, placed
from chatcluster.web.doors.openai.references import followed
from chatcluster.web.request import ApiRequest


async def taken(request: ApiRequest, items: Placed, *, apart: bool = False) -> Given:
    """Raises ``InvalidRequest``, ``FileNotFound``, ``TooLarge``, and what uploads raise."""
    few = islice(items, ITEMS_MAX + 1)  # what is one too many is refused below
    items = [(place, await _whole(request, item)) for place, item in few]
    files = await stored(request, files_named(items))
    found = given(items, bytes_max=request.services.settings.sizes.content_bytes_max, files=files, apart=apart)
    return found._replace(messages=tuple([await _scaled(one, request.user.user_id) for one in found.messages]))


async def _whole(request: ApiRequest, item: Any) -> Any:
    """The body with the bytes of its images, which may have been taken out of it."""
    output = item.get("output") if isinstance(item, dict) else None
    if not isinstance(output, list) or not any(map(is_image, output)):
        return item
    return {**item, "output": await restored(request, output)}


async def _scaled(message: NewMessage, user_id: UUID) -> NewMessage:
    if not any(isinstance(part, ToolResultPart) and _has_images(part) for part in message.parts):
        return message
    parts = [await _with_images_scaled(part, user_id) for part in message.parts]
    return msgspec.structs.replace(message, parts=tuple(parts))


async def _with_images_scaled(part: Part, user_id: UUID) -> Part:
    if not (isinstance(part, ToolResultPart) and _has_images(part)):
        return part
    content = [piece for piece in part.content if not isinstance(piece, str)]
    return msgspec.structs.replace(part, content=await images_scaled(content, user_id))


def _has_images(result: ToolResultPart) -> bool:
    return any(isinstance(piece, ImagePart) for piece in result.content)


async def taken_input(request: ApiRequest, said: str | Sequence[Any]) -> Given:
    """The ``input`` of a response. Raises as ``taken``, and as ``followed``."""
    return await taken(request, await followed(request, islice(placed(said), ITEMS_MAX + 1)))


async def taken_history(request: ApiRequest, items: Sequence[Any]) -> Given:
    """The ``items`` of a conversation, which nobody answers. Raises as ``taken``."""
    said = await taken(request, ((f"items[{place}]", item) for place, item in enumerate(items)), apart=True)
    if said.approvals:
        raise InvalidRequest("an answer to a request is the input of the next response", param="items")
    return said
