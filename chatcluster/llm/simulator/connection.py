"""HTTP/1.1 for one client of the simulator, on h11 and trio directly: a cut connection, silence, and an end of the body
without a terminal event have to be exactly that on the wire. Every wait for the client is bounded."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import h11
import msgspec
import trio

from chatcluster.errors import ChatclusterError

BODY_BYTES_MAX = 32 << 20
IDLE_SECONDS = 75.0
SEND_SECONDS = 60.0
_RECEIVE_BYTES = 64 << 10


class ClientGone(ChatclusterError):
    """The client closed the connection, or takes nothing any more."""


class Asked(NamedTuple):
    """A request."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes


def _asked(head: h11.Request, body: bytes) -> Asked:
    url = urlsplit(head.target.decode("ascii", "replace"))
    headers = {name.decode("ascii"): value.decode("latin-1") for name, value in head.headers}
    return Asked(head.method.decode("ascii"), url.path, dict(parse_qsl(url.query)), headers, body)


class Connection:
    """HTTP/1.1 for one client: requests come in whole, responses go out as they are made."""

    def __init__(self, stream: trio.abc.Stream) -> None:
        self._stream = stream
        self._http = h11.Connection(h11.SERVER, max_incomplete_event_size=64 << 10)
        self._is_head = False

    @property
    def is_reusable(self) -> bool:
        return self._http.our_state is h11.DONE and self._http.their_state is h11.DONE

    def next_request(self) -> None:
        self._http.start_next_cycle()

    async def read_request(self) -> Asked | None:
        """None when the client has no more to ask."""
        head: h11.Request | None = None
        body = bytearray()
        with trio.move_on_after(IDLE_SECONDS):
            while True:
                event = self._http.next_event()
                if event is h11.NEED_DATA:
                    await self._receive()
                elif isinstance(event, h11.Request):
                    head = event
                    self._is_head = event.method == b"HEAD"
                elif isinstance(event, h11.Data):
                    body += event.data
                    if len(body) > BODY_BYTES_MAX:
                        raise h11.RemoteProtocolError("the body is too large", error_status_hint=413)
                elif isinstance(event, h11.EndOfMessage) and head is not None:
                    return _asked(head, bytes(body))
                else:
                    return None
        return None

    async def _receive(self) -> None:
        """Hand more of the client's bytes to the parser, ``b""`` (its end of file) included."""
        if self._http.they_are_waiting_for_100_continue:
            await self._write(self._http.send(h11.InformationalResponse(status_code=100, headers=[])))
        try:
            self._http.receive_data(bytes(await self._stream.receive_some(_RECEIVE_BYTES)))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            raise ClientGone from None

    async def wait_until(self, when: float) -> None:
        """Sleep until the trio time ``when``; ends at once, with ``ClientGone``, if the client goes."""
        if when <= trio.current_time():
            return
        with trio.move_on_at(when):
            while True:
                await self._receive()
                if self._http.trailing_data[1]:
                    raise ClientGone

    async def start(self, status: int, headers: Iterable[tuple[str, str]]) -> None:
        await self._write(self._http.send(h11.Response(status_code=status, headers=list(headers))))

    async def send(self, data: bytes) -> None:
        if data and not self._is_head:
            await self._write(self._http.send(h11.Data(data=data)))

    async def end(self) -> None:
        await self._write(self._http.send(h11.EndOfMessage()))

    async def send_json(self, status: int, value: Any, headers: Iterable[tuple[str, str]] = ()) -> None:
        body = msgspec.json.encode(value)
        fixed = [("content-type", "application/json"), ("content-length", str(len(body)))]
        await self.start(status, [*fixed, *headers])
        await self.send(body)
        await self.end()

    async def refuse(self, status: int, message: str) -> None:
        """Say what was wrong with a request that is not HTTP, if a response can still be sent."""
        if self._http.our_state in (h11.IDLE, h11.SEND_RESPONSE):
            await self.send_json(
                status, {"error": {"message": message, "code": "bad_request"}}, [("connection", "close")]
            )

    async def _write(self, data: bytes | None) -> None:
        try:
            with trio.fail_after(SEND_SECONDS):
                await self._stream.send_all(data or b"")
        except (trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError):
            raise ClientGone from None
