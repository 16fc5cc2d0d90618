"""What is ours of the HTTP/1.1 protocol: hypercorn's on h11, with what it decides otherwise and how it is set up.

The only module that depends on how hypercorn's protocol is made inside, so a new release of hypercorn is tried here.
"""

from __future__ import annotations

from typing import Any

import h11
from hypercorn.config import Config
from hypercorn.events import RawData
from hypercorn.protocol.events import Event as StreamEvent
from hypercorn.protocol.events import Response
from hypercorn.protocol.h11 import H11Protocol

from chatcluster.errors import InvalidRequest
from chatcluster.web.errors import answer

JOINED_BYTES_MAX = 64 << 10


class Protocol(H11Protocol):
    """HTTP/1.1 without upgrades to HTTP/2, and with our form of errors."""

    _unsent_head = b""

    def broke_off_without_chunks(self) -> bool:
        """Whether the response is unfinished, and its end by closing would look like a finished one."""
        connection = self.connection
        return (
            isinstance(connection, h11.Connection)
            and connection.our_state is h11.SEND_BODY
            and connection.their_http_version == b"1.0"
        )

    async def stream_send(self, event: StreamEvent) -> None:
        """An answer to a request whose body is still coming ends the connection, and has to say so: a client that
        took it for idle would lose its next request."""
        if isinstance(event, Response) and self.connection.their_state is h11.SEND_BODY:
            event.headers.append((b"connection", b"close"))
        await super().stream_send(event)

    async def _send_h11_event(self, event: Any) -> None:
        """The head of a response whose length is known goes out with its body, in one write."""
        try:
            data = self.connection.send(event) or b""
        except h11.LocalProtocolError:
            if self.connection.their_state is not h11.ERROR:
                raise
            return
        if self._unsent_head:
            if len(data) > JOINED_BYTES_MAX:  # a copy of it would cost more than a write
                await self.send(RawData(data=self._unsent_head))
            else:
                data = self._unsent_head + data
        self._unsent_head = data if isinstance(event, h11.Response) and _has_length(event) else b""
        if data and not self._unsent_head:
            await self.send(RawData(data=data))

    async def _check_protocol(self, event: h11.Request) -> None:
        """Upgrades to HTTP/2 are ignored, as the standard allows: the request is served as it is."""

    async def _send_error_response(self, status_code: int) -> None:
        _, body, _ = answer(InvalidRequest("this is not valid HTTP, or its head is too long"))
        headers = [
            (b"content-type", b"application/json"),
            (b"content-length", b"%d" % len(body)),
            (b"connection", b"close"),
            *self.config.response_headers("h11"),
        ]
        await self._send_h11_event(h11.Response(status_code=status_code, headers=headers))
        await self._send_h11_event(h11.Data(data=body))
        await self._send_h11_event(h11.EndOfMessage())


def _has_length(response: h11.Response) -> bool:
    return any(name == b"content-length" for name, _ in response.headers)


def http_config() -> Config:
    config = Config()
    config.accesslog = None
    config.errorlog = None
    config.include_server_header = False
    config.h11_max_incomplete_size = 32 << 10
    config.keep_alive_max_requests = 100_000
    return config
