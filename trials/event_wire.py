"""As much of HTTP/1.1 and of event streams as the API speaks, for clients that must not be what they measure. Pure.

Errors of the wire are not tolerated: they raise ``ValueError``, because a figure that comes from a
misunderstanding is worse than none.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

_BLANK = b"\r\n\r\n"


def request(
    method: str, path: str, token: str, body: Any = None, *, cursor: str = "", host: str = "bench", cookie: str = ""
) -> bytes:
    """The bytes of a request to the API; ``path`` starts after its version."""
    return request_anywhere(method, f"/api/v1{path}", token, body, cursor=cursor, host=host, cookie=cookie)


def request_anywhere(
    method: str, target: str, token: str, body: Any = None, *, cursor: str = "", host: str = "bench", cookie: str = ""
) -> bytes:
    """The bytes of a request for any address of the server. A ``cookie`` takes the place of the token."""
    allowed = f"Cookie: {cookie}" if cookie else f"Authorization: Bearer {token}"
    lines = [f"{method} {target} HTTP/1.1", f"Host: {host}", allowed]
    if cursor:
        lines.append(f"Last-Event-ID: {cursor}")
    content = b""
    if body is not None:
        content = json.dumps(body).encode()
        lines += ["Content-Type: application/json", f"Content-Length: {len(content)}"]
    return "\r\n".join(lines).encode() + _BLANK + content


class Answer(NamedTuple):
    status: int
    body: bytes


class AnswerParser:
    """Answers with a length, one after the other on a connection."""

    def __init__(self) -> None:
        self._data = b""

    def feed(self, data: bytes) -> list[Answer]:
        """The answers that are complete now."""
        self._data += data
        answers = []
        while (head_end := self._data.find(_BLANK)) >= 0:
            head = self._data[:head_end].lower()
            _, named, rest = head.partition(b"content-length:")
            length = int(rest.partition(b"\r\n")[0]) if named else 0
            end = head_end + len(_BLANK) + length
            if len(self._data) < end:
                break
            answers.append(Answer(_status(head), self._data[head_end + len(_BLANK) : end]))
            self._data = self._data[end:]
        return answers


class StreamParser:
    """An event stream: bytes in, blocks (events without their blank line) out."""

    def __init__(self) -> None:
        self.status = 0
        self.refusal = b""
        """What came of the body if the status is not 200."""
        self.is_whole = False
        """The last chunk has come, which says that no more will."""
        self._chunked = True
        self._wire = b""
        self._left = 0
        """Bytes of the present chunk that have not come yet, with the two that end it."""
        self._text = b""

    def feed(self, data: bytes) -> list[bytes]:
        """The blocks that are complete now. A refusal has a status and no blocks."""
        if not self.status:
            self._wire += data
            head_end = self._wire.find(_BLANK)
            if head_end < 0:
                return []
            self.status = _status(self._wire)
            self._chunked = b"\ntransfer-encoding: chunked" in self._wire[:head_end].lower()
            data = self._wire[head_end + len(_BLANK) :]
            self._wire = b""
        if self.status != 200:
            self.refusal += data
            return []
        text = self._dechunked(data) if self._chunked else data
        *blocks, self._text = (self._text + text).split(b"\n\n")
        return blocks

    def _dechunked(self, data: bytes) -> bytes:
        if self._wire:
            data = self._wire + data
            self._wire = b""
        pieces = []
        start = 0
        while start < len(data):
            if not self._left:
                line_end = data.find(b"\r\n", start)
                if line_end < 0:
                    break
                self._left = int(data[start:line_end], 16) + 2
                self.is_whole = self._left == 2
                start = line_end + 2
            piece = data[start : start + self._left]
            start += len(piece)
            self._left -= len(piece)
            # the last two bytes of a chunk are its end, and may come apart from it
            pieces.append(piece[: len(piece) - max(0, 2 - self._left)])
        self._wire = data[start:]
        return pieces[0] if len(pieces) == 1 else b"".join(pieces)


class Event(NamedTuple):
    id: str
    kind: bytes
    data: bytes


def parse_event(block: bytes) -> Event:
    """An event from its block. One without data, such as a heartbeat, has no kind."""
    head, named, data = block.partition(b"\ndata: ")
    if not named:
        return Event("", b"", b"")
    kind = head[head.rfind(b"event: ") + 7 :]
    id_start = head.rfind(b"id: ") + 4
    return Event(head[id_start : head.find(b"\n", id_start)].decode(), kind, data)


def _status(head: bytes) -> int:
    return int(head[9:12])
