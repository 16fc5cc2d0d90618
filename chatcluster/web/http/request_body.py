"""The body of a request, taken out of what the connection has received. Pure.

``take`` removes from the front of a buffer what is the body's, and returns the bytes that the application gets, which
may be none. ``complete`` says that the body ended; what is in the buffer then is the next request's.

Chunks are read by llhttp, as heads are. It does not tell where they end within what it was given, so requests that
came right behind them are taken as well, and not answered: the body ``is_last`` then, and the client, which was told
that the connection ends, sends them again.
"""

from __future__ import annotations

from typing import Protocol

from httptools import HttpParserError, HttpRequestParser

from chatcluster.web.http.request_head import HEAD_BYTES_MAX, HEAD_TOO_LARGE, NotHttp

TAKEN_BYTES_MAX = 64 << 10
"""The most that is taken in one call: a chunk may be a single byte."""
_HEAD = b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


class Body(Protocol):
    complete: bool
    is_last: bool
    """Nothing that comes behind it on its connection is understood."""

    def take(self, buffer: bytearray) -> bytes:
        """Raises ``NotHttp``, and then again at each call."""
        ...


def body_of(size_bytes: int | None) -> Body:
    """``size_bytes``: None for a body in chunks."""
    return ChunkedBody() if size_bytes is None else SizedBody(size_bytes)


class SizedBody:
    __slots__ = ("_left_bytes", "complete", "is_last")

    def __init__(self, size_bytes: int) -> None:
        self._left_bytes = size_bytes
        self.complete = size_bytes == 0
        self.is_last = False

    def take(self, buffer: bytearray) -> bytes:
        piece = bytes(buffer[: self._left_bytes])
        del buffer[: len(piece)]
        self._left_bytes -= len(piece)
        self.complete = self._left_bytes == 0
        return piece


class ChunkedBody:
    """What is told besides, about chunks and behind them, is checked for its form and passed over."""

    def __init__(self) -> None:
        self.complete = False
        self.is_last = False
        self._pieces: list[bytes] = []
        self._passed_over_bytes = 0
        """Since the last byte of the body: extensions of a chunk, fields behind the last one."""
        self._parser = HttpRequestParser(self)
        self._parser.feed_data(_HEAD)

    def take(self, buffer: bytearray) -> bytes:
        while buffer and not self._pieces and not self.complete:
            self._feed(buffer)
        taken, self._pieces = b"".join(self._pieces), []
        self.is_last |= self.complete and bool(buffer)
        return taken

    def _feed(self, buffer: bytearray) -> None:
        data = bytes(buffer[:TAKEN_BYTES_MAX])
        try:
            self._parser.feed_data(data)
        except HttpParserError:
            if not self.complete:
                raise NotHttp from None
            self.is_last = True
        del buffer[: len(data)]
        self._passed_over_bytes = 0 if self._pieces else self._passed_over_bytes + len(data)
        if self._passed_over_bytes > HEAD_BYTES_MAX + TAKEN_BYTES_MAX:
            raise NotHttp(HEAD_TOO_LARGE)

    # what the parser tells

    def on_body(self, piece: bytes) -> None:
        if not self.complete:
            self._pieces.append(piece)

    def on_message_complete(self) -> None:
        self.complete = True

    def on_message_begin(self) -> None:
        """A request begins behind the body; before it, the head that is not the client's."""
        self.is_last = self.complete
