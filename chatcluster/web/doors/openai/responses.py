"""Routes of responses: create, retrieve, cancel, delete, and what they were given."""

from __future__ import annotations

from contextlib import suppress
from typing import Annotated, Any

import trio
from litestar import delete, get, post
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, JSONBody, QueryParameter
from litestar.types import ASGIApp

from chatcluster.chat import Interrupt
from chatcluster.errors import Conflict, InvalidRequest
from chatcluster.web.api.answers import REFUSALS
from chatcluster.web.doors.door_stream import answered
from chatcluster.web.doors.openai.asking import ask, keep, known_of
from chatcluster.web.doors.openai.ids import no_such_response, parse_response_id
from chatcluster.web.doors.openai.item_pages import ITEMS_DEFAULT, ITEMS_MAX, input_items, page_of
from chatcluster.web.doors.openai.narrators import EVENTS, OBJECT, Narrated, Summed
from chatcluster.web.doors.openai.response_bodies import CreateResponse, about, begun, check, fields_of, tools_of
from chatcluster.web.doors.openai.taking import taken_input
from chatcluster.web.doors.openai.telling import fold_of, read_response, stored_response, streamed
from chatcluster.web.request import ApiRequest

CANCEL_SECONDS_MAX = 5.0
"""How long an answer to a cancel waits for the end. Later it says that the response is still under way."""
OPENAI = {
    200: ResponseSpec(dict[str, Any], generate_examples=False, description="As in OpenAI's API, JSON or events"),
    **REFUSALS,
}
STREAM = Annotated[bool, QueryParameter(description="As server-sent events")]


@post("/responses", status_code=200, responses=OPENAI)
async def create_response(request: ApiRequest, data: JSONBody[CreateResponse]) -> ASGIApp:
    """Create a response, as in OpenAI's API. It is a turn of a chat, and goes on whatever becomes of the connection.

    `stream`, `background`, `previous_response_id` and `conversation` do what they do there; a past response that is not
    the last one of its chat is gone on from in a copy. Functions are run by the caller. An `Idempotency-Key` makes a
    repeat attach to the turn that it began. `on_disconnect: "cancel"` stops it when the caller leaves.
    """
    check(data)
    body = fields_of(await request.body())
    tools = tools_of(data.tools, data.tool_choice)
    with about("input"):
        said = await taken_input(request, data.input)
    is_told = bool(data.stream) or not data.background
    if is_told:
        request.services.readers.feeds.require_place(request.user.user_id)
    asked = await ask(request, data, said, tools)
    parameters = begun(body, **known_of(request, data, asked, body.get("tools") or []))
    stored = await keep(request, asked, parameters, transient=asked.transient, is_told=is_told)
    fold = fold_of(stored)
    if data.stream:
        return streamed(request, stored, Narrated(fold), EVENTS, leaving=data.on_disconnect)
    if data.background:
        return answered({**fold.response(), "status": "queued"})
    return streamed(request, stored, Summed(fold), OBJECT, leaving=data.on_disconnect)


@get("/responses/{response_id:str}", responses=OPENAI)
async def retrieve_response(
    request: ApiRequest,
    response_id: FromPath[str],
    stream: STREAM = False,
    starting_after: Annotated[
        int | None, QueryParameter(ge=0, description="With stream: from the next event on")
    ] = None,
) -> ASGIApp:
    """A response as it is now; with `stream` its events, from the first one or after `starting_after`, to the end."""
    stored = await stored_response(request, response_id)
    if stream:
        after = -1 if starting_after is None else starting_after
        return streamed(request, stored, Narrated(fold_of(stored), after), EVENTS)
    if starting_after is not None:
        raise InvalidRequest("starting_after goes with stream=true", param="starting_after")
    return answered((await read_response(request, stored)).response())


@post("/responses/{response_id:str}/cancel", status_code=200, responses=OPENAI)
async def cancel_response(request: ApiRequest, response_id: FromPath[str]) -> ASGIApp:
    """Stop a response that is under way. What was said stays in the chat. One that is over stays as it is."""
    stored = await stored_response(request, response_id)
    fold = await read_response(request, stored)
    if not fold.is_over:
        with suppress(Conflict):  # it came to its end, or is being stopped already
            await request.services.transitions.apply(stored.chat_id, Interrupt(), owner_id=request.user.user_id)
        with trio.move_on_after(CANCEL_SECONDS_MAX):
            fold = await read_response(request, stored, until_over=True)
    return answered(fold.response())


@delete("/responses/{response_id:str}", status_code=200, responses=OPENAI)
async def delete_response(request: ApiRequest, response_id: FromPath[str]) -> ASGIApp:
    """Forget a response. What was said stays in its chat."""
    key = parse_response_id(response_id)
    if not await request.services.readers.logs.responses.remove(*key, owner_id=request.user.user_id):
        raise no_such_response(response_id)
    gone = {"id": response_id, "object": "response.deleted", "deleted": True}
    return answered(gone)


@get("/responses/{response_id:str}/input_items", responses=OPENAI)
async def list_input_items(
    request: ApiRequest,
    response_id: FromPath[str],
    limit: Annotated[int, QueryParameter(ge=1, le=ITEMS_MAX)] = ITEMS_DEFAULT,
    order: Annotated[str, QueryParameter(description="asc, or desc")] = "desc",
    after: Annotated[str | None, QueryParameter(description="The last item of the page before")] = None,
) -> ASGIApp:
    """What the response was given."""
    items = await input_items(request, await stored_response(request, response_id))
    return answered(page_of(items, limit, order, after))


ROUTES = [create_response, retrieve_response, cancel_response, delete_response, list_input_items]
