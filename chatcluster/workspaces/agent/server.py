"""HTTP/1.1 on the agent's socket: requests, bounded in size, number and time; answers of JSON.

Only what is outside of the sandbox is served. The socket is its host's, and has no name inside, so nothing there can
take the places in its queue; or it is in the agent's own directory: there a process inside has an ID here, and its own
agent is not its to ask. Over TCP each request has to show the token, which nothing inside can read.
"""

from __future__ import annotations

import hmac
import os
import socket
import struct
import traceback
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import NamedTuple
from urllib.parse import parse_qsl, unquote, urlsplit

import h11
import msgspec
import trio

from chatcluster.workspace_wire import BODY_BYTES_MAX, Code, Refusal
from chatcluster.workspaces.agent.refused import AGENT_FAILED, Refused

CONNECTIONS_MAX = 64
REQUEST_SECONDS_MAX = 30.0
ANSWER_SECONDS_MAX = 30.0
RECEIVE_BYTES = 64 << 10
HEADER_BYTES_MAX = 64 << 10
"""A path of 4096 characters may have four times as many bytes, three characters each in a URL."""
BACKLOG = 128
PEER_OPTIONS = {"TCP_KEEPIDLE": 1, "TCP_KEEPINTVL": 1, "TCP_KEEPCNT": 4, "TCP_USER_TIMEOUT": 5000}
"""A peer whose machine vanished is found out within five seconds."""


class Request(NamedTuple):
    method: str
    path: tuple[str, ...]
    """The pieces of the path, unquoted."""
    query: dict[str, str]
    body: bytes
    authorization: bytes


Answerer = Callable[[Request], Awaitable[msgspec.Struct]]
Holder = Callable[[trio.SocketStream], Awaitable[None]]


def listen(path: Path) -> trio.SocketListener:
    """As ``listening`` does."""
    return taken_over(listening(path))


def taken_over(socket_: socket.socket) -> trio.SocketListener:
    """One that listens already."""
    return trio.SocketListener(trio.socket.from_stdlib_socket(socket_))


def listening(path: Path) -> socket.socket:
    """A socket in the place of one that was there before. Raises ``OSError``."""
    path.unlink(missing_ok=True)
    made = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    directory = os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        made.bind(f"/proc/self/fd/{directory}/{path.name}")  # a path may be longer than an address
    finally:
        os.close(directory)
    os.chmod(path, 0o600)
    made.listen(BACKLOG)
    return made


async def listen_tcp(host: str, port: int) -> trio.SocketListener:
    """Raises ``OSError``."""
    (listener,) = await trio.open_tcp_listeners(port, host=host)
    listener.socket.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in PEER_OPTIONS.items():
        listener.socket.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)  # connections inherit them
    return listener


class Server:
    """``held``: by path, what holds the connection of a ``POST`` that is never answered. ``token``: what each request
    has to bring; None on a Unix socket."""

    def __init__(self, answer: Answerer, held: Mapping[tuple[str, ...], Holder], token: str | None = None) -> None:
        self._answer = answer
        self._held = held
        self._authorization = None if token is None else f"Bearer {token}".encode()
        self._places = trio.CapacityLimiter(CONNECTIONS_MAX)

    async def serve(self, stream: trio.SocketStream) -> None:
        """One connection."""
        if self._authorization is None and _is_inside(stream):
            await stream.aclose()
            return
        async with stream:
            async with self._places:
                holder = await self._serve_requests(stream)
            if holder is not None:  # it takes nobody's place
                await holder(stream)

    async def _serve_requests(self, stream: trio.SocketStream) -> Holder | None:
        """Until the connection ends, or something else holds it from then on, which is returned."""
        connection = h11.Connection(h11.SERVER, max_incomplete_event_size=HEADER_BYTES_MAX)
        try:
            while connection.our_state is h11.IDLE:
                match await self._serve_one(connection, stream):
                    case True:
                        connection.start_next_cycle()
                    case False:
                        return None
                    case holder:
                        return holder
        except (trio.BrokenResourceError, trio.TooSlowError, h11.ProtocolError):
            pass  # whoever asked is gone, or speaks something else
        return None

    async def _serve_one(self, connection: h11.Connection, stream: trio.SocketStream) -> bool | Holder:
        """One request. False, if the connection ends after it; or what holds it from then on."""
        try:
            with trio.fail_after(REQUEST_SECONDS_MAX):
                request = await _received(connection, stream)
            if request is None:
                return False
            self._check(request)
            if request.method == "POST" and (holder := self._held.get(request.path)) is not None:
                return holder
            status, answer = 200, await self._answered(request)
        except Refused as refused:
            status, answer = refused.status, Refusal(code=refused.code, message=refused.message)
        await _send(connection, stream, status, msgspec.json.encode(answer))
        return connection.our_state is h11.DONE and connection.their_state is h11.DONE

    async def _answered(self, request: Request) -> msgspec.Struct:
        """Raises ``Refused``, and nothing else: one request ends neither the agent nor what others run here."""
        try:
            return await self._answer(request)
        except Exception as error:
            if isinstance(error, Refused):
                raise
            traceback.print_exc()
            raise Refused(Code.INTERNAL, AGENT_FAILED) from None

    def _check(self, request: Request) -> None:
        if self._authorization is not None and not hmac.compare_digest(request.authorization, self._authorization):
            raise Refused(Code.INVALID_TOKEN, "this agent wants the token that it was started with")


async def _received(connection: h11.Connection, stream: trio.SocketStream) -> Request | None:
    """The next request; None if there is none. Raises ``Refused`` for one that is too large or malformed."""
    head: h11.Request | None = None
    body = bytearray()
    while True:
        match connection.next_event():
            case h11.NEED_DATA:
                if connection.they_are_waiting_for_100_continue:
                    await stream.send_all(
                        connection.send(h11.InformationalResponse(status_code=100, headers=[])) or b""
                    )
                connection.receive_data(bytes(await stream.receive_some(RECEIVE_BYTES)))
            case h11.Request() as event:
                head = event
            case h11.Data(data=data):
                body += data
                if len(body) > BODY_BYTES_MAX:
                    raise Refused(Code.TOO_LARGE, f"a request has {BODY_BYTES_MAX} bytes at most")
            case h11.EndOfMessage():
                return None if head is None else _request(head, bytes(body))
            case _:
                return None


def _request(head: h11.Request, body: bytes) -> Request:
    try:
        parts = urlsplit(head.target.decode("ascii"))
        path = tuple(unquote(piece, errors="strict") for piece in parts.path.split("/")[1:])
        query = dict(parse_qsl(parts.query, keep_blank_values=True, errors="strict"))
    except ValueError:
        raise Refused(Code.INVALID_REQUEST, "the target of the request is malformed") from None
    authorization = dict(head.headers).get(b"authorization", b"")
    return Request(head.method.decode("ascii"), path, query, body, authorization)


async def _send(connection: h11.Connection, stream: trio.SocketStream, status: int, content: bytes) -> None:
    headers = [("content-type", "application/json"), ("content-length", str(len(content)))]
    data = connection.send(h11.Response(status_code=status, headers=headers)) or b""
    data += connection.send(h11.Data(content)) or b""
    connection.send(h11.EndOfMessage())
    with trio.fail_after(ANSWER_SECONDS_MAX):
        await stream.send_all(data)


def _is_inside(stream: trio.SocketStream) -> bool:
    """Whether the peer is a process of the sandbox: those outside have no ID in it, and theirs is told as 0."""
    if os.getpid() != 1:
        return False
    pid, _, _ = struct.unpack("3i", stream.socket.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12))
    return bool(pid != 0)
