"""``chat_answer``: results and approvals, for calls that a chat waits for; and how a tool's command is applied.

To approve one's own calls is off by default: what a person was to look at would be waved through by the very program
that asked for it.
"""

from __future__ import annotations

import hashlib
from uuid import UUID

import msgspec

from chatcluster.chat import UserCommand
from chatcluster.errors import CallerError, Forbidden, InvalidRequest
from chatcluster.ports import Idempotency, Outcome
from chatcluster.web.api.tool_bodies import ApproveCall, DenyCall, SubmitResults, approval, denial, parse_call_id
from chatcluster.web.api.tool_calls import submitting
from chatcluster.web.doors.mcp import given, told
from chatcluster.web.request import ApiRequest, checked_key, parse_chat_id

NOT_BY_PROGRAMS = (
    "calls are approved by people: with the page, or the API's tool-calls/{call_id}/approve. "
    "The operator lets programs do it with the setting mcp-approvals"
)


def under_key(arguments: msgspec.Struct, name: str, key: str | None) -> Idempotency | None:
    """The idempotency key with a digest of what the arguments say, however they were written."""
    if key is None:
        return None
    said = msgspec.json.encode(arguments, order="deterministic")
    return Idempotency(checked_key("idempotency_key", key), hashlib.sha256(b"mcp %s\n" % name.encode() + said).digest())


async def applied(
    request: ApiRequest, chat_id: UUID, command: UserCommand, idempotency: Idempotency | None = None
) -> Outcome:
    return await request.services.transitions.apply(
        chat_id, command, owner_id=request.user.user_id, idempotency=idempotency
    )


async def answer(request: ApiRequest, asked: given.AnswerArguments) -> told.Answered:
    """Results are taken all or none; approvals one after the other, and those that were taken stay."""
    chat_id = parse_chat_id(asked.chat_id)
    if bool(asked.results) == bool(asked.approvals):
        raise InvalidRequest("give results, or approvals: one of the two, and not both")
    chat = await request.owned_chat(asked.chat_id)
    answered: list[str] = []
    for number, (call_ids, command) in enumerate(await _commands(request, asked)):
        key = None if asked.idempotency_key is None else asked.idempotency_key + (f"/{number}" if number else "")
        try:
            outcome = await applied(request, chat_id, command, under_key(asked, "chat_answer", key))
        except CallerError as error:
            error.details["answered"] = answered
            raise
        chat = outcome.chat
        answered.extend(call_ids)
    return told.Answered(**told.fields_of(chat), answered=answered, cursor=str(told.Cursor(chat.snapshot_version)))


async def _commands(request: ApiRequest, asked: given.AnswerArguments) -> list[tuple[list[str], UserCommand]]:
    if asked.results:
        command = await submitting(request, SubmitResults(results=asked.results))
        return [([result.call_id for result in command.results], command)]
    if any(one.approve for one in asked.approvals) and not request.services.settings.tools.mcp_approvals:
        raise Forbidden(NOT_BY_PROGRAMS)
    bytes_max = request.services.settings.sizes.content_bytes_max
    return [([one.call_id], _decision(one, bytes_max)) for one in asked.approvals]


def _decision(one: given.Approval, bytes_max: int) -> UserCommand:
    call_id = parse_call_id(one.call_id)
    if one.approve:
        return approval(call_id, ApproveCall(digest=one.digest), bytes_max=bytes_max)
    return denial(call_id, DenyCall(reason=one.reason))
