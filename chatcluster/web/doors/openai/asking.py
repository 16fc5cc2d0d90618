"""From a response that is asked for to the turn that makes it: a new chat, the next turn of one, or a fork.

* without a past: the input is the history of a new chat, whose end is answered;
* answers to requests to approve calls, or an empty input where others had to do something: the turn goes on where it
  had come to rest (``approving.py``);
* a ``conversation``, or a ``previous_response_id`` that is its chat's last turn: the next turn of that chat. Busy, it
  refuses. If it waits for calls that the client runs, the input has all their outputs, and the turn goes on, with what
  the user says besides behind them;
* any other ``previous_response_id``: a new chat that begins with a copy of the history up to there. So it is with one
  whose calls have other outputs already (the same ones again are a repeat, and are told what they began), and with the
  last one where the response is not to be stored, and what it goes on from is: what was stored stays as it was.

Instructions are the chat's system prompt from then on. Without any, those of before stand.

The row that keeps the parameters is written after the turn's own transaction. Its ID follows from what that inserted,
so a repeat with the same ``Idempotency-Key`` finds the turn, and writes the row if it is missing.
"""

from __future__ import annotations

from typing import Any, NamedTuple
from uuid import uuid4

import msgspec

from chatcluster.chat import Busy, ChatSetup, Send, Status, SubmitToolResults, ToolResult
from chatcluster.errors import ChatBusy, InvalidRequest, NotAllowedInStatus, ToolCallNotFound
from chatcluster.parts import NewMessage, Part, Role, ToolCallPart, ToolResultPart
from chatcluster.ports import VERSION_MAX, Chat, NewChat, Outcome, checked_choice
from chatcluster.ports.responses import StoredResponse
from chatcluster.web.api.bodies import checked_model, checked_prompt, default_title
from chatcluster.web.doors.openai.approving import resumed
from chatcluster.web.doors.openai.ids import conversation_id, response_id, resumed_id
from chatcluster.web.doors.openai.input_items import Given
from chatcluster.web.doors.openai.pasts import Past, end_of, past_of, require_outputs, waiting_in
from chatcluster.web.doors.openai.response_bodies import Tools, WantedResponse, about
from chatcluster.web.request import ApiRequest


class Asked(NamedTuple):
    """The turn that a request has begun, or had begun when it came before."""

    outcome: Outcome
    message_id: int
    revision: int
    resumed: msgspec.Struct | None = None
    """What it goes on from, if it does not begin with that message."""
    transient: bool = False
    """Its chat is there for responses alone that nobody stores."""

    @property
    def response_id(self) -> str:
        return response_id(self.outcome.chat.id, self.message_id)


async def ask(
    request: ApiRequest,
    data: WantedResponse,
    given: Given,
    tools: Tools,
    *,
    param: str = "input",
) -> Asked:
    """Begin the turn. ``param``: what the caller calls that which was given. Raises ``ChatBusy``, and what transitions
    raise."""
    past = await past_of(request, data)
    asked = await _ask(request, data, given, tools, past, param)
    return asked._replace(transient=_is_transient(data, past, asked))


async def _ask(
    request: ApiRequest, data: WantedResponse, given: Given, tools: Tools, past: Past | None, param: str
) -> Asked:
    with about("model"):
        await request.require_model(checked_model(data.model))
    await checked_choice(request.services.mcp.admin.servers, tools.servers)
    system = _system(request, data, given)
    if past is None and not given.approvals:
        _require_answerable(given.messages, param)
        return await _begin(request, new_chat(request, data.model, system, given.messages, tools))
    waiting = await waiting_in(request, past.chat) if past is not None and given.results else ()
    answers = {part.call_id for part in given.results}
    is_answer = given.approvals or any(one.call_id in answers for one in waiting)
    end = None if past is None else await end_of(request, past, answers=() if is_answer else answers)
    if given.approvals or (past is not None and data.input == []):
        return await _resume(request, data, given, None if end is not None else past)
    assert past is not None, "else it was asked anew"
    if end is None and _stays_apart(data, given, past):
        end = VERSION_MAX
    if end is None:
        require_outputs(waiting, answers)
        return await _go_on(request, data, given, tools, past.chat, system)
    if given.results and (before := await _given_before(request, given, past.chat, end)) is not None:
        return before
    kept = system or await request.services.models.prompts.own(past.chat.id) or ""
    if not given.messages or given.messages[-1].role is Role.ASSISTANT:
        raise _nothing_to_answer(param)
    return await _begin(request, past.copied_into(new_chat(request, data.model, kept, given.messages, tools), end))


def _stays_apart(data: WantedResponse, given: Given, past: Past) -> bool:
    is_at_rest = past.chat.status in (Status.WAITING, Status.ERROR)
    return (
        data.store is False and past.stored is not None and not past.is_transient and is_at_rest and not given.results
    )


def _is_transient(data: WantedResponse, past: Past | None, asked: Asked) -> bool:
    """Whether the chat is there for responses alone that nobody stores."""
    is_new = past is None or past.is_transient or asked.outcome.chat.id != past.chat.id
    return data.store is False and is_new


def _system(request: ApiRequest, data: WantedResponse, given: Given) -> str:
    """What the model is told before the conversation: the instructions, and what was said as the system."""
    said = "\n\n".join(filter(None, (data.instructions, *given.system)))
    with about("instructions"):
        return checked_prompt("instructions", said, bytes_max=request.services.settings.sizes.content_bytes_max)


# --- a new chat -------------------------------------------------------------------------------


async def _begin(request: ApiRequest, chat: NewChat) -> Asked:
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
    )


