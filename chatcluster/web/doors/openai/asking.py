"""From a response that is asked for to the turn that makes it: a new chat, the next turn of one, or a fork.

* without a past: the input is the history of a new chat, whose end is answered;
* answers to requests to approve calls, or an empty input where others had to do something: the turn goes on where it
  had come to rest (``approving.py``);
* a ``conversation``, or a ``previous_response_id`` that is its chat's last turn: the next turn of that chat. Busy, it
  refuses. If it waits for calls that the client runs, the input has all their outputs, and the turn goes on, with what
  the user says besides behind them;
* any other ``previous_response_id``: a new chat that begins with a copy of the history up to there. So it is with the
  last one where the response is not to be stored, and what it goes on from is: what was stored stays as it was.

Instructions are the chat's system prompt from then on. Without any, those of before stand.

The row that keeps the parameters is written after the turn's own transaction. Its ID follows from what that inserted,
so a repeat with the same ``Idempotency-Key`` finds the turn, and writes the row if it is missing.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, NamedTuple
from uuid import uuid4

import msgspec

from chatcluster.chat import Busy, CallState, ChatSetup, Send, Status, SubmitToolResults, ToolResult
from chatcluster.errors import ChatBusy, ChatNotFound, InvalidRequest, NotAllowedInStatus
from chatcluster.parts import NewMessage, Part, Role
from chatcluster.ports import VERSION_MAX, Chat, NewChat, Outcome, checked_choice
from chatcluster.ports.forks import HistoryCopy
from chatcluster.ports.responses import StoredResponse
from chatcluster.web.api.bodies import checked_model, checked_prompt, default_title
from chatcluster.web.doors.openai.approving import resumed
from chatcluster.web.doors.openai.ids import (
    conversation_id,
    message_of,
    no_such_conversation,
    no_such_response,
    parse_conversation_id,
    parse_response_id,
    response_id,
    resumed_id,
)
from chatcluster.web.doors.openai.input_items import Given
from chatcluster.web.doors.openai.response_bodies import CreateResponse, Tools
from chatcluster.web.request import ApiRequest


class Asked(NamedTuple):
    """The turn that a request has begun, or had begun when it came before."""

    outcome: Outcome
    message_id: int
    revision: int
    resumed: msgspec.Struct | None = None
    """What it goes on from, if it does not begin with that message."""

    @property
    def response_id(self) -> str:
        return response_id(self.outcome.chat.id, self.message_id)


class Past(NamedTuple):
    """What a response goes on from. ``stored`` is the response before it; None: all of the chat."""

    chat: Chat
    stored: StoredResponse | None = None

    @property
    def is_transient(self) -> bool:
        return self.stored is not None and self.stored.transient


async def past_of(request: ApiRequest, data: CreateResponse) -> Past | None:
    """Raises ``ResponseNotFound`` and ``ConversationNotFound``, also for what is somebody else's."""
    user_id, services = request.user.user_id, request.services
    if data.previous_response_id is not None:
        key = parse_response_id(data.previous_response_id)
        stored = await services.readers.logs.responses.get(*key, owner_id=user_id)
        if stored is None:
            raise no_such_response(data.previous_response_id)
        return Past(await services.store.get(key.chat_id), stored)
    if data.conversation_id is None:
        return None
    return Past(await owned_conversation(request, data.conversation_id))


async def owned_conversation(request: ApiRequest, text: str) -> Chat:
    """Raises ``ConversationNotFound``, in the same words whether there is none or it is somebody else's."""
    with suppress(ChatNotFound):
        chat = await request.services.store.get(parse_conversation_id(text))
        if chat.owner_id == request.user.user_id:
            return chat
    raise no_such_conversation(text)


