"""The MCP process: what speaks to MCP servers, beside the replica that started it.

    python -m chatcluster.tools.mcp_process FD

It is a process of its own because what a server sends costs what it costs: decoding 16 MiB of small values takes a
second and hundreds of megabytes, in one step that nothing else can interrupt. Here it delays other calls at worst, and
never a heartbeat, a stream or a chat without tools. The SDK's imports, which take another second, are here as well.

Requests come on the socket FD, and are served at the same time (``mcp_wire.py``). The process has no state besides its
open sessions, and logs nothing: what happened is told to the replica.

It ends when the socket does, that is with its replica, whichever way that ended: then running calls are cancelled and
sessions closed, within ``FAREWELL_SECONDS``. Signals to the group of processes are for the replica, which may take its
time to drain; so they are ignored here.
"""

from __future__ import annotations

import gc
import signal
import socket
import sys

import anyio.lowlevel
import msgspec
import trio

from chatcluster.host_names import each_host_for_itself
from chatcluster.tools import mcp_http, mcp_mending, mcp_met
from chatcluster.tools.mcp_failures import SessionFailed, failed
from chatcluster.tools.mcp_session import Session, open_session
from chatcluster.tools.mcp_wire import (
    HELLO_ID,
    Answer,
    Call,
    Cancel,
    Changed,
    Failed,
    Fetch,
    Fetched,
    Frames,
    ListTools,
    Open,
    Reply,
    Request,
    Trouble,
    frame,
    replies_of,
)

CHUNK_BYTES = 64 << 10
CLOSE_SECONDS = 5.0
FAREWELL_SECONDS = 2.0
FOLLOW_SECONDS = 1.0
FETCH_SECONDS = 10.0
FETCHED_BYTES_MAX = 256 << 10


