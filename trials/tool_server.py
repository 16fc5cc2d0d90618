"""An MCP server to try tools with, a program of its own: ``python -m tool_server KIND PORT LOG``.

``KIND`` is one of ``TOOLS``: counting tools answer at once, napping ones always after the same time, slow ones tell how
far they are, dying ones now and then take their server with them. Asking ones want a word of the user before they
begin, and end the request with their question; holding ones, of the old era alone, hold it meanwhile, behind ``/mcp``
and ``/sse``. Each run of a call is a line of the file ``LOG``, written when it takes effect: so what ran is known
whoever died. The line has the call's ID, as the cluster sent it.
"""

from __future__ import annotations

import json
import os
import random
import socket
import sys
import time
from collections.abc import Awaitable, Callable
from typing import Annotated, Any

import anyio
import uvicorn
from mcp.server import MCPServer
from mcp.server.elicitation import ElicitationResult
from mcp.server.mcpserver import Context, Elicit, Resolve
from mcp_types import ToolAnnotations
from pydantic import BaseModel
from starlette.responses import Response

CALL_ID = "chatcluster/call-id"
STEP_SECONDS = 0.1
STEPS_MAX = 15
NAP_SECONDS = 0.5
"""How long the one tool takes that takes always as long."""
DEATH = 0.4

READ, PUT = ToolAnnotations(read_only_hint=True), ToolAnnotations(idempotent_hint=True)
ONCE = ToolAnnotations(read_only_hint=False, idempotent_hint=False)


class Log:
    def __init__(self, path: str) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)

    def ran(self, tool: str, ctx: Context) -> str:
        """The call took effect; what it answers."""
        call_id = _call_id(ctx)
        line = {"time": time.monotonic(), "call": call_id, "tool": tool}
        os.write(self._file, json.dumps(line).encode() + b"\n")
        return f"<{tool} {call_id}>"


def _call_id(ctx: Context) -> str:
    meta = ctx.request_context.meta
    found: dict[str, Any] = dict(meta) if isinstance(meta, dict) else meta.model_dump() if meta else {}
    return str(found.get(CALL_ID, ""))


async def _pass(seconds: float) -> None:
    with anyio.move_on_after(seconds):
        await anyio.sleep_forever()


def _counting(log: Log, name: str) -> Callable[[Context], Awaitable[str]]:
    async def run(ctx: Context) -> str:
        return log.ran(name, ctx)

    return run


def _slow(log: Log, name: str) -> Callable[[Context], Awaitable[str]]:
    async def run(ctx: Context) -> str:
        said = log.ran(name, ctx)
        steps = random.randrange(1, STEPS_MAX)
        for step in range(steps):
            await ctx.report_progress(step, steps, f"step {step}")
            await _pass(STEP_SECONDS)
        return said

    return run


def _napping(log: Log, name: str) -> Callable[[Context], Awaitable[str]]:
    async def run(ctx: Context) -> str:
        said = log.ran(name, ctx)
        await _pass(NAP_SECONDS)
        return said

    return run


def _dying(log: Log, name: str) -> Callable[[Context], Awaitable[str]]:
    async def run(ctx: Context) -> str:
        said = log.ran(name, ctx)
        await _pass(STEP_SECONDS)
        if random.random() < DEATH:
            os._exit(1)
        return said

    return run


class Word(BaseModel):
    word: str


async def asked_for_a_word() -> Elicit[Word]:
    return Elicit("The word?", Word)


def _asking(log: Log, name: str) -> Callable[..., Awaitable[str]]:
    async def run(ctx: Context, said: Annotated[ElicitationResult[Word], Resolve(asked_for_a_word)]) -> str:
        return f"{log.ran(name, ctx)} {_told(said)}"

    return run


def _holding(log: Log, name: str) -> Callable[..., Awaitable[str]]:
    async def run(ctx: Context) -> str:
        said = await ctx.elicit("The word?", Word)
        return f"{log.ran(name, ctx)} {_told(said)}"

    return run


def _told(said: ElicitationResult[Word]) -> str:
    return f"{said.action} {said.data.word}" if said.action == "accept" else said.action


TOOLS: dict[str, tuple[Callable[[Log, str], Callable[..., Awaitable[str]]], dict[str, ToolAnnotations]]] = {
    "counting": (_counting, {"peek": READ, "put": PUT, "buy": ONCE, "ask": ONCE}),
    "napping": (_napping, {"nap": READ}),
    "slow": (_slow, {"look": READ, "move": PUT, "ship": ONCE}),
    "dying": (_dying, {"peer": READ, "risk": ONCE}),
    "asking": (_asking, {"sign": ONCE}),
    "holding": (_holding, {"swear": ONCE}),
}


class OldEra:
    """A server by both transports, as it was before servers could be asked what they are (``server/discover``)."""

    def __init__(self, server: MCPServer) -> None:
        self._sse = server.sse_app()
        self._streamable = server.streamable_http_app()

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "lifespan":
            await self._streamable(scope, receive, send)
        elif scope["path"] != "/mcp":
            await self._sse(scope, receive, send)
        elif scope["method"] != "POST":
            await self._streamable(scope, receive, send)
        else:
            await self._post(scope, receive, send)

    async def _post(self, scope: Any, receive: Any, send: Any) -> None:
        messages = [await receive()]
        while messages[-1].get("more_body"):
            messages.append(await receive())

        async def again() -> Any:
            return messages.pop(0) if messages else await receive()

        if b'"server/discover"' in b"".join(message.get("body", b"") for message in messages):
            await Response(status_code=404)(scope, again, send)
        else:
            await self._streamable(scope, again, send)


def main() -> None:
    kind, port, path = sys.argv[1:]
    make, tools = TOOLS[kind]
    server, log = MCPServer(kind), Log(path)
    for name, hints in tools.items():
        server.add_tool(make(log, name), name=name, description=f"{kind} {name}", annotations=hints)
    listener = socket.create_server(("127.0.0.1", int(port)))
    app = OldEra(server) if kind == "holding" else server.streamable_http_app()
    uvicorn.Server(uvicorn.Config(app, log_level="critical")).run(sockets=[listener])


if __name__ == "__main__":
    main()
