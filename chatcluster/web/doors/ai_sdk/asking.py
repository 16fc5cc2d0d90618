"""From what a client submits to the turn that it is told of.

* a chat that there is not yet begins with the messages that are given, and answers the last one;
* a user's message is the next one of its chat. Busy, the chat refuses it;
* with ``messageId`` it takes the place of an earlier one, and of all that came after that;
* ``regenerate-message`` asks anew what was asked; a chat that never got that message is asked it now;
* an assistant's message, at the end, brings outputs of the client's tools, and answers to approvals. What was answered
  before counts; the client is told how the turn goes on.

The server's history is the truth: of the messages that a client has, only the last one is read once there is a chat. A
repeat of a message, known by its ID, attaches to the turn that the first one began.
"""

from __future__ import annotations

import hashlib
from typing import NamedTuple
from uuid import UUID

import msgspec

from chatcluster.chat import Busy, ChatSetup, Edit, Send, Status
from chatcluster.errors import ChatBusy, InvalidRequest, StoreFailed
from chatcluster.parts import NewMessage, Parts, Role, TextPart
from chatcluster.ports import VERSION_MAX, Chat, Idempotency, NewChat, Outcome, checked_choice
from chatcluster.turn_log import TurnStart
from chatcluster.web.api.bodies import checked_model, checked_prompt, default_title, storable
from chatcluster.web.api.tool_bodies import checked_servers, checked_tools
from chatcluster.web.doors.ai_sdk.answering import go_on
from chatcluster.web.doors.ai_sdk.bodies import SubmitChat
from chatcluster.web.doors.ai_sdk.ids import answer_id, message_of
from chatcluster.web.doors.ai_sdk.ui_messages import said_by_assistant, said_by_user
from chatcluster.web.doors.named_chats import checked_name, find_chat, named_id
from chatcluster.web.request import ApiRequest

HISTORY_MAX = 2000
"""Messages that a new chat may begin with."""


class Asked(NamedTuple):
    """What a client is told of: a turn, from ``start`` on, as the message ``answer_id``."""

    chat: Chat
    start: TurnStart
    answer_id: str


async def ask(request: ApiRequest, data: SubmitChat) -> Asked:
    """Begin a turn, or go on with one. Raises ``ChatBusy``, and what transitions raise."""
    name = checked_name(data.id)
    await request.require_model(checked_model(data.model))
    await checked_choice(request.services.mcp.admin.servers, checked_servers(data.mcp_servers or ()))
    chat = await find_chat(request, name)
    if chat is None:
        return await _ask_anew(request, data, named_id(request.user.user_id, name))
    if data.last["role"] == "assistant" and not data.asks_again:
        asked = await request.services.readers.logs.responses.asked(chat.id)
        begun, start = await go_on(request, chat, data.last)
        return Asked(begun, start, str(data.last.get("id")) if asked is None else answer_id(asked.message_id))
    await _configure(request, data, chat)
    return await (_ask_again(request, data, chat) if data.asks_again else _ask_next(request, data, chat))


def _asked(outcome: Outcome) -> Asked:
    message = outcome.message
    assert message is not None, "a message is what it is about"
    return Asked(outcome.chat, TurnStart(message.id, message.revision), answer_id(message.id))


async def _idempotency(request: ApiRequest, data: SubmitChat, chat_id: UUID) -> Idempotency | None:
    """The caller's key, else one that is made from the ID that the client gave to its message."""
    given = await request.idempotency()
    message_id = data.last.get("id")
    if given is not None or not (isinstance(message_id, str) and message_id):
        return given
    named = hashlib.sha256(f"{chat_id} {message_id}".encode("utf-8", "surrogatepass"))
    content = msgspec.json.encode(said_by_user(data.last))
    return Idempotency(f"ai-{named.hexdigest()}", hashlib.sha256(content).digest())


# --- a new chat -------------------------------------------------------------------------------


async def _ask_anew(request: ApiRequest, data: SubmitChat, chat_id: UUID) -> Asked:
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
        model=checked_model(data.model),
        messages=tuple(messages),
        client_tools=checked_tools(data.tools or ()),
        mcp_servers=checked_servers(data.mcp_servers or ()),
        system_prompt=checked_prompt("instructions", data.instructions, bytes_max=settings.content_bytes_max),
        wants_title=settings.titles,
    )
    try:
        return _asked(await request.services.transitions.create(chat, await _idempotency(request, data, chat_id)))
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


# --- the chat that there is -------------------------------------------------------------------


async def _ask_next(request: ApiRequest, data: SubmitChat, chat: Chat) -> Asked:
    parts = await request.message_parts(said_by_user(data.last))
    replaced = None if data.message_id is None else await _replaced(request, data, chat)
    if replaced is not None:
        return await _edit(request, chat, replaced, parts, data.model)
    command = Send(parts, Busy.REJECT, checked_model(data.model))
    outcome = await request.services.transitions.apply(
        chat.id,
        command,
        owner_id=chat.owner_id,
        idempotency=await _idempotency(request, data, chat.id),
    )
    return _asked(outcome)


async def _ask_again(request: ApiRequest, data: SubmitChat, chat: Chat) -> Asked:
    replaced = await _replaced(request, data, chat)
    if replaced is None:
        return await _ask_next(request, data, chat)
    page = await request.services.store.read_messages(
        chat.id, after_version=0, after_id=replaced - 1, up_to_version=VERSION_MAX, limit=1, bytes_max=1
    )
    if not page.messages or page.messages[0].id != replaced:
        raise InvalidRequest("there is no such message in this chat (any more)", param="messageId")
    return await _edit(request, chat, replaced, page.messages[0].parts, data.model)


async def _replaced(request: ApiRequest, data: SubmitChat, chat: Chat) -> int | None:
    """The user's message that is meant: by our ID of it or of its answer, else by its place among the messages."""
    known = message_of(data.message_id)
    if known is not None:
        return known
    responses = request.services.readers.logs.responses
    if data.messages is None:
        found = await responses.asked(chat.id)
    else:
        place = sum(one.get("role") == "user" for one in data.messages) - 1
        found = await responses.asked(chat.id, max(0, place))
    return None if found is None else found.message_id


async def _edit(request: ApiRequest, chat: Chat, message_id: int, parts: Parts, model: str | None) -> Asked:
    command = Edit(message_id, parts, checked_model(model))
    return _asked(await request.services.transitions.apply(chat.id, command, owner_id=chat.owner_id))


async def _configure(request: ApiRequest, data: SubmitChat, chat: Chat) -> None:
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