class Host:
    """The requests of one replica."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._turn = trio.Lock()
        self._sessions: dict[int, Session] = {}
        self._closings: dict[int, trio.Event] = {}
        self._scopes: dict[int, trio.CancelScope] = {}

    async def run(self) -> None:
        """Serve until the replica is gone."""
        async with trio.open_nursery() as nursery:
            frames = Frames(Request)
            await self._say(Changed(HELLO_ID))
            try:
                while data := await self._stream.receive_some(CHUNK_BYTES):
                    for request in frames.feed(data):
                        self._take(request, nursery)
            except trio.BrokenResourceError:
                pass
            self._end_all()
            nursery.cancel_scope.deadline = trio.current_time() + FAREWELL_SECONDS

    def _take(self, request: Request, nursery: trio.Nursery) -> None:
        match request:
            case Cancel():
                self._cancel(request.id)
            case Answer():
                if (session := self._sessions.get(request.session)) is not None:
                    session.questions.answer(request.number, replies_of(request.replies))
            case Open():
                self._closings[request.id] = trio.Event()
                nursery.start_soon(self._hold, request)
            case _:
                scope = self._scopes[request.id] = trio.CancelScope()
                nursery.start_soon(self._answer, request, scope)

    def _cancel(self, request_id: int) -> None:
        if (closing := self._closings.get(request_id)) is not None:
            closing.set()
        if (scope := self._scopes.get(request_id)) is not None:
            scope.cancel()

    def _end_all(self) -> None:
        for request_id in (*self._scopes, *self._closings):
            self._cancel(request_id)

    async def _say(self, reply: Reply) -> None:
        try:
            data = frame(reply)
        except (msgspec.MsgspecError, OverflowError, RecursionError, UnicodeEncodeError) as error:
            data = frame(Failed(reply.id, Trouble.GARBAGE, f"what it sent cannot be passed on: {type(error).__name__}"))
        with trio.CancelScope(shield=True):  # a frame that is cut would be the end of all of them
            async with self._turn:
                try:
                    await self._stream.send_all(data)
                except (trio.BrokenResourceError, trio.ClosedResourceError):
                    self._end_all()

    async def _hold(self, request: Open) -> None:
        """A session, until it is closed or breaks."""
        closing = self._closings[request.id]
        with trio.CancelScope() as scope:
            try:
                async with trio.open_nursery() as nursery:
                    nursery.start_soon(self._bound_closing, closing, scope)
                    await self._hold_open(request, closing)
                    nursery.cancel_scope.cancel()
            except* SessionFailed as group:
                error = group.exceptions[0]
                if not closing.is_set() and isinstance(error, SessionFailed):
                    await self._say(error.failed)
        self._sessions.pop(request.id, None)
        del self._closings[request.id]

    async def _bound_closing(self, closing: trio.Event, scope: trio.CancelScope) -> None:
        await closing.wait()
        scope.deadline = trio.current_time() + CLOSE_SECONDS

    async def _hold_open(self, request: Open, closing: trio.Event) -> None:
        async with open_session(request, self._say) as session, trio.open_nursery() as nursery:
            self._sessions[request.id] = session
            nursery.start_soon(session.changes.tell_late)
            if request.follow:
                followed = trio.Event()
                nursery.start_soon(session.follow_changes, followed)
                with trio.move_on_after(FOLLOW_SECONDS):  # a change that comes before would not be told
                    await followed.wait()
            await self._say(session.opened(request.id))
            nursery.start_soon(self._end_broken, request.id, session, closing)
            await closing.wait()
            nursery.cancel_scope.cancel()

    async def _end_broken(self, open_id: int, session: Session, closing: trio.Event) -> None:
        await session.wait_broken()
        del self._sessions[open_id]  # no further call goes there
        await self._say(Failed(open_id, Trouble.BROKEN, "the session broke"))
        closing.set()

    async def _answer(self, request: ListTools | Call | Fetch, scope: trio.CancelScope) -> None:
        with scope:
            await self._say(await self._reply(request))
        del self._scopes[request.id]

    async def _reply(self, request: ListTools | Call | Fetch) -> Reply:
        if isinstance(request, Fetch):
            return await fetch(request)
        session = self._sessions.get(request.session)
        if session is None:
            return Failed(request.id, Trouble.SESSION_LOST, "the session is over")
        if isinstance(request, Call):
            return await session.call(request, self._say)
        try:
            return await session.list_tools(request.id)
        except Exception as error:  # noqa: BLE001 - whatever a server makes the SDK raise costs this request alone
            return session.failed(request.id, error)


async def fetch(request: Fetch) -> Fetched | Failed:
    """A plain HTTP request, bounded in time and size. Redirects are not followed."""
    refusals = mcp_met.Refusals()
    try:
        with trio.fail_after(FETCH_SECONDS):
            async with mcp_http.client({}, refusals).stream(
                request.method, request.url, headers=request.headers, content=request.body or None
            ) as response:
                body = b""
                async for chunk in response.aiter_bytes():
                    body += chunk
                    if len(body) > FETCHED_BYTES_MAX:
                        return Failed(request.id, Trouble.TOO_LARGE, f"more than {FETCHED_BYTES_MAX >> 10} KiB")
                headers = {name: value for name, value in response.headers.items() if len(value) <= 4096}
                return Fetched(request.id, response.status_code, headers, body)
    except trio.TooSlowError:
        return Failed(request.id, Trouble.TIMEOUT, f"no answer within {FETCH_SECONDS:g} s")
    except Exception as error:  # noqa: BLE001 - whatever comes of it costs this request alone, and no other's session
        return failed(request.id, error, refusals)


async def serve(descriptor: int) -> None:
    """Serve the replica at the other end of this socket until it is gone."""
    mcp_http.warm_up()
    each_host_for_itself()
    await anyio.lowlevel.checkpoint()  # it loads what it has for trio when it is first used: not in the first session
    gc.collect()
    gc.freeze()  # what was imported stays; to look through it takes longer than most calls
    with socket.socket(fileno=descriptor) as peer:
        await Host(trio.SocketStream(trio.socket.from_stdlib_socket(peer))).run()


if __name__ == "__main__":
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    mcp_mending.install()
    trio.run(serve, int(sys.argv[1]))
