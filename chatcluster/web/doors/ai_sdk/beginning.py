"""A new chat with what a client has of it, and what a chat is given besides messages: tools and instructions."""

from __future__ import annotations

import hashlib
from uuid import UUID

import msgspec

from chatcluster.chat import ChatSetup, Status
from chatcluster.errors import ChatBusy, InvalidRequest, StoreFailed
from chatcluster.parts import NewMessage, Role, TextPart
from chatcluster.ports import Chat, Idempotency, NewChat, Outcome
from chatcluster.web.api.bodies import checked_prompt, default_title, storable
from chatcluster.web.api.tool_bodies import checked_servers, checked_tools
from chatcluster.web.doors.ai_sdk.bodies import SubmitChat
from chatcluster.web.doors.ai_sdk.ui_messages import said_by_assistant, said_by_user
from chatcluster.web.doors.named_chats import find_chat
from chatcluster.web.request import ApiRequest

HISTORY_MAX = 2000
"""Messages that a new chat may begin with."""


async def idempotency_of(request: ApiRequest, data: SubmitChat, chat_id: UUID) -> Idempotency | None:
    """The caller's key, else one that is made from the ID that the client gave to its message."""
    given = await request.idempotency()
    message_id = data.last.get("id")
    if given is not None or not (isinstance(message_id, str) and message_id):
        return given
    named = hashlib.sha256(f"{chat_id} {message_id}".encode("utf-8", "surrogatepass"))
    content = msgspec.json.encode(said_by_user(data.last))
    return Idempotency(f"ai-{named.hexdigest()}", hashlib.sha256(content).digest())


async def begin(request: ApiRequest, data: SubmitChat, chat_id: UUID) -> Outcome:
    """The messages make a chat, whose last one is answered. Raises ``ChatBusy`` if another request was first."""
    if data.last["role"] != "user":
        raise InvalidRequest("there is no such chat yet: it begins with a user's message", param="messages")
    if len(data.given) > HISTORY_MAX:
        raise InvalidRequest(f"a chat begins with at most {HISTORY_MAX} messages", param="messages")
    settings = request.services.settings
    messages = [message for one in data.given if (message := await _message(request, one)) is not None]
    chat = NewChat(
        id=chat_id,
        owner_id=request.user.user_id,
        title=default_title(messages[-1].parts),
        model=data.model_name,
        messages=tuple(messages),
        client_tools=checked_tools(data.tools or ()),
        mcp_servers=checked_servers(data.mcp_servers or ()),
        system_prompt=checked_prompt("instructions", data.instructions, bytes_max=settings.content_bytes_max),
        wants_title=settings.titles,
    )
    try:
        return await request.services.transitions.create(chat, await idempotency_of(request, data, chat_id))
    except StoreFailed:
        if await find_chat(request, data.id) is None:
            raise
        raise ChatBusy("another request began this chat just now; wait for its answer") from None


async def _message(request: ApiRequest, message: dict[str, object]) -> NewMessage | None:
    """None for what has nothing to keep."""
    if message.get("role") == "user":
        return NewMessage(Role.USER, await request.message_parts(said_by_user(message)))
    text = said_by_assistant(message) if message.get("role") == "assistant" else ""
    return NewMessage(Role.ASSISTANT, (TextPart(storable("text", text)),), finish_reason="stop") if text else None


async def configure(request: ApiRequest, data: SubmitChat, chat: Chat) -> None:
    """Tools and instructions that are given are the chat's from this turn on; what is left away stays."""
    if chat.status not in (Status.WAITING, Status.ERROR):
        return
    if data.instructions is not None:
        bytes_max = request.services.settings.content_bytes_max
        prompt = checked_prompt("instructions", data.instructions, bytes_max=bytes_max)
        if prompt != (await request.services.models.prompts.own(chat.id) or ""):
            await request.services.models.prompts.set_own(chat.id, prompt)
    setup = ChatSetup(
        client_tools=None if data.tools is None else checked_tools(data.tools),
        mcp_servers=None if data.mcp_servers is None else checked_servers(data.mcp_servers),
    )
    if setup not in (ChatSetup(), ChatSetup(client_tools=chat.client_tools, mcp_servers=chat.mcp_servers)):
        await request.services.transitions.configure(chat, setup)
