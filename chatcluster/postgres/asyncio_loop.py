"""An asyncio loop within trio, for the adapter whose driver speaks asyncio.

The loop is asyncio's own. It runs in **turns**: a turn goes on until nothing is ready, and never waits. Where asyncio
would wait, its selector ends the turn instead. Between turns one trio task waits for what that selector waits for: the
selector has a file descriptor of its own (epoll, kqueue), which is readable when any of its sockets is ready, and the
next timer is the deadline of that wait. So whatever follows from an answer that has come, up to the next request
being sent, is done in one step of one task.

``run`` crosses: it starts a coroutine in a turn of its own, so that a request is on its way before anybody else is
scheduled, and parks the calling task until the coroutine is done. That is for what needs an asyncio task, and is
seldom: a statement is stepped by the task that waits for it (``statements.py``). What that calls of asyncio's it calls
by ``call``, which takes a turn for what is set off. Connections have a transport of ours (``transport.py``), which
either side may read.

What happens on failure:

* The caller of ``run`` is cancelled: so is the coroutine, and ``run`` returns when that has ended. If it ends with a
  result all the same, that is returned, because what it says has happened.
* A callback that nobody waits for raises: it is reported to ``on_stray_error``, and nothing else happens.
* A turn without an end (each callback asks for another) is cut after ``ROUNDS_MAX`` rounds, and the next one follows.

Time is trio's, so that a mocked clock is one for both worlds.
"""

from __future__ import annotations

import asyncio
import math
import selectors
import socket
import ssl as tls
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager, suppress
from contextvars import Context
from functools import partial
from typing import Any, NoReturn, TypeVar, TypeVarTuple

import trio
from outcome import Outcome

from chatcluster.postgres.transport import SocketTransport

ROUNDS_MAX = 100
CLOSE_SECONDS = 1.0

T = TypeVar("T")
Arguments = TypeVarTuple("Arguments")
OnStrayError = Callable[[str, BaseException | None], None]


@asynccontextmanager
async def open_asyncio_loop(on_stray_error: OnStrayError) -> AsyncIterator[AsyncioLoop]:
    """A loop for the length of the block. ``on_stray_error`` gets a text, and the error if there is one.

    What is still running in the end is cancelled, and what is still connected is cut.
    """
    failure: Exception | None = None
    async with trio.open_nursery() as nursery:
        loop = AsyncioLoop(nursery, on_stray_error)
        nursery.start_soon(loop.drive)
        try:
            yield loop
        except Exception as error:  # noqa: BLE001 - raised below, where the nursery does not wrap it
            failure = error
        finally:
            await loop.aclose()
            nursery.cancel_scope.cancel()
    if failure is not None:
        raise failure


class AsyncioLoop:
    """Made by ``open_asyncio_loop``."""

    def __init__(self, nursery: trio.Nursery, on_stray_error: OnStrayError) -> None:
        self.nursery = nursery
        """For tasks of trio's that last as long as the loop."""
        self._selector = _Selector(self._end_turn)
        self._loop = _Loop(self._selector, self._have_turn)
        self._loop.set_exception_handler(
            lambda _, context: on_stray_error(str(context.get("message")), context.get("exception"))
        )
        self._rounds = 0
        self._resume_at = math.inf
        self._turn_is_due = False
        self._turn_is_next = False
        self._pause = trio.CancelScope()
        self._driving = trio.CancelScope(shield=True)  # those who close their connections need it; ended by aclose

    def __repr__(self) -> str:
        return f"<AsyncioLoop {'closed' if self._loop.is_closed() else 'open'}>"

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run asyncio's kind of coroutine to its end, and return or raise what it does."""
        try:
            await trio.lowlevel.checkpoint_if_cancelled()
            self._turn_is_next = True
            task = self._loop.create_task(work)
        except BaseException:
            work.close()
            raise
        self._turn()
        raise_cancelled: Callable[[], NoReturn] | None = None

        def abort(raising: Callable[[], NoReturn]) -> trio.lowlevel.Abort:
            nonlocal raise_cancelled
            raise_cancelled = raising
            task.cancel()
            return trio.lowlevel.Abort.FAILED

        if task.done():
            await trio.lowlevel.cancel_shielded_checkpoint()
        else:
            waiting = trio.lowlevel.current_task()
            task.add_done_callback(lambda _: trio.lowlevel.reschedule(waiting))
            await trio.lowlevel.wait_task_rescheduled(abort)
        try:
            return task.result()
        except asyncio.CancelledError:
            if raise_cancelled is not None:
                raise_cancelled()
            raise

    def call(self, function: Callable[[*Arguments], T], *arguments: *Arguments) -> T:
        """Call what is asyncio's, and let the loop do what that sets off, before anybody else is scheduled."""
        self._turn_is_next = True
        try:
            return function(*arguments)
        finally:
            if self._turn_is_due:
                self._turn()
            self._turn_is_next = False

    async def drive(self) -> None:
        """Take a turn whenever a socket is ready or a timer is due; close the loop after ``aclose``."""
        with self._driving:
            while True:
                with trio.CancelScope(deadline=self._resume_at) as self._pause:
                    await trio.lowlevel.wait_readable(self._selector.fileno())
                self._selector.look()
                self._turn()
        self._loop.close()

    async def aclose(self) -> None:
        """End what still runs, and then ``drive``."""
        with trio.move_on_after(CLOSE_SECONDS, shield=True):
            await self.run(_cancel_others())
        self._loop.abort_transports()
        self._turn()
        self._driving.cancel()

    def _turn(self) -> None:
        self._rounds = 0
        self._turn_is_due = False
        self._loop.run_forever()  # until the selector ends it
        self._turn_is_next = False
        if self._pause.deadline != self._resume_at:  # to set one costs more than to look
            self._pause.deadline = self._resume_at

    def _have_turn(self) -> None:
        """Somebody outside of a turn, who cancels for example, left something to do."""
        self._turn_is_due = True
        if not self._turn_is_next:
            self._pause.cancel()

    def _end_turn(self, idle_seconds: float) -> None:
        """The selector is asked, and nothing is ready for ``idle_seconds``, or something is for 0."""
        self._rounds += 1
        if idle_seconds or self._rounds >= ROUNDS_MAX:
            self._resume_at = trio.current_time() + idle_seconds
            self._loop.stop()


