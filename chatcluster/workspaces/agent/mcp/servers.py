"""The servers that the workspace's ``.mcp.json`` names: begun, listed, called, ended.

The file is read at each look, which is made for a replica. A server that it names for the first time, or in other
words, is begun; one that it names no more is ended. Each is *starting* until its tools are listed, *ready* until it is
gone, and *failed* then; a look or a call ``AGAIN_SECONDS`` later has it begun once more. The next look lists a server
anew that says that it has other tools.

What happens on failure: a server costs its own tools. A call whose server is gone in the middle has failed, and says
that what it did is unknown.
"""

from __future__ import annotations

import itertools
import traceback
from contextlib import suppress

import trio

from chatcluster.workspace_mcp import McpAnswer, McpCall, McpResult, McpServer, McpState, McpTool
from chatcluster.workspace_wire import WAIT_SECONDS_MAX, Code
from chatcluster.workspaces.agent.mcp.content import failed as failed_result
from chatcluster.workspaces.agent.mcp.content import instructions_of, result_of, tools_of
from chatcluster.workspaces.agent.mcp.failed import CallRefused, ServerFailed
from chatcluster.workspaces.agent.mcp.file import Config, Wrong, configs
from chatcluster.workspaces.agent.mcp.http import Http
from chatcluster.workspaces.agent.mcp.session import Session, Transport
from chatcluster.workspaces.agent.mcp.stdio import Stdio
from chatcluster.workspaces.agent.names import Places
from chatcluster.workspaces.agent.processes import FIRST_SERVICE, Processes
from chatcluster.workspaces.agent.refused import Refused

START_SECONDS = 60.0
LIST_SECONDS = 10.0
AGAIN_SECONDS = 10.0
ENDED = "it was ended, as the file says something else now"
FAILED = "the agent failed at what it said"


class Served:
    """One server, from its beginning to its end."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.scope = trio.CancelScope()
        self.began = trio.Event()
        """Set when it is not starting any more."""
        self.session: Session | None = None
        self.tools: tuple[McpTool, ...] = ()
        self.left_out = 0
        self.error = ""
        self.failed_at = 0.0

    @property
    def state(self) -> McpState:
        if self.error:
            return McpState.FAILED
        return McpState.READY if self.began.is_set() else McpState.STARTING

    def fail(self, words: str) -> None:
        self.error, self.session, self.failed_at = words, None, trio.current_time()
        self.began.set()

    async def list_tools(self) -> None:
        """Raises ``ServerFailed``."""
        assert self.session is not None, "there is a session to ask in"
        try:
            with trio.fail_after(LIST_SECONDS):
                self.tools, self.left_out = tools_of(await self.session.list_tools())
        except CallRefused as refused:
            raise ServerFailed(f"it does not list its tools: {refused}") from None
        except trio.TooSlowError:
            raise ServerFailed(f"it does not list its tools within {LIST_SECONDS:g} s") from None

    def told(self, name: str) -> McpServer:
        instructions = "" if self.session is None else instructions_of(self.session.instructions_from)
        tools = self.tools if self.state is McpState.READY else ()
        return McpServer(
            name=name,
            state=self.state,
            error=self.error,
            instructions=instructions,
            tools=tools,
            left_out=self.left_out,
        )


class Servers:
    def __init__(self, processes: Processes, places: Places, nursery: trio.Nursery) -> None:
        self._processes = processes
        self._places = places
        self._nursery = nursery
        self._served: dict[str, Served] = {}
        self._wrong: dict[str, Wrong] = {}
        self._trouble = ""
        self._numbers = itertools.count(FIRST_SERVICE)

    async def look(self, wait_seconds: float) -> McpAnswer:
        """All servers, once none is starting, or after ``wait_seconds``."""
        self._read()
        with trio.move_on_after(min(wait_seconds, WAIT_SECONDS_MAX)):
            for served in list(self._served.values()):
                await served.began.wait()
                await _list_anew(served)
        wrong = (McpServer(name=name, state=McpState.FAILED, error=one.words) for name, one in self._wrong.items())
        told = (served.told(name) for name, served in self._served.items())
        return McpAnswer(servers=(*told, *wrong), error=self._trouble)

    async def call(self, wanted: McpCall, call_id: str) -> McpResult:
        """Raises ``Refused`` where it was not run, or nothing is known of it."""
        self._read()
        served = self._served.get(wanted.server)
        if served is None:
            raise Refused(Code.MCP_FAILED, f"there is no server {wanted.server[:80]!r} any more. It was not run")
        await served.began.wait()
        session = served.session
        if session is None:
            raise Refused(Code.MCP_FAILED, f"the server cannot be had: {served.error}. It was not run")
        try:
            return result_of(await session.call(wanted.tool, wanted.arguments, call_id))
        except CallRefused as refused:
            return failed_result(f"The server refused the call: {refused}")
        except ServerFailed as failure:
            raise Refused(
                Code.MCP_FAILED, f"the server is gone: {failure}. Whether the call took effect is unknown"
            ) from None

    def end(self) -> None:
        """Begin to end all of them."""
        for served in self._served.values():
            served.scope.cancel()
        self._served.clear()

    def _read(self) -> None:
        """Begin and end what the file says."""
        found = configs(self._places)
        self._trouble = found.words if isinstance(found, Wrong) else ""
        entries = {} if isinstance(found, Wrong) else found
        self._wrong = {name: one for name, one in entries.items() if isinstance(one, Wrong)}
        wanted = {name: one for name, one in entries.items() if isinstance(one, Config)}
        for name, served in list(self._served.items()):
            if wanted.get(name) != served.config or _is_due_again(served):
                served.scope.cancel()
                del self._served[name]
        for name, config in wanted.items():
            if name not in self._served:
                self._served[name] = served = Served(config)
                self._nursery.start_soon(self._serve, served)
        self._served = {name: self._served[name] for name in wanted}

    async def _serve(self, served: Served) -> None:
        """Serve it to its end. Whatever that is, it ends no other server, nor the agent."""
        try:
            await self._serve_one(served)
        except Exception:  # noqa: BLE001 - as above
            traceback.print_exc()
            served.fail(FAILED)

    async def _serve_one(self, served: Served) -> None:
        transport, is_there = self._transport(served.config), trio.Event()
        with served.scope:
            async with trio.open_nursery() as nursery:
                session = Session(transport, nursery)
                nursery.start_soon(_begin, served, session, is_there)
                try:
                    await transport.run(session.hear, is_there)
                except ServerFailed as failure:
                    served.fail(str(failure))
                finally:
                    served.fail(served.error or ENDED)
                    session.end(ServerFailed(served.error))
                    nursery.cancel_scope.cancel()

    def _transport(self, config: Config) -> Transport:
        if config.url:
            return Http(config)
        return Stdio(self._processes, config, self._places.work, next(self._numbers))


async def _begin(served: Served, session: Session, is_there: trio.Event) -> None:
    await is_there.wait()
    try:
        with trio.fail_after(START_SECONDS):
            await session.open()
        served.session = session
        await served.list_tools()
    except ServerFailed as failure:
        served.fail(str(failure))
        served.scope.cancel()
    except trio.TooSlowError:
        served.fail(f"it has not begun a session within {START_SECONDS:g} s")
        served.scope.cancel()
    else:
        served.began.set()


async def _list_anew(served: Served) -> None:
    if served.session is not None and served.session.has_other_tools:
        with suppress(ServerFailed):  # it has the tools that it had
            await served.list_tools()


def _is_due_again(served: Served) -> bool:
    return served.state is McpState.FAILED and trio.current_time() - served.failed_at >= AGAIN_SECONDS
