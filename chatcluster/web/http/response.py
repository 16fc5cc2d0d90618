"""A response in HTTP/1.1, from what an application says of it to bytes. Pure, but for the date.

How a body ends is said in one of four ways: *by its length*, where the application gives that; *in chunks*; on
HTTP/1.0, which knows no chunks, by the *end of the connection*; or it has none (HEAD, 204, 304). The head of a response
whose length is known is kept for its body, to go out in one write.

What an application may not say raises ``BadResponse``, and the response is unfinished from then on: a body of another
length than its head says, a field with a line break in it, a head behind the head.
"""

from __future__ import annotations

from collections.abc import Iterable
from email.utils import formatdate
from functools import lru_cache
from time import time

from chatcluster.errors import ChatclusterError
from chatcluster.web.http.request_head import RequestHead

JOINED_BYTES_MAX = 64 << 10
"""A copy of a larger body would cost more than another write."""
NO_BODY = (204, 304)
Headers = Iterable[tuple[bytes, bytes]]


class BadResponse(ChatclusterError):
    """The application says what no response can say: a bug in it."""


class Response:
    __slots__ = (
        "_has_no_body",
        "_in_chunks",
        "_knows_chunks",
        "_left_bytes",
        "_unsent",
        "closes",
        "complete",
        "started",
    )

    def __init__(self, request: RequestHead) -> None:
        self.closes = request.closes
        """The connection ends with it."""
        self.started = False
        self.complete = False
        self._has_no_body = request.method == "HEAD"
        self._knows_chunks = request.version >= "1.1"
        self._in_chunks = False
        self._left_bytes: int | None = None
        """What is left of a body whose length is known."""
        self._unsent = b""

    @property
    def is_endless(self) -> bool:
        """Whether it is under way, and nobody knows until when: an event stream, for example."""
        return self.started and not self.complete and self._left_bytes is None

    @property
    def looks_complete_and_is_not(self) -> bool:
        """The end of the connection would be taken for its own. On HTTP/1.0 many take it so whatever the head says."""
        return self.started and not self.complete and not self._knows_chunks

    def start(self, status: int, headers: Headers, *, closes: bool = False) -> bytes:
        """The head, if it is to go out at once. ``closes``: the connection cannot be used again."""
        if self.started or status < 200:
            raise BadResponse(f"a response of status {status}" + " behind another" * self.started)
        self.closes |= closes
        lines = [b"HTTP/1.1 %d " % status, *self._told(headers), b"date: %b" % _date(int(time()))]
        self._has_no_body |= status in NO_BODY
        if self._left_bytes is None and status not in NO_BODY:
            self._in_chunks = self._knows_chunks
            self.closes |= not self._knows_chunks
            if self._in_chunks:
                lines.append(b"Transfer-Encoding: chunked")
        if self.closes:
            lines.append(b"Connection: close")
        head = _joined(lines)
        self.started = True
        if self._left_bytes is None:
            return head
        self._unsent = head
        return b""

    def _told(self, headers: Headers) -> Iterable[bytes]:
        """The application's fields, but for those of the connection, which is the server's."""
        self._left_bytes, self._in_chunks = None, False
        for name, value in headers:
            match name.lower():
                case b"connection":
                    self.closes |= b"close" in value.lower()
                    continue
                case b"transfer-encoding":
                    continue
                case b"content-length":
                    self._left_bytes = int(value)
            yield b"%b: %b" % (name, value.strip())

    def write(self, data: bytes, *, more: bool) -> list[bytes]:
        """What is to be sent for a piece of the body, and at its end."""
        if not self.started or self.complete:
            raise BadResponse("a body before its head, or behind its end")
        framed = [] if self._has_no_body else self._framed(data, more)
        head, self._unsent = self._unsent, b""
        self.complete = not more
        if head and framed and len(framed[0]) <= JOINED_BYTES_MAX:
            return [head + framed[0], *framed[1:]]
        return [head, *framed] if head else framed

    def _framed(self, data: bytes, more: bool) -> list[bytes]:
        if self._in_chunks:
            end = b"" if more else b"0\r\n\r\n"
            return [b"%x\r\n%b\r\n%b" % (len(data), data, end)] if data else [end] * (not more)
        if self._left_bytes is not None:
            self._left_bytes -= len(data)
            if self._left_bytes < 0 or (self._left_bytes and not more):
                self.closes = True
                raise BadResponse("the body has another length than its head says")
        return [data] if data else []

    def failed(self) -> list[bytes]:
        """What is sent where the application ended without an answer."""
        self.start(500, [(b"content-length", b"0")], closes=True)
        return self.write(b"", more=False)


def refusal(status: int, body: bytes) -> bytes:
    """A whole response for a connection that ends with it."""
    head = [b"HTTP/1.1 %d " % status, b"content-type: application/json", b"content-length: %d" % len(body)]
    return _joined([*head, b"connection: close", b"date: %b" % _date(int(time()))]) + body


def go_on() -> bytes:
    """The body may come."""
    return _joined([b"HTTP/1.1 100 ", b"date: %b" % _date(int(time()))])


def _joined(lines: list[bytes]) -> bytes:
    """Raises ``BadResponse`` where a field would be read as several."""
    head = b"\r\n".join(lines) + b"\r\n\r\n"
    if head.count(b"\n") != len(lines) + 1 or head.count(b"\r") != len(lines) + 1 or b"\0" in head:
        raise BadResponse("a field of the response has a line break in it")
    return head


@lru_cache(maxsize=1)
def _date(second: int) -> bytes:
    return formatdate(second, usegmt=True).encode()
