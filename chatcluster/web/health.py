"""Routes for load balancers and monitoring, outside the API.

``/livez`` answers as long as the event loop turns. ``/readyz`` says whether to send requests here: not while
draining, without Postgres, or before its schema is there; Redis is no condition, because nothing durable needs it.
Details and ``/metrics`` are open on the replica's own port, which is for the operator's network, and need an
administrator's token on the public one.
"""

from __future__ import annotations

from typing import Any

import trio
from litestar import HttpMethod, Request, Response, route
from litestar.enums import ScopeType
from litestar.types import ASGIApp, Receive, Scope, Send

from chatcluster.errors import Forbidden, Unauthenticated
from chatcluster.metrics import CONTENT_TYPE
from chatcluster.parts import encode
from chatcluster.ports import TokenScope
from chatcluster.web.api.answers import HealthAnswer
from chatcluster.web.auth import credential_in, require_scope
from chatcluster.web.request import ApiRequest

PUBLIC = "chatcluster.public"
"""The key of the scope's state that says that a request came in by the public port."""
READING = (HttpMethod.GET, HttpMethod.HEAD)
"""Load balancers that only want the status ask with ``HEAD``."""
LIVEZ = "/livez"
ALIVE = encode(HealthAnswer("alive"))
REQUIRED = ("postgres", "schema")
CHECK_SECONDS_MAX = 2.0


@route(LIVEZ, http_method=READING, include_in_schema=False)
async def livez() -> HealthAnswer:
    """The event loop answers; nothing else is looked at. Comes here only for what is wrong with a request (405)."""
    return HealthAnswer("alive")


class Alive:
    """An ASGI application: ``/livez`` in front of ``app``, whose routing would cost more than the answer."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    def __repr__(self) -> str:
        return f"<Alive {self._app!r}>"

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != ScopeType.HTTP or scope["path"] != LIVEZ or scope["method"] not in READING:
            await self._app(scope, receive, send)
            return
        scope["path_template"] = LIVEZ
        head = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(ALIVE))]
        await send({"type": "http.response.start", "status": 200, "headers": head})
        body = ALIVE if scope["method"] == HttpMethod.GET else b""
        await send({"type": "http.response.body", "body": body, "more_body": False})


@route("/readyz", http_method=READING, include_in_schema=False)
async def readyz(request: ApiRequest) -> Response[HealthAnswer]:
    """Whether a load balancer should send requests here."""
    checks = {"postgres": "no answer in time"}
    with trio.move_on_after(CHECK_SECONDS_MAX):
        checks = await request.services.monitoring.health.check()
    draining = request.services.monitoring.health.draining
    ready = not draining and all(checks.get(name, "ok") == "ok" for name in REQUIRED)
    status = "ready" if ready else "draining" if draining else "not_ready"
    shown = checks if not is_public(request) else {}
    return Response(HealthAnswer(status, shown), status_code=200 if ready else 503)


@route("/metrics", http_method=READING, include_in_schema=False)
async def metrics(request: ApiRequest) -> Response[bytes]:
    """This replica's counters for Prometheus."""
    if is_public(request):
        await _require_administrator(request)
    pieces = []
    for piece in request.services.monitoring.metrics.pieces():
        pieces.append(piece)
        await trio.lowlevel.checkpoint()
    return Response(b"".join(pieces), headers={"Content-Type": CONTENT_TYPE})


def is_public(request: Request[Any, Any, Any]) -> bool:
    return PUBLIC in request.scope["state"]


async def _require_administrator(request: ApiRequest) -> None:
    public_url = request.services.settings.browsers.public_url
    try:
        account = await request.authenticator.authenticate(credential_in(request.scope, public_url))
    except Unauthenticated as error:
        raise Unauthenticated(f"on the public port this needs an administrator's token: {error}") from None
    if not account.admin:
        raise Forbidden("this is for administrators")
    require_scope(account, TokenScope.ADMIN)


ROUTES = [livez, readyz, metrics]
