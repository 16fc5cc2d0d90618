"""Every failure of a request as one answer: ``{"error": {"code", "message", …}}`` and its status.

A ``code`` is part of the API and never changes; ``message`` is for people and may. Whatever else the error
knows (``details``) stands beside them. An error that nobody foresaw is a 500 with code ``internal``: it is
logged with its traceback, and the caller learns nothing of it but the request's ID.
"""

from __future__ import annotations

from http import HTTPStatus
from typing import Any, NamedTuple

import msgspec
from litestar import Request, Response
from litestar.exceptions import HTTPException, MethodNotAllowedException, NotFoundException, ValidationException
from litestar.utils import normalize_path

from chatcluster import telemetry
from chatcluster.errors import (
    CallerError,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    OutOfScope,
    SchemaError,
    StoreFailed,
    TooLarge,
    TooMany,
    Unauthenticated,
    UnavailableError,
    Unreadable,
    UsageLimitExceeded,
)
from chatcluster.parts import encode
from chatcluster.web.doors.mcp import error_form as mcp_form
from chatcluster.web.doors.openai.error_form import NO_DOOR, formed, is_of_door, misses_door

UNAVAILABLE_RETRY_SECONDS = 1
RETRY_SECONDS_MAX = 120
"""Clients of other people's give up at once when they are told to wait for longer."""

PAGES = ("/api/ai/", "/api/agui")
"""The doors of pages."""


class Answer(NamedTuple):
    status: int
    body: bytes
    headers: dict[str, str]


def answer(error: Exception) -> Answer:
    """What the caller is told of ``error``. Reports it if it is ours."""
    match error:
        case CallerError():
            return _caller(error)
        case HTTPException() if error.status_code < 500:
            return _caller(_translate(error), error.headers)
        case Unreadable():
            return _answer(
                409, "chat_unreadable", f"{error.message}; another replica may be newer, or start a new chat"
            )
        case UnavailableError() | SchemaError() if not isinstance(error, StoreFailed):
            text = "a server that this needs cannot be reached right now; try again"
            return _answer(503, "store_unavailable", text, headers={"Retry-After": str(UNAVAILABLE_RETRY_SECONDS)})
    telemetry.event("http.crashed", error=type(error).__name__, exc_info=error)
    return _answer(500, "internal", "something went wrong here; the log knows it by the request's ID")


def answer_at(path: str, error: Exception) -> Answer:
    """``answer`` in the form of the front door that this address is of, as routes are found by it."""
    path = normalize_path(path)
    plain = answer(NotFound(NO_DOOR) if misses_door(path) and isinstance(error, NotFoundException) else error)
    if mcp_form.is_of_door(path):
        return plain._replace(body=encode(mcp_form.formed(plain.status, msgspec.json.decode(plain.body)["error"])))
    if path.startswith(PAGES):
        return _of_pages(plain, error)
    if not (is_of_door(path) or misses_door(path)):
        return plain
    status, said, headers = formed(plain.status, msgspec.json.decode(plain.body)["error"], plain.headers)
    return Answer(status, encode({"error": said}), headers)


def _of_pages(plain: Answer, error: Exception) -> Answer:
    """What is spent is 429 there as well, and neither that nor a conflict is better for being repeated."""
    headers = dict(plain.headers)
    if plain.status == HTTPStatus.CONFLICT:
        headers["x-should-retry"] = "false"
    if not isinstance(error, UsageLimitExceeded):
        return plain._replace(headers=headers)
    return Answer(HTTPStatus.TOO_MANY_REQUESTS, plain.body, headers | {"Retry-After": str(RETRY_SECONDS_MAX)})


def respond(request: Request[Any, Any, Any], error: Exception) -> Response[bytes]:
    """``answer_at`` as litestar's exception handler."""
    status, body, headers = answer_at(request.scope["path"], error)
    return Response(body, status_code=status, headers=headers, media_type="application/json")


def _caller(error: CallerError, more: dict[str, str] | None = None) -> Answer:
    """``more`` headers are such as the ``Allow`` of a method that no route takes."""
    headers = dict(more or {})
    if isinstance(error, MethodNotAllowed) and "allow" in error.details:
        headers["Allow"] = str(error.details["allow"])
    if isinstance(error, Unauthenticated):
        headers["WWW-Authenticate"] = "Bearer"
    if isinstance(error, OutOfScope):
        headers["WWW-Authenticate"] = f'Bearer error="insufficient_scope", scope="{error.details["scope"]}"'
    if isinstance(error, TooMany):
        headers["Retry-After"] = str(min(error.retry_after_seconds, RETRY_SECONDS_MAX))
    return _answer(error.status, error.code, error.message, error.details, headers)


def _answer(
    status: int,
    code: str,
    message: str,
    details: dict[str, object] | None = None,
    headers: dict[str, str] | None = None,
) -> Answer:
    return Answer(status, encode({"error": {**(details or {}), "code": code, "message": message}}), headers or {})


def _translate(error: HTTPException) -> CallerError:
    """What litestar found wrong before one of our routes was reached, in our terms."""
    match error:
        case NotFoundException():
            return NotFound("there is nothing at this address")
        case MethodNotAllowedException():
            return MethodNotAllowed("this address does not take this method")
        case ValidationException():
            return InvalidRequest(_validation_message(error), **_param_of(error))
        case _ if error.status_code == HTTPStatus.REQUEST_ENTITY_TOO_LARGE:
            return TooLarge("the request's body is too large")
    return InvalidRequest(error.detail or "the request does not have the form that the API takes")


def _param_of(error: ValidationException) -> dict[str, str]:
    """The first parameter that is wrong, if it is one."""
    keys = [str(item["key"]) for item in error.extra or () if isinstance(item, dict) and "key" in item]
    return {"param": keys[0]} if keys and keys[0] != "data" else {}


def _validation_message(error: ValidationException) -> str:
    found = [item for item in error.extra or () if isinstance(item, dict)]
    if any(item.get("key") == "data" for item in found):
        return "this needs a JSON object as its body"
    messages = [f"{item.get('key', 'request')}: {item.get('message', 'is wrong')}" for item in found]
    return "; ".join(messages) or "the request does not have the form that the API takes"
