"""MCP for tests: a real server in a process of its own, and a replica's tools on memory ports."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import trio

from chatcluster.chat.questions import Replies
from chatcluster.content import ToolResultPart
from chatcluster.mcp_administration import McpAdministration
from chatcluster.memory import MemoryBroker, MemoryDatabase, MemoryMcpServers, MemoryPubSub
from chatcluster.ports import Auth, McpServer, McpSettings, Printed, Progressed, ToolCall, ToolResult
from chatcluster.ports.toolbox import Asked, InputRequired
from chatcluster.secrets import Keyring, new_key
from chatcluster.tools.mcp import McpTools
from chatcluster.tools.mcp_toolbox import McpTurn

PROGRAM = Path(__file__).with_name("mcp_test_server.py")
ALICE, BOB = UUID(int=1), UUID(int=2)
START_SECONDS_MAX = 60.0
BROWSERS_URL = "http://127.0.0.1:9/cluster"


class TestServer:
    """``url`` is where its paths begin."""

    __test__ = False

    def __init__(self, port: int, process: subprocess.Popen[bytes]) -> None:
        self.url = f"http://127.0.0.1:{port}"
        self.process = process

    async def stats(self) -> dict[str, Any]:
        async with httpx.AsyncClient(trust_env=False) as client:
            found: dict[str, Any] = (await client.get(f"{self.url}/stats")).json()
            return found

    async def count(self, name: str) -> int:
        return int((await self.stats()).get(name, 0))

    async def control(self, **changes: Any) -> None:
        async with httpx.AsyncClient(trust_env=False) as client:
            (await client.post(f"{self.url}/control", json=changes)).raise_for_status()

    async def counted(self, name: str, at_least: int) -> None:
        """Return when it has counted so many."""
        with trio.fail_after(60):
            while await self.count(name) < at_least:  # noqa: ASYNC110 - it is in another process
                await trio.sleep(0.02)


@contextmanager
def test_server() -> Iterator[TestServer]:
    process = subprocess.Popen([sys.executable, str(PROGRAM)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    with process.stdout:
        try:
            yield TestServer(int(process.stdout.readline()), process)
        finally:
            process.kill()
            process.wait()


test_server.__test__ = False  # type: ignore[attr-defined]


ZYGOTE = """
import os, signal, socket, sys, trio
from chatcluster.tools.mcp_process import serve
signal.signal(signal.SIGCHLD, signal.SIG_IGN)
signal.signal(signal.SIGINT, signal.SIG_IGN)
asked = socket.socket(fileno=int(sys.argv[1]))
while True:
    data, descriptors, *_ = socket.recv_fds(asked, 1, 1)
    if not data:
        break
    pid = os.fork()
    if not pid:
        asked.close()
        trio.run(serve, descriptors[0])
        os._exit(0)
    os.close(descriptors[0])
    asked.sendall(pid.to_bytes(4, "big"))