async def ask(request: ApiRequest, data: CreateResponse, given: Given, tools: Tools, past: Past | None) -> Asked:
    """Begin the turn. Raises ``ChatBusy``, and what transitions raise."""
    await request.require_model(checked_model(data.model))
    await checked_choice(request.services.mcp.admin.servers, tools.servers)
    system = _system(request, data, given)
    end = None
    if past is not None and past.stored is not None:
        message_id = message_of(past.stored.message_id)
        end = await request.services.readers.logs.responses.asked_after(past.chat.id, message_id)
    if given.approvals or (past is not None and data.input == []):
        return await _resume(request, data, given, tools, None if end is not None else past)
    if past is None:
        return await _ask_anew(request, data, given.messages, tools, system)
    if end is None and _stays_apart(data, given, past):
        end = VERSION_MAX
    if end is None:
        return await _go_on(request, data, given, tools, past.chat, system)
    kept = system or await request.services.models.prompts.own(past.chat.id) or ""
    copied = HistoryCopy(past.chat.id, end - 1, past.chat.reset_version)
    return await _ask_anew(request, data, given.messages, tools, kept, copied)


def _stays_apart(data: CreateResponse, given: Given, past: Past) -> bool:
    is_at_rest = past.chat.status in (Status.WAITING, Status.ERROR)
    return (
        data.store is False and past.stored is not None and not past.is_transient and is_at_rest and not given.results
    )


def is_transient(data: CreateResponse, past: Past | None, asked: Asked) -> bool:
    """Whether the chat is there for responses alone that nobody stores."""
    is_new = past is None or past.is_transient or asked.outcome.chat.id != past.chat.id
    return data.store is False and is_new


def _system(request: ApiRequest, data: CreateResponse, given: Given) -> str:
    """What the model is told before the conversation: the instructions, and what was said as the system."""
    said = "\n\n".join(filter(None, (data.instructions, *given.system)))
    return checked_prompt("instructions", said, bytes_max=request.services.settings.content_bytes_max)


# --- a new chat -------------------------------------------------------------------------------


async def _ask_anew(
    request: ApiRequest,
    data: CreateResponse,
    messages: tuple[NewMessage, ...],
    tools: Tools,
    system: str,
    copied: HistoryCopy | None = None,
) -> Asked:
    is_asked = copied is not None or any(one.role is Role.USER for one in messages)
    if not messages or messages[-1].role is Role.ASSISTANT or not is_asked:
        raise InvalidRequest(
            "input has to end with something to answer: a user's message, or a call's output", param="input"
        )
    chat = new_chat(request, data.model, system, messages, tools, copied=copied)
    outcome = await request.services.transitions.create(chat, await request.idempotency())
    message = outcome.message
    assert message is not None, "it has a message to answer"
    return Asked(outcome, message.id, message.revision)


def new_chat(
    request: ApiRequest,
    model: str | None,
    system: str,
    messages: tuple[NewMessage, ...],
    tools: Tools,
    *,
    at_rest: bool = False,
    copied: HistoryCopy | None = None,
) -> NewChat:
    asked = next((one.parts for one in reversed(messages) if one.role is Role.USER), ())
    return NewChat(
        id=uuid4(),
        owner_id=request.user.user_id,
        title=default_title(asked),
        model=checked_model(model),
        messages=messages,
        client_tools=tools.client,
        mcp_servers=tools.servers,
        system_prompt=system,
        at_rest=at_rest,
        copied=copied,
    )


# --- the same chat ----------------------------------------------------------------------------


async def _go_on(
    request: ApiRequest, data: CreateResponse, given: Given, tools: Tools, chat: Chat, system: str
) -> Asked:
    if given.results:
        command: Send | SubmitToolResults = await _submitted(request, data, given, chat)
    else:
        await _configure(request, tools, chat, system)
        command = Send(_said(given), Busy.REJECT, checked_model(data.model))
    try:
        outcome = await request.services.transitions.apply(
            chat.id, command, owner_id=request.user.user_id, idempotency=await request.idempotency()
        )
    except (ChatBusy, NotAllowedInStatus):
        await _require_outputs(request, given, chat)
        raise
    message = outcome.message
    assert message is not None, "both insert one"
    return Asked(outcome, message.id, message.revision)


