"""A stored response, told: as a stream, or as it is now."""

from __future__ import annotations

from functools import partial
from typing import Any

import msgspec
import trio

from chatcluster.chat import Interrupt
from chatcluster.errors import StoreUnavailable, Unreadable
from chatcluster.parts import UNDECODABLE
from chatcluster.ports.responses import StoredResponse
from chatcluster.turn_log import LogKind, TurnStart, UpToDate
from chatcluster.turn_waits import WaitsLog
from chatcluster.web.doors.door_stream import Narrator, narrated
from chatcluster.web.doors.openai.ids import no_such_response, parse_response_id
from chatcluster.web.doors.openai.response_fold import ResponseFold
from chatcluster.web.doors.openai.resting import Resumed
from chatcluster.web.http.sse import EventStream, StreamWire
from chatcluster.web.request import ApiRequest

READ_SECONDS_MAX = 10.0
FOLD_EVENTS = 500
"""So many events are folded in one step of the loop."""


class _Kept(msgspec.Struct, frozen=True):
    """What is kept of a response: as it begins, and what it goes on from, if it does not begin with a message.
    ``first``: the message that its input begins with."""

    response: dict[str, Any]
    client_tools: tuple[str, ...]
    resumed: Resumed | None = None
    first: int = 0


def fold_of(stored: StoredResponse) -> ResponseFold:
    """Raises ``Unreadable``."""
    kept = _kept(stored)
    return ResponseFold(kept.response, frozenset(kept.client_tools), kept.resumed)


def resumed_by(stored: StoredResponse) -> Resumed | None:
    """What the response goes on from; None for one that begins with a message. Raises ``Unreadable``."""
    return _kept(stored).resumed


def first_message_of(stored: StoredResponse) -> int:
    """That its input begins with; 0 where a previous version kept it. Raises ``Unreadable``."""
    return _kept(stored).first


def _kept(stored: StoredResponse) -> _Kept:
    try:
        kept = msgspec.json.decode(stored.parameters, type=_Kept)
    except UNDECODABLE:
        kept = None
    if kept is None or not isinstance(kept.response.get("id"), str):
        raise Unreadable("what is kept of this response is of another version of chatcluster")
    return kept


def _place_of(stored: StoredResponse) -> tuple[TurnStart, LogKind]:
    """Where the log of a response starts, and which kind of log it is."""
    resumed = resumed_by(stored)
    if resumed is None:
        return TurnStart(stored.message_id, stored.revision), WaitsLog
    return TurnStart(resumed.message_id, resumed.revision), partial(WaitsLog, is_calling=True)


def streamed(
    request: ApiRequest, stored: StoredResponse, narrator: Narrator, wire: StreamWire, *, leaving: str | None = None
) -> EventStream:
    services, user_id = request.services, request.user.user_id
    cancel = partial(services.transitions.apply, stored.chat_id, Interrupt(), owner_id=user_id)
    start, kind = _place_of(stored)
    return EventStream(
        narrated(
            services.readers.logs,
            stored.chat_id,
            start,
            narrator,
            kind=kind,
            owner_id=user_id,
            on_leave=cancel if leaving == "cancel" else None,
        ),
        request.terms,
        wire=wire,
    )


async def stored_response(request: ApiRequest, text: str) -> StoredResponse:
    """Raises ``ResponseNotFound``, also for what is somebody else's."""
    stored = await request.services.readers.logs.responses.get(*parse_response_id(text), owner_id=request.user.user_id)
    if stored is None or not stored.revision:  # what is kept of a conversation has none
        raise no_such_response(text)
    return stored


async def _read(request: ApiRequest, stored: StoredResponse, until_over: bool) -> ResponseFold:
    fold, (start, kind) = fold_of(stored), _place_of(stored)
    with trio.fail_after(READ_SECONDS_MAX):
        logs, user_id = request.services.readers.logs, request.user.user_id
        async with logs.follow(stored.chat_id, start, owner_id=user_id, kind=kind) as log:
            while not fold.is_over:
                for told in await log.receive():
                    for number, _ in enumerate(fold.tell(told)):
                        if number % FOLD_EVENTS == 0:
                            await trio.lowlevel.checkpoint()
                    if isinstance(told, UpToDate) and not until_over:
                        return fold
    return fold


async def read_response(request: ApiRequest, stored: StoredResponse, *, until_over: bool = False) -> ResponseFold:
    """The response as it is now, or ``until_over``. Raises ``StoreUnavailable`` where that takes too long."""
    try:
        return await _read(request, stored, until_over)
    except trio.TooSlowError:
        raise StoreUnavailable("the response could not be read in time") from None