"""


class Zygote:
    """MCP processes at once, forked off one that has imported everything: that takes seconds."""

    def __init__(self, asked: socket.socket) -> None:
        self._asked = asked

    @asynccontextmanager
    async def started(self) -> AsyncIterator[tuple[trio.SocketStream, int]]:
        """In the place of ``mcp_link.started``."""
        ours, theirs = socket.socketpair()
        with theirs:
            socket.send_fds(self._asked, [b"x"], [theirs.fileno()])
            pid = int.from_bytes(await trio.to_thread.run_sync(self._asked.recv, 4), "big")
        with ours:
            yield trio.SocketStream(trio.socket.from_stdlib_socket(ours)), pid


@contextmanager
def zygote() -> Iterator[Zygote]:
    ours, theirs = socket.socketpair()
    arguments = [sys.executable, "-c", ZYGOTE, str(theirs.fileno())]
    process = subprocess.Popen(arguments, pass_fds=[theirs.fileno()])
    theirs.close()
    with ours:
        yield Zygote(ours)
    process.wait()


class ChatStub:
    """As much of a chat as a toolbox looks at."""

    def __init__(self, *slugs: str, owner_id: UUID = ALICE, open_calls: int = 0) -> None:
        self.id = UUID(int=3)
        self.owner_id = owner_id
        self.mcp_servers = slugs
        self.open_calls = open_calls
        self.created_at = datetime.now(UTC)


class McpWorld:
    def __init__(self) -> None:
        self.database = MemoryDatabase()
        self.pubsub = MemoryPubSub(MemoryBroker())
        self.servers = MemoryMcpServers(self.database)
        self.keyring = Keyring.parse(new_key())
        self.administration = McpAdministration(self.servers, self.keyring, self.pubsub.publish)
        self.tools = self.replica()

    def replica(self) -> McpTools:
        return McpTools(self.servers, self.pubsub, self.keyring, browsers_url=BROWSERS_URL)

    async def add(
        self, slug: str, url: str, auth: Auth | None = None, secrets: dict[str, str] | None = None, **settings: Any
    ) -> McpServer:
        if auth is not None:
            settings["auth"] = auth
        return await self.administration.add(slug, McpSettings(url=url, **settings), secrets or {})

    async def change(self, server: McpServer, **settings: Any) -> McpServer:
        changed = McpSettings(
            **{**{n: getattr(server.settings, n) for n in server.settings.__struct_fields__}, **settings}
        )
        written = await self.administration.change(server, slug=server.slug, settings=changed, secrets=None)
        with trio.fail_after(60):
            while not self.tools.knows(written):  # noqa: ASYNC110
                await trio.sleep(0.01)
        return written

    @asynccontextmanager
    async def turn(self, *slugs: str, owner_id: UUID = ALICE, open_calls: int = 0) -> AsyncIterator[Turn]:
        chat = ChatStub(*slugs, owner_id=owner_id, open_calls=open_calls)
        async with self.tools.toolbox.open(chat) as tools:  # type: ignore[arg-type]
            yield Turn(tools)


class Turn:
    def __init__(self, tools: McpTurn) -> None:
        self.tools = tools
        self.progress: list[Progressed] = []
        self.asked: list[Asked] = []
        self.answer: Callable[[Asked], Replies] | None = None
        """What the user says at once to what a running call asks."""

    async def names(self) -> list[str]:
        return [tool.name for tool in await self.tools.tools()]

    async def call(self, name: str, **arguments: Any) -> ToolResult:
        await self.tools.tools()
        return await self.run(name, **arguments)

    async def run(self, name: str, **arguments: Any) -> ToolResult:
        """Without looking at the list again."""
        return await self.run_with(name, arguments)

    async def run_with(self, name: str, arguments: dict[str, Any]) -> ToolResult:
        return await self.tools.run(ToolCall(f"call_{uuid4().hex}", name, arguments), self.told)

    async def resume(self, name: str, before: InputRequired, answers: Replies, **arguments: Any) -> ToolResult:
        """Go on with a call that ended with questions."""
        call = ToolCall(f"call_{uuid4().hex}", name, arguments, answers, before.resume)
        return await self.tools.run(call, self.told)

    def told(self, news: Progressed | Printed | Asked) -> None:
        if isinstance(news, Asked):
            self.asked.append(news)
            if self.answer is not None:
                news.reply(self.answer(news))
        elif isinstance(news, Progressed):
            self.progress.append(news)


@asynccontextmanager
async def mcp_world() -> AsyncIterator[McpWorld]:
    world = McpWorld()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(world.tools.run)
        yield world
        nursery.cancel_scope.cancel()


def text_of(result: ToolResult) -> str:
    """All of a result that is said in words."""
    return ToolResultPart("", result.content).text


async def listening(url: str) -> None:
    """Return once somebody listens there."""
    with trio.fail_after(START_SECONDS_MAX):
        while True:
            try:
                (await trio.open_tcp_stream("127.0.0.1", int(url.rpartition(":")[2]))).socket.close()
            except OSError:
                await trio.sleep(0.1)
            else:
                return