async def _submitted(request: ApiRequest, data: CreateResponse, given: Given, chat: Chat) -> SubmitToolResults:
    """The outputs of calls, and what the user says besides."""
    said = given._replace(messages=tuple(one for one in given.messages if one.role is not Role.TOOL))
    if chat.status is Status.REQUIRES_ACTION:
        await _require_outputs(request, given, chat)
    message = NewMessage(Role.USER, _said(said), model=checked_model(data.model)) if said.messages else None
    outputs = tuple(ToolResult(part.call_id, part.content, part.is_error) for part in given.results)
    return SubmitToolResults(outputs, message)


async def _require_outputs(request: ApiRequest, given: Given, chat: Chat) -> None:
    """Raises ``InvalidRequest`` if the chat waits for the output of a call that is not given."""
    waiting = [one for one in await request.services.store.actions(chat.id) if one.kind is CallState.CLIENT]
    outputs = {part.call_id for part in given.results}
    for action in waiting:
        if action.call_id not in outputs:
            raise InvalidRequest(f"No tool output found for function call {action.call_id}.", param="input")


async def _configure(request: ApiRequest, tools: Tools, chat: Chat, system: str) -> None:
    """The tools of this turn are those that come with it, and so are its instructions, if any do."""
    is_at_rest = chat.status in (Status.WAITING, Status.ERROR)
    if is_at_rest and system and system != await request.services.models.prompts.own(chat.id):
        await request.services.models.prompts.set_own(chat.id, system)
    if is_at_rest and (chat.client_tools, chat.mcp_servers) != (tools.client, tools.servers):
        setup = ChatSetup(client_tools=tools.client, mcp_servers=tools.servers)
        await request.services.transitions.configure(chat, setup)


def _said(given: Given) -> tuple[Part, ...]:
    if not given.messages or any(one.role is not Role.USER for one in given.messages):
        raise InvalidRequest("what goes on from a response is a user's message, or outputs of calls", param="input")
    return tuple(part for one in given.messages for part in one.parts)


async def _resume(request: ApiRequest, data: CreateResponse, given: Given, tools: Tools, past: Past | None) -> Asked:
    """Go on where the chat came to rest for somebody."""
    if past is None:
        why = "goes on from the last response of its chat: give previous_response_id, or conversation"
        raise InvalidRequest(f"an answer to requests {why}", param="previous_response_id")
    items = data.input if isinstance(data.input, list) else []
    chat, calling, gone_on = await resumed(request, past.chat, past.stored, given, tools.names, items)
    key = resumed_id(calling.id, gone_on.times)
    return Asked(Outcome(chat, (calling,)), key, calling.revision, gone_on)


# --- what is kept of it -----------------------------------------------------------------------


async def keep(
    request: ApiRequest, asked: Asked, parameters: dict[str, Any], tools: Tools, *, transient: bool, is_told: bool
) -> StoredResponse:
    """Keep the parameters of the response. Where it ``is_told``, its answer is read while they are written."""
    if is_told:
        request.services.readers.logs.expect(asked.outcome.chat)
    first = asked.outcome.messages[0].id
    kept = {"response": parameters, "client_tools": tools.names, "resumed": asked.resumed, "first": first}
    row = StoredResponse(
        asked.outcome.chat.id, asked.message_id, asked.revision, msgspec.json.encode(kept).decode(), transient
    )
    await request.services.readers.logs.responses.add(row)
    return row


def known_of(request: ApiRequest, data: CreateResponse, asked: Asked, tools: list[Any]) -> dict[str, Any]:
    """What the server knows of a response as it begins."""
    chat = asked.outcome.chat
    message = asked.outcome.message
    assert message is not None, "a turn begins with one"
    return {
        "id": asked.response_id,
        "chat_id": str(chat.id),
        "created_at": int(message.created_at.timestamp()),
        "model": data.model or chat.model or request.services.settings.llm_model or "default",
        "conversation": None if data.conversation_id is None else {"id": conversation_id(chat.id)},
        "tools": tools,
    }
