"""The web application: routes under ``/api/v1``, health beside them, OpenAPI at ``/schema``, the page everywhere else.

``create_app`` builds it from ``Services``; it keeps no state of its own but a cache of tokens, and what each user has
under way. What every request goes through, from the outside in: ``boundary`` (ID, limits, last resort), ``/livez``,
``pages``, litestar's routing, ``auth``, ``direct``, then a route. A route decodes the request, calls one transition of
the store, and after the commit tells ``notices``. The store decides what is allowed, never the route.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import trio
from litestar import Litestar, Request, Router
from litestar._openapi.plugin import OpenAPIPlugin
from litestar.datastructures import State
from litestar.openapi.config import OpenAPIConfig
from litestar.openapi.plugins import JsonRenderPlugin
from litestar.openapi.spec import Components, SecurityScheme
from litestar.plugins import PluginProtocol
from litestar.plugins.core import MsgspecDIPlugin
from litestar.types import Receive, Scope, Send

from chatcluster import __version__
from chatcluster.errors import NotFound
from chatcluster.web.auth import SCOPE, Authenticator, authentication, require_scope_of
from chatcluster.web.direct import direct
from chatcluster.web.errors import respond
from chatcluster.web.health import Alive
from chatcluster.web.http.boundary import Boundary
from chatcluster.web.http.pump import Pump
from chatcluster.web.pages import FOLDER, Pages
from chatcluster.web.request import Answered, ApiRequest, require_known_query
from chatcluster.web.routes import API, API_PATH, BESIDE, DOORS, SCOPES
from chatcluster.web.services import Services
from chatcluster.web.shares import Shares


class WebApp:
    """The ASGI application. ``run`` has to run as long as requests are served."""

    def __init__(
        self, litestar: Litestar, authenticator: Authenticator, pump: Pump, services: Services, page_folder: Path
    ) -> None:
        self._authenticator = authenticator
        self._pump = pump
        self._boundary = Boundary(
            Alive(Pages(litestar, page_folder)),
            body_bytes_max=services.settings.sizes.body_bytes_max,
            upload_bytes_max=services.settings.sizes.file_bytes_max,
            draining=lambda: services.monitoring.health.draining,
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        await self._boundary(scope, receive, send)

    async def run(self) -> None:
        """Follow the revocation of tokens, and write to event streams. Runs until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._authenticator.run)
            nursery.start_soon(self._pump.run)


class _Litestar(Litestar):
    """Without what litestar loads because a library happens to be installed: pydantic comes with the SDK for servers of
    tools, no route speaks it, and it would take 10 MB of each replica."""

    @staticmethod
    def _get_default_plugins(plugins: list[PluginProtocol]) -> list[PluginProtocol]:
        return [MsgspecDIPlugin(), *plugins]


class _Router(Router):
    """Litestar copies a router deeply where it is registered, lest somebody changes it or registers it again. Ours are
    made for one application, and the copies of a hundred routes took a fifth of the time that it takes to make it."""

    def __deepcopy__(self, _: dict[int, Any]) -> _Router:
        return self


def create_app(services: Services, *, page_folder: Path = FOLDER) -> WebApp:
    """The application on these services, with the page that is built in ``page_folder``. It starts nothing."""
    authenticator = Authenticator(
        services.accounts, services.pubsub, services.settings, sessions=services.browsers.sessions
    )
    pump = Pump()
    return WebApp(_litestar(services, authenticator, pump), authenticator, pump, services, page_folder)


def _litestar(services: Services, authenticator: Authenticator, pump: Pump) -> Litestar:
    shares, public_url = Shares(services.settings.http), services.settings.browsers.public_url
    api = _Router(
        path=API_PATH,
        route_handlers=API,
        middleware=[authentication(authenticator, shares, public_url, require_scope_of, require_known_query), direct],
        opt={SCOPE: SCOPES[API_PATH]},
    )
    doors = [
        _Router(
            path=path,
            route_handlers=routes,
            middleware=[authentication(authenticator, shares, public_url, require_scope_of), direct],
            opt={SCOPE: SCOPES[path]},
        )
        for path, routes in DOORS.items()
    ]
    return _Litestar(
        route_handlers=[api, *doors, *BESIDE],
        request_class=ApiRequest,
        response_class=Answered,
        exception_handlers={Exception: respond},
        state=State(
            {
                "services": services,
                "authenticator": authenticator,
                "pump": pump,
                "shares": shares,
                "describing": trio.Lock(),
            },
            deep_copy=False,
        ),
        logging_config=None,
        openapi_config=_openapi(),
        request_max_body_size=None,  # the boundary bounds it, for every route
    )


async def _described(request: Request[Any, Any, Any]) -> None:
    """Before what is under ``/schema``. The description takes a quarter of a second when it is asked for first: in one
    step, the loop would serve nobody else. Litestar keeps it; its own answer for whatever else stands there is HTML,
    unlike all our errors."""
    if request.path_params:
        raise NotFound("there is nothing at this address")
    async with request.app.state.describing:
        await trio.to_thread.run_sync(request.app.plugins.get(OpenAPIPlugin).provide_openapi_schema)


def _openapi() -> OpenAPIConfig:
    return OpenAPIConfig(
        title="chatcluster",
        version=__version__,
        description='Durable AI chats. Errors are `{"error": {"code", "message", …}}`; the code never changes.',
        openapi_router=Router("/schema", route_handlers=[], include_in_schema=False, before_request=_described),
        use_handler_docstrings=True,
        security=[{"token": []}, {"session": []}],
        components=Components(
            security_schemes={
                "token": SecurityScheme(type="http", scheme="bearer", bearer_format="ccl_…"),
                "session": SecurityScheme(type="apiKey", security_scheme_in="cookie", name="__Host-chatcluster"),
            }
        ),
        render_plugins=[JsonRenderPlugin(path="/openapi.json")],
    )


def openapi_document() -> dict[str, Any]:
    """The description of the API, without a replica: for those who make clients from it."""
    api = Router(path=API_PATH, route_handlers=API, security=[{"token": []}, {"session": []}])
    security: list[dict[str, list[str]]] = [{"token": []}, {"session": []}]
    doors = [Router(path=path, route_handlers=routes, security=security) for path, routes in DOORS.items()]
    app = _Litestar(route_handlers=[api, *doors, *BESIDE], openapi_config=_openapi())
    document: dict[str, Any] = msgspec.to_builtins(app.openapi_schema.to_schema())
    document["paths"] = dict(sorted(document["paths"].items()))  # litestar keeps those of one route in a set
    for schema in document["components"]["schemas"].values():
        # of one of the fields that have this type: which one that is, is another one each time
        schema.pop("default", None)
    return document
