"""The agent of a workspace as a process of its own, without a sandbox around it."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

import trio

from chatcluster.workspace_errors import WorkspaceUnreachable
from chatcluster.workspace_wire import CallAnswer, CallRequest, Kind
from chatcluster.workspaces.agent.program import SOCKET_NAME
from chatcluster.workspaces.agent_client import AgentClient, over_unix

START_SECONDS = 60.0
STOP_SECONDS_MAX = 60.0
LOOK_SECONDS = 0.01

_numbers = itertools.count(1)


class AgentProcess:
    """One agent, its directories below ``top``, and a client of it."""

    def __init__(self, top: Path, *arguments: str) -> None:
        self.top = top
        self.home, self.work, self.state = (top / name for name in ("home", "work", "state"))
        for directory in (self.home, self.work, self.state):
            directory.mkdir(parents=True, exist_ok=True)
        self._arguments = arguments
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def client(self) -> AgentClient:
        return over_unix(self.state / SOCKET_NAME)

    def begin(self) -> None:
        places = [f"--{name}={getattr(self, name)}" for name in ("state", "home", "work")]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "chatcluster.workspaces.agent", *places, *self._arguments]
        )

    async def start(self) -> None:
        self.begin()
        with trio.fail_after(START_SECONDS):
            await answering(self.client)

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    async def stop(self) -> None:
        assert self.process is not None
        with suppress(WorkspaceUnreachable):
            await self.client.stop()
        await trio.to_thread.run_sync(self.process.wait)


async def answering(client: AgentClient) -> None:
    is_there = False
    while not is_there:
        try:
            await client.status()
            is_there = True
        except WorkspaceUnreachable:
            await trio.sleep(LOOK_SECONDS)


@asynccontextmanager
async def running_agent(top: Path, *arguments: str) -> AsyncIterator[AgentProcess]:
    agent = AgentProcess(top, *arguments)
    await agent.start()
    try:
        yield agent
    finally:
        with trio.move_on_after(STOP_SECONDS_MAX, shield=True), suppress(WorkspaceUnreachable):
            await agent.client.stop()  # without a sandbox around it, what it began would outlive it
        agent.kill()


def request(kind: Kind, *, chat: str = "chat", epoch: int = 1, digest: str = "d", **values: Any) -> CallRequest:
    """``values`` are the input's."""
    return CallRequest(chat_id=chat, epoch=epoch, digest=digest, kind=kind, input=values)


def execute(command: str, **values: Any) -> CallRequest:
    return request(Kind.EXECUTE, command=command, **values)


async def ended(client: AgentClient, call_id: str, *, seconds: float = 180.0) -> CallAnswer:
    """The call when it has ended, with all the output that is kept."""
    output = bytearray()
    with trio.fail_after(seconds):
        while True:
            answer = await client.call(call_id, offset=len(output), wait_seconds=5)
            output += answer.output
            if answer.state.ended and len(output) >= answer.kept_bytes:
                return CallAnswer(**{**_fields(answer), "offset": 0, "output": bytes(output)})


async def ran(client: AgentClient, command: str, **values: Any) -> CallAnswer:
    """A command, run to its end under an ID of its own."""
    call_id = f"ran-{next(_numbers)}"
    await client.put(call_id, execute(command, **values))
    return await ended(client, call_id)


def _fields(answer: CallAnswer) -> dict[str, Any]:
    return {name: getattr(answer, name) for name in answer.__struct_fields__}


def a_sleep(number: int = 0) -> str:
    """A command that lasts, and is no other test's."""
    return f"sleep {100_000 + 10 * os.getpid() + number}"


def runs(command: str) -> bool:
    """Whether a process of exactly this command is there, in whatever sandbox."""
    wanted = command.replace(" ", "\0").encode() + b"\0"
    return any(_command_line(path) == wanted for path in Path("/proc").glob("[0-9]*"))


async def until_runs(command: str) -> None:
    """What a shell leaves behind may be told of before it has begun."""
    with trio.fail_after(STOP_SECONDS_MAX):
        while not runs(command):  # noqa: ASYNC110 - nobody tells of what others begin
            await trio.sleep(LOOK_SECONDS)


def _command_line(path: Path) -> bytes:
    try:
        return (path / "cmdline").read_bytes()
    except OSError:
        return b""
