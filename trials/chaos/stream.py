"""A chat's events over a connection of their own, read at little cost.

When a replica dies dozens of readers come back at once. If that took each a general client's time, a takeover would be
over before it is their turn to notice, and what they tell would be how busy they are.
"""

from __future__ import annotations

import math
import ssl
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from urllib.parse import SplitResult, urlsplit

import trio
from event_wire import StreamParser, request

ANSWER_SECONDS_MAX = 4.0
"""A replica that is silent for longer is given up; the next one gets the same request."""
SILENCE_SECONDS_MAX = 40.0
"""A stream sends a heartbeat every 15 s."""
RECEIVE_BYTES = 64 << 10
STREAM = trio.socket.SOCK_STREAM
SocketOption = tuple[int, int, int]


class BrokenOff(Exception):
    """There is no connection, or no more: it was refused, reset, ended without a last word, or silent for too long."""


class EventStream:
    """A connection, and what came on it. ``is_whole``: the server said that nothing more will come."""

    def __init__(self, socket: trio.socket.SocketType, connection: trio.abc.Stream) -> None:
        self.socket = socket
        self._connection = connection
        self._parser = StreamParser()
        self._blocks: list[bytes] = []

    @property
    def status(self) -> int:
        return self._parser.status

    @property
    def refusal(self) -> str:
        """What was said in the place of a stream."""
        return self._parser.refusal.decode(errors="replace")

    @property
    def is_whole(self) -> bool:
        return self._parser.is_whole and not self._blocks

    async def ask(self, request: bytes) -> None:
        """Send the request, and wait for the head of its answer. Raises ``BrokenOff``."""
        try:
            await self._connection.send_all(request)
        except trio.BrokenResourceError as error:
            raise BrokenOff("no connection") from error
        while not self.status:
            self._blocks = await self._receive()

    async def receive(self) -> list[bytes]:
        """What came, in blocks: events and comments. Raises ``BrokenOff``."""
        if self._blocks:
            blocks, self._blocks = self._blocks, []
            return blocks
        with trio.move_on_after(SILENCE_SECONDS_MAX):
            return await self._receive()
        raise BrokenOff("silence")

    async def _receive(self) -> list[bytes]:
        try:
            data = await self._connection.receive_some(RECEIVE_BYTES)
        except trio.BrokenResourceError as error:
            raise BrokenOff("reset") from error
        if not data:
            raise BrokenOff("end")
        return self._parser.feed(bytes(data))


@asynccontextmanager
async def open_stream(
    base_url: str, chat: str, token: str, cursor: str, options: Sequence[SocketOption]
) -> AsyncIterator[EventStream]:
    """The chat's events after ``cursor``, or a refusal: see ``status``. Raises ``BrokenOff``."""
    url = urlsplit(base_url)
    with trio.move_on_after(ANSWER_SECONDS_MAX) as answering:
        stream = await _connect(url, options)
        with stream.socket:
            await stream.ask(request("GET", f"/chats/{chat}/stream", token, cursor=cursor, host=url.netloc))
            answering.deadline = math.inf
            yield stream
    if answering.cancelled_caught:
        raise BrokenOff("no answer")


async def _connect(url: SplitResult, options: Sequence[SocketOption]) -> EventStream:
    secure = url.scheme == "https"
    host, port = url.hostname or "", url.port or (443 if secure else 80)
    try:
        family, kind, protocol, _, address = (await trio.socket.getaddrinfo(host, port, type=STREAM))[0]
        socket = trio.socket.socket(family, kind, protocol)
        with ExitStack() as closing:
            closing.enter_context(socket)
            for option in options:
                socket.setsockopt(*option)
            await socket.connect(address)
            closing.pop_all()
    except OSError as error:
        raise BrokenOff("no connection") from error
    plain = trio.SocketStream(socket)
    if not secure:
        return EventStream(socket, plain)
    return EventStream(socket, trio.SSLStream(plain, ssl.create_default_context(), server_hostname=host))
