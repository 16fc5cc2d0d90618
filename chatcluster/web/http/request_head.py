"""The head of a request in HTTP/1.1, as bytes and as what they say. Pure.

The grammar is that of RFC 9112, as lenient as h11, by which the tests judge it: lines may end without a carriage
return, and a field may go on in the next line, which reads as a blank. Whatever two servers in a row could understand
in two ways is refused, and nothing behind it is read: two lengths, a length and chunks, other transfer encodings, a
name with a blank behind it, a carriage return alone, NUL.

Each byte is looked at a few times, whatever it is: there is no pattern here that goes back over what it has read. A
head of blanks would hold the replica for seconds otherwise (P10).
"""

from __future__ import annotations

import re
from typing import NamedTuple

from chatcluster.errors import InvalidRequest

HEAD_BYTES_MAX = 32 << 10
LENGTH_DIGITS_MAX = 20
BAD_REQUEST, HEAD_TOO_LARGE, UNKNOWN_ENCODING = 400, 431, 501
Headers = list[tuple[bytes, bytes]]

_END = re.compile(rb"\n\r?\n")
_FORBIDDEN = re.compile(rb"[\x00\x0b\x0c\r]")
_TOKEN = re.compile(rb"[-!#$%&'*+.^_`|~0-9A-Za-z]+")
_REQUEST_LINE = re.compile(rb"([-!#$%&'*+.^_`|~0-9A-Za-z]+) ([\x21-\x7e]+) HTTP/([0-9]\.[0-9])")
_CONTINUATION = re.compile(rb"\n[ \t]+")
_BLANKS = b" \t"


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
    """Names in lower case, in the order that they came. A length that is given twice is in here once."""
    body_bytes: int | None
    """None: it comes in chunks."""
    closes: bool
    """The client wants no further request on the connection, or cannot say so."""
    expects_continue: bool
    """It sends the body when it is told to."""
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
    text = _text(head)
    first, _, fields = text.partition(b"\n")
    line = _REQUEST_LINE.fullmatch(first)
    if line is None:
        raise NotHttp
    method, target, version = line.groups()
    headers = _fields(fields)
    said = _Said(headers)
    body_bytes = said.body_bytes()
    said.require_host(version)
    is_current = version >= b"1.1"
    return RequestHead(
        method=method.decode().upper(),
        target=target,
        version=version.decode(),
        headers=headers,
        body_bytes=body_bytes,
        closes=not is_current or b"close" in said.words(b"connection"),
        expects_continue=is_current and b"100-continue" in said.words(b"expect"),
        wants_websocket=method == b"GET" and said.wants_websocket,
    )


def check_trailers(trailers: bytes) -> None:
    """Fields behind a chunked body, which nobody reads. Raises ``NotHttp``."""
    _fields(_text(trailers))


def _text(head: bytes) -> bytes:
    """In lines that all end in the same way, without the empty one."""
    text = head.replace(b"\r\n", b"\n")
    if _FORBIDDEN.search(text):
        raise NotHttp
    return text[:-1]


def _fields(text: bytes) -> Headers:
    if b"\n " in text or b"\n\t" in text:  # a field that goes on in the next line
        text = _CONTINUATION.sub(b" ", text)
    fields = []
    for line in text.split(b"\n")[:-1]:
        name, colon, value = line.partition(b":")
        if not colon or _TOKEN.fullmatch(name) is None:
            raise NotHttp
        fields.append((name.lower(), value.strip(_BLANKS)))
    return fields


_NAMED = frozenset((b"host", b"content-length", b"transfer-encoding", b"connection", b"expect", b"upgrade"))


class _Said:
    """The fields that the server itself goes by."""

    def __init__(self, headers: Headers) -> None:
        self._headers = headers
        self._values: dict[bytes, list[bytes]] = {}
        for name, value in headers:
            if name in _NAMED:
                self._values.setdefault(name, []).append(value)

    def words(self, name: bytes) -> list[bytes]:
        values = self._values.get(name)
        return [word.strip().lower() for word in b",".join(values).split(b",")] if values else []

    @property
    def wants_websocket(self) -> bool:
        return b"websocket" in self.words(b"upgrade") and b"upgrade" in self.words(b"connection")

    def require_host(self, version: bytes) -> None:
        hosts = len(self._values.get(b"host", ()))
        if hosts > 1 or (hosts == 0 and version == b"1.1"):
            raise NotHttp

    def body_bytes(self) -> int | None:
        """How long the body is; None for chunks."""
        encodings, lengths = self._values.get(b"transfer-encoding"), self._values.get(b"content-length")
        if encodings is not None:
            if [encoding.lower() for encoding in encodings] != [b"chunked"]:
                raise NotHttp(UNKNOWN_ENCODING)
            if lengths is not None:
                raise NotHttp
            return None
        return 0 if lengths is None else self._length(lengths)

    def _length(self, lengths: list[bytes]) -> int:
        said = {length.strip(_BLANKS) for value in lengths for length in value.split(b",")}
        length = said.pop()
        if said or not (length.isdigit() and len(length) <= LENGTH_DIGITS_MAX):
            raise NotHttp
        if lengths != [length]:
            self._keep_one(length)
        return int(length)

    def _keep_one(self, length: bytes) -> None:
        """The same length several times: the application sees it once."""
        place = next(place for place, (name, _) in enumerate(self._headers) if name == b"content-length")
        others = [field for field in self._headers if field[0] != b"content-length"]
        others.insert(place, (b"content-length", length))
        self._headers[:] = others