def _require_answerable(messages: tuple[NewMessage, ...], param: str) -> None:
    """Raises ``InvalidRequest`` for what is no beginning of a chat."""
    if not any(one.role is Role.USER for one in messages) or messages[-1].role is Role.ASSISTANT:
        raise _nothing_to_answer(param)
    called: set[str] = set()
    for part in (part for one in messages for part in one.parts):
        if isinstance(part, ToolCallPart):
            called.add(part.id)
        elif isinstance(part, ToolResultPart) and part.call_id not in called:
            raise _no_call(part.call_id, param)


def _nothing_to_answer(param: str) -> InvalidRequest:
    what = f"{param} has to end with something to answer: a user's message, or a call's output"
    return InvalidRequest(what, param=param)


def _no_call(call_id: str, param: str) -> InvalidRequest:
    return InvalidRequest(f"No tool call found for function call output with call_id {call_id}.", param=param)


# --- the same chat ----------------------------------------------------------------------------


async def _go_on(
    request: ApiRequest, data: WantedResponse, given: Given, tools: Tools, chat: Chat, system: str
) -> Asked:
    if given.results:
        command: Send | SubmitToolResults = _submitted(data, given)
    else:
        await _configure(request, tools, chat, system)
        command = Send(_said(given), Busy.REJECT, checked_model(data.model))
    try:
        outcome = await request.services.transitions.apply(
            chat.id, command, owner_id=request.user.user_id, idempotency=await request.idempotency()
        )
    except (ChatBusy, NotAllowedInStatus):
        waiting = await request.services.store.actions(chat.id)
        require_outputs(waiting, {part.call_id for part in given.results})
        raise
    except ToolCallNotFound as error:
        raise _no_call(str(error.details.get("call_id")), "input") from None
    message = outcome.message
    assert message is not None, "both insert one"
    return Asked(outcome, message.id, message.revision)


def _submitted(data: WantedResponse, given: Given) -> SubmitToolResults:
    """The outputs of calls, and what the user says besides."""
    said = given._replace(messages=tuple(one for one in given.messages if one.role is not Role.TOOL))
    message = NewMessage(Role.USER, _said(said), model=checked_model(data.model)) if said.messages else None
    outputs = tuple(ToolResult(part.call_id, part.content, part.is_error) for part in given.results)
    return SubmitToolResults(outputs, message)


async def _given_before(request: ApiRequest, given: Given, chat: Chat, end: int) -> Asked | None:
    """The response that these very outputs have begun, each a message of its own, with nothing said behind them: a
    repeat is told that one, other outputs begin another."""
    results = {part.call_id: part.content for part in given.results}
    page = await request.services.store.read_messages(
        chat.id,
        after_version=0,
        after_id=end - 1,
        up_to_version=VERSION_MAX,
        limit=len(results),
        bytes_max=2 * len(msgspec.json.encode(given.results)),  # what is larger is something else
    )
    parts = [part for one in page.messages for part in one.parts]
    outputs = {part.call_id: part.content for part in parts if isinstance(part, ToolResultPart)}
    says_more = {one.role for one in given.messages} | {one.role for one in page.messages} != {Role.TOOL}
    if outputs != results or says_more or page.next_revision == page.messages[-1].revision:
        return None
    message = page.messages[-1]
    return Asked(Outcome(chat, page.messages), message.id, message.revision)


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


async def _resume(request: ApiRequest, data: WantedResponse, given: Given, past: Past | None) -> Asked:
    """Go on where the chat came to rest for somebody."""
    if past is None:
        why = "goes on from the last response of its chat: give previous_response_id, or conversation"
        raise InvalidRequest(f"an answer to requests {why}", param="previous_response_id")
    items = data.input if isinstance(data.input, list) else []
    chat, calling, gone_on = await resumed(request, past.chat, past.stored, given, clients_tools(past.chat), items)
    key = resumed_id(calling.id, gone_on.times)
    return Asked(Outcome(chat, (calling,)), key, calling.revision, gone_on)


# --- what is kept of it -----------------------------------------------------------------------


def clients_tools(chat: Chat) -> list[str]:
    """The names of the tools that the client runs in this turn: a request that brings outputs need not name them."""
    return [tool.name for tool in chat.client_tools]


async def keep(
    request: ApiRequest, asked: Asked, parameters: dict[str, Any], *, transient: bool, is_told: bool
) -> StoredResponse:
    """Keep the parameters of the response. Where it ``is_told``, its answer is read while they are written."""
    if is_told:
        request.services.readers.logs.expect(asked.outcome.chat)
    first = asked.outcome.messages[0].id
    names = clients_tools(asked.outcome.chat)
    kept = {"response": parameters, "client_tools": names, "resumed": asked.resumed, "first": first}
    row = StoredResponse(
        asked.outcome.chat.id, asked.message_id, asked.revision, msgspec.json.encode(kept).decode(), transient
    )
    await request.services.readers.logs.responses.add(row)
    return row


def known_of(request: ApiRequest, data: WantedResponse, asked: Asked, tools: list[Any]) -> dict[str, Any]:
    """What the server knows of a response as it begins."""
    chat = asked.outcome.chat
    message = asked.outcome.message
    assert message is not None, "a turn begins with one"
    return {
        "id": asked.response_id,
        "chat_id": str(chat.id),
        "created_at": int(message.created_at.timestamp()),
        "model": data.model or chat.model or request.services.settings.llm.model or "default",
        "conversation": None if data.conversation_id is None else {"id": conversation_id(chat.id)},
        "tools": tools,
    }
