"""Routes of a chat's messages: read, send, edit, and what waits in the queue."""

from __future__ import annotations

from typing import Annotated

from litestar import Response, delete, get, patch, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, JSONBody, QueryParameter

from chatcluster.chat import DeleteQueued, Edit, EditQueued, Promote, Send, UserCommand
from chatcluster.errors import InvalidRequest
from chatcluster.parts import shown
from chatcluster.ports import Outcome, checked_choice
from chatcluster.views import chat_answer
from chatcluster.web.api.answers import REFUSALS, MessagesAnswer, SentAnswer
from chatcluster.web.api.bodies import EditMessage, EditQueuedMessage, SendMessage, checked_model
from chatcluster.web.api.streamed import STREAMED, Streamed, wants_stream
from chatcluster.web.api.tool_bodies import checked_servers
from chatcluster.web.request import Answered, ApiRequest, parse_chat_id, parse_message_id, parse_queued_id

MESSAGES_MAX = 500
MESSAGES_DEFAULT = 100
PAGE_BYTES = 1 << 20
ID_MAX = 2**63 - 1
ID_DIGITS = 19
LATEST = "latest"


@get("/chats/{chat_id:str}/messages", responses=REFUSALS)
async def list_messages(
    request: ApiRequest,
    chat_id: FromPath[str],
    after: Annotated[
        int | None, QueryParameter(ge=0, le=ID_MAX, description="In order: the last message of the page before")
    ] = None,
    before: Annotated[
        str | None, QueryParameter(description="Newest first: `latest`, or the last message of the page before")
    ] = None,
    limit: Annotated[int, QueryParameter(ge=1, le=MESSAGES_MAX)] = MESSAGES_DEFAULT,
) -> MessagesAnswer:
    """The history, a page at a time, and the whole queue: in order, or with `before` the newest messages first.

    A page may have less than `limit` messages, if those are large: `has_more` tells whether it is the last one. That of
    `before=latest` has a `cursor`, at which the chat's stream goes on without telling of these messages again.
    """
    store, found = request.services.store, parse_chat_id(chat_id)
    owner_id = request.user.user_id
    if before is None:
        page = await store.list_messages(found, owner_id=owner_id, after=after or 0, limit=limit, bytes_max=PAGE_BYTES)
        return MessagesAnswer(tuple(map(shown, page.messages)), page.queue, page.has_more)
    if after is not None:
        raise InvalidRequest("after and before are of two orders; give one of them")
    newest = await store.list_newest(
        found, owner_id=owner_id, before=_before(before), limit=limit, bytes_max=PAGE_BYTES
    )
    cursor = str(newest.cursor) if before == LATEST else None
    return MessagesAnswer(tuple(map(shown, newest.messages)), newest.queue, newest.has_more, cursor)


def _before(text: str) -> int:
    if text == LATEST:
        return ID_MAX
    if not (text.isascii() and text.isdigit() and len(text) <= ID_DIGITS and int(text) <= ID_MAX):
        raise InvalidRequest("before must be `latest` or the ID of a message")
    return int(text)


SEND = "Send a message: 201 if it is in the history now, 202 if it waits in the queue of a busy chat."
QUEUED = ResponseSpec(SentAnswer, generate_examples=False, description="The message waits in the queue")


@post("/chats/{chat_id:str}/messages", responses={202: QUEUED, **REFUSALS}, description=SEND + STREAMED)
async def send_message(
    request: ApiRequest, chat_id: FromPath[str], data: JSONBody[SendMessage]
) -> Response[SentAnswer]:
    is_streamed = wants_stream(request)
    outcome = await _apply(request, chat_id, await sending(request, data))
    message = outcome.message if outcome.queued is None else None
    answer = SentAnswer(chat_answer(outcome.chat), message, outcome.queued)
    status_code = 201 if outcome.queued is None else 202
    if is_streamed:
        return Streamed(answer, request, outcome, status_code=status_code)
    return Answered(answer, status_code=status_code)


async def sending(request: ApiRequest, data: SendMessage) -> Send:
    """The command, checked with all that it names. Raises ``CallerError``s."""
    parts = await request.message_parts(data.content)
    servers = None if data.mcp_servers is None else checked_servers(data.mcp_servers)
    await checked_choice(request.services.mcp.admin.servers, servers or ())
    await request.require_model(model := checked_model(data.model))
    return Send(parts, data.busy, model, servers)


@patch("/chats/{chat_id:str}/messages/{message_id:str}", responses=REFUSALS)
async def edit_message(
    request: ApiRequest, chat_id: FromPath[str], message_id: FromPath[str], data: JSONBody[EditMessage]
) -> SentAnswer:
    """Replace a user's message. It and all after it, and the queue, are gone; the chat answers the new one."""
    parts = await request.message_parts(data.content)
    command = Edit(parse_message_id(message_id), parts, checked_model(data.model))
    await request.require_model(command.model)
    outcome = await _apply(request, chat_id, command)
    return SentAnswer(chat_answer(outcome.chat), message=outcome.message)


@delete("/chats/{chat_id:str}/queue/{queued_id:str}", responses=REFUSALS)
async def delete_queued(request: ApiRequest, chat_id: FromPath[str], queued_id: FromPath[str]) -> None:
    """Take a message out of the queue."""
    await _apply(request, chat_id, DeleteQueued(parse_queued_id(queued_id)))


@patch("/chats/{chat_id:str}/queue/{queued_id:str}", responses=REFUSALS)
async def edit_queued(
    request: ApiRequest, chat_id: FromPath[str], queued_id: FromPath[str], data: JSONBody[EditQueuedMessage]
) -> SentAnswer:
    """Replace a message that waits in the queue. It keeps its place."""
    parts = await request.message_parts(data.content)
    command = EditQueued(parse_queued_id(queued_id), parts, checked_model(data.model))
    await request.require_model(command.model)
    outcome = await _apply(request, chat_id, command)
    return SentAnswer(chat_answer(outcome.chat), queued=outcome.queued)


@post("/chats/{chat_id:str}/queue/{queued_id:str}/promote", status_code=200, responses=REFUSALS)
async def promote_queued(request: ApiRequest, chat_id: FromPath[str], queued_id: FromPath[str]) -> SentAnswer:
    """Answer this queued message next: a running answer is interrupted, and kept as far as it got.

    ``message`` is there if it went into history at once.
    """
    outcome = await _apply(request, chat_id, Promote(parse_queued_id(queued_id)))
    return SentAnswer(chat_answer(outcome.chat), message=outcome.message)


async def _apply(request: ApiRequest, chat_id: str, command: UserCommand) -> Outcome:
    return await request.services.transitions.apply(
        parse_chat_id(chat_id), command, owner_id=request.user.user_id, idempotency=await request.idempotency()
    )


ROUTES = [list_messages, send_message, edit_message, edit_queued, delete_queued, promote_queued]
