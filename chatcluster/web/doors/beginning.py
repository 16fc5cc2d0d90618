"""How a chat begins for a client that keeps messages of its own, and what it is given besides them: tools and
instructions."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import NamedTuple
from uuid import UUID

import msgspec
import trio

from chatcluster.chat import ChatSetup, Status
from chatcluster.errors import ChatBusy, ChatNotFound, InvalidRequest, StoreFailed
from chatcluster.parts import NewMessage, Parts, Role
from chatcluster.ports import Chat, Idempotency, NewChat, Outcome, checked_choice
from chatcluster.texts import is_blank
from chatcluster.web.api.bodies import InputFile, InputText, InputTool, checked_model, checked_prompt, default_title
from chatcluster.web.api.tool_bodies import checked_servers, checked_tools
from chatcluster.web.doors.given_files import message_parts
from chatcluster.web.request import ApiRequest

HISTORY_MAX = 2000
"""Messages that a new chat may begin with."""
CONTEXT = "What the application says of the user's situation at this moment:\n\n"
"""Where the part of a prompt begins that is of one message."""


class Said(NamedTuple):
    """A message that a client has. ``id`` is the one that it gave to it."""

    id: str
    role: Role
    content: list[InputText | InputFile]


class Wishes(NamedTuple):
    """What a client wants of its chat besides an answer. None: as it is. ``context``: what its model is to know now, as
    a part of the chat's prompt that the next message's takes the place of."""

    model: str | None = None
    instructions: str | None = None
    tools: list[InputTool] | None = None
    servers: list[str] | None = None
    context: str | None = None


async def check_wishes(request: ApiRequest, wishes: Wishes) -> None:
    """Raises ``InvalidRequest``, and ``UnknownModel``."""
    await request.require_model(checked_model(wishes.model))
    await checked_choice(request.services.mcp.admin.servers, checked_servers(wishes.servers or ()))


async def idempotency_of(request: ApiRequest, chat_id: UUID, said: Said) -> Idempotency | None:
    """The caller's key, else one that is made from the ID that the client gave to its message."""
    given = await request.idempotency()
    if given is not None or not said.id:
        return given
    named = hashlib.sha256(f"{chat_id} {said.id}".encode("utf-8", "surrogatepass"))
    return Idempotency(f"said-{named.hexdigest()}", hashlib.sha256(msgspec.json.encode(said.content)).digest())


async def begin(request: ApiRequest, chat_id: UUID, messages: Sequence[Said], wishes: Wishes) -> Outcome:
    """The messages make a chat, whose last one is answered. Raises ``ChatBusy`` if another request was first."""
    if not messages or messages[-1].role is not Role.USER:
        raise InvalidRequest("there is no such chat yet: it begins with a user's message", param="messages")
    if len(messages) > HISTORY_MAX:
        raise InvalidRequest(f"a chat begins with at most {HISTORY_MAX} messages", param="messages")
    history = [await _message(request, said) for said in messages if said.role is Role.USER or _says_something(said)]
    chat = NewChat(
        id=chat_id,
        owner_id=request.user.user_id,
        title=default_title(history[-1].parts),
        model=checked_model(wishes.model),
        messages=tuple(history),
        client_tools=checked_tools(wishes.tools or ()),
        mcp_servers=checked_servers(wishes.servers or ()),
        system_prompt=_prompt(request, wishes, ""),
        wants_title=request.services.settings.turns.titles,
    )
    try:
        return await request.services.transitions.create(chat, await idempotency_of(request, chat_id, messages[-1]))
    except StoreFailed:
        await _require_no_chat(request, chat_id)
        raise


def _says_something(said: Said) -> bool:
    """A model that only called did not, and clients keep it all the same."""
    return any(isinstance(part, InputFile) or not is_blank(part.text) for part in said.content)


async def _message(request: ApiRequest, said: Said) -> NewMessage:
    await trio.lowlevel.checkpoint()  # there may be two thousand, each of many parts
    finish_reason = "stop" if said.role is Role.ASSISTANT else None
    return NewMessage(said.role, await parts_of(request, said), finish_reason=finish_reason)


async def parts_of(request: ApiRequest, said: Said) -> Parts:
    """Raises ``InvalidRequest``, ``FileNotFound``, ``TooLarge``, and what uploads raise."""
    return await message_parts(request, said.content)


async def _require_no_chat(request: ApiRequest, chat_id: UUID) -> None:
    try:
        await request.services.store.get(chat_id)
    except ChatNotFound:
        return
    raise ChatBusy("another request began this chat just now; wait for its answer") from None


async def configure(request: ApiRequest, chat: Chat, wishes: Wishes) -> None:
    """What is wished is so from this turn on. Nothing happens to a chat that is busy."""
    if chat.status not in (Status.WAITING, Status.ERROR):
        return
    if wishes.instructions is not None or wishes.context is not None:
        own = await request.services.models.prompts.own(chat.id) or ""
        prompt = _prompt(request, wishes, own)
        if prompt != own:
            await request.services.models.prompts.set_own(chat.id, prompt)
    tools = chat.client_tools if wishes.tools is None else checked_tools(wishes.tools)
    servers = chat.mcp_servers if wishes.servers is None else checked_servers(wishes.servers)
    if (tools, servers) != (chat.client_tools, chat.mcp_servers):
        await request.services.transitions.configure(chat, ChatSetup(client_tools=tools, mcp_servers=servers))


def _prompt(request: ApiRequest, wishes: Wishes, own: str) -> str:
    """The chat's prompt, which was its ``own``, as it is wished."""
    said = own if wishes.instructions is None else wishes.instructions
    if wishes.context is not None:
        before = said.partition(CONTEXT)[0].removesuffix("\n\n")
        said = "\n\n".join(filter(None, (before, wishes.context and CONTEXT + wishes.context)))
    return checked_prompt("instructions", said, bytes_max=request.services.settings.sizes.content_bytes_max)
