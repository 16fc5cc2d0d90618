"""Items that a client names instead of sending them: what a response of its said, known by the ID of the item.

Clients that keep a history of their own and let the server store responses do so. A reference becomes the item, as the
response has it; from there on it is like one that was sent.
"""

from __future__ import annotations

from typing import Any

from chatcluster.errors import InvalidRequest
from chatcluster.web.doors.openai.ids import ItemNotFound, ResponseNotFound, response_of_item
from chatcluster.web.doors.openai.input_items import Placed
from chatcluster.web.doors.openai.telling import read_response, stored_response
from chatcluster.web.request import ApiRequest

RESPONSES_MAX = 50
"""The most responses whose items may be named in one request: each of them is read."""


async def followed(request: ApiRequest, items: Placed) -> list[tuple[str, Any]]:
    """The items, with what is named in its place. Raises ``InvalidRequest``, and ``ItemNotFound``, also for what is
    somebody else's."""
    outputs: dict[str, list[dict[str, Any]]] = {}
    return [(place, await _item(request, outputs, item, place)) for place, item in items]


async def _item(request: ApiRequest, outputs: dict[str, list[dict[str, Any]]], item: Any, place: str) -> Any:
    if not (isinstance(item, dict) and (item.get("type") == "item_reference" or set(item) == {"id"})):
        return item
    item_id = item.get("id")
    named = response_of_item(item_id) if isinstance(item_id, str) else None
    if named is None:
        raise _unknown(place, item_id)
    if named not in outputs:
        if len(outputs) == RESPONSES_MAX:
            raise InvalidRequest(f"input names items of more than {RESPONSES_MAX} responses; send them", param="input")
        outputs[named] = await _output(request, named)
    for one in outputs[named]:
        if one["id"] == item_id:
            return one
    raise _unknown(place, item_id)


async def _output(request: ApiRequest, response_id: str) -> list[dict[str, Any]]:
    """Nothing of one that there is not, or that is still under way."""
    try:
        stored = await stored_response(request, response_id)
    except ResponseNotFound:
        return []
    output: list[dict[str, Any]] = (await read_response(request, stored)).response()["output"]
    return output


def _unknown(place: str, item_id: object) -> ItemNotFound:
    return ItemNotFound(f"{place}: there is no item {str(item_id)[:80]!r} in a response of yours; send the item itself")
