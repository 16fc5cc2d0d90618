"""A server at a URL, by "streamable HTTP": a message is the body of a POST, its answer JSON or a stream of events.

It is reached from the sandbox: on its own loopback, or elsewhere by the proxy of its environment, if it has one, which
leads where the workspace's template says. Each message has a connection of its own. The stream that a server may offer
besides is not asked for.

What happens on failure: a server that cannot be reached, answers with a status that is none of success, or stops in the
middle is gone: ``ServerFailed``.
"""

from __future__ import annotations

import os
import ssl
from collections.abc import AsyncGenerator
from contextlib import aclosing
from urllib.parse import urlsplit

import h11
import msgspec
import trio

from chatcluster.json_mending import decoded
from chatcluster.workspaces.agent.mcp.failed import ServerFailed
from chatcluster.workspaces.agent.mcp.file import Config
from chatcluster.workspaces.agent.mcp.session import Hear, Message

BODY_BYTES_MAX = 8 << 20
READ_BYTES = 64 << 10
CONNECT_SECONDS = 10.0
CERTIFICATES = "/etc/ssl/certs"
PORTS = {"http": 80, "https": 443}
LOOPBACK = ("localhost", "127.0.0.1", "::1")


class Http:
    """``Transport``."""

    def __init__(self, config: Config) -> None:
        self._config = config
        self._url = urlsplit(config.url)
        self._hear: Hear = lambda _message: None
        self._session = ""
        self._protocol = ""
        self._failure: ServerFailed | None = None
        self._broken = trio.Event()

    def agreed(self, protocol: str) -> None:
        self._protocol = protocol

    async def run(self, hear: Hear, is_there: trio.Event) -> None:
        self._hear = hear
        is_there.set()
        await self._broken.wait()
        assert self._failure is not None, "it says why it is broken"
        raise self._failure

    async def send(self, message: Message, answered: trio.Event | None = None) -> None:
        try:
            await self._post(msgspec.json.encode(message), answered)
            if answered is not None and not answered.is_set():
                raise ServerFailed("it closed the connection before it had answered")
        except ServerFailed as failed:
            raise self._broken_by(failed) from None
        except trio.TooSlowError:
            raise self._broken_by(ServerFailed(f"it takes no connection within {CONNECT_SECONDS:g} s")) from None
        except RecursionError:
            raise self._broken_by(ServerFailed("it answers what is nested too deeply")) from None
        except (OSError, trio.BrokenResourceError, h11.ProtocolError, ValueError) as error:
            words = str(error) or type(error).__name__
            raise self._broken_by(ServerFailed(f"it cannot be reached: {words}")) from None

    def _broken_by(self, failure: ServerFailed) -> ServerFailed:
        self._failure = self._failure or failure
        self._broken.set()
        return failure

    async def _post(self, content: bytes, answered: trio.Event | None) -> None:
        connection = h11.Connection(h11.CLIENT)
        with trio.fail_after(CONNECT_SECONDS):
            stream = await self._connected()
        async with stream:
            data = connection.send(h11.Request(method="POST", target=self._target, headers=self._headers(content)))
            await stream.send_all((data or b"") + (connection.send(h11.Data(content)) or b""))
            connection.send(h11.EndOfMessage())
            head = await _next_event(connection, stream)
            if not isinstance(head, h11.Response):
                raise ServerFailed("it closed the connection before it had answered")
            await self._take(head, connection, stream, answered)

    async def _take(
        self, head: h11.Response, connection: h11.Connection, stream: trio.abc.Stream, answered: trio.Event | None
    ) -> None:
        headers = {name.decode(): value.decode("latin-1") for name, value in head.headers}
        if not 200 <= head.status_code < 300:
            raise ServerFailed(f"it answers with status {head.status_code}")
        self._session = headers.get("mcp-session-id", self._session)
        is_stream = headers.get("content-type", "").startswith("text/event-stream")
        if answered is None:
            return
        async with aclosing(_events(connection, stream) if is_stream else _whole(connection, stream)) as messages:
            async for message in messages:
                try:
                    self._hear(decoded(message))
                except msgspec.MsgspecError:
                    if not is_stream:
                        raise
                    continue  # a sign of life, or the event with which an answer begins that can be resumed
                if answered.is_set():
                    return

    @property
    def _target(self) -> str:
        path = self._url.path or "/"
        return f"{path}?{self._url.query}" if self._url.query else path

    def _headers(self, content: bytes) -> list[tuple[str, str]]:
        own = {
            "host": self._url.netloc.rpartition("@")[2],
            "content-type": "application/json",
            "accept": "application/json, text/event-stream",
            "content-length": str(len(content)),
            "connection": "close",
        }
        theirs = {name.lower(): value for name, value in self._config.headers}
        session = {"mcp-session-id": self._session, "mcp-protocol-version": self._protocol}
        return list({**theirs, **own, **{name: value for name, value in session.items() if value}}.items())

    async def _connected(self) -> trio.abc.Stream:
        host, port = self._url.hostname or "", self._url.port or PORTS[self._url.scheme]
        proxy = urlsplit(os.environ.get("HTTPS_PROXY", ""))
        if proxy.hostname and host not in LOOPBACK:
            stream = await _through(proxy.hostname, proxy.port or PORTS["http"], f"{host}:{port}")
        else:
            stream = await trio.open_tcp_stream(host, port)
        if self._url.scheme == "http":
            return stream
        context = ssl.create_default_context()
        context.load_verify_locations(capath=CERTIFICATES)
        secure = trio.SSLStream(stream, context, server_hostname=host, https_compatible=True)
        await secure.do_handshake()
        return secure


