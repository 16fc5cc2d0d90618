"""Routes of chats: create, list, look, rename, archive, interrupt."""

from __future__ import annotations

from typing import Annotated
from uuid import uuid4

from litestar import Response, delete, get, patch, post
from litestar.params import FromPath, FromQuery, JSONBody, QueryParameter
from msgspec import UNSET

from chatcluster.chat import ChatSetup, Compact, Interrupt
from chatcluster.parts import NewMessage, Role
from chatcluster.ports import NewChat, checked_choice
from chatcluster.views import ChatAnswer, ChatDetailsAnswer, chat_answer, chat_details_answer
from chatcluster.web.api.answers import REFUSALS, ChatsAnswer
from chatcluster.web.api.bodies import (
    CreateChat,
    PatchChat,
    checked_model,
    checked_prompt,
    checked_search,
    checked_title,
    default_title,
)
from chatcluster.web.api.streamed import STREAMED, Streamed, wants_stream
from chatcluster.web.api.tool_bodies import checked_servers, checked_tools
from chatcluster.web.request import Answered, ApiRequest, parse_chat_id

CHATS_MAX = 100
CHATS_DEFAULT = 50
CREATE = """Create a chat with its first message. It starts to work on the answer at once.

Without `content` it has no message yet, and rests until one is sent."""


@post("/chats", responses=REFUSALS, description=CREATE + STREAMED)
async def create_chat(request: ApiRequest, data: JSONBody[CreateChat]) -> Response[ChatAnswer]:
    is_streamed = wants_stream(request)
    chat = await new_chat(request, data)
    outcome = await request.services.transitions.create(chat, await request.idempotency())
    answer = chat_answer(outcome.chat)
    return Streamed(answer, request, outcome, status_code=201) if is_streamed else Answered(answer, status_code=201)


async def new_chat(request: ApiRequest, data: CreateChat) -> NewChat:
    """Checked, with all that it names. Raises ``CallerError``s."""
    await request.require_model(model := checked_model(data.model))
    bytes_max = request.services.settings.sizes.content_bytes_max
    parts = () if data.content is UNSET else await request.message_parts(data.content)
    messages = (NewMessage(Role.USER, parts),) if parts else ()
    chat = NewChat(
        id=uuid4(),
        owner_id=request.user.user_id,
        title=default_title(parts) if data.title is None else checked_title(data.title),
        model=model,
        messages=messages,
        client_tools=checked_tools(data.tools),
        mcp_servers=checked_servers(data.mcp_servers),
        system_prompt=checked_prompt("system_prompt", data.system_prompt, bytes_max=bytes_max),
        agents=data.agents,
        wants_title=bool(parts) and data.title is None and request.services.settings.turns.titles,
    )
    await checked_choice(request.services.mcp.admin.servers, chat.mcp_servers)
    return chat


@get("/chats", responses=REFUSALS)
async def list_chats(
    request: ApiRequest,
    archived: FromQuery[bool] = False,
    limit: Annotated[int, QueryParameter(ge=1, le=CHATS_MAX)] = CHATS_DEFAULT,
    after: Annotated[str | None, QueryParameter(description="The last chat of the page before")] = None,
    pinned: Annotated[bool | None, QueryParameter(description="Only those that are pinned, or that are not")] = None,
    q: Annotated[str | None, QueryParameter(description="Only those with this in their title, in any case")] = None,
) -> ChatsAnswer:
    """The caller's chats, newest first. Sub-agents are not among them: they are children of theirs."""
    chats = await request.services.store.list_chats(
        request.user.user_id,
        archived=archived,
        limit=limit + 1,
        after=None if after is None else parse_chat_id(after),
        pinned=pinned,
        words=checked_search(q),
    )
    return ChatsAnswer([chat_answer(chat) for chat in chats[:limit]], has_more=len(chats) > limit)


@get("/chats/{chat_id:str}", responses=REFUSALS)
async def get_chat(request: ApiRequest, chat_id: FromPath[str]) -> ChatDetailsAnswer:
    """One chat, without its history: what it waits for, the tools that its client runs, what it cost, and its own
    system prompt."""
    details = await request.services.store.details(parse_chat_id(chat_id))
    request.require_owner(details.chat)
    return chat_details_answer(details)


