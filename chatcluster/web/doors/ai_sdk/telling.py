"""A turn, told as a stream; and the messages of a chat."""

from __future__ import annotations

from functools import partial
from typing import Any

from chatcluster.chat import Interrupt
from chatcluster.ports import Chat
from chatcluster.web.doors.ai_sdk.asking import Asked
from chatcluster.web.doors.ai_sdk.chunk_fold import ChunkFold
from chatcluster.web.doors.ai_sdk.ui_messages import ui_messages
from chatcluster.web.doors.door_stream import HEAD, narrated
from chatcluster.web.doors.settled import SettledNarrator
from chatcluster.web.http.sse import EventStream, StreamWire
from chatcluster.web.request import ApiRequest

MESSAGES_MAX, MESSAGES_BYTES = 500, 1 << 20
ID_MAX = 2**63 - 1
DONE = b"data: [DONE]\n\n"
UI_MESSAGES = StreamWire(
    (
        (b"content-type", b"text/event-stream; charset=utf-8"),
        *HEAD,
        (b"x-vercel-ai-ui-message-stream", b"v1"),
    ),
    opening=b": open\n",
    heartbeat=b": ping\n",
)


def streamed(request: ApiRequest, asked: Asked, *, leaving: str | None = None) -> EventStream:
    services, chat, anew = request.services, asked.chat, asked.anew
    metadata = {"chatId": str(chat.id)}
    fold = ChunkFold(asked.answer_id, frozenset(tool.name for tool in chat.client_tools), metadata, anew=anew)
    cancel = partial(services.transitions.apply, chat.id, Interrupt(), owner_id=chat.owner_id)
    return EventStream(
        narrated(
            services.readers.logs,
            chat.id,
            asked.start,
            SettledNarrator(fold, anew=anew, end=DONE),
            owner_id=chat.owner_id,
            on_leave=cancel if leaving == "cancel" else None,
        ),
        request.terms,
        resumed=anew,
        wire=UI_MESSAGES,
    )


async def messages_of(request: ApiRequest, chat: Chat) -> dict[str, Any]:
    newest = await request.services.store.list_newest(
        chat.id, owner_id=chat.owner_id, before=ID_MAX, limit=MESSAGES_MAX, bytes_max=MESSAGES_BYTES
    )
    names = frozenset(tool.name for tool in chat.client_tools)
    messages = ui_messages(tuple(reversed(newest.messages)), names)
    return {"id": str(chat.id), "status": newest.chat.shown_status, "messages": messages, "hasMore": newest.has_more}
