"""The route of this door."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from litestar import post
from litestar.params import JSONBody
from litestar.types import ASGIApp

from chatcluster.chat import Interrupt
from chatcluster.parts import encode
from chatcluster.turn_log import Told
from chatcluster.web.api.answers import REFUSALS
from chatcluster.web.doors.ag_ui.bodies import RunAgent, check
from chatcluster.web.doors.ag_ui.event_fold import EventFold
from chatcluster.web.doors.ag_ui.running import begin_run
from chatcluster.web.doors.door_stream import HEAD, narrated
from chatcluster.web.doors.settled import Settled
from chatcluster.web.http.sse import EventStream, StreamWire
from chatcluster.web.request import ApiRequest

EVENTS = StreamWire(
    ((b"content-type", b"text/event-stream; charset=utf-8"), *HEAD), opening=b": open\n", heartbeat=b": ping\n"
)


class Narrated:
    """Events as bytes. ``anew``: what had come to nothing before is left out."""

    def __init__(self, fold: EventFold, *, anew: bool) -> None:
        self._fold = fold
        self._settled = Settled() if anew else None

    @property
    def is_over(self) -> bool:
        return self._fold.is_over

    def tell(self, told: Told) -> Iterator[bytes]:
        for one in (told,) if self._settled is None else self._settled.passed(told):
            for event in self._fold.tell(one):
                yield b"data: %s\n\n" % encode(event)


@post("/", status_code=200, responses=REFUSALS)
async def run_agent(request: ApiRequest, data: JSONBody[RunAgent]) -> ASGIApp:
    """Run the agent, as in AG-UI: the user's message, results of the page's tools, or answers to interrupts, and the
    events of the turn until it is over or needs its client.

    The `threadId` names a chat, which is made if there is none. What the chat does goes on whatever becomes of the
    connection: a run that says nothing new is told the last turn again. `forwardedProps` takes `model`, `mcpServers`
    and `onDisconnect`.
    """
    check(data)
    services = request.services
    services.readers.feeds.require_place(request.user.user_id)
    chat, start, run = await begin_run(request, data)
    cancel = partial(services.transitions.apply, chat.id, Interrupt(), owner_id=chat.owner_id)
    return EventStream(
        narrated(
            services.readers.logs,
            chat.id,
            start,
            Narrated(EventFold(run), anew=run.begins_anew),
            owner_id=chat.owner_id,
            on_leave=cancel if data.leaving == "cancel" else None,
        ),
        request.terms,
        resumed=run.begins_anew,
        wire=EVENTS,
    )


ROUTES = [run_agent]
