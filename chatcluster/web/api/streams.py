"""Routes of event streams: one chat, or all of the caller's."""

from __future__ import annotations

from typing import Annotated, Any

from litestar import get
from litestar.openapi.datastructures import ResponseSpec
from litestar.params import FromPath, HeaderParameter, QueryParameter
from litestar.types import ASGIApp

from chatcluster import events
from chatcluster.errors import InvalidRequest
from chatcluster.family_stream import parse_family_cursor
from chatcluster.parts import BEGINNING, AttemptFrame, PartFrame, ResumedFrame, parse_cursor
from chatcluster.tab_stream import parse_family_tab_cursor, parse_tab_cursor
from chatcluster.watch import DeletedEvent, ListEvent
from chatcluster.web.api.answers import REFUSALS
from chatcluster.web.http.sse import EventStream
from chatcluster.web.request import ApiRequest, parse_chat_id

ChatEvents = (
    events.StatusEvent
    | events.MessageEvent
    | AttemptFrame
    | ResumedFrame
    | PartFrame
    | events.HistoryResetEvent
    | events.QueueEvent
    | events.ActionRequiredEvent
    | events.RetryEvent
    | events.ErrorEvent
    | events.TitleEvent
    | events.TurnEvent
    | events.ReadyEvent
    | events.AcceptedEvent
)
"""What the ``data`` of an event is, by its ``type``."""
ListEvents = ListEvent | DeletedEvent | ChatEvents | events.ChatChangeEvent | events.ListResetEvent


def _described(kinds: Any) -> ResponseSpec:
    return ResponseSpec(
        data_container=kinds,
        media_type="text/event-stream",
        generate_examples=False,
        description="Server-sent events; `event:` is the type, `data:` a JSON object with `type` and the payload",
    )


@get("/chats/{chat_id:str}/stream", responses={**REFUSALS, 200: _described(ChatEvents)})
async def stream_chat(
    request: ApiRequest,
    chat_id: FromPath[str],
    cursor: Annotated[
        str, QueryParameter(description="Resume after this event ID; the header Last-Event-ID wins")
    ] = "",
    family: Annotated[bool, QueryParameter(description="With all agents below the chat")] = False,
    last_event_id: Annotated[str, HeaderParameter(name="Last-Event-ID")] = "",
) -> ASGIApp:
    """Follow one chat: its state first, then every change, until the client leaves.

    Events: `status`, `message`, `attempt` (drop the preview), `part` (a piece of the answer under way),
    `history_reset` (drop all messages; all follow), `queue` (the whole list), `action_required` (the calls that wait
    for somebody), `retry`, `error`, `title`, `turn` (one ended: the message that it answered, its outcome, its
    duration), `ready` (what came is the state of the chat, what follows is new). Each has an `id`, which is the cursor
    to resume at, on any replica. The stream never ends cleanly: whenever it breaks off, resume.

    With `family=true` the events of all agents below the chat come as well, under one cursor: theirs have a `chat_id`,
    and each agent begins with its own `status` and has its own `ready`. A cursor of the chat alone will do to begin
    with.
    """
    readers, place = request.services.readers, last_event_id or cursor
    user_id, asked = request.user.user_id, parse_chat_id(chat_id)
    return EventStream(
        readers.families.subscribe(user_id, asked, parse_family_cursor(place))
        if family
        else readers.feeds.subscribe(asked, parse_cursor(place) if place else BEGINNING, owner_id=user_id),
        request.terms,
        resumed=bool(place),
    )


@get("/watch", responses={**REFUSALS, 200: _described(ListEvents)})
async def watch_chats(
    request: ApiRequest,
    chat: Annotated[str, QueryParameter(description="Follow this chat as well, in the same stream")] = "",
    cursor: Annotated[
        str, QueryParameter(description="With `chat`: resume after this event ID; the header Last-Event-ID wins")
    ] = "",
    family: Annotated[bool, QueryParameter(description="With `chat`: and all agents below it")] = False,
    last_event_id: Annotated[str, HeaderParameter(name="Last-Event-ID")] = "",
) -> ASGIApp:
    """Follow the list of the caller's chats, and with `chat` that chat as well.

    Without `chat`: events `created`, `status`, `title`, `archived`, `unarchived`, `changed`, each with the `chat`, and
    `deleted` with `chat_id`. There is no cursor: read the list again after a reconnect.

    With `chat`: the events of that chat's stream, and those of the list as `chat`, with `change` (the names above),
    `chat_id` and `chat`; a `chat` whose `snapshot_version` is below the one that is known is old news. Each has an `id`
    to resume at, `<list>~<chat>`: what comes after the `~` is a cursor of the chat's own stream, and for another chat
    one keeps what is before it. After a resume what changed meanwhile comes as `status`; `list_reset` says that it was
    too much, and that the list has to be read again. With `family=true` the chat's part is as in its stream with
    `family=true`, and a cursor without agents will do to begin with.
    """
    readers, place = request.services.readers, last_event_id or cursor
    user_id = request.user.user_id
    if chat:
        asked = parse_chat_id(chat)
        subscription = (
            readers.tabs.subscribe_family(user_id, asked, parse_family_tab_cursor(place))
            if family
            else readers.tabs.subscribe(user_id, asked, parse_tab_cursor(place))
        )
    elif cursor or family:
        raise InvalidRequest("a cursor and a family go with a chat; the list alone has none")
    else:
        subscription = readers.watches.subscribe(user_id)
    return EventStream(
        subscription,
        request.terms,
        resumed=bool(chat and place),
    )


ROUTES = [stream_chat, watch_chats]
