"""The HTTP server: hypercorn's HTTP/1.1 protocol on connections of our own.

Hypercorn's trio worker sends under a shield without a limit, so a reader that takes nothing can neither be
cancelled nor cut, and it has one way to stop. Its protocol is kept (h11, ASGI); the connection is ours. The bodies of
event streams go past the protocol, straight to the socket (``outlet.py``).

States of the server, each begun by one call and never left again:

``serving``      both ports accept
``draining``     (``stop_accepting``) the public port, which replicas share, accepts no more: others do. The
                 replica's own port goes on, for health checks and what is still on its way here
``cut``          (``cut``) nothing is accepted. Event streams are broken off at once; a request that is being served
                 gets ``FINISH_SECONDS`` to be answered, and so does one that the kernel had accepted already. Idle
                 connections are closed after ``idle_seconds``: a proxy that finds the port closed meanwhile uses
                 them no more, so none is closed under a request that is on its way

A connection ends in one of four ways:

*closed*      an orderly end: what was sent arrives, and what the client still sends is read and thrown away for a
              moment, so that it gets to see its answer
*broken off*  the response is unfinished: the connection is closed without the terminating chunk. On
              HTTP/1.0, which knows no such thing, it is reset
*reset*       the reader took too little for ``send_stall_seconds``, while there was something to send: less than
              ``reader_bytes_per_second_min`` on the average. What it has not taken is dropped

*dropped*     it said nothing, or nothing more, and its place is needed (``connections.py``)

Every wait is bounded: sends by the stall limit, the head of a request by ``head_seconds``, idle connections by
``KEEP_ALIVE_SECONDS``, the rest of a cut by ``FINISH_SECONDS``; a peer that vanished without a word is noticed by the
kernel after the stall limit.
"""

from __future__ import annotations

import math
import socket
import struct
from collections.abc import Sequence
from contextlib import ExitStack, suppress
from functools import partial
from typing import Any, cast

import trio
from hypercorn.config import Config
from hypercorn.events import Closed, Event, RawData, Updated
from hypercorn.trio.worker_context import WorkerContext
from hypercorn.typing import ConnectionState
from litestar.types import ASGIApp

from chatcluster import telemetry
from chatcluster.web.health import PUBLIC
from chatcluster.web.http.connections import Connections, Limits, address_of
from chatcluster.web.http.exchange import Exchange, Put
from chatcluster.web.http.outlet import Outlet
from chatcluster.web.http.protocol import Protocol, http_config

