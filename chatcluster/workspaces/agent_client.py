"""The agent of one workspace, over HTTP: on its Unix socket, or through the host that forwards to it.

Each request has a connection of its own: they are few, a Unix socket costs nothing to dial, and none that is kept can
be found dead. Nothing is tried twice here: the caller knows whether to look the agent up anew.

What happens on failure: a dial, an answer that does not begin, or one that stops coming is ``WorkspaceUnreachable``
after ``SILENCE_SECONDS``, and one that comes drop by drop after ``ANSWER_SECONDS_MAX``; so is one that is none of the
protocol, or that takes long to be read. What the agent refuses is raised with its code.

An agent lives where its user's commands do, so what answers may be anything.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import TypeVar
from urllib.parse import quote, urlencode

import h11
import msgspec
import trio

from chatcluster.json_bounds import bounded
from chatcluster.parts import UNDECODABLE
from chatcluster.ports.workspace import SILENCE_SECONDS
from chatcluster.workspace_errors import (
    CallConflict,
    StaleEpoch,
    UnknownCall,
    WorkspaceRefused,
    WorkspaceUnreachable,
)
from chatcluster.workspace_mcp import McpAnswer
from chatcluster.workspace_wire import (
    BODY_BYTES_MAX,
    AgentStatus,
    CallAnswer,
    CallRequest,
    CallUnderWay,
    Cancel,
    Code,
    DiffAnswer,
    FileAnswer,
    InstructionsAnswer,
    ProcessAnswer,
    ProcessList,
    Refusal,
    Screen,
    SignalRequest,
    UnderWay,
)

RECEIVE_BYTES = 8 << 10
"""So much is received in one step: few bytes have few chunks."""
ANSWER_SECONDS_MAX = 30.0
"""From its first byte to its last."""
QUEUE_SECONDS = 0.005
"""Between two looks whether an agent's queue has a place again."""
NO_BODY = ("content-length", "0")

Answer = TypeVar("Answer", bound=msgspec.Struct)
Dial = Callable[[], Awaitable[trio.abc.Stream]]

_REFUSALS: dict[str, type[WorkspaceRefused]] = {Code.CALL_CONFLICT: CallConflict, Code.UNKNOWN_CALL: UnknownCall}


def over_unix(path: Path) -> AgentClient:
    """The agent that listens on this socket; its path may be longer than a socket's address."""

    return AgentClient(partial(dial_unix, path))


