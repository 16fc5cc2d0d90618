"""The head of a request in HTTP/1.1, as bytes and as what they say. Pure.

llhttp reads it (``httptools``), and refuses whatever two servers in a row could understand in two ways: two lengths, a
length and chunks, a field that goes on in the next line, a name with a blank behind it, line ends of one character,
NUL. What it leaves to its caller is decided here: where a head ends, how long it may be, that it names one host, and
that chunks are the only encoding of a body.

Each byte is looked at a few times, whatever it is (P10).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from httptools import HttpParserError, HttpParserUpgrade, HttpRequestParser

from chatcluster.errors import InvalidRequest

HEAD_BYTES_MAX = 32 << 10
BAD_REQUEST, HEAD_TOO_LARGE, UNKNOWN_ENCODING = 400, 431, 501
VERSIONS = ("1.0", "1.1")
CHUNKED = b"chunked"
Headers = list[tuple[bytes, bytes]]

_END = re.compile(rb"\n\r?\n")


class NotHttp(InvalidRequest):
    """What came is no request, or one that nobody should understand. Its connection ends."""

    def __init__(self, status: int = BAD_REQUEST) -> None:
        super().__init__("this is not valid HTTP, or its head is too long")
        self.status = status


class RequestHead(NamedTuple):
    method: str
    target: bytes
    version: str
    headers: Headers
    """Names in lower case, in the order that they came."""
    body_bytes: int | None
    """None: it comes in chunks."""
    closes: bool
    """The client wants no further request on the connection, or cannot say so."""
    expects_continue: bool
    """Whether it sends the body when it is told to."""
    wants_websocket: bool


def head_end(buffer: bytearray, searched_bytes: int) -> int:
    """Where the head ends that ``buffer`` begins with, -1 where that is not there yet. Of the buffer so much was
    searched before. Raises ``NotHttp``, also for a beginning that none has: TLS, for example."""
    if buffer and buffer[0] <= 0x20:
        raise NotHttp
    found = _END.search(buffer, max(0, searched_bytes - 2))
    if (len(buffer) if found is None else found.end()) > HEAD_BYTES_MAX:
        raise NotHttp(HEAD_TOO_LARGE)
    return -1 if found is None else found.end()


def parse_head(head: bytes) -> RequestHead:
    """``head`` with the empty line that ends it. Raises ``NotHttp``."""
    read = _Fields()
    parser = HttpRequestParser(read)
    try:
        parser.feed_data(head)
    except HttpParserUpgrade:
        pass  # it is all here: whether there is anything to upgrade to is not the parser's to decide
    except HttpParserError:
        raise NotHttp(read.status) from None
    method, version = parser.get_method(), parser.get_http_version()
    is_plain = read.complete and head.startswith(b"%b %b HTTP/%b\r\n" % (method, read.target, version.encode()))
    if not is_plain or version not in VERSIONS or not read.names_its_host(version):
        raise NotHttp
    return RequestHead(
        method=method.decode(),
        target=read.target,
        version=version,
        headers=read.headers,
        body_bytes=read.body_bytes(),
        closes=version == "1.0" or b"close" in read.words(b"connection"),
        expects_continue=version != "1.0" and b"100-continue" in read.words(b"expect"),
        wants_websocket=b"websocket" in read.words(b"upgrade") and b"upgrade" in read.words(b"connection"),
    )


_NAMED = frozenset((b"host", b"content-length", b"transfer-encoding", b"connection", b"expect", b"upgrade"))


class _Fields:
    """What the parser tells of a head, and those fields of it that the server itself goes by."""

    def __init__(self) -> None:
        self.target = b""
        self.headers: Headers = []
        self.complete = False
        self._values: dict[bytes, list[bytes]] = {}

    def on_url(self, piece: bytes) -> None:
        self.target += piece

    def on_header(self, name: bytes, value: bytes) -> None:
        name, value = name.lower(), value.rstrip(b" \t")
        self.headers.append((name, value))
        if name in _NAMED:
            self._values.setdefault(name, []).append(value)

    def on_headers_complete(self) -> None:
        self.complete = True

    @property
    def status(self) -> int:
        """The status for what the parser has refused: no HTTP, or an encoding that is not to be had here."""
        encodings = self._values.get(b"transfer-encoding", [])
        is_known = all(value.lower() == CHUNKED for value in encodings)
        return BAD_REQUEST if is_known else UNKNOWN_ENCODING

    def words(self, name: bytes) -> list[bytes]:
        values = self._values.get(name)
        return [word.strip().lower() for word in b",".join(values).split(b",")] if values else []

    def names_its_host(self, version: str) -> bool:
        hosts = len(self._values.get(b"host", ()))
        return hosts == 1 or (hosts == 0 and version == "1.0")

    def body_bytes(self) -> int | None:
        """How long the body is; None for chunks."""
        if b"transfer-encoding" in self._values:
            if self.status != BAD_REQUEST:
                raise NotHttp(UNKNOWN_ENCODING)
            return None
        lengths = self._values.get(b"content-length")
        return int(lengths[0]) if lengths else 0