KEEP_ALIVE_SECONDS = 75.0
LINGER_SECONDS = 1.0
FINISH_SECONDS = 5.0
LAST_SECONDS = 0.5
"""For whoever is accepted after the cut to say what is wanted."""
SEND_BUFFER_BYTES = 256 << 10
RECEIVE_BYTES = 64 << 10
RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Server:
    """Serves an ASGI application on given listening sockets. See the module's docstring for its states."""

    def __init__(
        self,
        app: ASGIApp,
        *,
        send_stall_seconds: float,
        reader_bytes_per_second_min: float,
        limits: Limits | None = None,
    ) -> None:
        self.app = app
        self.limits = limits or Limits()
        self.send_stall_seconds = send_stall_seconds
        self.piece_bytes = max(1, int(reader_bytes_per_second_min * send_stall_seconds))
        """What a reader has to take in that time."""
        self.config = http_config()
        self.context = WorkerContext(None)
        self.connections = Connections(self.limits)
        self._running: set[_Connection] = set()
        self._public = trio.CancelScope()
        self._cut = trio.Event()
        self._idle_seconds = 0.0

    def __repr__(self) -> str:
        state = "cut" if self._cut.is_set() else "draining" if self._public.cancel_called else "serving"
        return f"<Server {state}, {len(self._running)} connections>"

    def stop_accepting(self) -> None:
        """Leave the public port to the other replicas. What is connected stays so."""
        self._public.cancel()

    def cut(self, *, idle_seconds: float = 0.0) -> None:
        """Break readers off, let requests finish, and then let ``run`` return."""
        self._idle_seconds = idle_seconds
        self._cut.set()

    async def run(
        self,
        private: Sequence[socket.socket],
        public: Sequence[socket.socket] = (),
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve until ``cut`` and all connections have ended. Takes the listening sockets over, and closes them.

        Cancelling it ends everything at once.
        """
        with ExitStack() as stack:
            ports = [stack.enter_context(sock.dup()) for sock in private]
            async with trio.open_nursery() as connections:
                async with trio.open_nursery() as intake:
                    intake.start_soon(self._accept, private, False, connections, trio.CancelScope())
                    if public:
                        intake.start_soon(self._accept, public, True, connections, self._public)
                    task_status.started()
                    await self._cut.wait()
                    intake.cancel_scope.cancel()
                connections.cancel_scope.deadline = trio.current_time() + FINISH_SECONDS
                await self._wind_up(ports, connections)

    async def _wind_up(self, ports: Sequence[socket.socket], connections: trio.Nursery) -> None:
        """Close the ports, but not on those whom the kernel has connected already: what they have sent would be
        answered by a reset, and nobody could tell whether it was done."""
        await self.context.terminated.set()
        for connection in tuple(self._running):
            connection.wind_up(self._idle_seconds)
        for port in ports:
            port.setblocking(False)
            with port, suppress(OSError):  # nobody is left, or cannot be handed over
                while True:
                    accepted = trio.socket.from_stdlib_socket(port.accept()[0])
                    connections.start_soon(self._connect_last, trio.SocketStream(accepted))

    async def _accept(
        self, sockets: Sequence[socket.socket], public: bool, connections: trio.Nursery, scope: trio.CancelScope
    ) -> None:
        listeners = [trio.SocketListener(trio.socket.from_stdlib_socket(sock)) for sock in sockets]
        with scope:
            await trio.serve_listeners(partial(self._connect, public), listeners, handler_nursery=connections)

    async def _connect_last(self, stream: trio.SocketStream) -> None:
        try:
            await self._connect(False, stream)
        finally:
            await trio.aclose_forcefully(stream)

    async def _connect(self, public: bool, stream: trio.SocketStream) -> None:
        """Serve a connection. Its listener closes it then."""
        connection = _Connection(self, stream, public)
        self._running.add(connection)
        try:
            if self.connections.admit(connection, public=public):
                await connection.run(LAST_SECONDS if self._cut.is_set() else self.limits.head_seconds)
        except Exception as error:  # noqa: BLE001 - one connection's failure must not be the others'
            telemetry.event("http.crashed", error=type(error).__name__, exc_info=error)
        finally:
            self.connections.remove(connection)
            self._running.discard(connection)


class _Connection:
    """One socket and the requests on it, one after another. An event stream is the last of them: the protocol, which
    knows nothing of it, is let go of, as it may go on for days."""

    __slots__ = (
        "__weakref__",
        "_ending",
        "_exchange",
        "_in_head",
        "_nursery",
        "_protocol",
        "_public",
        "_sending",
        "_server",
        "_stream",
        "_whole",
        "address",
    )

    def __init__(self, server: Server, stream: trio.SocketStream, public: bool) -> None:
        self._server = server
        self._stream = stream
        self._public = public
        self.address = address_of(stream)
        """Of its client, for the count of silent ones."""
        self._in_head = True
        """The head of a request is awaited, or a part of it is there: its deadline holds."""
        self._whole = trio.CancelScope()
        """Its deadline is that of what is waited for: a request, or that the reader takes what is sent."""
        self._sending = trio.Lock()
        self._ending = False
        self._exchange: Exchange | None = None
        self._nursery: trio.Nursery
        self._protocol: Protocol | None = None

    def drop(self) -> None:
        self._whole.cancel()

    async def run(self, head_seconds: float) -> None:
        """Serve until either side ends it. The head of the first request has to be there within ``head_seconds``."""
        try:
            self._protocol = self._new_protocol()
            self._tune()
        except OSError:
            return  # gone before it said anything
        async with trio.open_nursery() as self._nursery:
            self._whole = self._nursery.cancel_scope
            self._whole.deadline = trio.current_time() + head_seconds
            await self._read()

    def _new_protocol(self) -> Protocol:
        client, here = self._stream.socket.getpeername(), self._stream.socket.getsockname()
        state = cast(ConnectionState, {PUBLIC: True} if self._public else {})
        tasks, app = cast(Any, self), cast(Any, self._server.app)
        config, context = self._server.config, self._server.context
        return Protocol(app, config, context, tasks, state, False, client[:2], here[:2], self._send)

    def wind_up(self, idle_seconds: float) -> None:
        """Break off what would go on for ever; let a request that is being served be answered."""
        exchange = self._exchange
        if exchange is None:
            self._whole.deadline = min(self._whole.deadline, trio.current_time() + idle_seconds)
        elif exchange.streaming:
            self._whole.cancel()

    def _tune(self) -> None:
        """Bound what the kernel buffers for a reader, and how long it tries to reach one that is gone."""
        self._stream.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SEND_BUFFER_BYTES)
        if hasattr(socket, "TCP_USER_TIMEOUT") and self._stream.socket.family != socket.AF_UNIX:
            milliseconds = int(self._server.send_stall_seconds * 1000)
            self._stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, milliseconds)

    # what the client sends

    async def _read(self) -> None:
        while (data := await self._receive()) and not self._ending:
            if not self._in_head and self._exchange is None:
                self._in_head = True
                self._whole.deadline = trio.current_time() + self._server.limits.head_seconds
            if self._protocol is not None:
                await self._protocol.handle(RawData(data))
        while data and self._ending:
            data = await self._receive()
        if self._protocol is not None:
            await self._protocol.handle(Closed())
        elif self._exchange is not None:
            self._exchange.abandon()
            self._whole.cancel()

    async def _receive(self) -> bytes:
        try:
            return bytes(await self._stream.receive_some(RECEIVE_BYTES))
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            return b""

    # what the protocol sends

    async def _send(self, event: Event) -> None:
        if isinstance(event, RawData):
            await self._send_bytes(event.data)
        elif isinstance(event, Closed):
            await self._end()
        elif isinstance(event, Updated) and not self._ending:
            self._rest() if event.idle else self._begin()

    def _begin(self) -> None:
        self._whole.deadline = math.inf
        self._server.connections.busy(self)

    def _rest(self) -> None:
        self._exchange, self._in_head = None, False
        self._whole.deadline = trio.current_time() + KEEP_ALIVE_SECONDS
        self._server.connections.idle(self)

    async def _send_bytes(self, data: bytes) -> None:
        """Send, in pieces that the reader has to take in time. A deadline of the whole costs less than a scope each."""
        try:
            self._sending.acquire_nowait()
        except trio.WouldBlock:
            await self._sending.acquire()
        try:
            piece_bytes, left = self._server.piece_bytes, memoryview(data)
            while left:
                self._whole.deadline = trio.current_time() + self._server.send_stall_seconds
                await self._stream.send_all(left[:piece_bytes])
                left = left[piece_bytes:]
        except trio.Cancelled:
            if trio.current_time() >= self._whole.deadline:
                telemetry.event("http.reader_stalled", seconds=self._server.send_stall_seconds)
                self._reset()
            raise
        except (trio.BrokenResourceError, trio.ClosedResourceError):
            self._whole.cancel()
        finally:
            self._whole.deadline = math.inf
            self._sending.release()

    async def _end(self, _: None = None) -> None:
        """The protocol is done with the connection: an orderly end, unless a response is unfinished."""
        if self._looks_finished_and_is_not():
            self._reset()
            return
        self._ending = True
        self._whole.deadline = trio.current_time() + LINGER_SECONDS
        with suppress(trio.BrokenResourceError, trio.ClosedResourceError):
            await self._stream.send_eof()

    def _looks_finished_and_is_not(self) -> bool:
        if self._protocol is not None:
            return self._protocol.broke_off_without_chunks()
        return self._exchange is not None and self._exchange.looks_finished_and_is_not

    def _reset(self) -> None:
        with suppress(OSError):
            self._stream.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
        self._whole.cancel()

    # what hypercorn's protocol wants of a task group

    async def spawn_app(self, app: ASGIApp, _: Config, scope: Any, send: Put) -> Put:
        outlet = Outlet(self._stream.socket, self._send_bytes, scope)
        self._exchange = exchange = Exchange(send, outlet, self._go_on)
        self._nursery.start_soon(exchange.run, app, scope)
        return exchange.put

    def _go_on(self) -> Put:
        """The response is an event stream now. What is to be told of its end."""
        self._protocol = None
        return self._end