@get("/chats/{chat_id:str}/children", responses=REFUSALS)
async def list_children(request: ApiRequest, chat_id: FromPath[str]) -> ChatsAnswer:
    """The sub-agents of a chat, the oldest first: all of them, as a chat has few. Theirs are children of theirs."""
    chat = await request.owned_chat(chat_id)
    family = await request.services.store.family(chat.family_id) if chat.has_agents else ()
    return ChatsAnswer([chat_answer(child) for child in family if child.parent_id == chat.id], has_more=False)


@patch("/chats/{chat_id:str}", responses=REFUSALS)
async def patch_chat(request: ApiRequest, chat_id: FromPath[str], data: JSONBody[PatchChat]) -> ChatAnswer:
    """Rename a chat, pin it, choose its model, give it other tools or another system prompt, archive it, or take it out
    of the archive.

    A chat that is busy is interrupted and archived as soon as it has stopped. What is already so is no error.
    """
    title = None if data.title is UNSET else checked_title(data.title)
    setup = ChatSetup(
        client_tools=None if data.tools is UNSET else checked_tools(data.tools),
        mcp_servers=None if data.mcp_servers is UNSET else checked_servers(data.mcp_servers),
        agents=data.agents,
    )
    model = data.model if data.model is UNSET else checked_model(data.model)
    prompt = data.system_prompt
    if prompt is not UNSET:
        prompt = checked_prompt("system_prompt", prompt, bytes_max=request.services.settings.sizes.content_bytes_max)
    chat = await request.owned_chat(chat_id)
    if model is not UNSET and model != chat.model:
        await request.require_model(model)
    await checked_choice(request.services.mcp.admin.servers, setup.mcp_servers or (), had=chat.mcp_servers)
    transitions = request.services.transitions
    if data.archived is not UNSET:
        chat = await (transitions.archive(chat) if data.archived else transitions.unarchive(chat))
    if title is not None:
        chat = await transitions.rename(chat, title)
    if isinstance(prompt, str):
        await request.services.models.prompts.set_own(chat.id, prompt)
    if setup != ChatSetup():
        chat = await transitions.configure(chat, setup)
    if data.pinned is not UNSET:
        chat = await transitions.pin(chat, data.pinned)
    if model is not UNSET:
        chat = await transitions.choose_model(chat, model)
    return chat_answer(chat)


@delete("/chats/{chat_id:str}", responses=REFUSALS)
async def delete_chat(request: ApiRequest, chat_id: FromPath[str]) -> None:
    """Delete a chat with all that belongs to it, for good. One that is busy is refused (`chat_busy`): interrupt it, and
    delete it when it rests."""
    await request.services.transitions.delete(parse_chat_id(chat_id), owner_id=request.user.user_id)


@post("/chats/{chat_id:str}/interrupt", status_code=200, responses=REFUSALS)
async def interrupt_chat(request: ApiRequest, chat_id: FromPath[str]) -> ChatAnswer:
    """Stop what the chat is doing. What was already generated is kept."""
    outcome = await request.services.transitions.apply(
        parse_chat_id(chat_id), Interrupt(), owner_id=request.user.user_id, idempotency=await request.idempotency()
    )
    return chat_answer(outcome.chat)


@post("/chats/{chat_id:str}/compact", status_code=202, responses=REFUSALS)
async def compact_chat(request: ApiRequest, chat_id: FromPath[str]) -> ChatAnswer:
    """Have the model summarise what was said so far, and go on from the summary: the model is told nothing else of it.

    For a chat that rests, or whose turn ended in an error; a busy one is refused. Readers see the call
    `chat_summarized` and its result; the chat rests again when it is there.
    """
    outcome = await request.services.transitions.apply(
        parse_chat_id(chat_id), Compact(), owner_id=request.user.user_id, idempotency=await request.idempotency()
    )
    return chat_answer(outcome.chat)


ROUTES = [
    create_chat,
    list_chats,
    get_chat,
    list_children,
    patch_chat,
    delete_chat,
    interrupt_chat,
    compact_chat,
]
