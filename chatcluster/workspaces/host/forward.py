"""HTTP of a host: the way through to the agents, for those who know its token; and what watches it, for everybody.

    GET  /livez, /metrics
    any  /workspaces/{workspace_id}/agent/{path of the agent's wire}      Authorization: Bearer TOKEN

A request is passed on as it comes and its answer as it comes, in pieces: nothing is kept of either. A connection has
one request, as agents' clients make them. What this refuses by itself is a ``Refusal`` like an agent's: ``unreachable``
(502) where the agent does not answer, ``workspace_not_running`` (409) where there is none.

What happens on failure: a side that stops reading or writing for ``SILENCE_SECONDS`` ends its own connection; heads,
bodies and the number of connections are bounded, those of one workspace too, so that a dead one takes no other's place.
"""

from __future__ import annotations

import hmac
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from uuid import UUID

import h11
import msgspec
import trio

from chatcluster import telemetry
from chatcluster.h11_patterns import read_in_one_go
from chatcluster.workspace_wire import BODY_BYTES_MAX, WAIT_SECONDS_MAX, Code, Refusal
from chatcluster.workspaces.host.running import Running, RunningWorkspaces

CONNECTIONS_MAX = 2000
CONNECTIONS_PER_WORKSPACE = 64
HEAD_SECONDS = 10.0
DIAL_SECONDS = 3.0
SILENCE_SECONDS = WAIT_SECONDS_MAX + 15.0
HEAD_BYTES_MAX = 64 << 10
"""As an agent takes them."""
RECEIVE_BYTES = 8 << 10
"""So much is received in one step: few bytes have few chunks."""
NOT_RUNNING = "workspace_not_running"
AGENT_HEADERS = ((b"host", b"agent"), (b"connection", b"close"))
PASSED_ON = {b"content-type", b"content-length", b"transfer-encoding"}

Dial = Callable[[str], Awaitable[trio.abc.Stream]]
"""A connection to the agent of a workspace. Raises ``OSError``."""
Headers = Callable[[str], Sequence[tuple[str, str]]]
"""What each request to that agent has to bring."""


def no_headers(_workspace_id: str) -> Sequence[tuple[str, str]]:
    return ()


class _Refused(Exception):
    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


class Forward:
    def __init__(
        self,
        running: RunningWorkspaces,
        dial: Dial,
        token: str,
        metrics: Callable[[], tuple[str, bytes]],
        headers: Headers = no_headers,
    ) -> None:
        read_in_one_go()
        self._running = running
        self._dial = dial
        self._headers = headers
        self._authorization = f"Bearer {token}".encode()
        self._metrics = metrics
        self._open = 0
        self._per_workspace: Counter[UUID] = Counter()

    async def serve(self, stream: trio.abc.Stream) -> None:
        """One connection. It never raises for what the other side does."""
        async with stream:
            if self._open >= CONNECTIONS_MAX:
                return
            self._open += 1
            try:
                await self._serve(stream)
            except (OSError, trio.BrokenResourceError, trio.ClosedResourceError, trio.TooSlowError, h11.ProtocolError):
                pass  # whoever asked is gone, or speaks something else
            except Exception as error:  # noqa: BLE001 - one connection ends nobody else's
                telemetry.event("workspace.forward_crashed", exc_info=error)
            finally:
                self._open -= 1

    async def _serve(self, stream: trio.abc.Stream) -> None:
        caller = h11.Connection(h11.SERVER, max_incomplete_event_size=HEAD_BYTES_MAX)
        with trio.fail_after(HEAD_SECONDS):
            request = await _next_event(caller, stream)
        if not isinstance(request, h11.Request):
            return
        try:
            await self._answer(caller, stream, request)
        except _Refused as refused:
            refusal = Refusal(code=refused.code, message=str(refused))
            await _send(caller, stream, refused.status, "application/json", msgspec.json.encode(refusal))

    async def _answer(self, caller: h11.Connection, stream: trio.abc.Stream, request: h11.Request) -> None:
        path = request.target.decode("ascii", "replace")
        if request.method == b"GET" and path == "/livez":
            await _send(caller, stream, 200, "text/plain", b"ok\n")
        elif request.method == b"GET" and path == "/metrics":
            content_type, content = self._metrics()
            await _send(caller, stream, 200, content_type, content)
        else:
            running, target = self._through(request, path)
            await self._forward(caller, stream, request, running, target)

    def _through(self, request: h11.Request, path: str) -> tuple[Running, str]:
        """Which workspace is meant, and what is asked of its agent."""
        given = dict(request.headers).get(b"authorization", b"")
        if not hmac.compare_digest(given, self._authorization):
            raise _Refused(401, "invalid_token", "this host wants the token of its row")
        match path.split("/", 4):
            case ["", "workspaces", workspace_id, "agent", rest]:
                running = self._running.find(_uuid(workspace_id))
            case _:
                raise _Refused(404, Code.NOT_FOUND, "there is nothing here")
        if running is None:
            raise _Refused(409, NOT_RUNNING, "the workspace does not run on this host: start it")
        return running, f"/{rest}"

    async def _forward(
        self, caller: h11.Connection, stream: trio.abc.Stream, request: h11.Request, running: Running, target: str
    ) -> None:
        workspace_id = running.row.id
        if self._per_workspace[workspace_id] >= CONNECTIONS_PER_WORKSPACE:
            raise _Refused(429, Code.TOO_MANY, "too many requests to this workspace are under way")
        self._per_workspace[workspace_id] += 1
        running.puts += request.method == b"PUT"
        try:
            async with await self._dialled(str(workspace_id)) as agent:
                headers = [(name.encode(), value.encode()) for name, value in self._headers(str(workspace_id))]
                passed = [*headers, *((name, value) for name, value in request.headers if name in PASSED_ON)]
                head = h11.Request(method=request.method, target=target, headers=[*AGENT_HEADERS, *passed])
                await _pass_through(caller, stream, head, agent)
        finally:
            running.puts += request.method == b"PUT"
            self._per_workspace[workspace_id] -= 1
            if not self._per_workspace[workspace_id]:
                del self._per_workspace[workspace_id]

    async def _dialled(self, workspace_id: str) -> trio.abc.Stream:
        try:
            with trio.fail_after(DIAL_SECONDS):
                return await self._dial(workspace_id)
        except (OSError, trio.TooSlowError) as error:
            raise _Refused(502, Code.UNREACHABLE, f"the workspace's agent takes no connection: {error}") from None


