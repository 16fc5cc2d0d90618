"""A response that goes on from one that ended at requests to approve calls, or with what others had to do.

The input has an answer to each request that the chat still waits for, and the outputs of the functions that it waits
for besides. A repeat finds them answered, and is told the same response: its ID follows from what it goes on from. So
it is where somebody else has answered first, on the page, say: the client is told with what.

What was asked for at another time is no answer to what is waited for now: a call that may have run asks again, by
another request.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from typing import Any

import msgspec

from chatcluster.chat import CallState, Status, SubmitToolResults, ToolResult, UserCommand
from chatcluster.errors import CallAnswered, CallChanged, InvalidRequest, NotAllowedInStatus
from chatcluster.parts import Message, Role, ToolResultPart
from chatcluster.ports import Action, Chat
from chatcluster.ports.responses import StoredResponse
from chatcluster.web.api.tool_bodies import ApproveCall, DenyCall, approval, denial
from chatcluster.web.doors.answering import calling_message
from chatcluster.web.doors.openai.ids import request_id
from chatcluster.web.doors.openai.input_items import ApprovalAnswer, Given
from chatcluster.web.doors.openai.resting import Rest, Resumed, kinds_at
from chatcluster.web.doors.openai.telling import read_response
from chatcluster.web.request import ApiRequest


async def resumed(
    request: ApiRequest,
    chat: Chat,
    stored: StoredResponse | None,
    given: Given,
    client_tools: Collection[str],
    items: list[Any],
) -> tuple[Chat, Message, Resumed]:
    """Go on where the chat came to rest for somebody; ``items`` are the input. Gives the message that made the calls.

    Raises ``InvalidRequest``, ``CallChanged``, and ``NotAllowedInStatus``.
    """
    if given.system or any(one.role is not Role.TOOL for one in given.messages):
        raise InvalidRequest(
            "answer the requests to approve calls first, alone, and then send what else there is", param="input"
        )
    rest = await rest_of(request, chat, stored, given.approvals)
    if rest is None:
        raise InvalidRequest("input has to have something to answer: nobody is waited for here", param="input")
    chat = await answer_requests(request, chat, rest, given.approvals, given.results)
    return chat, rest.calling, rest.resumed(client_tools, items)


async def rest_of(
    request: ApiRequest, chat: Chat, stored: StoredResponse | None, answers: Sequence[ApprovalAnswer]
) -> Rest | None:
    """The rest in which these were asked for; without any, that in which the response ended, if it did in one.

    Raises ``InvalidRequest``.
    """
    times = {answer.request.time for answer in answers}
    if len(times) > 1:
        raise InvalidRequest("these requests were not made at the same time; answer the newest ones", param="input")
    if times:
        return await _rest(request, chat, [answer.request.call_id for answer in answers], times.pop())
    fold = None if stored is None or not stored.revision else await read_response(request, stored)
    if fold is None or fold.rest is None:
        return None
    return await _rest(request, chat, fold.calls_that_wait, fold.rest)


async def _rest(request: ApiRequest, chat: Chat, call_ids: list[str], time: int) -> Rest:
    calling = await calling_message(request, chat, call_ids, param="input")
    waits = await request.services.store.waits(chat.id, calling.id)
    unknown = [call_id for call_id in call_ids if call_id not in kinds_at(waits, time)]
    if unknown:
        raise InvalidRequest(f"nobody was asked about the call {unknown[0][:80]!r} then", param="input")
    return Rest(calling, waits, time)


async def answer_requests(
    request: ApiRequest, chat: Chat, rest: Rest, answers: Sequence[ApprovalAnswer], results: Sequence[ToolResultPart]
) -> Chat:
    """Answer what the chat still waits for. Raises ``InvalidRequest`` where an answer is missing, ``CallChanged``, and
    ``NotAllowedInStatus`` where somebody else has to do something first."""
    waiting = await request.services.store.actions(chat.id) if chat.status is Status.REQUIRES_ACTION else ()
    own = {one.call_id: one for one in waiting if one.chat_id is msgspec.UNSET} if rest.is_now else {}
    commands = list(_commands(request, rest, own, answers, results))
    if not (answers or results) and own:
        names = ", ".join(f"{one.name} ({one.call_id}: {one.kind})" for one in own.values())
        raise NotAllowedInStatus(f"the chat still waits for somebody: {names}"[:1000])
    for command in commands:
        with suppress(CallAnswered):  # somebody else did: the client is told with what
            chat = (await request.services.transitions.apply(chat.id, command, owner_id=chat.owner_id)).chat
    return chat


def _commands(
    request: ApiRequest,
    rest: Rest,
    waiting: dict[str, Action],
    answers: Sequence[ApprovalAnswer],
    results: Sequence[ToolResultPart],
) -> Iterator[UserCommand]:
    answered = {answer.request.call_id: answer for answer in answers}
    outputs = {part.call_id: part for part in results}
    if not (answered or outputs):
        return
    for action in waiting.values():
        if action.kind is CallState.APPROVAL and action.call_id not in answered:
            missing = request_id(action.call_id, rest.time)
            raise InvalidRequest(f"No approval response found for approval request {missing}.", param="input")
        if action.kind is CallState.CLIENT and action.call_id not in outputs:
            raise InvalidRequest(f"No tool output found for function call {action.call_id}.", param="input")
    given = [outputs[one.call_id] for one in waiting.values() if one.kind is CallState.CLIENT]
    if given:
        yield SubmitToolResults(tuple(ToolResult(part.call_id, part.content, part.is_error) for part in given))
    shown = {part.id: part.arguments for part in rest.calls}
    for action in waiting.values():
        if action.kind is CallState.APPROVAL:
            yield _verdict(request, action, answered[action.call_id], shown.get(action.call_id))


def _verdict(request: ApiRequest, action: Action, answer: ApprovalAnswer, shown: str | None) -> UserCommand:
    if not answer.approved:
        return denial(action.call_id, DenyCall(reason=answer.reason))
    if action.arguments != shown:
        raise CallChanged("somebody changed the arguments of the call; approve it where they are shown")
    bytes_max = request.services.settings.sizes.content_bytes_max
    return approval(action.call_id, ApproveCall(digest=action.digest), bytes_max=bytes_max)
