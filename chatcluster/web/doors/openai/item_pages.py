"""Pages of the items that a chat's messages are."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from chatcluster.errors import InvalidRequest
from chatcluster.parts import Message
from chatcluster.ports import VERSION_MAX, Chat
from chatcluster.ports.responses import StoredResponse
from chatcluster.web.api.messages import ID_MAX
from chatcluster.web.doors.openai.ids import (
    ItemNotSeparable,
    ResponseNotFound,
    kept_item_id,
    message_of,
    message_of_item,
    no_such_item,
    response_of_item,
)
from chatcluster.web.doors.openai.message_items import items_of
from chatcluster.web.doors.openai.telling import first_message_of, read_response, resumed_by, stored_response
from chatcluster.web.request import ApiRequest

ITEMS_DEFAULT, ITEMS_MAX = 20, 100
PAGE_MESSAGES, PAGE_BYTES = 200, 1 << 20
INPUT_MESSAGES_MAX = 2000
"""The most messages of an input whose items are listed: of a longer one the newest."""


async def input_items(request: ApiRequest, stored: StoredResponse) -> list[dict[str, Any]]:
    """What began the response: what its transaction brought and did not copy, up to the message that is answered."""
    resumed = resumed_by(stored)
    if resumed is not None:
        given = [item for item in resumed.given if isinstance(item, dict)]
        return [{**item, "id": item.get("id") or f"in_{number}"} for number, item in enumerate(given)]
    messages = await _given(request, stored)
    return [item for one in messages if one.id <= stored.message_id for item in items_of(one)]


async def conversation_page(
    request: ApiRequest, chat: Chat, limit: int, order: str, after: str | None
) -> dict[str, Any]:
    """A page of all that was said. Where the item that it goes on from was deleted, it goes on from its place.

    Raises ``InvalidRequest``, and ``ItemNotFound`` for what is no item of this conversation."""
    _check_order(order)
    read = _next_messages if order == "asc" else _messages_before
    last = None if after is None else await kept_as(request, chat, after, may_be_gone=True)
    at = None if last is None else message_of_item(last)
    if after is not None and at is None:
        raise _nothing_to_go_on_from(after)
    found: list[dict[str, Any]] = []
    is_whole, is_first = False, True
    while len(found) <= limit and not is_whole:
        messages, is_whole = await read(request, chat, at, limit + 1, is_first)
        for message in messages:
            items = list(items_of(message))
            items = items if order == "asc" else items[::-1]
            if is_first and last == _place_before(message.id):
                items = items if order == "asc" else []
            elif is_first and message.id == at:
                items = items[_place_in(items, str(last)) + 1 :]
            found.extend(items)
        is_first, at = False, messages[-1].id if messages else at
    return _page(found, limit)


async def _next_messages(
    request: ApiRequest, chat: Chat, at: int | None, limit: int, inclusive: bool
) -> tuple[Sequence[Message], bool]:
    """Those behind a message, or from it on; and whether that is all."""
    page = await request.services.store.read_messages(
        chat.id,
        after_version=0,
        after_id=0 if at is None else at - inclusive,
        up_to_version=VERSION_MAX,
        limit=limit,
        bytes_max=PAGE_BYTES,
    )
    return page.messages, page.next_revision is None


async def _messages_before(
    request: ApiRequest, chat: Chat, at: int | None, limit: int, inclusive: bool
) -> tuple[Sequence[Message], bool]:
    """As ``_next_messages``, backwards."""
    before = ID_MAX if at is None else at + inclusive
    page = await request.services.store.list_newest(
        chat.id, owner_id=chat.owner_id, before=before, limit=limit, bytes_max=PAGE_BYTES
    )
    return page.messages, not page.has_more


async def items_beside(request: ApiRequest, chat: Chat, item_id: str) -> tuple[str, list[dict[str, Any]]]:
    """An item's ID in its conversation, and all items of its message. Raises ``ItemNotFound``."""
    kept = await kept_as(request, chat, item_id)
    message_id = message_of_item(kept)
    messages = [] if message_id is None else (await _next_messages(request, chat, message_id, 1, True))[0]
    items = [item for one in messages if one.id == message_id for item in items_of(one)]
    if all(item["id"] != kept for item in items):
        raise no_such_item(item_id)
    return kept, items


async def kept_as(request: ApiRequest, chat: Chat, item_id: str, *, may_be_gone: bool = False) -> str:
    """The ID that an item has in its conversation, of the one that it has in a response's output. ``may_be_gone``: for
    one that was deleted, or came to nothing, its place, which is behind what is left of its response: of an answer
    nothing goes alone but its end.

    Raises ``ItemNotFound``."""
    named = response_of_item(item_id)
    if named is None:
        return item_id
    try:
        stored = await stored_response(request, named)
    except ResponseNotFound:
        raise no_such_item(item_id) from None
    fold = await read_response(request, stored) if stored.chat_id == chat.id else None
    if fold is not None and item_id in fold.kept_as:
        return fold.kept_as[item_id]
    if fold is None or not may_be_gone:
        raise no_such_item(item_id)
    return _place_before((fold.last_id or message_of(stored.message_id)) + 1)


def _place_before(message_id: int) -> str:
    """In the form of an ID, which no item has. There may be such a message, or not."""
    return kept_item_id("msg", message_id, 0)


async def _given(request: ApiRequest, stored: StoredResponse) -> list[Message]:
    read: list[Message] = []
    after_id = max(0, first_message_of(stored) - 1)
    while True:
        page = await request.services.store.read_messages(
            stored.chat_id,
            after_version=stored.revision - 1,
            after_id=after_id,
            up_to_version=stored.revision,
            limit=PAGE_MESSAGES,
            bytes_max=PAGE_BYTES,
        )
        read.extend(page.messages)
        del read[:-INPUT_MESSAGES_MAX]
        if page.next_revision is None:
            return read
        after_id = page.messages[-1].id


def require_separable(kept: str, beside: Sequence[dict[str, Any]]) -> None:
    """Raises ``ItemNotSeparable`` where others stand beside the item, apart from the reasoning that led to it."""
    others = [item["id"] for item in beside if item["id"] != kept and item["type"] != "reasoning"]
    if others:
        raise ItemNotSeparable(f"{kept} is one answer with {', '.join(others[:5])}: items of one answer stay together")


def page_of(items: Sequence[dict[str, Any]], limit: int, order: str, after: str | None) -> dict[str, Any]:
    """A page, as lists are in this API. Raises ``InvalidRequest`` for an order, or an item, that there is not."""
    _check_order(order)
    ordered = list(items if order == "asc" else reversed(items))
    if after is not None:
        ordered = ordered[_place_in(ordered, after) + 1 :]
    return _page(ordered, limit)


def _check_order(order: str) -> None:
    if order not in ("asc", "desc"):
        raise InvalidRequest("order is asc or desc", param="order")


def _place_in(items: Sequence[dict[str, Any]], item_id: str) -> int:
    for place, item in enumerate(items):
        if item["id"] == item_id:
            return place
    raise _nothing_to_go_on_from(item_id)


def _nothing_to_go_on_from(item_id: str) -> InvalidRequest:
    return InvalidRequest(f"there is no item {item_id[:80]!r} to go on from", param="after")


def _page(ordered: Sequence[dict[str, Any]], limit: int) -> dict[str, Any]:
    page = list(ordered[:limit])
    ends = {"first_id": page[0]["id"] if page else None, "last_id": page[-1]["id"] if page else None}
    return {"object": "list", "data": page, **ends, "has_more": len(ordered) > limit}
