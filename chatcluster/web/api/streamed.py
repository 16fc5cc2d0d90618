"""An answer to a POST that goes on as the chat's event stream, on request: ``Accept: text/event-stream``.

The first event, ``accepted``, tells what the POST did, as its JSON would have; its ID is a cursor from just before
that, so that the stream tells it all: the message, the answer, the end of the turn. A repeat with the same
Idempotency-Key attaches to what the first one made, from the same place on, whatever has become of it since. A client
that has read an event resumes like any reader, at ``GET /chats/{id}/stream``.

Whether there is a place for a reader is asked before anything is written. Should the stream not come about after that
(503), what became of the request is unknown, as ever: repeat it with its key.
"""

from __future__ import annotations

from typing import Any, TypeVar

from litestar import Response
from litestar.types import ASGIApp

from chatcluster import events
from chatcluster.events import AcceptedEvent
from chatcluster.parts import START, Cursor
from chatcluster.ports import Outcome
from chatcluster.views import chat_answer
from chatcluster.web.http.sse import EventStream
from chatcluster.web.request import JSON, ApiRequest

EVENT_STREAM = "text/event-stream"
ANYTHING = "*/*"
STREAMED = """

With `Accept: text/event-stream` the answer is the chat's event stream (see `GET /chats/{chat_id}/stream`), beginning
with an event `accepted` that tells what the answer would have been, at the cursor just before it."""

T = TypeVar("T")


def wants_stream(request: ApiRequest) -> bool:
    """Whether the caller asks for a stream in answer. Raises ``TooMany`` if there is no place for another reader."""
    if request.headers.get("accept", ANYTHING) in (ANYTHING, JSON):
        return False
    wanted = request.accept.best_match([JSON, EVENT_STREAM], default=JSON) == EVENT_STREAM
    if wanted:
        request.services.readers.feeds.require_place(request.user.user_id)
    return wanted


class Streamed(Response[T]):
    """The answer, as the first event of a stream that begins just before what the request did."""

    def __init__(self, content: T, request: ApiRequest, outcome: Outcome, *, status_code: int) -> None:
        super().__init__(content, status_code=status_code)
        self._asked = request
        self._outcome = outcome

    def to_asgi_response(self, *_: Any, **__: Any) -> ASGIApp:  # type: ignore[override]
        request, outcome = self._asked, self._outcome
        services, chat = request.services, outcome.chat
        place = _just_before(chat.snapshot_version)
        accepted = AcceptedEvent(chat_answer(chat), None if outcome.queued else outcome.message, outcome.queued)
        return EventStream(
            services.readers.feeds.subscribe(chat.id, place, owner_id=chat.owner_id),
            request.terms,
            status=self.status_code or 201,
            first=events.with_id(place, events.body(accepted)),
        )


def _just_before(version: int) -> Cursor:
    """The cursor behind which the turns and messages of a version are told. Before the first one there is no other to
    name."""
    return Cursor(version - 1, START) if version > 1 else Cursor(version, START, 0)
