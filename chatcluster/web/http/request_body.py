"""The body of a request, taken out of what the connection has received. Pure.

``take`` removes from the front of a buffer what is the body's, and returns the bytes that the application gets, which
may be none. ``complete`` says that the body ended; what is in the buffer then is the next request's.
"""

from __future__ import annotations

import re
from typing import Protocol

from chatcluster.web.http.request_head import HEAD_BYTES_MAX, HEAD_TOO_LARGE, NotHttp, check_trailers

CHUNKS_MAX = 1000
"""That one call takes: a chunk may be a single byte."""
_SIZE = re.compile(rb"[0-9A-Fa-f]{1,20}")
_END = re.compile(rb"\n\r?\n")


class Body(Protocol):
    complete: bool

    def take(self, buffer: bytearray) -> bytes:
        """Raises ``NotHttp``, and then again at each call."""
        ...


def body_of(size_bytes: int | None) -> Body:
    """``size_bytes``: None for a body in chunks."""
    return ChunkedBody() if size_bytes is None else SizedBody(size_bytes)


class SizedBody:
    __slots__ = ("_left_bytes", "complete")

    def __init__(self, size_bytes: int) -> None:
        self._left_bytes = size_bytes
        self.complete = size_bytes == 0

    def take(self, buffer: bytearray) -> bytes:
        piece = bytes(buffer[: self._left_bytes])
        del buffer[: len(piece)]
        self._left_bytes -= len(piece)
        self.complete = self._left_bytes == 0
        return piece


class ChunkedBody:
    """What is told besides, about chunks and behind them, is checked for its form and passed over."""

    __slots__ = ("_in_trailers", "_left_bytes", "_owes_end", "complete")

    def __init__(self) -> None:
        self._left_bytes = 0
        self._owes_end = False
        """The chunk is taken, but for the end of its line."""
        self._in_trailers = False
        self.complete = False

    def take(self, buffer: bytearray) -> bytes:
        pieces: list[bytes] = []
        for _ in range(CHUNKS_MAX):
            if self._in_trailers:
                self._take_trailers(buffer)
                break
            if not self._begin_chunk(buffer):
                break
            if self._left_bytes:
                piece = bytes(buffer[: self._left_bytes])
                del buffer[: len(piece)]
                self._left_bytes -= len(piece)
                pieces.append(piece)
                if self._left_bytes:
                    break
                self._owes_end = True
        return b"".join(pieces)

    def _begin_chunk(self, buffer: bytearray) -> bool:
        """Whether there is a chunk to take from, or all are taken."""
        if self._owes_end:
            if not b"\r\n".startswith(bytes(buffer[:2])):
                raise NotHttp
            if len(buffer) < 2:
                return False
            del buffer[:2]
            self._owes_end = False
        if self._left_bytes:
            return bool(buffer)
        size = _next_size(buffer)
        if size is None:
            return False
        self._left_bytes, self._in_trailers = size, size == 0
        return True

    def _take_trailers(self, buffer: bytearray) -> None:
        end = _trailers_end(buffer)
        if end < 0:
            _require_bounded(len(buffer))
            return
        _require_bounded(end)
        trailers = bytes(buffer[:end])
        if trailers not in (b"\r\n", b"\n"):
            check_trailers(trailers)
        del buffer[:end]
        self.complete = True


def _next_size(buffer: bytearray) -> int | None:
    """Of the chunk whose first line ``buffer`` begins with; the line is removed. None: it is not all there."""
    end = buffer.find(b"\r\n", 0, HEAD_BYTES_MAX + 2)
    if end < 0:
        _require_bounded(len(buffer))
        return None
    size, has_extension, _ = bytes(buffer[:end]).partition(b";")
    if not has_extension:
        size = size.rstrip(b" \t")
    if buffer.find(b"\n", 0, end) >= 0 or _SIZE.fullmatch(size) is None:
        raise NotHttp
    del buffer[: end + 2]
    return int(size, 16)


def _trailers_end(buffer: bytearray) -> int:
    for nothing in (b"\r\n", b"\n"):
        if buffer.startswith(nothing):
            return len(nothing)
    found = _END.search(buffer, 0, HEAD_BYTES_MAX + 2)
    return -1 if found is None else found.end()


def _require_bounded(size_bytes: int) -> None:
    if size_bytes > HEAD_BYTES_MAX:
        raise NotHttp(HEAD_TOO_LARGE)
