"""Routes of tool calls: answers of people and of the client, and what need not be asked again."""

from __future__ import annotations

from uuid import UUID

import msgspec
from litestar import delete, get, post
from litestar.params import FromPath, JSONBody

from chatcluster.chat import SubmitToolResults, ToolResult, UserCommand
from chatcluster.errors import NotFound
from chatcluster.images import images_scaled
from chatcluster.views import ChatAnswer, chat_answer
from chatcluster.web.api.answers import REFUSALS, PermissionsAnswer
from chatcluster.web.api.tool_bodies import (
    AnswerCall,
    ApproveCall,
    DenyCall,
    SubmitResults,
    answering,
    approval,
    denial,
    parse_call_id,
    results,
)
from chatcluster.web.request import ApiRequest, parse_chat_id, parse_uuid

APPROVED, DENIED = ApproveCall(), DenyCall()
"""What a request without a body says."""


@post("/chats/{chat_id:str}/tool-calls/{call_id:str}/approve", status_code=200, responses=REFUSALS)
async def approve_call(
    request: ApiRequest, chat_id: FromPath[str], call_id: FromPath[str], data: JSONBody[ApproveCall] = APPROVED
) -> ChatAnswer:
    """Let a call be run that waits for an approval. Of several answers one wins, and the others get 409."""
    bytes_max = request.services.settings.sizes.content_bytes_max
    return await _apply(request, chat_id, approval(parse_call_id(call_id), data, bytes_max=bytes_max))


@post("/chats/{chat_id:str}/tool-calls/{call_id:str}/deny", status_code=200, responses=REFUSALS)
async def deny_call(
    request: ApiRequest, chat_id: FromPath[str], call_id: FromPath[str], data: JSONBody[DenyCall] = DENIED
) -> ChatAnswer:
    """Do not let a call be run that waits for an approval. The model is told, and the turn goes on."""
    return await _apply(request, chat_id, denial(parse_call_id(call_id), data))


@post("/chats/{chat_id:str}/tool-calls/{call_id:str}/answer", status_code=200, responses=REFUSALS)
async def answer_call(
    request: ApiRequest, chat_id: FromPath[str], call_id: FromPath[str], data: JSONBody[AnswerCall]
) -> ChatAnswer:
    """Answer what the server of a call asks the user. Of several answers one wins, and the others get 409."""
    return await _apply(request, chat_id, answering(parse_call_id(call_id), data))


@post("/chats/{chat_id:str}/tool-results", status_code=200, responses=REFUSALS)
async def submit_results(request: ApiRequest, chat_id: FromPath[str], data: JSONBody[SubmitResults]) -> ChatAnswer:
    """Results of calls that the client runs itself. With the last one the turn goes on.

    Images are made fit for models; in the place of one that cannot be read stands a line that says so.
    """
    return await _apply(request, chat_id, await submitting(request, data))


async def submitting(request: ApiRequest, data: SubmitResults) -> SubmitToolResults:
    """The command, checked. Raises ``InvalidRequest``, or ``TooLarge``."""
    command = results(data, bytes_max=request.services.settings.sizes.content_bytes_max)
    return SubmitToolResults(tuple([await _scaled(one, request.user.user_id) for one in command.results]))


async def _scaled(result: ToolResult, user_id: UUID) -> ToolResult:
    if isinstance(result.content, str):
        return result
    return msgspec.structs.replace(result, content=await images_scaled(result.content, user_id))


@get("/me/tool-permissions", responses=REFUSALS)
async def list_permissions(request: ApiRequest) -> PermissionsAnswer:
    """The tools that the caller is not asked about again, the newest first."""
    return PermissionsAnswer(await request.services.store.list_permissions(request.user.user_id))


@delete("/me/tool-permissions/{permission_id:str}", responses=REFUSALS)
async def delete_permission(request: ApiRequest, permission_id: FromPath[str]) -> None:
    """Ask about this tool again."""
    found: UUID | None = parse_uuid(permission_id)
    if found is None or not await request.services.store.delete_permission(request.user.user_id, found):
        raise NotFound("there is no such permission")


async def _apply(request: ApiRequest, chat_id: str, command: UserCommand) -> ChatAnswer:
    outcome = await request.services.transitions.apply(
        parse_chat_id(chat_id), command, owner_id=request.user.user_id, idempotency=await request.idempotency()
    )
    return chat_answer(outcome.chat)


ROUTES = [approve_call, deny_call, answer_call, submit_results, list_permissions, delete_permission]
