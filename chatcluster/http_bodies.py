"""The bodies of streamed answers, read past the libraries that read the rest of HTTP.

A model's server sends each word in a chunk of its own, and each chunk passes six generators and a state machine before
httpx gives it out: more than all else that a word costs. So a connection (``Peer``) gives h11 the head of an answer,
and nothing of what is behind it as long as nobody asks for that. What is there may then be taken from the connection
itself (``PlainChunks``), as long as it is plain: a size, and so many bytes. What is anything else, as the end of the
body is, is left to h11, for which the body begins with that. So all that is unusual is understood, and all that is
wrong refused, by h11 alone, and connections are kept and closed by httpcore as ever.
"""

from __future__ import annotations

import os
import re
import ssl
from collections.abc import Iterable
from enum import Enum, auto
from typing import Any

import httpcore
import httpx
import trio

RECEIVE_BYTES = 8 << 10
"""What is read at a time, between which others have their turn: it may be a thousand chunks."""

_END_OF_HEAD = re.compile(rb"\n\r?\n")
_NEXT_CHUNK = re.compile(rb"\r\n([0-9A-Fa-f]{1,8})\r\n")
"""The end of the chunk before, and a size."""
_BEGINNING = re.compile(rb"(?:\r(?:\n(?:[0-9A-Fa-f]{1,8}\r?)?)?)?")
"""What may become one."""


class Network(httpcore.AsyncNetworkBackend):
    """How httpcore connects: as with its own for trio, to peers."""

    def __init__(self) -> None:
        self._network = httpcore.TrioBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        return Peer(await self._network.connect_tcp(host, port, timeout, local_address, socket_options))

    async def connect_unix_socket(
        self, path: str, timeout: float | None = None, socket_options: Iterable[Any] | None = None
    ) -> httpcore.AsyncNetworkStream:
        return Peer(await self._network.connect_unix_socket(path, timeout, socket_options))

    async def sleep(self, seconds: float) -> None:
        await self._network.sleep(seconds)


class _Place(Enum):
    HEAD = auto()
    BEHIND_HEAD = auto()
    """h11 has the head of the answer, and nothing else."""
    BODY = auto()


class Peer(httpcore.AsyncNetworkStream):
    """A connection, as httpcore uses it. A request goes out as a whole before its answer is read."""

    def __init__(self, stream: httpcore.AsyncNetworkStream) -> None:
        self._stream = stream
        self._socket: Any = None if stream.get_extra_info("ssl_object") else stream.get_extra_info("socket")
        """Where what is read is not encrypted."""
        self._ahead = b""
        """Received, and nobody has asked for it."""
        self._place = _Place.HEAD
        self._searched = b""
        """The last bytes of the head that h11 has."""

    def __repr__(self) -> str:
        return f"<Peer {self._place.name} ahead={len(self._ahead)}>"

    @property
    def is_behind_head(self) -> bool:
        """Whether the body is here to be taken, from its beginning on."""
        return self._place is _Place.BEHIND_HEAD

    async def write(self, buffer: bytes, timeout: float | None = None) -> None:
        self._place, self._searched = _Place.HEAD, b""
        await self._stream.write(buffer, timeout)

    async def read(self, max_bytes: int, timeout: float | None = None) -> bytes:
        data, self._ahead = self._ahead, b""
        if not data:
            data = await self._stream.read(max_bytes, timeout)
        if self._place is _Place.HEAD:
            return self._of_head(data)
        self._place = _Place.BODY
        return data

    def _of_head(self, data: bytes) -> bytes:
        found = _END_OF_HEAD.search(searched := self._searched + data)
        if found is None:
            self._searched = searched[-2:]
            return data
        end = found.end() - len(self._searched)
        self._place, self._ahead = _Place.BEHIND_HEAD, data[end:]
        return data[:end]

    async def aclose(self) -> None:
        await self._stream.aclose()

    async def start_tls(
        self, ssl_context: ssl.SSLContext, server_hostname: str | None = None, timeout: float | None = None
    ) -> httpcore.AsyncNetworkStream:
        return Peer(await self._stream.start_tls(ssl_context, server_hostname, timeout))

    def get_extra_info(self, info: str) -> Any:
        if info == "is_readable" and self._ahead:
            return True  # a connection on which something came unasked is not used again
        return self._stream.get_extra_info(info)

    # past httpcore

    async def receive(self) -> bytes:
        """What comes next, empty at its end. Raises ``httpx.ReadError``."""
        data, self._ahead = self._ahead, b""
        try:
            return data or await (self._receive() if self._socket else self._stream.read(RECEIVE_BYTES))
        except (OSError, trio.ClosedResourceError, httpcore.NetworkError) as error:
            raise httpx.ReadError(str(error)) from error

    async def _receive(self) -> bytes:
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            try:
                return os.read(self._socket.fileno(), RECEIVE_BYTES)
            except BlockingIOError:
                continue

    def give_back(self, data: bytes) -> None:
        """It was received, and is h11's to read."""
        self._ahead = data


class PlainChunks:
    """A body from its beginning on, as long as it is plain chunks."""

    def __init__(self, peer: Peer) -> None:
        self._peer = peer
        self._rest = b"\r\n"  # as if behind a chunk
        self._left_bytes = 0
        """Of the chunk under way."""

    async def receive(self) -> bytes:
        """Some of the body, as it comes. Empty: what follows is for h11 to read. Raises ``httpx.TransportError``."""
        while self._goes_on:
            received = await self._peer.receive()
            if data := self._taken(received):
                return data
            if not received:
                break
        self._peer.give_back(self._left_to_h11())
        return b""

    def _taken(self, received: bytes) -> bytes:
        data, place, pieces = self._rest + received, 0, list[bytes]()
        while True:
            if self._left_bytes:
                piece = data[place : place + self._left_bytes]
                pieces.append(piece)
                place += len(piece)
                self._left_bytes -= len(piece)
            found = None if self._left_bytes else _NEXT_CHUNK.match(data, place)
            if found is None or not (size := int(found[1], 16)):
                break
            place, self._left_bytes = found.end(), size
        self._rest = data[place:]
        return b"".join(pieces)

    @property
    def _goes_on(self) -> bool:
        return bool(self._left_bytes) or _BEGINNING.fullmatch(self._rest) is not None

    def _left_to_h11(self) -> bytes:
        """h11 knows nothing of the chunk before, and so nothing of its end."""
        end = self._rest[:2]
        if end != b"\r\n"[: len(end)]:
            raise httpx.RemoteProtocolError(f"malformed end of a chunk: {end!r}")
        return self._rest[2:]


def plain_chunks(response: httpx.Response) -> PlainChunks | None:
    """The body of a response whose head has come. None: it is httpx's to read."""
    peer = response.extensions.get("network_stream")
    has_chunks = response.headers.get("transfer-encoding", "").strip().lower() == "chunked"
    has_body = response.is_success and response.status_code != httpx.codes.NO_CONTENT
    return PlainChunks(peer) if isinstance(peer, Peer) and peer.is_behind_head and has_chunks and has_body else None
