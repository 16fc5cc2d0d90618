"""Routes of the items of conversations: what is in a chat's history, also what came there another way.

What is created goes to the end of the history of a chat at rest, and nobody answers it: the next response goes on from
it. What is deleted is a message, and all readers of the chat begin anew. An item that stands beside others in its
message is not; reasoning goes with the one that it led to.
"""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from litestar import delete, get, post
from litestar.params import FromPath, JSONBody, QueryParameter
from litestar.types import ASGIApp

from chatcluster.chat import DeleteMessage, Insert
from chatcluster.errors import InvalidRequest, MessageNotFound
from chatcluster.web.doors.door_stream import answered
from chatcluster.web.doors.openai.conversations import told_conversation
from chatcluster.web.doors.openai.ids import message_of_item, no_such_item
from chatcluster.web.doors.openai.item_pages import (
    ITEMS_DEFAULT,
    ITEMS_MAX,
    conversation_page,
    items_beside,
    page_of,
    require_separable,
)
from chatcluster.web.doors.openai.message_items import items_of
from chatcluster.web.doors.openai.pasts import owned_conversation
from chatcluster.web.doors.openai.responses import OPENAI
from chatcluster.web.doors.openai.taking import taken_history
from chatcluster.web.request import ApiRequest


class CreateItems(msgspec.Struct, kw_only=True, frozen=True):
    """What was said elsewhere."""

    items: list[dict[str, Any]]


@post("/conversations/{conversation:str}/items", status_code=200, responses=OPENAI)
async def create_items(request: ApiRequest, conversation: FromPath[str], data: JSONBody[CreateItems]) -> ASGIApp:
    """Add items to the end of a conversation that is at rest. Nothing answers them but the next response. A busy one is
    refused."""
    chat = await owned_conversation(request, conversation)
    said = await taken_history(request, data.items)
    if said.system:
        why = "instructions are no items here: give them with a response, or as the conversation is created"
        raise InvalidRequest(why, param="items")
    if not said.messages:
        raise InvalidRequest("items has nothing that a conversation keeps", param="items")
    outcome = await request.services.transitions.apply(
        chat.id, Insert(said.messages), owner_id=chat.owner_id, idempotency=await request.idempotency()
    )
    items = [item for message in outcome.messages for item in items_of(message)]
    return answered(page_of(items, len(items), "asc", None))


@get("/conversations/{conversation:str}/items", responses=OPENAI)
async def list_items(
    request: ApiRequest,
    conversation: FromPath[str],
    limit: Annotated[int, QueryParameter(ge=1, le=ITEMS_MAX)] = ITEMS_DEFAULT,
    order: Annotated[str, QueryParameter(description="asc, or desc")] = "desc",
    after: Annotated[str | None, QueryParameter(description="The last item of the page before")] = None,
) -> ASGIApp:
    """What was said, the newest first: texts, reasoning, calls and their outputs."""
    chat = await owned_conversation(request, conversation)
    return answered(await conversation_page(request, chat, limit, order, after))


@get("/conversations/{conversation:str}/items/{item_id:str}", responses=OPENAI)
async def retrieve_item(request: ApiRequest, conversation: FromPath[str], item_id: FromPath[str]) -> ASGIApp:
    """One item, by its ID here or in the output of a response."""
    kept, beside = await items_beside(request, await owned_conversation(request, conversation), item_id)
    (item,) = (one for one in beside if one["id"] == kept)
    return answered({**item, "id": item_id})


@delete("/conversations/{conversation:str}/items/{item_id:str}", status_code=200, responses=OPENAI)
async def delete_item(request: ApiRequest, conversation: FromPath[str], item_id: FromPath[str]) -> ASGIApp:
    """Delete an item of a conversation that is at rest, and the reasoning that led to it. One that stands beside others
    in an answer is refused (`item_not_separable`), and so is one that a summary tells of."""
    chat = await owned_conversation(request, conversation)
    kept, beside = await items_beside(request, chat, item_id)
    require_separable(kept, beside)
    message_id = message_of_item(kept)
    assert message_id is not None, "an item is of a message"
    command = DeleteMessage(message_id)
    try:
        outcome = await request.services.transitions.apply(chat.id, command, owner_id=chat.owner_id)
    except MessageNotFound:  # somebody else was first
        raise no_such_item(item_id) from None
    return answered(await told_conversation(request, outcome.chat))


ROUTES = [create_items, list_items, retrieve_item, delete_item]
