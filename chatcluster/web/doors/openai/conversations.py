"""Routes of conversations: a conversation is a chat, by another name. Any chat of the caller's is one.

What a chat has no place for, the metadata, is kept beside it as of a response that no message begins.
"""

from __future__ import annotations

from typing import Any

import msgspec
from litestar import delete, get, post
from litestar.params import FromPath, JSONBody
from litestar.types import ASGIApp

from chatcluster.parts import UNDECODABLE
from chatcluster.ports import Chat
from chatcluster.ports.responses import StoredResponse
from chatcluster.web.api.bodies import checked_prompt
from chatcluster.web.doors.door_stream import answered
from chatcluster.web.doors.openai.asking import new_chat
from chatcluster.web.doors.openai.ids import conversation_id
from chatcluster.web.doors.openai.pasts import owned_conversation
from chatcluster.web.doors.openai.response_bodies import check_metadata, tools_of
from chatcluster.web.doors.openai.responses import OPENAI
from chatcluster.web.doors.openai.taking import taken_history
from chatcluster.web.request import ApiRequest

NO_MESSAGE = 0


class CreateConversation(msgspec.Struct, kw_only=True, frozen=True):
    """A conversation, and what was said in it before."""

    items: list[dict[str, Any]] | None = None
    metadata: dict[str, str] | None = None


@post("/conversations", status_code=200, responses=OPENAI)
async def create_conversation(request: ApiRequest, data: JSONBody[CreateConversation]) -> ASGIApp:
    """Create a conversation, a chat at rest, with a history or without. A response in it begins to answer."""
    check_metadata(data.metadata or {})
    said = await taken_history(request, data.items or ())
    bytes_max = request.services.settings.sizes.content_bytes_max
    system = checked_prompt("items", "\n\n".join(said.system), bytes_max=bytes_max)
    chat = new_chat(request, None, system, said.messages, tools_of(None), at_rest=True)
    outcome = await request.services.transitions.create(chat, await request.idempotency())
    await request.services.readers.logs.responses.add(_kept(outcome.chat, data.metadata or {}))
    return answered(await told_conversation(request, outcome.chat))


@get("/conversations/{conversation:str}", responses=OPENAI)
async def retrieve_conversation(request: ApiRequest, conversation: FromPath[str]) -> ASGIApp:
    """A conversation."""
    return answered(await told_conversation(request, await owned_conversation(request, conversation)))


class UpdateConversation(msgspec.Struct, kw_only=True, frozen=True):
    metadata: dict[str, str]


@post("/conversations/{conversation:str}", status_code=200, responses=OPENAI)
async def update_conversation(
    request: ApiRequest, conversation: FromPath[str], data: JSONBody[UpdateConversation]
) -> ASGIApp:
    """Give a conversation other metadata."""
    check_metadata(data.metadata)
    chat = await owned_conversation(request, conversation)
    await request.services.readers.logs.responses.replace(_kept(chat, data.metadata))
    return answered(await told_conversation(request, chat))


@delete("/conversations/{conversation:str}", status_code=200, responses=OPENAI)
async def delete_conversation(request: ApiRequest, conversation: FromPath[str]) -> ASGIApp:
    """Delete a conversation with its chat and all its responses, for good. One that is busy is refused."""
    chat = await owned_conversation(request, conversation)
    await request.services.transitions.delete(chat.id, owner_id=chat.owner_id)
    return answered({"id": conversation, "object": "conversation.deleted", "deleted": True})


def _kept(chat: Chat, metadata: dict[str, str]) -> StoredResponse:
    return StoredResponse(chat.id, NO_MESSAGE, 0, msgspec.json.encode({"metadata": metadata}).decode())


async def told_conversation(request: ApiRequest, chat: Chat) -> dict[str, Any]:
    """A conversation in the words of this API."""
    responses = request.services.readers.logs.responses
    stored = await responses.get(chat.id, NO_MESSAGE, owner_id=chat.owner_id)
    metadata = {} if stored is None else _metadata_of(stored)
    created_at = int(chat.created_at.timestamp())
    return {
        "id": conversation_id(chat.id),
        "object": "conversation",
        "created_at": created_at,
        "metadata": metadata,
        "chat_id": str(chat.id),
    }


class _Kept(msgspec.Struct, frozen=True):
    metadata: dict[str, Any]


def _metadata_of(stored: StoredResponse) -> dict[str, Any]:
    """None of what another version keeps."""
    try:
        return msgspec.json.decode(stored.parameters, type=_Kept).metadata
    except UNDECODABLE:
        return {}


ROUTES = [
    create_conversation,
    retrieve_conversation,
    update_conversation,
    delete_conversation,
]
