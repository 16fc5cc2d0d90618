"""A Python client that resumes.

    async with Client("http://127.0.0.1:8000", token) as client:
        chat = await client.create("Why is the sky blue?")
        async with aclosing(client.stream(chat["id"])) as events:
            async for cursor, event in events:
                ...

What it does on each failure, so that its user need not:

* **A stream breaks off, or ends, or says nothing for ``SILENCE_SECONDS``**: it is opened again at the cursor of
  the last event that came whole, on whatever replica answers. The wait in between grows from 0.05 s to
  2 s and starts anew with the first event. An event is yielded once, whatever happens in between.
* **A request fails on the way, or the server says 503 or 429**: it is repeated, with the same idempotency key if
  it writes to a chat, for at most ``REQUEST_SECONDS``; so a message is sent once however often it had to be tried.
* **The deletion of a chat** that is repeated and finds none any more is done.
* **An upload** is repeated as well, for ``TRANSFER_SECONDS``: what nobody refers to goes by itself.
* **Any other write** has no such key. It is repeated if no connection came about, or at 429; if its answer broke off it
  may have been done, and is not: ``Unreachable``, and for a 502, 503 or 504 ``ApiError``.
* **Nothing answers a stream for ``STREAM_SECONDS``**: ``Unreachable``, with what went wrong last.
* **The request is wrong** (any other 4xx, and a 500): ``ApiError`` at once, with the API's stable ``code``.
* **Trying again changes nothing** (a certificate that is not accepted, a request that cannot be written):
  ``Unusable`` at once. A token or an address that no request can carry is a ``ConfigError`` when the client is made.
* **An event is of a kind that this version does not know**: it is passed over, and so is a part of a message.

The database is authoritative: what a stream shows is a view, and ``ChatView`` says how to keep one.
"""

from __future__ import annotations

from collections.abc import AsyncGenerator
from contextlib import aclosing, suppress
from types import TracebackType
from typing import Any, NamedTuple, Self
from uuid import UUID, uuid4

import httpx
import httpx_sse
import msgspec
import trio

from chatcluster.client.administration import Administration
from chatcluster.client.credentials import API_PATH, checked_address, checked_secret
from chatcluster.client.events import Event, decode_event
from chatcluster.client.files import TRANSFER_SECONDS, FileTransfers
from chatcluster.client.forks import Forks
from chatcluster.client.patience import REQUEST_SECONDS, STREAM_SECONDS, Patience, Unreachable, hopeless, retry_after
from chatcluster.client.tool_calls import Json, ToolCalls, segment
from chatcluster.errors import ChatclusterError
from chatcluster.events import AcceptedEvent
from chatcluster.http_client import http_client
from chatcluster.parts import UNDECODABLE
from chatcluster.setting_checks import check_header_text

SILENCE_SECONDS = 45.0
"""Three missed heartbeats."""
CLOSE_SECONDS = 1.0
EVENT_STREAM = "text/event-stream"
NO_CONTENT, NOT_FOUND, TOO_MANY = 204, 404, 429
RETRY_STATUSES = frozenset({TOO_MANY, 502, 503, 504})
NOT_SENT = (httpx.ConnectError, httpx.ConnectTimeout, httpx.PoolTimeout)
"""After these the server has not got the request."""


class StreamEvent(NamedTuple):
    """An event, and the cursor to resume at after it."""

    cursor: str
    event: Event


class ApiError(ChatclusterError):
    """The API refused the request. ``code`` is stable; ``details`` is all that the answer said."""

    def __init__(self, status: int, code: str, message: str, details: Json) -> None:
        super().__init__(f"{message} ({status} {code})")
        self.status = status
        self.code = code
        self.details = details


class _BrokenOff(Exception):
    """The stream is over, and the chat is not: go on at the cursor."""


