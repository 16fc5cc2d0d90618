"""Routes of this door: submit, resume, stop, and the messages of a chat."""

from __future__ import annotations

from contextlib import suppress

from litestar import get, post
from litestar.params import FromPath, JSONBody
from litestar.response.base import ASGIResponse
from litestar.types import ASGIApp

from chatcluster.chat import Interrupt
from chatcluster.errors import Conflict, NotFound
from chatcluster.turn_log import TurnStart
from chatcluster.web.api.answers import REFUSALS
from chatcluster.web.doors.ai_sdk.asking import AT_REST, Asked, ask
from chatcluster.web.doors.ai_sdk.bodies import SubmitChat, check
from chatcluster.web.doors.ai_sdk.ids import answer_id
from chatcluster.web.doors.ai_sdk.telling import messages_of, streamed
from chatcluster.web.doors.door_stream import answered
from chatcluster.web.doors.given_files import restored
from chatcluster.web.doors.named_chats import find_chat, require_chat
from chatcluster.web.request import ApiRequest

STREAM, STOP = "/stream", "/stop"


@post("/chat", status_code=200, responses=REFUSALS)
async def submit(request: ApiRequest, data: JSONBody[SubmitChat]) -> ASGIApp:
    """Submit a message, as `useChat` of the AI SDK does, and be told the answer as a UI message stream.

    A chat of this `id` is made if there is none. The answer goes on whatever becomes of the connection; a busy chat
    refuses another message (409). Ours are `model`, `instructions`, `tools`, `mcpServers` and `onDisconnect`.
    """
    check(data)
    if request.inline_prefixes and data.last["role"] == "assistant":
        data = data.with_last(await restored(request, data.last))
    request.services.readers.feeds.require_place(request.user.user_id)
    return streamed(request, await ask(request, data), leaving=data.on_disconnect)


@get("/chat/{chat:path}", responses=REFUSALS)
async def tell(request: ApiRequest, chat: FromPath[str]) -> ASGIApp:
    """The messages of a chat, the newest 500 (or 1 MiB), to begin a page with. With `/stream` behind the chat's ID: the
    answer under way, from its beginning on; 204 if there is none."""
    name = str(chat).removeprefix("/")
    if not name.endswith(STREAM):
        return answered(await messages_of(request, await require_chat(request, name)))
    found = await find_chat(request, name.removesuffix(STREAM))
    asked = None if found is None or found.archived else await request.services.readers.logs.responses.asked(found.id)
    if found is None or asked is None or found.status in AT_REST:
        return ASGIResponse(status_code=204)
    start = TurnStart(asked.message_id, asked.revision, found.snapshot_version)
    return streamed(request, Asked(found, start, answer_id(asked.message_id), anew=True))


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


ROUTES = [submit, tell, stop]
