"""The route: one JSON-RPC message in, and what is answered to it out."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Annotated, Any

from litestar import get, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import HeaderParameter
from litestar.response.base import ASGIResponse
from litestar.types import ASGIApp

from chatcluster.errors import (
    CallerError,
    MethodNotAllowed,
    SchemaError,
    UnavailableError,
    Unreadable,
    UnsupportedMediaType,
)
from chatcluster.web.api.answers import REFUSALS
from chatcluster.web.doors.mcp.calls import CALLS
from chatcluster.web.doors.mcp.exchange import Outgoing, WaitStream, failure, refused, success, whole
from chatcluster.web.doors.mcp.given import WaitArguments
from chatcluster.web.doors.mcp.resumption import WaitCall, call_of
from chatcluster.web.doors.mcp.told import parse_cursor
from chatcluster.web.doors.mcp.tools import BY_NAME, INSTRUCTIONS, LISTED
from chatcluster.web.doors.mcp.waiting import Wait, Waiting, begin, read
from chatcluster.web.doors.mcp.wire import (
    INVALID_PARAMS,
    METHOD_NOT_FOUND,
    Asked,
    McpError,
    arguments_of,
    discovered,
    initialized,
    parse,
    result,
)
from chatcluster.web.request import ApiRequest

REFUSED = (CallerError, UnavailableError, SchemaError, Unreadable)
"""What a tool answers with an error of its own, in words for a model."""
LIST_SECONDS = 3600.0
"""How long a client may go by a list of tools: it changes with the version of chatcluster alone."""
MCP = {
    200: ResponseSpec(dict[str, Any], generate_examples=False, description="A JSON-RPC response, as JSON or as events"),
    202: ResponseSpec(None, generate_examples=False, description="To a notification"),
    **REFUSALS,
}
EVENTS = {
    200: ResponseSpec(str, generate_examples=False, media_type="text/event-stream", description="The answer in events"),
    **REFUSALS,
}


@post("/", status_code=200, responses=MCP)
async def exchange(request: ApiRequest) -> ASGIApp:
    """Speak the Model Context Protocol: one JSON-RPC message of streamable HTTP, stateless, with the chats as tools."""
    if request.headers.get("content-type", "").partition(";")[0].strip().lower() != "application/json":
        raise UnsupportedMediaType("send JSON: Content-Type: application/json")
    try:
        asked = parse(await request.body(), request.headers)
        return ASGIResponse(status_code=202) if asked.id is None else await _answered(request, asked)
    except McpError as error:
        return refused(error)


@get("/", status_code=200, responses=EVENTS)
async def resume(
    request: ApiRequest, last_event_id: Annotated[str, HeaderParameter(name="Last-Event-ID")] = ""
) -> ASGIApp:
    """Go on with an answer in the Model Context Protocol that broke off, at any replica."""
    if not last_event_id:
        said = "nothing is told here but answers: POST a request, or name the last event of an answer"
        raise MethodNotAllowed(said, allow="GET, POST")
    try:
        call = call_of(last_event_id)
    except McpError as error:
        return refused(error)
    outgoing = Outgoing(call.asked, takes_events=True, goes_on=True)
    try:
        return await _wait(request, call, outgoing)
    except REFUSED as error:
        return outgoing.at_once(error)


async def _answered(request: ApiRequest, asked: Asked) -> ASGIApp:
    match asked.method:
        case "tools/call":
            return await _called(request, asked)
        case "tools/list":
            return whole(result(asked, LISTED, cached_seconds=LIST_SECONDS))
        case "server/discover" if asked.is_stateless:
            return whole(result(asked, discovered(INSTRUCTIONS), cached_seconds=LIST_SECONDS))
        case "initialize" if not asked.is_stateless:
            return whole(result(asked, initialized(asked, INSTRUCTIONS)))
        case "ping" if not asked.is_stateless:
            return whole(result(asked, {}))
    raise asked.refusal(METHOD_NOT_FOUND, f"There is no method {asked.method[:80]!r} here")


async def _called(request: ApiRequest, asked: Asked) -> ASGIApp:
    tool = BY_NAME.get(asked.params.name or "")
    if tool is None:
        known = ", ".join(BY_NAME)
        raise asked.refusal(INVALID_PARAMS, f"There is no tool {(asked.params.name or '')[:80]!r}. There are {known}")
    try:
        arguments = arguments_of(asked, tool.takes)
        if isinstance(arguments, WaitArguments):
            outgoing = Outgoing(asked, "text/event-stream" in request.headers.get("accept", ""))
            return await _wait(request, WaitCall(asked, arguments, time.time()), outgoing)
        return whole(success(asked, await CALLS[tool.name](request, arguments)))
    except REFUSED as error:
        return whole(failure(asked, error))


async def _wait(request: ApiRequest, call: WaitCall, outgoing: Outgoing) -> ASGIApp:
    store, arguments = request.services.store, call.arguments
    chat = await request.owned_chat(arguments.chat_id)
    cursor = None if arguments.cursor is None else parse_cursor(arguments.cursor)
    wait = await begin(store, chat, cursor, arguments.timeout, call.waited_seconds(time.time()))
    if wait.is_over:
        return outgoing.at_once(await read(store, wait))
    request.services.readers.feeds.require_place(chat.owner_id)
    first = call.first_event(wait.cursor) if outgoing.can_break_off else b""
    return WaitStream(_waiting(request, wait, outgoing), outgoing, request.terms, first=first)


@asynccontextmanager
async def _waiting(request: ApiRequest, wait: Wait, outgoing: Outgoing) -> AsyncIterator[Waiting]:
    services, chat = request.services, wait.chat
    health = services.monitoring.health
    async with services.readers.logs.listen(chat.id, chat.snapshot_version, owner_id=chat.owner_id) as reader:
        yield Waiting(wait, reader, services.store, outgoing, is_leaving=lambda: health.draining)


ROUTES = [exchange, resume]
