"""The route of chat completions: the messages that are given become a chat, and its answer is the completion."""

from __future__ import annotations

from functools import partial
from typing import Any

from litestar import post
from litestar.params import JSONBody
from litestar.types import ASGIApp

from chatcluster.chat import Interrupt
from chatcluster.turn_log import TurnStart
from chatcluster.web.doors.door_stream import Awaited, Narrator, narrated
from chatcluster.web.doors.openai.asking import Asked, ask, clients_tools, keep, known_of
from chatcluster.web.doors.openai.completion_bodies import CreateCompletion, check, items_in
from chatcluster.web.doors.openai.completion_fold import CompletionFold
from chatcluster.web.doors.openai.narrators import EVENTS, OBJECT, Chunked, Completed
from chatcluster.web.doors.openai.response_bodies import about, begun, tools_of
from chatcluster.web.doors.openai.responses import OPENAI
from chatcluster.web.doors.openai.taking import taken
from chatcluster.web.http.sse import EventStream
from chatcluster.web.request import ApiRequest


@post("/chat/completions", status_code=200, responses=OPENAI)
async def create_completion(request: ApiRequest, data: JSONBody[CreateCompletion]) -> ASGIApp:
    """Create a chat completion, as in OpenAI's API. The messages make a chat, whose answer goes on whatever becomes of
    the connection: with an `Idempotency-Key` a repeat attaches to it, and is told all of it.

    Without `store` the chat is deleted ten minutes after it came to rest. Functions are run by the caller.
    """
    check(data)
    tools = tools_of(data.tools, data.tool_choice)
    with about("messages"):
        said = await taken(request, items_in(data.messages))
    request.services.readers.feeds.require_place(request.user.user_id)
    asked = await ask(request, data.as_response, said, tools, param="messages")
    known = known_of(request, data.as_response, asked, data.tools or [])
    parameters = begun({"metadata": data.metadata}, **known)
    await keep(request, asked, parameters, transient=not data.store, is_told=True)
    completion_id = "chatcmpl-" + asked.response_id.partition("_")[2]
    head = {"id": completion_id, "created": known["created_at"], "model": known["model"]}
    include_usage = bool((data.stream_options or {}).get("include_usage"))
    fold = CompletionFold(head, frozenset(clients_tools(asked.outcome.chat)), include_usage=include_usage)
    leaving = data.on_disconnect == "cancel"
    if data.stream:
        chunked = Chunked(fold)
        return EventStream(_told(request, asked, chunked, leaving), request.terms, wire=EVENTS)
    completed = Completed(fold)
    return Awaited(_told(request, asked, completed, leaving), completed, terms=request.terms, wire=OBJECT)


def _told(request: ApiRequest, asked: Asked, narrator: Narrator, leaving: bool) -> Any:
    chat_id, user_id = asked.outcome.chat.id, request.user.user_id
    start = TurnStart(asked.message_id, asked.revision)
    cancel = partial(request.services.transitions.apply, chat_id, Interrupt(), owner_id=user_id)
    logs = request.services.readers.logs
    return narrated(logs, chat_id, start, narrator, owner_id=user_id, on_leave=cancel if leaving else None)


ROUTES = [create_completion]
