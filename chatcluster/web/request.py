"""A request as the routes see it: who asks, what for, and under which idempotency key; and what their answer becomes.

Litestar makes a response of headers, cookies and a body that may be of any kind, for each request; that costs more than
to encode what is in it. Most of our routes return a value and nothing else: that becomes JSON in one piece.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from contextlib import aclosing
from typing import Any, NamedTuple, TypeVar, cast
from uuid import UUID

from litestar import Request, Response
from litestar.connection import ASGIConnection
from litestar.datastructures import State
from litestar.exceptions import ImproperlyConfiguredException
from litestar.handlers import BaseRouteHandler
from litestar.params import QueryParameter
from litestar.serialization import get_serializer
from litestar.types import ASGIApp, HTTPRequestEvent, Receive, Scope, Send
from litestar.typing import FieldDefinition

from chatcluster.content import FilePart, Parts
from chatcluster.errors import (
    ChatNotFound,
    InvalidRequest,
    MessageNotFound,
    NotFound,
    QueuedMessageNotFound,
    UnsupportedMediaType,
)
from chatcluster.ports import Account, Chat, Idempotency
from chatcluster.tokens import Credential
from chatcluster.web.api import bodies
from chatcluster.web.auth import Authenticator
from chatcluster.web.http.boundary import WITH_FILES, json_limit
from chatcluster.web.http.sse import Terms
from chatcluster.web.inline_files import InlineFiles
from chatcluster.web.services import Services
from chatcluster.web.shares import Shares

_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}", re.IGNORECASE)
_INTEGER = re.compile(r"-?[0-9]{1,40}")
_NUMBER = re.compile(r"[0-9]{1,18}")
_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}")
BODY, TAKEN_OUT = "chatcluster_body", "chatcluster_taken_out"
"""Keys of the scope's state: a request may be made anew from its scope."""
JSON, PLAIN = "application/json", "identity"
_JSON_TYPES = ("", JSON)
_MORE = ("headers", "cookies", "encoded_headers", "background", "is_head_response")
"""What the declaration of a route may say of its answer, besides status and type."""

T = TypeVar("T")


class TakenOut(NamedTuple):
    """A body without the files that came within it; ``digest`` is of all of it, as it came."""

    body: bytes
    prefixes: Mapping[str, str]
    digest: bytes


class ApiRequest(Request[Account, Credential, State]):
    @property
    def services(self) -> Services:
        services: Services = self.app.state.services
        return services

    @property
    def authenticator(self) -> Authenticator:
        authenticator: Authenticator = self.app.state.authenticator
        return authenticator

    @property
    def shares(self) -> Shares:
        shares: Shares = self.app.state.shares
        return shares

    @property
    def terms(self) -> Terms:
        """For an event stream that answers the request."""
        heartbeat_seconds, pump = self.services.settings.streaming.sse_heartbeat_seconds, self.app.state.pump
        return Terms(heartbeat_seconds, pump, self.authenticator, self.auth)

    async def json(self) -> Any:
        """The body, decoded strictly as what the route declares its ``data`` to be."""
        content_type = self.headers.get("content-type", "").partition(";")[0].strip().lower()
        if content_type not in _JSON_TYPES:
            raise UnsupportedMediaType("send JSON: Content-Type: application/json", content_type=content_type[:80])
        declared = self.route_handler.parsed_data_field
        if declared is None:
            raise ImproperlyConfiguredException("a route that reads a body declares it as data")
        return bodies.decode(await self.body(), declared.annotation)

    async def body(self) -> bytes:
        """The body. Files that come within it are stored, as the user's, and their addresses are in their place."""
        if self.headers.get("content-encoding", PLAIN).strip().lower() != PLAIN:
            raise UnsupportedMediaType("send the body as it is, without a Content-Encoding")
        state = self.scope["state"]
        if WITH_FILES.fullmatch(self.scope["path"]) is None:
            if BODY not in state:
                state[BODY] = await self._read()
            body: bytes = state[BODY]
            return body
        if self._taken_out is None:
            self.scope["state"][TAKEN_OUT] = await self._take_files_out()
        return self._taken_out.body if self._taken_out is not None else b""

    async def _read(self) -> bytes:
        """What the boundary passes on, which bounds it, past litestar's generator; that has the bounds of routes."""
        if self.route_handler.resolve_request_max_body_size() is not None:
            return await super().body()
        pieces, more = list[bytes](), True
        while more:
            event = cast(HTTPRequestEvent, await self.receive())
            pieces.append(event["body"])
            more = event["more_body"]
        return b"".join(pieces)

    async def _take_files_out(self) -> TakenOut:
        length, digest = self.headers.get("content-length", ""), self._digest()
        async with aclosing(self.stream()) as pieces:
            inline = InlineFiles(
                self.services.uploads,
                self.user.user_id,
                pieces,
                limit=json_limit(self.services.settings.sizes.body_bytes_max),
                announced_bytes=int(length) if length.isdigit() else 0,
                digest=digest,
            )
            return TakenOut(await inline.read(), inline.prefixes, digest.digest())

    @property
    def _taken_out(self) -> TakenOut | None:
        taken: TakenOut | None = self.scope["state"].get(TAKEN_OUT)
        return taken

    @property
    def inline_prefixes(self) -> Mapping[str, str]:
        """What stood before the base64 of each file that came within the body, by its address."""
        return {} if self._taken_out is None else self._taken_out.prefixes

    def _digest(self) -> Any:
        """A digest of the request, as far as it is not its body."""
        return hashlib.sha256(f"{self.method} {self.scope['path']}\n".encode())

    async def idempotency(self) -> Idempotency | None:
        """The caller's ``Idempotency-Key`` with a digest of the request, None without the header."""
        key = self.headers.get("idempotency-key")
        if key is None:
            return None
        checked_key("Idempotency-Key", key)
        digest, body = self._digest(), await self.body()
        digest.update(body)
        return Idempotency(key, digest.digest() if self._taken_out is None else self._taken_out.digest)

    async def owned_chat(self, text: str) -> Chat:
        """The chat of that ID. Raises ``ChatNotFound`` if there is none, or it is somebody else's."""
        chat = await self.services.store.get(parse_chat_id(text))
        self.require_owner(chat)
        return chat

    def require_owner(self, chat: Chat) -> None:
        """Raises ``ChatNotFound`` if the chat is not the caller's."""
        if chat.owner_id != self.user.user_id:
            raise no_such_chat(str(chat.id))

    async def message_parts(self, content: bodies.Content) -> Parts:
        """``content`` as a message's parts, with what is known of the caller's files in it. Raises ``InvalidRequest``,
        ``FileNotFound`` and ``TooLarge``."""
        files: dict[str, FilePart] = {}
        named = [] if isinstance(content, str) else [part for part in content if isinstance(part, bodies.InputFile)]
        wanted = {part.file_id: file_id for part in named if (file_id := parse_uuid(part.file_id)) is not None}
        if wanted:
            found = await self.services.uploads.files.find(self.user.user_id, list(wanted.values()))
            known = {text: found[file_id] for text, file_id in wanted.items() if file_id in found}
            files = {text: FilePart(one.id, one.name, one.media_type, one.size_bytes) for text, one in known.items()}
        return bodies.content_parts(content, bytes_max=self.services.settings.sizes.content_bytes_max, files=files)

    async def require_model(self, name: str | None) -> None:
        """Raises ``UnknownModel`` for a name that nothing stands behind."""
        if name is not None:
            (await self.services.models.catalogue()).require(name)


