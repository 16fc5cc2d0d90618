"""The way from a replica to its MCP process: it is started when it is first needed, and again when it is gone.

``McpLink.run`` has to run as long as tools are called. Everything else takes what it needs: a session with a server, a
call in it, a plain HTTP request.

What happens on failure: what a server does wrong is an ``McpFailed``. If the process dies, everything that was under
way fails as broken, which costs the calls of this replica and nothing else; the next request starts another process, at
most one in ``RESTART_SECONDS``. One that answers nothing for ``SILENCE_SECONDS``, whatever it does, is ended, as if it
had died. A caller that is cancelled says so to the process, which tells the server, and does not
wait for that.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager, suppress
from itertools import count
from typing import Any, TypeVar

import msgspec
import trio

from chatcluster import telemetry
from chatcluster.chat.questions import Replies, encoded
from chatcluster.config import ENV_PREFIX
from chatcluster.errors import first_error
from chatcluster.tools.mcp_wire import (
    HELLO_ID,
    MAY_GO_ON,
    Answer,
    Asking,
    Call,
    Called,
    Cancel,
    Changed,
    Failed,
    Fetch,
    Fetched,
    Frames,
    Listed,
    ListTools,
    OneAtATime,
    Open,
    Opened,
    Progress,
    Reply,
    Request,
    Trouble,
    frame,
)

MODULE = "chatcluster.tools.mcp_process"
CHUNK_BYTES = 256 << 10
CONNECT_SECONDS = 10.0
OUTBOX_BYTES_MAX = 32 << 20
RESTART_SECONDS = 1.0
START_SECONDS = 30.0
"""The start takes long: it imports a lot, and the machine may be busy."""
WATCH_SECONDS = 10.0
"""Between two questions whether it still answers."""
SILENCE_SECONDS = 30.0
"""What a server sends may keep it for seconds, on a busy machine for more."""
FETCH_SECONDS_MAX = 20.0
"""The process has a bound of its own, and says more when that is reached."""
NO_SESSION = 0
END_SECONDS = 5.0
"""The process ends by itself when its socket does."""

R = TypeVar("R", Opened, Listed, Called, Fetched)


class McpFailed(Exception):
    """A server, or the way to it, failed."""

    def __init__(self, trouble: Trouble, message: str, challenge: str = "") -> None:
        super().__init__(message)
        self.trouble = trouble
        self.message = message
        self.challenge = challenge


class _Waiter:
    """A call of this process that waits for the replies to one request."""

    def __init__(self, told: Callable[[Progress | Asking], None] | None = None) -> None:
        self.told = told
        self.last: Reply | None = None
        self.arrived = trio.Event()

    def take(self, reply: Reply) -> None:
        if isinstance(reply, Progress | Asking):
            if self.told is not None:
                self.told(reply)
        elif self.last is None:
            self.last = reply
            self.arrived.set()


class LinkSession:
    """A session with a server. ``is_over`` when the server, or the process, has ended it. ``one_at_a_time``: it is to
    have one call at a time. ``has_left``: the server may still be at a call that was given up."""

    def __init__(self, link: McpLink, opened: Opened, changed: Callable[[], None] | None) -> None:
        self._link = link
        self._changed = changed
        self._calls = 0
        self.opened = opened
        self.one_at_a_time = opened.one_at_a_time
        self.has_left = False
        self.is_retired = False
        self.is_over = False

    def take(self, reply: Reply) -> None:
        if isinstance(reply, Changed) and self._changed is not None:
            self._changed()
        elif isinstance(reply, OneAtATime):
            self.one_at_a_time = True
        elif isinstance(reply, Failed):
            self.is_over = True

    async def list_tools(self) -> Listed:
        """Raises ``McpFailed``."""
        return await self._link.ask(lambda number: ListTools(number, self.opened.id), Listed)

    async def call(
        self,
        name: str,
        arguments: dict[str, Any],
        *,
        meta: dict[str, str],
        content_bytes_max: int,
        told: Callable[[Progress | Asking], None],
        answers: Replies | None = None,
        resume: str | None = None,
        in_headers: bool = False,
    ) -> Called:
        """The result, or what is asked before there is one. Raises ``McpFailed``."""
        given = json.dumps(arguments).encode()
        said = None if answers is None else encoded(answers).encode()
        self._calls += 1
        try:
            return await self._link.ask(
                lambda number: Call(
                    number, self.opened.id, name, given, meta, content_bytes_max, said, resume, in_headers
                ),
                Called,
                told,
            )
        except trio.Cancelled:
            self.has_left = True
            raise
        except McpFailed as failure:
            self.has_left |= failure.trouble in MAY_GO_ON
            raise
        finally:
            self._calls -= 1
            self._close_retired()

    def answer(self, asking: Asking, replies: Replies) -> None:
        """What the user says to what a call asks."""
        self._link.say(Answer(asking.id, self.opened.id, asking.number, encoded(replies).encode()))

    def retire(self) -> None:
        """No further call is to come: close it as soon as none is under way."""
        self.is_retired = True
        self._close_retired()

    def _close_retired(self) -> None:
        if self.is_retired and not self._calls:
            self.close()

    def close(self) -> None:
        """The process says good-bye to the server, within a bound."""
        self.is_over = True
        self._link.forget(self.opened.id)


class McpLink:
    def __init__(self) -> None:
        self._numbers = count(1)
        self._waiters: dict[int, _Waiter] = {}
        self._sessions: dict[int, LinkSession] = {}
        self._outbox: deque[bytes] = deque()
        self._outbox_bytes = 0
        self._wanted = trio.Event()
        """Set when there is something to send, or the process is wanted beforehand."""
        self._there = trio.Event()
        self.process_id = 0

    async def run(self) -> None:
        """Run the process whenever it is needed, until cancelled."""
        while True:
            await self._wanted.wait()
            try:
                async with started() as (stream, self.process_id), trio.open_nursery() as nursery:
                    nursery.start_soon(self._write, stream)
                    nursery.start_soon(self._watch)
                    await self._read(stream)
                    nursery.cancel_scope.cancel()
            except* (OSError, msgspec.MsgspecError, trio.BrokenResourceError) as group:
                telemetry.event("mcp.process_failed", error=str(first_error(group)))
            finally:  # also where this is begun anew: nobody answers what the process was asked before
                lost = len(self._waiters), len(self._sessions)
                self._fail_all()
            telemetry.event("mcp.process_ended", requests=lost[0], sessions=lost[1])
            await trio.sleep(RESTART_SECONDS)

    # for callers

    def want(self) -> None:
        """Have the process started: it will be needed."""
        self._wanted.set()

    async def started(self) -> None:
        """Have the process started, and wait until it is there. Raises ``McpFailed`` if that takes too long."""
        self._wanted.set()
        with trio.move_on_after(START_SECONDS):
            await self._there.wait()
            return
        raise McpFailed(Trouble.UNREACHABLE, f"the MCP process is not there within {START_SECONDS:g} s")

    async def open(
        self, url: str, transport: str, headers: dict[str, str], *, changed: Callable[[], None] | None = None
    ) -> LinkSession:
        """A session, to be closed; ``changed`` is called when the server's list does. Raises ``McpFailed``."""
        await self.started()
        with trio.move_on_after(CONNECT_SECONDS):
            return await self._open(url, transport, headers, changed)
        raise McpFailed(Trouble.TIMEOUT, f"no session within {CONNECT_SECONDS:g} s")

    async def _open(
        self, url: str, transport: str, headers: dict[str, str], changed: Callable[[], None] | None
    ) -> LinkSession:
        opened = await self.ask(lambda number: Open(number, url, transport, headers, changed is not None), Opened)
        session = self._sessions[opened.id] = LinkSession(self, opened, changed)
        return session

    async def fetch(self, method: str, url: str, headers: dict[str, str], body: bytes = b"") -> Fetched:
        """A plain HTTP request, guarded and bounded like all others. Raises ``McpFailed``."""
        with trio.move_on_after(FETCH_SECONDS_MAX):
            return await self.ask(lambda number: Fetch(number, method, url, headers, body), Fetched)
        raise McpFailed(Trouble.TIMEOUT, f"no answer within {FETCH_SECONDS_MAX:g} s")

    async def ask(
        self, request: Callable[[int], Request], kind: type[R], told: Callable[[Progress | Asking], None] | None = None
    ) -> R:
        """The last reply to a request with a number of its own. Raises ``McpFailed``."""
        number = next(self._numbers)
        waiter = self._waiters[number] = _Waiter(told)
        self._send(request(number))
        try:
            await waiter.arrived.wait()
        except trio.Cancelled:
            self._send(Cancel(number))
            raise
        finally:
            del self._waiters[number]
        if isinstance(waiter.last, kind):
            return waiter.last
        if isinstance(waiter.last, Failed):
            raise McpFailed(waiter.last.trouble, waiter.last.message, waiter.last.challenge)
        raise McpFailed(Trouble.BROKEN, "the MCP process answered something else")

    def say(self, answer: Answer) -> None:
        """Something that nothing answers."""
        self._send(answer)

    def forget(self, open_id: int) -> None:
        if self._sessions.pop(open_id, None) is not None:
            self._send(Cancel(open_id))

    # the process

    def _send(self, request: Request) -> None:
        data = frame(request)
        if self._outbox_bytes + len(data) > OUTBOX_BYTES_MAX and not isinstance(request, Cancel | Answer):
            self._take(Failed(request.id, Trouble.UNREACHABLE, "too many requests wait for the MCP process"))
            return
        self._outbox.append(data)
        self._outbox_bytes += len(data)
        self._wanted.set()

    async def _write(self, stream: trio.SocketStream) -> None:
        while True:
            await self._wanted.wait()
            while self._outbox:
                data = self._outbox.popleft()
                self._outbox_bytes -= len(data)
                await stream.send_all(data)
            self._wanted = trio.Event()

    async def _read(self, stream: trio.SocketStream) -> None:
        frames = Frames(Reply)
        while data := await stream.receive_some(CHUNK_BYTES):
            for reply in frames.feed(data):
                self._take(reply)

    async def _watch(self) -> None:
        """Raises ``OSError`` when it answers no more."""
        await self._there.wait()
        answered_at = trio.current_time()
        while trio.current_time() - answered_at < SILENCE_SECONDS:
            await trio.sleep(WATCH_SECONDS)
            with trio.move_on_after(SILENCE_SECONDS):
                if await self._is_answering():
                    answered_at = trio.current_time()
        raise OSError(f"the MCP process did not answer for {SILENCE_SECONDS:g} s")

    async def _is_answering(self) -> bool:
        try:
            await self.ask(lambda number: ListTools(number, NO_SESSION), Listed)
        except McpFailed as failure:
            return failure.trouble is Trouble.SESSION_LOST
        return True

    def _take(self, reply: Reply) -> None:
        if reply.id == HELLO_ID:
            self._there.set()
        elif (waiter := self._waiters.get(reply.id)) is not None:
            waiter.take(reply)
        elif (session := self._sessions.get(reply.id)) is not None:
            session.take(reply)

    def _fail_all(self) -> None:
        self.process_id = 0
        self._outbox.clear()
        self._outbox_bytes, self._wanted, self._there = 0, trio.Event(), trio.Event()
        for number in (*self._waiters, *self._sessions):
            self._take(Failed(number, Trouble.BROKEN, "the MCP process ended"))
        self._sessions.clear()


@asynccontextmanager
async def started() -> AsyncIterator[tuple[trio.SocketStream, int]]:
    """A process, and the socket to it. On leaving, the end of the socket ends the process. Raises ``OSError``."""
    ours, theirs = socket.socketpair()
    with theirs:
        process = await trio.lowlevel.open_process(
            [sys.executable, "-P", "-m", MODULE, str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            pass_fds=(theirs.fileno(),),
            env={name: value for name, value in os.environ.items() if not name.startswith(ENV_PREFIX)},
        )
    stream = trio.SocketStream(trio.socket.from_stdlib_socket(ours))
    try:
        yield stream, process.pid
    finally:
        ours.close()
        with trio.move_on_after(END_SECONDS) as bound:
            bound.shield = True
            with suppress(trio.Cancelled):
                await process.wait()
        if process.returncode is None:
            process.kill()
