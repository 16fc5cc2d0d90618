"""One request and what is answered to it: an object, or for a call that takes time a stream of events.

A tool's answer is given twice, as ``structuredContent`` and as the same JSON in a text: not every client knows both.
"""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager
from typing import Any, NamedTuple

import msgspec
from litestar.response.base import ASGIResponse
from litestar.types import ASGIApp, Receive, Scope, Send

from chatcluster.errors import CallerError, UnavailableError
from chatcluster.parts import encode
from chatcluster.web.doors.door_stream import HEAD
from chatcluster.web.doors.mcp.told import Waited
from chatcluster.web.doors.mcp.waiting import Waiting
from chatcluster.web.doors.mcp.wire import Asked, McpError, error, progress, result
from chatcluster.web.errors import answer
from chatcluster.web.http.sse import EventStream, StreamWire, Terms

EVENTS = StreamWire(
    ((b"content-type", b"text/event-stream; charset=utf-8"), *HEAD), opening=b": open\n\n", heartbeat=b": ping\n\n"
)
OBJECT = StreamWire(((b"content-type", b"application/json"), *HEAD), opening=b"", heartbeat=b"\n")
"""For clients that take no events: JSON may begin with white space."""

HINTS = {
    "chat_not_found": "List your chats with chats_list.",
    "unknown_model": "List the models with models_list.",
    "chat_busy": "Wait with chat_wait, or send with busy=queue.",
    "not_allowed_in_status": "Look at the chat's status with chat_wait.",
    "chat_archived": "Take it out of the archive with chat_archive, archived=false.",
    "tool_call_not_found": "The calls that wait are the actions of chat_wait.",
    "call_answered": "Somebody else has answered it. Look with chat_wait.",
    "idempotency_key_reused": "Use a new idempotency_key for another request.",
    "invalid_cursor": "Call chat_wait without a cursor, or read with chat_read.",
    "store_unavailable": "Repeat the call in a second; with an idempotency_key nothing is done twice.",
    "too_many": "Wait a little, and repeat the call.",
    "chat_full": "Begin a new chat with chat_create.",
    "queue_full": "Wait with chat_wait until some of it is answered.",
}


def success(asked: Asked, said: msgspec.Struct) -> bytes:
    text = msgspec.json.encode(said)
    return result(
        asked,
        {
            "content": [{"type": "text", "text": text.decode()}],
            "structuredContent": msgspec.Raw(text),
            "isError": False,
        },
    )


def failure(asked: Asked, why: Exception) -> bytes:
    """What went wrong in a tool, in words for a model: what, its code, what to do next, and what else is known."""
    said: dict[str, Any] = msgspec.json.decode(answer(why).body)["error"]
    code, message = said.pop("code"), said.pop("message")
    words = [f"{message} ({code}).", HINTS.get(code, ""), msgspec.json.encode(said).decode() if said else ""]
    return result(asked, {"content": [{"type": "text", "text": " ".join(filter(None, words))}], "isError": True})


def refused(why: McpError) -> ASGIApp:
    said = error(why.code, str(why), request_id=why.request_id, data=why.data)
    return ASGIResponse(body=encode(said), media_type="application/json", status_code=why.status)


def whole(body: bytes) -> ASGIApp:
    return ASGIResponse(body=body, media_type="application/json")


class Outgoing(NamedTuple):
    """How a wait is told of to its client. ``goes_on``: in place of an answer that broke off, which was of events."""

    asked: Asked
    takes_events: bool
    goes_on: bool = False

    @property
    def wire(self) -> StreamWire:
        return EVENTS if self.takes_events else OBJECT

    @property
    def tells_progress(self) -> bool:
        return self.takes_events and self.asked.params.meta.progress_token is not None

    @property
    def can_break_off(self) -> bool:
        """Whether the client then goes on with what it was told, at any replica."""
        return self.takes_events and self.asked.resumes

    def at_once(self, said: Waited | Exception) -> ASGIApp:
        """Without a wait: an object, unless it has to be an event."""
        if self.goes_on:
            return ASGIResponse(body=self.answer(said), media_type="text/event-stream")
        return whole(self._body(said))

    def answer(self, said: Waited | Exception) -> bytes:
        return self._framed(self._body(said))

    def progress(self, seconds: float, total_seconds: float, message: str) -> bytes:
        """Nothing, unless the client wants to be told, and can."""
        if not self.tells_progress:
            return b""
        return self._framed(progress(self.asked, seconds, total_seconds, message))

    def _body(self, said: Waited | Exception) -> bytes:
        return failure(self.asked, said) if isinstance(said, Exception) else success(self.asked, said)

    def _framed(self, body: bytes) -> bytes:
        return b"event: message\ndata: %s\n\n" % body if self.takes_events else body


class WaitStream(EventStream):
    """The response to ``chat_wait``. What keeps it from waiting is an error of the tool, as elsewhere."""

    def __init__(
        self, subscription: AbstractAsyncContextManager[Waiting], outgoing: Outgoing, terms: Terms, *, first: bytes
    ) -> None:
        super().__init__(subscription, terms, resumed=outgoing.goes_on, first=first, wire=outgoing.wire)
        self._outgoing = outgoing

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            await self.subscribe(scope)
        except (CallerError, UnavailableError) as why:
            await self._outgoing.at_once(why)(scope, receive, send)
            return
        await self.go_on(send)
