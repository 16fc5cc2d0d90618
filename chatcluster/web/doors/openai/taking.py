"""Items of input as messages, with the caller's files in them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chatcluster.web.doors.given_files import stored
from chatcluster.web.doors.openai.input_items import Given, Placed, files_named, given, placed
from chatcluster.web.request import ApiRequest


async def taken(request: ApiRequest, items: Placed) -> Given:
    """Raises ``InvalidRequest``, ``FileNotFound``, ``TooLarge``, and what uploads raise."""
    items = list(items)
    files = await stored(request, files_named(items))
    return given(items, bytes_max=request.services.settings.content_bytes_max, files=files)


async def taken_input(request: ApiRequest, said: str | Sequence[Any]) -> Given:
    """The ``input`` of a response. Raises as ``taken``."""
    return await taken(request, placed(said))
