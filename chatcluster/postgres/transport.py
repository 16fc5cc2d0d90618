"""A connection's socket as asyncpg's protocol knows it: an asyncio transport, plain or TLS.

What the protocol writes goes to the socket at once; the rest, where the socket takes no more, when it does again. Who
reads depends:

* While the transport **reads** (``resume_reading``), the loop does, whenever something comes. So it is made, and so it
  is for whatever asyncpg does in an asyncio task of its own.
* While it is **paused**, nobody does but who calls ``read``: the trio task that waits for an answer waits for the
  socket itself (``wait_readable``), so that an answer wakes one task, which is the one that it is for. What comes to an
  idle connection stays in the socket until then.

The end: a socket that breaks, is closed by the other side or given up (``abort``) is closed at once, and who waits for
it awakes; the protocol is told by ``connection_lost`` in the loop's next turn, as asyncio has it. After that nothing
is read or written.

TLS is the standard library's, in memory. Its handshake reads through the loop. The other side's end of the socket is
the end, whether TLS was closed before it or not: Postgres' messages have lengths, so none that is cut off passes
for whole.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Any

import trio

RECEIVE_BYTES_MAX = 256 * 1024


class SocketTransport(asyncio.Transport):
    """Made by the loop's ``create_connection`` and ``create_unix_connection``; it is paused."""

    def __init__(
        self, loop: asyncio.AbstractEventLoop, sock: socket.socket, on_closed: Callable[[SocketTransport], object]
    ) -> None:
        """``sock`` is connected and does not block; it belongs to the transport from now on."""
        super().__init__({"socket": sock})
        self._loop = loop
        self._socket = sock
        self._descriptor = sock.fileno()
        self._on_closed = on_closed
        self._protocol: Any = asyncio.Protocol()
        self._tls: _Tls | None = None
        self._handshake: asyncio.Future[None] | None = None
        self._unsent = bytearray()
        self._is_reading = False
        self._is_closing = False
        self._is_closed = False

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> asyncio.BaseProtocol:
        protocol: asyncio.BaseProtocol = self._protocol
        return protocol

    async def start_tls(self, context: ssl.SSLContext, server_hostname: str | None) -> None:
        """Speak TLS from now on. Raises an ``OSError`` if that fails; then the transport is closed."""
        self._tls = _Tls(context, server_hostname)
        self._handshake = self._loop.create_future()
        self.resume_reading()
        try:
            self._shake_hands()
            await self._handshake
        except BaseException:
            self.abort()
            raise
        finally:
            self._handshake = None
        self._extra["ssl_object"] = self._tls.object  # type: ignore[attr-defined]

    # --- reading ------------------------------------------------------------------------------

    def is_reading(self) -> bool:
        return self._is_reading

    def resume_reading(self) -> None:
        if not self._is_reading and not self._is_closing:
            self._is_reading = True
            self._loop.add_reader(self._descriptor, self.read)

    def pause_reading(self) -> None:
        if self._is_reading:
            self._is_reading = False
            self._loop.remove_reader(self._descriptor)

    async def wait_readable(self) -> None:
        """Wait, in a trio task, until there is something to read, or the socket is closed. One task at a time."""
        try:
            await trio.lowlevel.wait_readable(self._descriptor)
        except trio.ClosedResourceError:
            return

    def read(self) -> None:
        """Give the protocol what has come, if something has."""
        if self._is_closed:
            return
        try:
            data = self._socket.recv(RECEIVE_BYTES_MAX)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._close(error)
            return
        if not data:
            self._close(None)
        elif self._tls is None:
            self._deliver(data)
        else:
            self._tls.received(data)
            self._read_tls()

    def _read_tls(self) -> None:
        assert self._tls is not None, "called for what TLS has received"
        if self._handshake is not None and not self._handshake.done():
            self._shake_hands()
            return
        while not self._is_closed:
            try:
                data = self._tls.object.read(RECEIVE_BYTES_MAX)
            except ssl.SSLWantReadError:
                break
            except OSError as error:
                self._close(error)
                return
            if not data:
                self._close(None)
                return
            self._deliver(data)
        self._send(self._tls.to_send())

    def _shake_hands(self) -> None:
        assert self._tls is not None, "called for a handshake"
        assert self._handshake is not None, "called for a handshake"
        try:
            self._tls.object.do_handshake()
        except ssl.SSLWantReadError:
            self._send(self._tls.to_send())
        except OSError as error:
            self._send(self._tls.to_send())  # why it fails, for the other side
            self._close(error)
        else:
            self._send(self._tls.to_send())
            if not self._is_closed:
                self._handshake.set_result(None)

    def _deliver(self, data: bytes) -> None:
        try:
            self._protocol.data_received(data)
        except Exception as error:  # noqa: BLE001 - a server that speaks another protocol: whoever waits is told
            self._close(error)

    # --- writing ------------------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if self._is_closing:
            return
        if self._tls is not None:
            data = self._tls.sealed(data)
        self._send(data)

    def _send(self, data: bytes | bytearray | memoryview) -> None:
        if not data or self._is_closed:
            return
        if not self._unsent:
            try:
                sent = self._socket.send(data)
            except (BlockingIOError, InterruptedError):
                sent = 0
            except OSError as error:
                self._close(error)
                return
            if sent == len(data):
                return
            data = memoryview(data)[sent:]
            self._loop.add_writer(self._descriptor, self._send_rest)
            self._protocol.pause_writing()
        self._unsent += data

    def _send_rest(self) -> None:
        try:
            sent = self._socket.send(self._unsent)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as error:
            self._close(error)
            return
        del self._unsent[:sent]
        if not self._unsent:
            self._loop.remove_writer(self._descriptor)
            self._protocol.resume_writing()
            if self._is_closing:
                self._close(None)

    # --- the end ------------------------------------------------------------------------------

    def is_closing(self) -> bool:
        return self._is_closing

    @property
    def is_closed(self) -> bool:
        """Whether the socket is."""
        return self._is_closed

    def close(self) -> None:
        """Close when all is sent."""
        self.pause_reading()
        self._is_closing = True
        if not self._unsent:
            self._close(None)

    def abort(self) -> None:
        """Close now."""
        self._close(None)

    def _close(self, error: Exception | None) -> None:
        if self._is_closed:
            return
        self.pause_reading()
        if self._unsent:
            self._unsent.clear()
            self._loop.remove_writer(self._descriptor)
        self._is_closing = self._is_closed = True
        trio.lowlevel.notify_closing(self._descriptor)
        self._socket.close()
        self._on_closed(self)
        if self._handshake is not None and not self._handshake.done():
            self._handshake.set_exception(error or ConnectionResetError("the connection was closed in TLS's handshake"))
        self._loop.call_soon(self._protocol.connection_lost, error)


class _Tls:
    """TLS between two buffers: what the socket brought, and what it has to send."""

    def __init__(self, context: ssl.SSLContext, server_hostname: str | None) -> None:
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.object = context.wrap_bio(self._incoming, self._outgoing, server_hostname=server_hostname)
        self.received = self._incoming.write
        self.to_send = self._outgoing.read

    def sealed(self, data: bytes | bytearray | memoryview) -> bytes:
        rest = memoryview(data)
        while rest:
            rest = rest[self.object.write(rest) :]
        return self.to_send()