def require_known_query(scope: Scope, handler: BaseRouteHandler) -> None:
    """A check (``web/auth.py``): each parameter of the query is one that the route has, comes once, and a number is
    written as one. Litestar alone would pass over the unknown, and take ``1e3`` for a thousand."""
    if not scope["query_string"]:
        return
    declared, seen = _query_of(handler), set[str]()
    for name, text in ASGIConnection[Any, Any, Any, Any](scope).query_params.multi_items():
        parameter = declared.get(name)
        if parameter is None:
            raise InvalidRequest(f"there is no parameter {name[:80]!r} here")
        if name in seen:
            raise InvalidRequest(f"{name} may be given once")
        seen.add(name)
        kinds = [parameter.annotation, *(inner.annotation for inner in parameter.inner_types)]
        if int in kinds and _INTEGER.fullmatch(text) is None:
            raise InvalidRequest(f"{name} must be a whole number")


def _query_of(handler: BaseRouteHandler) -> dict[str, FieldDefinition]:
    """What may stand in the query, by its name there."""
    return {
        parameter.kwarg_definition.name or name: parameter
        for name, parameter in handler.parsed_fn_signature.parameters.items()
        if isinstance(parameter.kwarg_definition, QueryParameter)
    }


def checked_key(field: str, key: str) -> str:
    """An idempotency key. Raises ``InvalidRequest``."""
    if _IDEMPOTENCY_KEY.fullmatch(key) is None:
        raise InvalidRequest(f"{field} must be 1 to 255 visible ASCII characters")
    return key


def parse_chat_id(text: str) -> UUID:
    """A chat's ID out of a path. What cannot be one is not found like any other unknown one."""
    found = parse_uuid(text)
    if found is None:
        raise no_such_chat(text)
    return found


def parse_uuid(text: str) -> UUID | None:
    """None for what is none, as it is written."""
    return None if _UUID.fullmatch(text) is None else UUID(text)


def parse_message_id(text: str) -> int:
    return _parse_number(text, MessageNotFound("there is no such message in this chat"))


def parse_queued_id(text: str) -> int:
    return _parse_number(text, QueuedMessageNotFound("there is no such message in the queue (any more)"))


def no_such_chat(text: str) -> ChatNotFound:
    return ChatNotFound("there is no such chat", chat_id=text[:80])


def _parse_number(text: str, error: NotFound) -> int:
    if _NUMBER.fullmatch(text) is None:
        raise error
    return int(text)


class Answered(Response[T]):
    """The answer of a route that returns a value, or one with a status. Where it or its declaration says more, that is
    litestar's to do."""

    def to_asgi_response(self, app: Any, request: Any, **said: Any) -> Any:
        kind, status = self.media_type or said.get("media_type") or JSON, self.status_code or said.get("status_code")
        is_more = self.headers or self.cookies or self.background is not None or any(map(said.get, _MORE))
        if kind != JSON or self.content is None or is_more:
            return super().to_asgi_response(app, request, **said)
        return json_answer(status or 200, self.render(self.content, JSON, get_serializer(self.response_type_encoders)))


def json_answer(status: int, body: bytes) -> ASGIApp:
    """``body`` as an answer that is JSON, and has nothing besides."""

    async def answer(_scope: Scope, _receive: Receive, send: Send) -> None:
        headers = [(b"content-type", JSON.encode()), (b"content-length", b"%d" % len(body))]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body, "more_body": False})

    return answer