async def _through(proxy: str, port: int, place: str) -> trio.SocketStream:
    """A connection to ``place`` by the proxy. Raises ``ServerFailed`` where that says no."""
    stream = await trio.open_tcp_stream(proxy, port)
    connection = h11.Connection(h11.CLIENT)
    await stream.send_all(
        connection.send(h11.Request(method="CONNECT", target=place, headers=[("host", place)])) or b""
    )
    connection.send(h11.EndOfMessage())
    answer = await _next_event(connection, stream)
    if isinstance(answer, h11.Response) and 200 <= answer.status_code < 300:
        return stream
    await stream.aclose()
    raise ServerFailed(f"the workspace's network does not lead to {place}")


async def _events(connection: h11.Connection, stream: trio.abc.Stream) -> AsyncGenerator[bytes]:
    """The data of each event."""
    data: list[bytes] = []
    async with aclosing(_lines(connection, stream)) as lines:
        async for line in lines:
            if line.startswith(b"data:"):
                data.append(line[5:].removeprefix(b" "))
            elif not line and data:
                yield b"\n".join(data)
                data = []


async def _lines(connection: h11.Connection, stream: trio.abc.Stream) -> AsyncGenerator[bytes]:
    begun = b""
    while isinstance(event := await _next_event(connection, stream), h11.Data):
        *whole, begun = (begun + event.data).split(b"\n")
        if len(begun) > BODY_BYTES_MAX:
            raise ServerFailed(f"it said more than {BODY_BYTES_MAX} bytes at a time")
        for line in whole:
            yield line.removesuffix(b"\r")


async def _whole(connection: h11.Connection, stream: trio.abc.Stream) -> AsyncGenerator[bytes]:
    content = bytearray()
    while isinstance(event := await _next_event(connection, stream), h11.Data):
        content += event.data
        if len(content) > BODY_BYTES_MAX:
            raise ServerFailed(f"it answered more than {BODY_BYTES_MAX} bytes")
    yield bytes(content)


async def _next_event(connection: h11.Connection, stream: trio.abc.Stream) -> object:
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            connection.receive_data(bytes(await stream.receive_some(READ_BYTES)))
        elif not isinstance(event, h11.InformationalResponse):
            return event
