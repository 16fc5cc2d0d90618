"""Outputs of the client's tools, and answers to approvals, out of a message that a client sends back.

Only calls that wait are answered: whatever else the message has of calls is history, and the server's counts. Where the
client has nothing for the calls that wait, it is told what they are.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from typing import Any

import msgspec
from msgspec import UNSET

from chatcluster.chat import CallState, Status, UserCommand
from chatcluster.errors import CallAnswered, InvalidRequest
from chatcluster.parts import Message, Role, ToolCallPart
from chatcluster.ports import Action, Chat
from chatcluster.turn_log import TurnStart
from chatcluster.web.api.tool_bodies import (
    ApproveCall,
    DenyCall,
    InputJson,
    InputPart,
    InputResult,
    SubmitResults,
    approval,
    denial,
    results,
)
from chatcluster.web.doors.ai_sdk.ids import Approval
from chatcluster.web.doors.ai_sdk.ui_messages import tool_parts
from chatcluster.web.request import ApiRequest

NEWEST_MAX, NEWEST_BYTES = 200, 1 << 20
"""Of the messages among which the one is looked for that made the calls."""
ID_MAX = 2**63 - 1


async def go_on(request: ApiRequest, chat: Chat, message: dict[str, Any]) -> tuple[Chat, TurnStart]:
    """Give the answers that the message has, and where the log goes on that the client is told from here.

    Raises ``InvalidRequest`` where the chat waits for answers and the message has none of them.
    """
    parts = tool_parts(message)
    calling = await _calling(request, chat, set(parts))
    waiting = await request.services.store.actions(chat.id) if chat.status is Status.REQUIRES_ACTION else ()
    own = [action for action in waiting if action.chat_id is UNSET]
    commands = list(_commands(own, parts, bytes_max=request.services.settings.content_bytes_max))
    if own and not commands:
        waits = ", ".join(f"{action.name} ({action.call_id}: {action.kind})" for action in own)
        raise InvalidRequest(f"the chat waits for answers to calls: {waits}"[:1000], param="messages")
    for command in commands:
        with suppress(CallAnswered):  # somebody else did: the client is told with what
            chat = (await request.services.transitions.apply(chat.id, command, owner_id=chat.owner_id)).chat
    return chat, TurnStart(calling.id, calling.revision, chat.snapshot_version)


async def _calling(request: ApiRequest, chat: Chat, call_ids: set[str]) -> Message:
    """The newest message that made one of these calls."""
    newest = await request.services.store.list_newest(
        chat.id, owner_id=chat.owner_id, before=ID_MAX, limit=NEWEST_MAX, bytes_max=NEWEST_BYTES
    )
    for message in newest.messages:
        if message.role is Role.ASSISTANT and any(
            isinstance(part, ToolCallPart) and part.id in call_ids for part in message.parts
        ):
            return message
    raise InvalidRequest("the last message has no call that this chat made", param="messages")


def _commands(waiting: list[Action], parts: dict[str, Any], *, bytes_max: int) -> Iterator[UserCommand]:
    given = [(action, parts[action.call_id]) for action in waiting if action.call_id in parts]
    outputs = [_result(action.call_id, part) for action, part in given if action.kind is CallState.CLIENT]
    if done := [output for output in outputs if output is not None]:
        yield results(SubmitResults(results=done), bytes_max=bytes_max)
    for action, part in given:
        answer = part.get("approval")
        if action.kind is CallState.APPROVAL and isinstance(answer, dict) and isinstance(answer.get("approved"), bool):
            yield _answer(action.call_id, answer, bytes_max)


def _result(call_id: str, part: dict[str, Any]) -> InputResult | None:
    """None for a call that has no output yet."""
    if part.get("state") == "output-error":
        return InputResult(call_id, str(part.get("errorText") or "the tool failed"), is_error=True)
    if part.get("state") != "output-available":
        return None
    output = part.get("output")
    content: str | list[InputPart] = output if isinstance(output, str) else [_json(output)]
    return InputResult(call_id, content)


def _json(value: Any) -> InputJson:
    return InputJson(msgspec.json.encode(value).decode())


def _answer(call_id: str, answer: dict[str, Any], bytes_max: int) -> UserCommand:
    shown = Approval.parse(str(answer.get("id")))
    if not answer["approved"]:
        reason = answer.get("reason")
        return denial(call_id, DenyCall(reason=reason if isinstance(reason, str) else None))
    return approval(call_id, ApproveCall(digest=shown.digest or None), bytes_max=bytes_max)