async def dial_unix(path: Path) -> trio.abc.Stream:
    """Raises ``OSError``. Its directory may be written in the workspace: what is a link there would lead to a socket of
    this machine's, and is not followed. And who runs there may take all places in its queue: one is waited for, as long
    as the caller waits."""
    found = os.open(path, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        if not stat.S_ISSOCK(os.fstat(found).st_mode):
            raise OSError(errno.ENOTSOCK, os.strerror(errno.ENOTSOCK))
        await trio.lowlevel.checkpoint()
        while (connected := _connected(f"/proc/self/fd/{found}")) is None:  # noqa: ASYNC110 - the kernel tells nobody
            await trio.sleep(QUEUE_SECONDS)
        return trio.SocketStream(trio.socket.from_stdlib_socket(connected))
    finally:
        os.close(found)


def _connected(address: str) -> socket.socket | None:
    """None where its queue is full. Raises ``OSError``."""
    opened = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    opened.setblocking(False)
    try:
        opened.connect(address)
    except BlockingIOError:
        opened.close()
        return None
    except BaseException:
        opened.close()
        raise
    return opened


def over_tcp(host: str, port: int, *, path: str, token: str) -> AgentClient:
    """The agent behind a host's ``path``, such as ``/workspaces/{id}/agent``."""

    async def dial() -> trio.abc.Stream:
        return await trio.open_tcp_stream(host, port)

    return AgentClient(dial, host=f"{host}:{port}", path=path, headers=(("authorization", f"Bearer {token}"),))


class AgentClient:
    """``Workspace``."""

    def __init__(
        self, dial: Dial, *, host: str = "agent", path: str = "", headers: Sequence[tuple[str, str]] = ()
    ) -> None:
        self._dial = dial
        self._path = path
        self._headers = [("host", host), *headers]

    async def put(self, call_id: str, request: CallRequest) -> CallAnswer:
        return await self._ask("PUT", _call(call_id), CallAnswer, body=request)

    async def call(self, call_id: str, *, offset: int = 0, wait_seconds: float = 0) -> CallAnswer:
        target = f"{_call(call_id)}?{urlencode({'offset': offset, 'wait_seconds': wait_seconds})}"
        return await self._ask("GET", target, CallAnswer, wait_seconds=wait_seconds)

    async def cancel(self, call_id: str, epoch: int, *, chat_id: str = "", foreground_only: bool = False) -> CallAnswer:
        body = Cancel(epoch=epoch, chat_id=chat_id, foreground_only=foreground_only)
        return await self._ask("POST", f"{_call(call_id)}/cancel", CallAnswer, body=body)

    async def under_way(self) -> Sequence[CallUnderWay]:
        return (await self._ask("GET", "/calls", UnderWay)).calls

    async def mcp(self, *, wait_seconds: float = 0) -> McpAnswer:
        target = f"/mcp?{urlencode({'wait_seconds': wait_seconds})}"
        return await self._ask("GET", target, McpAnswer, wait_seconds=wait_seconds)

    async def processes(self) -> Sequence[ProcessAnswer]:
        return (await self._ask("GET", "/processes", ProcessList)).processes

    async def signal(self, call_id: str, signal: str) -> ProcessAnswer:
        target = f"/processes/{quote(call_id, safe='')}/signal"
        return await self._ask("POST", target, ProcessAnswer, body=SignalRequest(signal=signal))

    async def read_file(self, path: str, *, offset: int, limit: int) -> FileAnswer:
        return await self._ask("GET", f"/files?{_query(path=path, offset=offset, limit=limit)}", FileAnswer)

    async def instructions(self, directory: str = "") -> InstructionsAnswer:
        return await self._ask("GET", f"/instructions?{_query(directory=directory)}", InstructionsAnswer)

    async def diff(self, *, base: str = "", directory: str = "") -> DiffAnswer:
        return await self._ask("GET", f"/diff?{_query(base=base, directory=directory)}", DiffAnswer)

    async def screen(self) -> Screen:
        return await self._ask("GET", "/screen", Screen)

    async def status(self) -> AgentStatus:
        return await self._ask("GET", "/status", AgentStatus)

    async def stop(self) -> None:
        """End all that runs there, and the agent; for the maker of the sandbox. Raises ``WorkspaceUnreachable``."""
        await self._ask("POST", "/stop", AgentStatus)

    async def hold(self) -> None:
        """Hold its leash, until it lets go: then it has ended. Raises ``WorkspaceUnreachable`` if it cannot be had."""
        async with await self._held("/leash") as stream:
            with suppress(trio.BrokenResourceError):
                while await stream.receive_some(RECEIVE_BYTES):
                    pass

    async def lend(self) -> trio.SocketStream:
        """A connection that a program there may take for one to its proxy. Raises ``WorkspaceUnreachable``."""
        stream = await self._held("/network")
        assert isinstance(stream, trio.SocketStream), "of a container, which is dialled itself"
        return stream

    async def _held(self, target: str) -> trio.abc.Stream:
        """A connection that is not answered, but held."""
        request = h11.Request(method="POST", target=self._path + target, headers=[*self._headers, NO_BODY])
        try:
            with trio.fail_after(SILENCE_SECONDS):
                stream = await self._dial()
                try:
                    await stream.send_all(h11.Connection(h11.CLIENT).send(request) or b"")
                except BaseException:
                    await trio.aclose_forcefully(stream)
                    raise
        except (OSError, trio.BrokenResourceError, trio.TooSlowError) as error:
            raise WorkspaceUnreachable(f"the workspace cannot be reached: {error}") from None
        return stream

    async def _ask(
        self,
        method: str,
        target: str,
        answer: type[Answer],
        *,
        body: msgspec.Struct | None = None,
        wait_seconds: float = 0,
    ) -> Answer:
        try:
            status, content = await self._exchange(method, target, body, wait_seconds + SILENCE_SECONDS)
            if status != 200:
                raise _refused(msgspec.json.decode(content, type=Refusal))
            return msgspec.json.decode(content, type=answer)
        except trio.TooSlowError:
            raise WorkspaceUnreachable("the workspace does not answer") from None
        except (OSError, trio.BrokenResourceError, trio.ClosedResourceError) as error:
            raise WorkspaceUnreachable(f"the workspace cannot be reached: {error}") from None
        except (h11.RemoteProtocolError, *UNDECODABLE) as error:
            raise WorkspaceUnreachable(f"the workspace's agent answers what is no answer: {error}") from None

    async def _exchange(
        self, method: str, target: str, body: msgspec.Struct | None, silence_seconds: float
    ) -> tuple[int, bytes]:
        content = b"" if body is None else msgspec.json.encode(body)
        headers = [*self._headers, ("content-length", str(len(content)))]
        connection = h11.Connection(h11.CLIENT)
        data = connection.send(h11.Request(method=method, target=self._path + target, headers=headers)) or b""
        data += connection.send(h11.Data(content)) or b""
        connection.send(h11.EndOfMessage())
        with trio.fail_after(SILENCE_SECONDS):
            stream = await self._dial()
        async with stream:
            with trio.fail_after(silence_seconds):
                await stream.send_all(data)
            with trio.fail_after(silence_seconds + ANSWER_SECONDS_MAX):
                return await _answered(connection, stream, silence_seconds)


async def _answered(connection: h11.Connection, stream: trio.abc.Stream, silence_seconds: float) -> tuple[int, bytes]:
    """Status and body of the answer."""
    status = 0
    content = bytearray()
    while True:
        match connection.next_event():
            case h11.NEED_DATA:
                with trio.fail_after(silence_seconds):
                    connection.receive_data(bytes(await stream.receive_some(RECEIVE_BYTES)))
            case h11.Response(status_code=status):
                pass
            case h11.Data(data=data):
                content += data
                if len(content) > BODY_BYTES_MAX:
                    raise WorkspaceUnreachable("the workspace's agent answers more than it may")
            case h11.EndOfMessage():
                return status, bounded(bytes(content))
            case _:
                raise WorkspaceUnreachable("the workspace's agent closed the connection before it had answered")


def _refused(refusal: Refusal) -> Exception:
    if refusal.code == Code.STALE_EPOCH:
        return StaleEpoch(refusal.message)
    if refusal.code == Code.UNREACHABLE:
        return WorkspaceUnreachable(refusal.message)
    return _REFUSALS.get(refusal.code, WorkspaceRefused)(refusal.code, refusal.message)


def _call(call_id: str) -> str:
    return f"/calls/{quote(call_id, safe='')}"


def _query(**values: str | int) -> str:
    return urlencode({name: value for name, value in values.items() if value != ""})
