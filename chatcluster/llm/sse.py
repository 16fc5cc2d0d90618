"""Server-sent events, the receiving side: bytes in, payloads out. Pure, and quick: it sees every token.

Of an event its ``data`` matters; of its name only whether it says that the event is an error. ``id`` and ``retry`` are
read over. A comment comes out as ``None``, because it is a sign of life. A byte order mark at the very beginning is
dropped, and the three line ends of the standard may be mixed; both may be cut in two by the grouping of the bytes.

What is no field of an event at all says something as well. A line that is a JSON object is taken for a payload of its
own: servers that fall over in mid-stream forget about ``data:``. The first of the other lines are kept
(``stray_text``), for they are what a server or a proxy said instead of an answer.
"""

from __future__ import annotations

from chatcluster.llm.failures import Provider

EVENT_BYTES_MAX = 4 << 20
STRAY_BYTES_MAX = 4 << 10
_BYTE_ORDER_MARK = b"\xef\xbb\xbf"
_FIELDS = (b"event", b"id", b"retry", b"data")


class ErrorPayload(bytes):
    """The data of an event that is called an error."""


class EventDecoder:
    """Feed it the body's bytes in any grouping; then ``finish`` at its end."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._beginning: bytes | None = b""
        """What has come of a byte order mark; None once it is known whether there is one."""
        self._ended_in_return = False
        """The last byte was a carriage return: a line feed that follows belongs to it."""
        self._rest = bytearray()
        """The beginning of a line whose end has not come yet."""
        self._data: list[bytes] = []
        """The data lines of an event whose blank line has not come yet."""
        self._data_bytes = 0
        self._is_error = False
        """The event is called an error."""
        self._stray = bytearray()

    @property
    def stray_text(self) -> bytes:
        """The beginning of what came outside of any event."""
        return bytes(self._stray)

    def feed(self, chunk: bytes) -> list[bytes | None]:
        """The payloads completed by ``chunk``, in order; ``None`` for a comment.

        Raises ``ProviderError`` for an event of more than ``EVENT_BYTES_MAX``.
        """
        if self._beginning is not None:
            chunk = self._after_mark(chunk)
        if self._ended_in_return or b"\r" in chunk:
            chunk = self._with_line_feeds(chunk)
        complete, line_feed, rest = chunk.rpartition(b"\n")
        if not line_feed:
            self._rest += chunk
            self._check_size()
            return []
        block = bytes(self._rest) + complete
        self._rest[:] = rest
        return self._take_lines(block.split(b"\n"))

    def finish(self) -> list[bytes | None]:
        """What the end of the body completes: some servers leave out the last blank line."""
        last_line = (self._beginning or b"") + bytes(self._rest)
        self._beginning = None
        self._rest.clear()
        return self._take_lines([last_line, b""])

    def _after_mark(self, chunk: bytes) -> bytes:
        beginning = (self._beginning or b"") + chunk
        if len(beginning) < len(_BYTE_ORDER_MARK) and _BYTE_ORDER_MARK.startswith(beginning):
            self._beginning = beginning
            return b""
        self._beginning = None
        return beginning.removeprefix(_BYTE_ORDER_MARK)

    def _with_line_feeds(self, chunk: bytes) -> bytes:
        """``chunk`` with each of its line ends as a line feed, knowing how the chunk before it ended."""
        if not chunk:
            return chunk
        if self._ended_in_return:
            chunk = chunk.removeprefix(b"\n")
        self._ended_in_return = chunk.endswith(b"\r")
        return chunk.replace(b"\r\n", b"\n").replace(b"\r", b"\n")

    def _take_lines(self, lines: list[bytes]) -> list[bytes | None]:
        payloads: list[bytes | None] = []
        for line in lines:
            if line.startswith(b"data:"):
                self._data.append(line[6:] if line[5:6] == b" " else line[5:])
                self._data_bytes += len(line)
            elif not line:
                if self._data:
                    payloads.append(self._payload())
                self._is_error = False
            elif line.startswith(b":"):
                payloads.append(None)
            else:
                self._take_other(line, payloads)
        self._check_size()
        return payloads

    def _payload(self) -> bytes:
        payload = self._data[0] if len(self._data) == 1 else b"\n".join(self._data)
        self._data.clear()
        self._data_bytes = 0
        return ErrorPayload(payload) if self._is_error else payload

    def _take_other(self, line: bytes, payloads: list[bytes | None]) -> None:
        field, _, value = line.partition(b":")
        if line.startswith(_BYTE_ORDER_MARK):  # a gateway joined bodies that each begin with one
            payloads.extend(self._take_lines([line.removeprefix(_BYTE_ORDER_MARK)]))
        elif field == b"event":
            self._is_error = b"error" in value.lower() or b"exception" in value.lower()
        elif line.lstrip().startswith(b"{") and line.rstrip().endswith(b"}"):
            payloads.append(line)
        elif field not in _FIELDS and len(self._stray) < STRAY_BYTES_MAX:
            self._stray += line[:STRAY_BYTES_MAX] + b"\n"

    def _check_size(self) -> None:
        if len(self._rest) + self._data_bytes > EVENT_BYTES_MAX:
            raise self._provider.error(
                f"{self._provider.name} sent an event of more than {EVENT_BYTES_MAX} bytes", "generic", retryable=True
            )
