"""The HTTP server: an ASGI application on listening sockets, in HTTP/1.1.

It is ours because a reader that takes nothing has to be cut, connections that say nothing must keep nobody out, and a
drain has more ways to end a connection than one; and because most of a request was the server's own work. Each
connection is one task (``connection.py``), each request on it an exchange (``exchange.py``); what is HTTP is said by
``request_head.py`` and ``request_body.py``, and ``response.py`` says it back.

States of the server, each begun by one call and never left again:

``serving``      both ports accept
``draining``     (``stop_accepting``) the public port, which replicas share, accepts no more: others do. The
                 replica's own port goes on, for health checks and what is still on its way here
``cut``          (``cut``) nothing is accepted. Event streams are broken off at once; a request that is being served
                 gets ``FINISH_SECONDS`` to be answered, and so does one that the kernel had accepted already. Idle
                 connections are closed after ``idle_seconds``: a proxy that finds the port closed meanwhile uses
                 them no more, so none is closed under a request that is on its way

Connections are accepted one at a time, by a loop of our own: that of trio takes each through two more turns of the
scheduler and a scope, which costs as much again. One that cannot be accepted, as there is no descriptor
left for it, stays with the kernel, which is asked again after ``ACCEPT_AGAIN_SECONDS``.

Every wait is bounded: sends by the stall limit, the head of a request by ``head_seconds``, idle connections by
``KEEP_ALIVE_SECONDS``, the rest of a cut by ``FINISH_SECONDS``; a peer that vanished without a word is noticed by the
kernel after the stall limit.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import ExitStack, suppress

import trio
from litestar.types import ASGIApp

from chatcluster import telemetry
from chatcluster.web.http.connection import Connection
from chatcluster.web.http.connections import Connections, Limits
from chatcluster.web.http.departures import Departures
from chatcluster.web.http.turns import Turns

FINISH_SECONDS = 5.0
ACCEPT_AGAIN_SECONDS = 0.1
LAST_SECONDS = 0.5
"""The time that a connection which is accepted after the cut has to send its request."""


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
        self.connections = Connections(self.limits)
        self.departures = Departures()
        self.turns = Turns()
        self._running: set[Connection] = set()
        self._public = trio.CancelScope()
        self._cut = trio.Event()
        self._not_accepted = telemetry.Seldom("http.not_accepted")
        self._idle_seconds = 0.0

    def __repr__(self) -> str:
        state = "cut" if self._cut.is_set() else "draining" if self._public.cancel_called else "serving"
        return f"<Server {state}, {len(self._running)} connections>"

    @property
    def is_cut(self) -> bool:
        return self._cut.is_set()

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
            async with trio.open_nursery() as watching:
                watching.start_soon(self.departures.run)
                watching.start_soon(self.turns.run)
                async with trio.open_nursery() as connections:
                    async with trio.open_nursery() as intake:
                        intake.start_soon(self._accept_at, private, False, connections, trio.CancelScope())
                        intake.start_soon(self._accept_at, public, True, connections, self._public)
                        task_status.started()
                        await self._cut.wait()
                        intake.cancel_scope.cancel()
                    connections.cancel_scope.deadline = trio.current_time() + FINISH_SECONDS
                    await self._wind_up(ports, connections)
                watching.cancel_scope.cancel()

    async def _wind_up(self, ports: Sequence[socket.socket], connections: trio.Nursery) -> None:
        """Close the ports, but not on those whom the kernel has connected already: what they have sent would be
        answered by a reset, and nobody could tell whether it was done."""
        for connection in tuple(self._running):
            connection.wind_up(self._idle_seconds)
        for port in ports:
            port.setblocking(False)
            with port, suppress(OSError):  # nobody is left, or cannot be handed over
                while True:
                    connections.start_soon(self._connect, False, port.accept()[0])

    async def _accept_at(
        self, ports: Sequence[socket.socket], public: bool, connections: trio.Nursery, scope: trio.CancelScope
    ) -> None:
        with scope:
            async with trio.open_nursery() as accepting:
                for port in ports:
                    accepting.start_soon(self._accept, port, public, connections)

    async def _accept(self, port: socket.socket, public: bool, connections: trio.Nursery) -> None:
        """Of the replicas that share the port, the quickest accepts the next connection."""
        port.setblocking(False)
        with port:
            while True:
                await trio.lowlevel.wait_readable(port)
                try:
                    accepted, _ = port.accept()
                except (BlockingIOError, ConnectionAbortedError):
                    continue  # another replica has it, or it has left again
                except OSError as error:
                    self._not_accepted.event(error=str(error))
                    await trio.sleep(ACCEPT_AGAIN_SECONDS)
                    continue
                connections.start_soon(self._connect, public, accepted)

    async def _connect(self, public: bool, accepted: socket.socket) -> None:
        """Serve a connection, and close it."""
        stream = trio.SocketStream(trio.socket.from_stdlib_socket(accepted))
        connection = Connection(self, stream, public=public)
        self._running.add(connection)
        try:
            if self.connections.admit(connection, public=public):
                await connection.run(LAST_SECONDS if self._cut.is_set() else self.limits.head_seconds)
        except Exception as error:  # noqa: BLE001 - one connection's failure must not be the others'
            telemetry.event("http.crashed", error=type(error).__name__, exc_info=error)
        finally:
            self.connections.remove(connection)
            self._running.discard(connection)
            stream.socket.close()
