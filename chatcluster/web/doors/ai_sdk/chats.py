"""Routes of this door: submit, resume, stop, and the messages of a chat."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from typing import Any

from litestar import get, post
from litestar.params import FromPath, JSONBody
from litestar.response.base import ASGIResponse
from litestar.types import ASGIApp

from chatcluster.chat import Interrupt, Status
from chatcluster.errors import Conflict, NotFound
from chatcluster.ports import Chat
from chatcluster.turn_log import TurnStart
from chatcluster.web.api.answers import REFUSALS
from chatcluster.web.doors.ai_sdk.asking import Asked, ask
from chatcluster.web.doors.ai_sdk.bodies import SubmitChat, check
from chatcluster.web.doors.ai_sdk.chunk_fold import ChunkFold
from chatcluster.web.doors.ai_sdk.ids import answer_id
from chatcluster.web.doors.ai_sdk.narrator import UI_MESSAGES, Chunked
from chatcluster.web.doors.ai_sdk.ui_messages import ui_messages
from chatcluster.web.doors.door_stream import answered, narrated
from chatcluster.web.doors.named_chats import find_chat, require_chat
from chatcluster.web.http.sse import EventStream
from chatcluster.web.request import ApiRequest

STREAM, STOP = "/stream", "/stop"
MESSAGES_MAX, MESSAGES_BYTES = 500, 1 << 20
ID_MAX = 2**63 - 1
AT_REST = (Status.WAITING, Status.ERROR)


@post("/chat", status_code=200, responses=REFUSALS)
async def submit(request: ApiRequest, data: JSONBody[SubmitChat]) -> ASGIApp:
    """Submit a message, as `useChat` of the AI SDK does, and be told the answer as a UI message stream.

    A chat of this `id` is made if there is none. The answer goes on whatever becomes of the connection; a busy chat
    refuses another message (409). Ours are `model`, `instructions`, `tools`, `mcpServers` and `onDisconnect`.
    """
    check(data)
    request.services.readers.feeds.require_place(request.user.user_id)
    return _streamed(request, await ask(request, data), leaving=data.on_disconnect)


@get("/chat/{chat:path}", responses=REFUSALS)
async def tell(request: ApiRequest, chat: FromPath[str]) -> ASGIApp:
    """The messages of a chat, the newest 500 (or 1 MiB), to begin a page with. With `/stream` behind the chat's ID: the
    answer under way, from its beginning on; 204 if there is none."""
    name = str(chat).removeprefix("/")
    if not name.endswith(STREAM):
        return answered(await _messages(request, await require_chat(request, name)))
    found = await find_chat(request, name.removesuffix(STREAM))
    asked = None if found is None or found.archived else await request.services.readers.logs.responses.asked(found.id)
    if found is None or asked is None or found.status in AT_REST:
        return ASGIResponse(status_code=204)
    start = TurnStart(asked.message_id, asked.revision, found.snapshot_version)
    return _streamed(request, Asked(found, start, answer_id(asked.message_id)), anew=True)


@post("/chat/{chat:path}", status_code=200, responses=REFUSALS)
async def stop(request: ApiRequest, chat: FromPath[str]) -> dict[str, bool]:
    """With `/stop` behind the chat's ID: stop what the chat is doing; what was said is kept. One that rests stays so.

    To leave the stream, as `stop()` of the AI SDK does, stops nothing.
    """
    name = str(chat).removeprefix("/")
    if not name.endswith(STOP):
        raise NotFound("there is nothing at this address")
    found = await require_chat(request, name.removesuffix(STOP))
    with suppress(Conflict):  # it rests, or is being stopped already
        await request.services.transitions.apply(found.id, Interrupt(), owner_id=found.owner_id)
    return {"success": True}


def _streamed(request: ApiRequest, asked: Asked, *, leaving: str | None = None, anew: bool = False) -> EventStream:
    services, chat = request.services, asked.chat
    metadata = {"chatId": str(chat.id)}
    fold = ChunkFold(asked.answer_id, frozenset(tool.name for tool in chat.client_tools), metadata)
    cancel = partial(services.transitions.apply, chat.id, Interrupt(), owner_id=chat.owner_id)
    return EventStream(
        narrated(
            services.readers.logs,
            chat.id,
            asked.start,
            Chunked(fold, anew=anew),
            owner_id=chat.owner_id,
            on_leave=cancel if leaving == "cancel" else None,
        ),
        heartbeat_seconds=services.settings.sse_heartbeat_seconds,
        pump=request.pump,
        authenticator=request.authenticator,
        token=request.auth,
        resumed=anew,
        wire=UI_MESSAGES,
    )


async def _messages(request: ApiRequest, chat: Chat) -> dict[str, Any]:
    newest = await request.services.store.list_newest(
        chat.id, owner_id=chat.owner_id, before=ID_MAX, limit=MESSAGES_MAX, bytes_max=MESSAGES_BYTES
    )
    names = frozenset(tool.name for tool in chat.client_tools)
    messages = ui_messages(tuple(reversed(newest.messages)), names)
    return {"id": str(chat.id), "status": newest.chat.shown_status, "messages": messages, "hasMore": newest.has_more}


ROUTES = [submit, tell, stop]