async def _pass_through(
    caller: h11.Connection, stream: trio.abc.Stream, head: h11.Request, agent_stream: trio.abc.Stream
) -> None:
    """The request to the agent, and its answer back. What fails before the answer begins is told."""
    agent = h11.Connection(h11.CLIENT, max_incomplete_event_size=HEAD_BYTES_MAX)
    try:
        await _pass_request(caller, stream, head, agent, agent_stream)
        answer = await _next_event(agent, agent_stream)
    except (OSError, trio.BrokenResourceError, trio.TooSlowError, h11.RemoteProtocolError) as error:
        raise _Refused(502, Code.UNREACHABLE, f"the workspace's agent does not answer: {error}") from None
    if not isinstance(answer, h11.Response):
        raise _Refused(502, Code.UNREACHABLE, "the workspace's agent answers what is no answer")
    headers = [(name, value) for name, value in answer.headers if name in PASSED_ON]
    response = h11.Response(status_code=answer.status_code, headers=[*headers, (b"connection", b"close")])
    await _give(stream, caller.send(response))
    while isinstance(event := await _next_event(agent, agent_stream), h11.Data):
        await _give(stream, caller.send(event))
    if isinstance(event, h11.EndOfMessage):
        await _give(stream, caller.send(h11.EndOfMessage()))


async def _pass_request(
    caller: h11.Connection,
    stream: trio.abc.Stream,
    head: h11.Request,
    agent: h11.Connection,
    agent_stream: trio.abc.Stream,
) -> None:
    await _give(agent_stream, agent.send(head))
    size = 0
    while isinstance(event := await _next_event(caller, stream), h11.Data):
        size += len(event.data)
        if size > BODY_BYTES_MAX:
            raise _Refused(413, Code.TOO_LARGE, f"a request has {BODY_BYTES_MAX} bytes at most")
        await _give(agent_stream, agent.send(event))
    await _give(agent_stream, agent.send(h11.EndOfMessage()))


async def _next_event(connection: h11.Connection, stream: trio.abc.Stream) -> object:
    while (event := connection.next_event()) is h11.NEED_DATA:
        with trio.fail_after(SILENCE_SECONDS):
            connection.receive_data(bytes(await stream.receive_some(RECEIVE_BYTES)))
    return event


async def _send(
    connection: h11.Connection, stream: trio.abc.Stream, status: int, content_type: str, content: bytes
) -> None:
    headers = [("content-type", content_type), ("content-length", str(len(content))), ("connection", "close")]
    data = connection.send(h11.Response(status_code=status, headers=headers)) or b""
    data += connection.send(h11.Data(content)) or b""
    data += connection.send(h11.EndOfMessage()) or b""
    await _give(stream, data)


async def _give(stream: trio.abc.Stream, data: bytes | None) -> None:
    if data:
        with trio.fail_after(SILENCE_SECONDS):
            await stream.send_all(data)


def _uuid(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise _Refused(404, Code.NOT_FOUND, "there is no such workspace here") from None