class Client(Forks, ToolCalls, FileTransfers):
    """``transport`` and further options go to httpx. Not for use by several threads.

    Blanks around ``base_url`` and ``token``, such as the end of the line in a file, are no part of them. Raises
    ``ConfigError`` for a ``base_url`` or a ``token`` that is none, and for a proxy of the environment that is unusable.
    """

    def __init__(self, base_url: str, token: str, **options: Any) -> None:
        base_url, token = checked_address(base_url), checked_secret(token)
        options.setdefault("timeout", httpx.Timeout(15.0, connect=5.0))
        headers = {"Authorization": f"Bearer {token}"}
        self.admin = Administration(self._read, self._write)
        self._http = http_client(base_url, base_url=base_url.rstrip("/") + API_PATH, headers=headers, **options)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        await self._http.aclose()

    # chats

    async def create(self, content: str | list[Json] | None = None, **fields: Any) -> Json:
        """Create a chat, without content one at rest; further fields: ``title``, ``model``, ``system_prompt``,
        ``tools``, ``mcp_servers``. Returns the chat."""
        body = fields if content is None else {"content": content, **fields}
        return await self._write("POST", "/chats", body)

    async def chat(self, chat_id: UUID | str) -> Json:
        return await self._read(f"/chats/{segment(chat_id)}")

    async def chats(self, **query: Any) -> Json:
        """A page of chats, newest first. Query: ``q``, ``pinned``, ``archived``, ``limit``, ``after``."""
        return await self._read("/chats", query)

    async def update(self, chat_id: UUID | str, **fields: Any) -> Json:
        """Change ``title``, ``pinned``, ``model``, ``archived``, ``tools``, ``mcp_servers`` or ``system_prompt``.

        Returns the chat."""
        return await self._write("PATCH", f"/chats/{segment(chat_id)}", fields)

    async def delete(self, chat_id: UUID | str) -> None:
        """Delete a chat that rests, for good. Raises ``ApiError`` (``chat_busy``) for one that does not."""
        await self._write("DELETE", f"/chats/{segment(chat_id)}")

    async def compact(self, chat_id: UUID | str) -> Json:
        """Have a chat that rests summarised."""
        return await self._write("POST", f"/chats/{segment(chat_id)}/compact")

    async def export(self, chat_id: UUID | str, form: str = "markdown") -> bytes:
        """A chat as one document: ``markdown``, or ``json`` with the chat and its messages."""
        return await self._download(f"/chats/{segment(chat_id)}/export", {"format": form})

    async def interrupt(self, chat_id: UUID | str) -> Json:
        """Stop what the chat is doing. Returns the chat."""
        return await self._write("POST", f"/chats/{segment(chat_id)}/interrupt")

    # messages

    async def messages(self, chat_id: UUID | str, **query: Any) -> Json:
        """A page of history, and the queue. Query: ``after`` (in order), or ``before`` (newest first, from ``latest``
        on, with the ``cursor`` at which ``stream`` goes on), ``limit``."""
        return await self._read(f"/chats/{segment(chat_id)}/messages", query)

    async def history(self, chat_id: UUID | str) -> list[Json]:
        """The whole history, page by page."""
        messages: list[Json] = []
        while True:
            page = await self.messages(chat_id, after=messages[-1]["id"] if messages else 0, limit=500)
            messages += page["messages"]
            if not page["has_more"]:
                return messages

    async def send(
        self, chat_id: UUID | str, content: str | list[Json], *, key: str | None = None, **fields: Any
    ) -> Json:
        """Send a message; further fields: ``busy``, ``model``. Returns ``message``, or ``queued`` if it waits."""
        body = {"content": content, **fields}
        return await self._write("POST", f"/chats/{segment(chat_id)}/messages", body, key=key)

    async def edit(self, chat_id: UUID | str, message_id: int, content: str | list[Json]) -> Json:
        return await self._write("PATCH", f"/chats/{segment(chat_id)}/messages/{message_id}", {"content": content})

    async def edit_queued(self, chat_id: UUID | str, queued_id: int, content: str | list[Json], **fields: Any) -> Json:
        """Replace a queued message where it waits; further field: ``model``. Returns ``queued``."""
        body = {"content": content, **fields}
        return await self._write("PATCH", f"/chats/{segment(chat_id)}/queue/{queued_id}", body)

    async def delete_queued(self, chat_id: UUID | str, queued_id: int) -> None:
        await self._write("DELETE", f"/chats/{segment(chat_id)}/queue/{queued_id}")

    async def promote(self, chat_id: UUID | str, queued_id: int) -> Json:
        return await self._write("POST", f"/chats/{segment(chat_id)}/queue/{queued_id}/promote")

    # the cluster

    async def me(self) -> Json:
        return await self._read("/me")

    async def prompt(self) -> str | None:
        """What models are told of the token's user, in each of that user's chats."""
        text: str | None = (await self._read("/me/prompt"))["prompt"]
        return text

    async def set_prompt(self, prompt: str | None) -> None:
        """What models are told in the user's chats, from each chat's next turn on; None is nothing."""
        await self._write("PUT", "/me/prompt", {"prompt": prompt})

    async def usage(self, **query: Any) -> Json:
        """What one's chats cost: ``total`` and ``groups``. Query: ``from``, ``to``, ``group_by`` (day, model, chat)."""
        return await self._read("/usage", query)

    async def sign_in_code(self) -> Json:
        """A code with which a browser signs in as the token's user, once: ``code``, ``expires_at``, ``path``."""
        return await self._write("POST", "/session/codes")

    async def replicas(self) -> list[Json]:
        return await self.admin.replicas()

    # streams

    def stream(self, chat_id: UUID | str, cursor: str | None = None) -> AsyncGenerator[StreamEvent, None]:
        """The chat's events after ``cursor`` (default: from the beginning), for as long as they are asked for.

        Reconnects as long as anything answers within ``STREAM_SECONDS``: bound it with a deadline of your own, and
        close it (``contextlib.aclosing``) when you leave its loop early. Raises ``ApiError`` if the API refuses the
        stream, ``Unreachable`` and ``Unusable``.
        """
        return self._events({"method": "GET", "url": f"/chats/{segment(chat_id)}/stream"}, cursor)

    def tab(self, chat_id: UUID | str, cursor: str | None = None) -> AsyncGenerator[StreamEvent, None]:
        """As ``stream``, with the changes of the caller's list of chats among the events: ``ChatChangeEvent``, and
        ``ListResetEvent``, which says to read the list again. Their cursors name a place in both."""
        request = {"method": "GET", "url": "/watch", "params": {"chat": str(chat_id)}}
        return self._events(request, cursor)

    def ask(
        self,
        content: str | list[Json],
        chat_id: UUID | str | None = None,
        *,
        key: str | None = None,
        **fields: Any,
    ) -> AsyncGenerator[StreamEvent, None]:
        """Send a message, without ``chat_id`` to a new chat, and follow what comes of it, in one round trip.

        The first event is ``accepted``, which tells the chat and the message; from there on it is as ``stream``.
        Further fields: as of ``send``, or ``create``. Sent once, however often it had to be tried.
        """
        check_header_text("key", key or "")
        url = "/chats" if chat_id is None else f"/chats/{segment(chat_id)}/messages"
        headers = {"Idempotency-Key": key or uuid4().hex}
        return self._events({"method": "POST", "url": url, "json": {"content": content, **fields}, "headers": headers})

    async def _events(self, request: Json, cursor: str | None = None) -> AsyncGenerator[StreamEvent, None]:
        """The events of a stream that ``request`` opens, and once that was accepted, the chat's own route."""
        patience = Patience(STREAM_SECONDS)
        while True:
            attempt = self._follow(request, cursor, patience)
            try:
                async with aclosing(attempt):
                    async for received in attempt:
                        cursor = received.id or cursor
                        if (event := decode_event(received.event, received.data)) is not None:
                            if isinstance(event, AcceptedEvent):
                                request = {"method": "GET", "url": f"/chats/{event.chat.id}/stream"}
                            yield StreamEvent(cursor or "", event)
            except (_BrokenOff, httpx.TransportError) as error:
                await patience.wait(error)

    async def watch(self) -> AsyncGenerator[Json, None]:
        """The lifecycle events of all of the caller's chats. One of type ``reconnected`` says: read the list anew."""
        patience = Patience(STREAM_SECONDS)
        while True:
            attempt = self._follow({"method": "GET", "url": "/watch"}, None, patience)
            try:
                async with aclosing(attempt):
                    async for received in attempt:
                        yield msgspec.json.decode(received.data, type=Json)
            except (_BrokenOff, httpx.TransportError) as error:
                await patience.wait(error)
                yield {"type": "reconnected"}

    async def _follow(
        self, request: Json, cursor: str | None, patience: Patience
    ) -> AsyncGenerator[httpx_sse.ServerSentEvent, None]:
        """One connection's events. Raises ``_BrokenOff`` at its end, whatever that end looks like."""
        check_header_text("cursor", cursor or "")
        headers = {"Accept": EVENT_STREAM} | ({"Last-Event-ID": cursor} if cursor else {})
        request = request | {"headers": headers | request.get("headers", {})}
        timeout = httpx.Timeout(15.0, connect=5.0, read=SILENCE_SECONDS)
        async with self._http.stream(**request, timeout=timeout) as response:
            if not response.is_success:
                await response.aread()
                if response.status_code < 500 and response.status_code not in RETRY_STATUSES:
                    _check(response)
                patience.at_least(retry_after(response))
                raise _BrokenOff(f"the answer is {response.status_code}")
            if EVENT_STREAM not in response.headers.get("content-type", ""):
                raise _elsewhere(response)
            patience.answered()
            events = httpx_sse.EventSource(response).aiter_sse()
            try:
                async for received in events:
                    if received.data:
                        patience.reset()
                        yield received
            finally:
                await _finish(response, events)
        raise _BrokenOff("the stream ended")

    # requests

    async def _read(self, path: str, query: Json | None = None) -> Json:
        return await self._request("GET", path, params={k: _query(v) for k, v in (query or {}).items()})

    async def _write(self, method: str, path: str, body: Json | None = None, *, key: str | None = None) -> Json:
        if not path.startswith("/chats"):
            return await self._request(method, path, json=body, is_repeatable=False)
        check_header_text("key", key or "")
        headers = {"Idempotency-Key": key or uuid4().hex}
        return await self._request(method, path, json=body, headers=headers)

    async def _upload(self, path: str, data: bytes, query: Json) -> Json:
        headers = {"Content-Type": "application/octet-stream"}
        response = await self._respond(
            "POST", path, seconds=TRANSFER_SECONDS, params=query, content=data, headers=headers
        )
        return _answer(response)

    async def _download(self, path: str, query: Json | None = None) -> bytes:
        return (await self._respond("GET", path, seconds=TRANSFER_SECONDS, params=query or {})).content

    async def _request(self, method: str, path: str, *, is_repeatable: bool = True, **options: Any) -> Json:
        response = await self._respond(method, path, is_repeatable=is_repeatable, **options)
        return {} if response.status_code == NO_CONTENT else _answer(response)

    async def _respond(
        self, method: str, path: str, *, is_repeatable: bool = True, seconds: float = REQUEST_SECONDS, **options: Any
    ) -> httpx.Response:
        patience, may_be_done = Patience(seconds), False
        while True:
            try:
                with trio.fail_at(patience.gives_up_at):
                    response = await self._http.request(method, path, **options)
            except (httpx.TransportError, trio.TooSlowError) as error:
                if not (is_repeatable or isinstance(error, NOT_SENT) or hopeless(error)):
                    text = f"the answer broke off, and it may have been done: {str(error) or type(error).__name__}"
                    raise Unreachable(text) from None
                may_be_done |= not isinstance(error, NOT_SENT)
                await patience.wait(error)
                continue
            is_chat = method == "DELETE" and path.count("/") == 2  # what is queued may be gone because it was answered
            if is_chat and may_be_done and response.status_code == NOT_FOUND:
                return httpx.Response(NO_CONTENT, request=response.request)
            if response.status_code not in (RETRY_STATUSES if is_repeatable else (TOO_MANY,)):
                _check(response)
                return response
            may_be_done |= response.status_code != TOO_MANY
            patience.at_least(retry_after(response))
            await patience.wait(_BrokenOff(f"the answer is {response.status_code}"))


