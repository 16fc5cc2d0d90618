"""The short way to a route that wants no more of a request than what is at hand.

Litestar makes the arguments of a route's function by a model: extractors, a conversion, a stack of what has to be
cleaned up; it makes a response of the value, and stands ready for errors a second time. For a route that takes the
request, texts of the path, the query and headers, and a JSON body, which the request decodes itself, all this gives
what is there already, and costs more than the route. Such a route is called here, once litestar has found it and its
caller was let in (``auth.py``); a struct that it returns is answered as JSON, anything else is litestar's to make a
response of.

A request that has more goes litestar's way: one whose query or headers say what has to be converted, or say it twice,
or one without the body that there has to be. So do all requests to a route that declares more, as guards are. What is
wrong with a request is therefore said in one place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple, cast

import msgspec
from litestar.handlers import HTTPRouteHandler
from litestar.params import BodyKwarg, HeaderParameter, PathParameter, QueryParameter
from litestar.types import ASGIApp, Receive, Scope, Send
from litestar.typing import FieldDefinition

from chatcluster.parts import encode
from chatcluster.web.request import JSON, ApiRequest, json_answer

FLAGS = {"true": True, "false": False}


class _Said(NamedTuple):
    """The name of an argument, and what a text means for it: what it says (None), or one of these values."""

    argument: str
    values: Mapping[str, Any] | None


class _Wanted(NamedTuple):
    """What a route's function takes, besides what has a default."""

    request: bool
    body: bool
    path: tuple[str, ...]
    query: Mapping[str, _Said]
    headers: Mapping[bytes, _Said]


def direct(app: ASGIApp) -> ASGIApp:
    """Middleware; it has to be the innermost."""
    known: dict[HTTPRouteHandler, _Wanted | None] = {}

    async def directed(scope: Scope, receive: Receive, send: Send) -> None:
        handler = cast(HTTPRouteHandler, scope["route_handler"])
        if handler not in known:
            known[handler] = _wanted(handler)
        request = ApiRequest(scope, receive, send)
        arguments = await _arguments(known[handler], request)
        if arguments is None:
            await app(scope, receive, send)
            return
        data = await handler.fn(**arguments)
        if isinstance(data, msgspec.Struct):
            answer = json_answer(handler.status_code, encode(data))
        else:
            answer = await handler.to_response(app=scope["litestar_app"], data=data, request=request)
        await answer(scope, receive, send)

    return directed


async def _arguments(wanted: _Wanted | None, request: ApiRequest) -> dict[str, Any] | None:
    """The arguments of the route's function. None: they are litestar's to make."""
    scope = request.scope
    if wanted is None:
        return None
    arguments: dict[str, Any] = {name: scope["path_params"][name] for name in wanted.path}
    for name, value in scope["headers"]:
        if (said := wanted.headers.get(name)) and not _add(arguments, said, value.decode("latin-1")):
            return None
    if scope["query_string"]:
        for asked, text in request.query_params.multi_items():
            if not _add(arguments, wanted.query.get(asked), text):
                return None
    if wanted.request:
        arguments["request"] = request
    if wanted.body:
        if not await request.body():
            return None
        arguments["data"] = await request.json()
    return arguments


def _add(arguments: dict[str, Any], said: _Said | None, text: str) -> bool:
    """Whether this is the only text for an argument, and one that has a meaning for it."""
    if said is None or said.argument in arguments or (said.values is not None and text not in said.values):
        return False
    arguments[said.argument] = text if said.values is None else said.values[text]
    return True


def _wanted(handler: HTTPRouteHandler) -> _Wanted | None:
    """None: it is litestar's to call."""
    before = (handler.resolve_guards(), handler.resolve_dependencies(), handler.resolve_before_request())
    after = (handler.resolve_response_headers(), handler.resolve_response_cookies(), handler.resolve_after_response())
    parameters = handler.parsed_fn_signature.parameters
    is_more = any((*before, *after, handler.cache, handler.background, handler.has_sync_callable))
    if is_more or not all(_is_at_hand(name, parameter) for name, parameter in parameters.items()):
        return None
    of_path = [name for name, one in parameters.items() if isinstance(one.kwarg_definition, PathParameter)]
    headers, query = {}, {}
    for name, one in parameters.items():
        match one.kwarg_definition:
            case HeaderParameter() as said:
                headers[(said.name or name).lower().encode()] = _Said(name, _values(one, said))
            case QueryParameter() as said:
                query[said.name or name] = _Said(name, _values(one, said))
    return _Wanted("request" in parameters, "data" in parameters, tuple(of_path), query, headers)


def _values(one: FieldDefinition, said: HeaderParameter | QueryParameter) -> Mapping[str, Any] | None:
    """What texts mean for this argument, as far as it is known here: of most kinds nothing."""
    if one.annotation is bool:
        return FLAGS
    is_plain = one.annotation is str and not any((said.pattern, said.min_length, said.max_length))
    return None if is_plain else {}


def _is_at_hand(name: str, parameter: FieldDefinition) -> bool:
    match parameter.kwarg_definition:
        case None:
            return name == "request"
        case BodyKwarg(media_type=media_type):
            return name == "data" and media_type == JSON
        case PathParameter():
            return parameter.annotation is str
        case QueryParameter() | HeaderParameter():
            return parameter.has_default
    return False
