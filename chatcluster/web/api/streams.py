"""Routes of event streams: one chat, or all of the caller's."""

from __future__ import annotations

from typing import Annotated

from litestar import get
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, HeaderParameter, QueryParameter
from litestar.types import ASGIApp

from chatcluster.parts import BEGINNING, parse_cursor
from chatcluster.web.api.answers import REFUSALS
from chatcluster.web.http.sse import EventStream
from chatcluster.web.request import ApiRequest, parse_chat_id

EVENTS = ResponseSpec(
    data_container=str,
    media_type="text/event-stream",
    generate_examples=False,
    description="Server-sent events; `event:` is the type, `data:` a JSON object with `type` and the payload",
)


@get("/chats/{chat_id:str}/stream", responses={**REFUSALS, 200: EVENTS})
async def stream_chat(
    request: ApiRequest,
    chat_id: FromPath[str],
    cursor: Annotated[
        str, QueryParameter(description="Resume after this event ID; the header Last-Event-ID wins")
    ] = "",
    last_event_id: Annotated[str, HeaderParameter(name="Last-Event-ID")] = "",
) -> ASGIApp:
    """Follow one chat: its state first, then every change, until the client leaves.

    Events: `status`, `message`, `attempt` (drop the preview), `part` (a piece of the answer under way),
    `history_reset` (drop all messages; all follow), `queue` (the whole list), `retry`, `error`, `title`, `turn` (one
    ended: the message that it answered, its outcome, its duration), `ready` (what came is the state of the chat, what
    follows is new). Each
    has an `id`, which is the cursor to resume at, on any replica. The stream never ends cleanly: whenever it breaks
    off, resume.
    """
    place = last_event_id or cursor
    position = parse_cursor(place) if place else BEGINNING
    services = request.services
    return EventStream(
        services.feeds.subscribe(parse_chat_id(chat_id), position, owner_id=request.user.user_id),
        heartbeat_seconds=services.settings.sse_heartbeat_seconds,
        pump=request.pump,
        authenticator=request.authenticator,
        token=request.auth,
        resumed=bool(place),
    )


@get("/watch", responses={**REFUSALS, 200: EVENTS})
async def watch_chats(request: ApiRequest) -> ASGIApp:
    """Follow the list of the caller's chats.

    Events: `created`, `status`, `title`, `archived`, `unarchived`, each with the `chat`. There is no cursor: read
    the list again after a reconnect.
    """
    services = request.services
    return EventStream(
        services.watches.subscribe(request.user.user_id),
        heartbeat_seconds=services.settings.sse_heartbeat_seconds,
        pump=request.pump,
        authenticator=request.authenticator,
        token=request.auth,
        resumed=False,
    )


ROUTES = [stream_chat, watch_chats]