class _Selector(selectors.DefaultSelector):
    """A selector that never waits, but says for how long it should; and that looks at its sockets only when told to."""

    def __init__(self, on_select: Callable[[float], None]) -> None:
        super().__init__()
        self._on_select = on_select
        self._is_to_look = False

    def look(self) -> None:
        """Look at the next ``select``. What is ready and not looked at is told by the selector's file descriptor."""
        self._is_to_look = True

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0) if self._is_to_look else []
        self._is_to_look = False
        self._on_select(0.0 if ready else math.inf if timeout is None else max(0.0, timeout))
        return ready


class _Loop(asyncio.SelectorEventLoop):
    """Connects, and speaks TLS, by transports of ours."""

    def __init__(self, selector: selectors.BaseSelector, on_work: Callable[[], None]) -> None:
        self._on_work = on_work
        self._open: set[SocketTransport] = set()
        super().__init__(selector)

    def time(self) -> float:
        return trio.current_time()

    def abort_transports(self) -> None:
        """Let go of the sockets that their owners had no time to close."""
        for transport in tuple(self._open):
            transport.abort()

    async def create_connection(  # type: ignore[override]
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        host: str,
        port: int,
        *,
        ssl: tls.SSLContext | None = None,
    ) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
        """To the first address of ``host`` that answers, in their order."""
        transport = self._transport(await self._connected(host, port))
        if ssl is not None:
            await transport.start_tls(ssl, host)
        return self._begin(transport, protocol_factory)

    async def create_unix_connection(  # type: ignore[override]
        self, protocol_factory: Callable[[], asyncio.BaseProtocol], path: str
    ) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
        return self._begin(self._transport(await self._try(socket.AF_UNIX, path)), protocol_factory)

    async def start_tls(  # type: ignore[override]
        self, transport: SocketTransport, _: object, sslcontext: tls.SSLContext, *, server_hostname: str
    ) -> asyncio.Transport:
        """The same transport, which the caller gives a protocol."""
        await transport.start_tls(sslcontext, server_hostname)
        return transport

    async def _connected(self, host: str, port: int) -> socket.socket:
        if not 0 < port < 65536:
            raise OverflowError("the port is out of range")  # to resolve it would make another one of it
        errors: list[str] = []
        failure: OSError | None = None
        for family, _, _, _, address in await self.getaddrinfo(host, port, type=socket.SOCK_STREAM):
            try:
                return await self._try(family, address)
            except OSError as error:
                errors.append(str(error))
                failure = error
        if failure is None or len(errors) > 1:
            raise OSError("; ".join(errors) or f"{host} has no address")
        raise failure

    async def _try(self, family: int, address: Any) -> socket.socket:
        sock = socket.socket(family, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            await self.sock_connect(sock, address)
        except BaseException:
            sock.close()
            raise
        return sock

    def _transport(self, sock: socket.socket) -> SocketTransport:
        transport = SocketTransport(self, sock, self._open.discard)
        self._open.add(transport)
        return transport

    def _begin(
        self, transport: SocketTransport, protocol_factory: Callable[[], asyncio.BaseProtocol]
    ) -> tuple[asyncio.Transport, asyncio.BaseProtocol]:
        protocol = protocol_factory()
        transport.set_protocol(protocol)
        protocol.connection_made(transport)
        transport.resume_reading()
        return transport, protocol

    def call_soon(
        self, callback: Callable[[*Arguments], object], *args: *Arguments, context: Context | None = None
    ) -> asyncio.Handle:
        if not self.is_running():
            self._on_work()
        return super().call_soon(callback, *args, context=context)

    def call_at(
        self, when: float, callback: Callable[[*Arguments], object], *args: *Arguments, context: Context | None = None
    ) -> asyncio.TimerHandle:
        if not self.is_running():
            self._on_work()
        return super().call_at(when, callback, *args, context=context)

    def run_in_executor(self, _: object, function: Callable[..., T], *arguments: Any) -> asyncio.Future[T]:  # type: ignore[override]
        """Run what asyncio runs in threads, which is to resolve host names, in one that nobody has to wait for."""
        future: asyncio.Future[T] = self.create_future()

        def deliver(result: Outcome[T]) -> None:
            with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                self.call_soon_threadsafe(_settle, future, result)

        trio.lowlevel.start_thread_soon(partial(function, *arguments), deliver)
        return future


def _settle(future: asyncio.Future[T], result: Outcome[T]) -> None:
    if future.done():
        return
    try:
        value = result.unwrap()
    except Exception as error:  # noqa: BLE001 - it belongs to whoever waits for the future
        future.set_exception(error)
    else:
        future.set_result(value)


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    if others:
        await asyncio.wait(others)