async def _finish(response: httpx.Response, events: AsyncGenerator[httpx_sse.ServerSentEvent, None]) -> None:
    """Close a response that may not have been read to its end.

    httpx reads through generators inside generators, which only end by being run to their end: with the
    connection closed, that is the next step.
    """
    with trio.move_on_after(CLOSE_SECONDS, shield=True), suppress(httpx.HTTPError, httpx.StreamError):
        await response.aclose()
        async for _ in events:
            pass


def _answer(response: httpx.Response) -> Json:
    try:
        return msgspec.json.decode(response.content, type=Json)
    except UNDECODABLE:
        raise _elsewhere(response) from None


def _elsewhere(response: httpx.Response) -> ApiError:
    """A success that is none of ours: of another server, or the page of a proxy."""
    return ApiError(response.status_code, "unknown", f"{response.url} is no chatcluster", {})


def _check(response: httpx.Response) -> None:
    """Raise ``ApiError`` for an answer that says no, or leads elsewhere: a token is not sent there."""
    if response.is_success:
        return
    if response.has_redirect_location:
        message = f"{response.url.host} says that it is at {response.headers['location']}; give that address"
        raise ApiError(response.status_code, "unknown", message, {})
    try:
        details: Json = msgspec.json.decode(response.content, type=dict[str, Json])["error"]
    except (*UNDECODABLE, KeyError):
        details = {}
    code, message = str(details.get("code", "unknown")), str(details.get("message", response.reason_phrase))
    raise ApiError(response.status_code, code, message, details)


def _query(value: Any) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
