"""Answers to the calls that a chat waits for, out of what a client sends back.

Only calls that wait are answered: whatever else the client has of calls is history, and the server's counts. Where it
has nothing for those that wait, it is told what they are.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import suppress
from typing import Any, NamedTuple

import msgspec
from msgspec import UNSET

from chatcluster.chat import CallState, Status, SubmitToolResults, UserCommand
from chatcluster.errors import CallAnswered, InvalidRequest
from chatcluster.parts import Message, NewMessage, Role, ToolCallPart
from chatcluster.ports import Action, Chat
from chatcluster.turn_log import TurnStart
from chatcluster.web.api.tool_bodies import (
    AnswerCall,
    ApproveCall,
    DenyCall,
    InputJson,
    InputReply,
    InputResult,
    SubmitResults,
    answering,
    approval,
    denial,
    results,
)
from chatcluster.web.doors.given_files import restored
from chatcluster.web.request import ApiRequest

NEWEST_MAX, NEWEST_BYTES = 200, 1 << 20
"""So many of the newest messages are looked through for the one that made the calls."""
ID_MAX = 2**63 - 1


class Output(NamedTuple):
    """What a tool of the client gave: a text, or a value."""

    value: Any
    is_error: bool = False


class Verdict(NamedTuple):
    """What a person says of a call. ``digest`` is that of the arguments which were shown."""

    approved: bool
    digest: str
    reason: str | None = None


class Answers(NamedTuple):
    """What a person says to what the server of a call asks, by the keys of the questions."""

    digest: str
    said: Mapping[str, InputReply]


Reply = Output | Verdict | Answers


class GoneOn(NamedTuple):
    """Where the log goes on that a client is told: behind the message that made the calls. ``anew``: none of its
    replies was news, so it may have been told some of that before."""

    chat: Chat
    start: TurnStart
    anew: bool


async def go_on(request: ApiRequest, chat: Chat, replies: Mapping[str, Reply], call_ids: Collection[str]) -> GoneOn:
    """Give the replies, by call. ``call_ids``: all that the client knows of.

    Raises ``InvalidRequest`` where the chat waits for answers to one of those, and there is none of them.
    """
    calling = await calling_message(request, chat, call_ids)
    asks = chat.status in (Status.REQUIRES_ACTION, Status.RUNNING)  # a server may ask while its call runs
    waiting = await request.services.store.actions(chat.id) if asks else ()
    own = [action for action in waiting if action.chat_id is UNSET]
    commands = list(_commands(own, replies, bytes_max=request.services.settings.sizes.content_bytes_max))
    if not commands and any(action.call_id in call_ids for action in own):
        waits = ", ".join(f"{action.name} ({action.call_id}: {action.kind})" for action in own)
        raise InvalidRequest(f"the chat waits for answers to calls: {waits}"[:1000], param="messages")
    is_news = False
    for command in commands:
        with suppress(CallAnswered):  # somebody else did: the client is told with what
            chat = (await request.services.transitions.apply(chat.id, command, owner_id=chat.owner_id)).chat
            is_news = True
    return GoneOn(chat, TurnStart(calling.id, calling.revision, chat.snapshot_version), anew=not is_news)


async def answer_behind(
    request: ApiRequest, chat: Chat, replies: Callable[[], Mapping[str, Reply | None]], message: NewMessage
) -> SubmitToolResults | None:
    """The outputs that the chat waits for, and what its user says behind them. None where there are not all of them, or
    it waits for somebody else: then what the user says is a message like any other."""
    found = replies() if chat.status is Status.REQUIRES_ACTION else {}
    if not found:
        return None
    waiting = [action for action in await request.services.store.actions(chat.id) if action.chat_id is UNSET]
    given = {action.call_id: found.get(action.call_id) for action in waiting if action.kind is CallState.CLIENT}
    answers = {call_id: one for call_id, one in given.items() if isinstance(one, Output)}
    if not answers or len(answers) < len(waiting):
        return None
    whole = {call_id: one._replace(value=await restored(request, one.value)) for call_id, one in answers.items()}
    outputs = [_result(call_id, one) for call_id, one in whole.items()]
    command = results(SubmitResults(results=outputs), bytes_max=request.services.settings.sizes.content_bytes_max)
    return msgspec.structs.replace(command, message=message)


async def calling_message(
    request: ApiRequest, chat: Chat, call_ids: Collection[str], *, param: str = "messages"
) -> Message:
    """The newest message that made one of these calls. Raises ``InvalidRequest``."""
    newest = await request.services.store.list_newest(
        chat.id, owner_id=chat.owner_id, before=ID_MAX, limit=NEWEST_MAX, bytes_max=NEWEST_BYTES
    )
    for message in newest.messages:
        calls = (part.id for part in message.parts if isinstance(part, ToolCallPart))
        if message.role is Role.ASSISTANT and not set(call_ids).isdisjoint(calls):
            return message
    raise InvalidRequest("there is no call here that this chat made", param=param)


def _commands(waiting: list[Action], replies: Mapping[str, Reply], *, bytes_max: int) -> Iterator[UserCommand]:
    outputs = []
    for action in waiting:
        match action.kind, replies.get(action.call_id):
            case CallState.CLIENT, Output() as output:
                outputs.append(_result(action.call_id, output))
            case CallState.APPROVAL, Verdict() as verdict:
                yield _answer(action.call_id, verdict, bytes_max)
            case CallState.QUESTION, Answers(digest, said):
                yield answering(action.call_id, AnswerCall(answers=dict(said), digest=digest))
    if outputs:
        yield results(SubmitResults(results=outputs), bytes_max=bytes_max)


def _result(call_id: str, output: Output) -> InputResult:
    if isinstance(output.value, str):
        return InputResult(call_id, output.value, output.is_error)
    return InputResult(call_id, [InputJson(msgspec.json.encode(output.value).decode())], output.is_error)


def _answer(call_id: str, verdict: Verdict, bytes_max: int) -> UserCommand:
    if not verdict.approved:
        return denial(call_id, DenyCall(reason=verdict.reason))
    return approval(call_id, ApproveCall(digest=verdict.digest or None), bytes_max=bytes_max)
