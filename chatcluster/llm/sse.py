"""Server-sent events, the receiving side: bytes in, payloads out. Pure, and quick: it sees every token.

Only ``data`` matters on a model's wire: ``event``, ``id`` and ``retry`` are read over. A comment comes out as
``None``, because it is a sign of life. All three line ends of the standard are taken; lone carriage
returns are only seen as line ends once a line feed or the end of the body follows.
"""

from __future__ import annotations

from chatcluster.llm.failures import Provider

EVENT_BYTES_MAX = 16 << 20


class EventDecoder:
    """Feed it the body's bytes in any grouping; then ``finish`` at its end."""

    def __init__(self, provider: Provider) -> None:
        self._provider = provider
        self._rest = bytearray()
        """The beginning of a line whose end has not come yet."""
        self._data: list[bytes] = []
        """The data lines of an event whose blank line has not come yet."""
        self._data_bytes = 0

    def feed(self, chunk: bytes) -> list[bytes | None]:
        """The payloads completed by ``chunk``, in order; ``None`` for a comment.

        Raises ``ProviderError`` for an event of more than ``EVENT_BYTES_MAX``.
        """
        complete, line_feed, rest = chunk.rpartition(b"\n")
        if not line_feed:
            self._rest += chunk
            self._check_size()
            return []
        block = bytes(self._rest) + complete + b"\n"
        self._rest[:] = rest
        return self._take_lines(block)

    def finish(self) -> list[bytes | None]:
        """What the end of the body completes: some servers leave out the last blank line."""
        block = bytes(self._rest) + b"\n\n"
        self._rest.clear()
        return self._take_lines(block)

    def _take_lines(self, block: bytes) -> list[bytes | None]:
        payloads: list[bytes | None] = []
        for line in block.splitlines():
            if line.startswith(b"data:"):
                self._data.append(line[6:] if line[5:6] == b" " else line[5:])
                self._data_bytes += len(line)
            elif line.startswith(b":"):
                payloads.append(None)
            elif not line and self._data:
                payloads.append(self._data[0] if len(self._data) == 1 else b"\n".join(self._data))
                self._data.clear()
                self._data_bytes = 0
        self._check_size()
        return payloads

    def _check_size(self) -> None:
        if len(self._rest) + self._data_bytes > EVENT_BYTES_MAX:
            raise self._provider.error(
                f"{self._provider.name} sent an event of more than {EVENT_BYTES_MAX} bytes", "generic", retryable=True
            )
