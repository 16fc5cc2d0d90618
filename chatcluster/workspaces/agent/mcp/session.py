"""One session with one server: JSON-RPC as MCP has it, over a transport. The client offers nothing but to listen.

``initialize``, ``notifications/initialized``, then ``tools/list`` and ``tools/call``. A ``ping`` is answered; what a
server asks of a client (a model, a person, a list of roots) is refused, as no such thing was offered.

What happens on failure: ``ServerFailed`` once the server is gone or has said what is none of the protocol, for each
request that is under way; ``CallRefused`` where it answers with an error. A request that is cancelled is told so.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, Protocol

import trio

from chatcluster import __version__
from chatcluster.workspaces.agent.mcp.failed import CallRefused, ServerFailed

PROTOCOL = "2025-06-18"
PAGES_MAX = 20
TELL_SECONDS = 2.0
METHOD_NOT_FOUND = -32601

Message = dict[str, Any]
Hear = Callable[[Any], None]


class Transport(Protocol):
    async def run(self, hear: Hear, is_there: trio.Event) -> None:
        """Until the server is gone: then ``ServerFailed`` is raised, always. All that it says is heard; it can be sent
        something once ``is_there``."""
        ...

    async def send(self, message: Message, answered: trio.Event | None = None) -> None:
        """Return when ``answered`` is set, or at once where nothing is to be answered. Raises ``ServerFailed``."""
        ...

    def agreed(self, protocol: str) -> None:
        """Which version of the protocol is spoken from now on."""
        ...


class _Asked:
    def __init__(self) -> None:
        self.answered = trio.Event()
        self.message: Message = {}


class Session:
    """``has_other_tools``: it has said so since they were listed."""

    def __init__(self, transport: Transport, nursery: trio.Nursery) -> None:
        self.instructions_from: Any = {}
        self.has_other_tools = False
        self._transport = transport
        self._nursery = nursery
        self._asked: dict[int, _Asked] = {}
        self._number = 0
        self._end: ServerFailed | None = None

    async def open(self) -> None:
        """Raises ``ServerFailed``."""
        client = {"name": "chatcluster-workspace", "version": __version__}
        try:
            answer = await self._ask(
                "initialize", {"protocolVersion": PROTOCOL, "capabilities": {}, "clientInfo": client}
            )
        except CallRefused as refused:
            raise ServerFailed(f"it does not begin a session: {refused}") from None
        protocol = answer.get("protocolVersion")
        if not isinstance(protocol, str):
            raise ServerFailed("it answers initialize without a version of the protocol")
        self.instructions_from = answer
        self._transport.agreed(protocol[:40])
        await self._transport.send({"jsonrpc": "2.0", "method": "notifications/initialized"})

    async def list_tools(self) -> list[Any]:
        """Raises ``ServerFailed`` and ``CallRefused``."""
        self.has_other_tools = False
        tools: list[Any] = []
        cursor: dict[str, Any] = {}
        for _ in range(PAGES_MAX):
            answer = await self._ask("tools/list", cursor)
            page = answer.get("tools")
            tools += page if isinstance(page, list) else []
            if not isinstance(answer.get("nextCursor"), str):
                break
            cursor = {"cursor": answer["nextCursor"]}
        return tools

    async def call(self, name: str, arguments: dict[str, Any], call_id: str) -> Message:
        """Raises ``ServerFailed`` and ``CallRefused``."""
        meta = {"chatcluster/call-id": call_id}
        return await self._ask("tools/call", {"name": name, "arguments": arguments, "_meta": meta})

    def end(self, failure: ServerFailed) -> None:
        """The server is gone: nobody waits for it any more."""
        self._end = failure
        for asked in self._asked.values():
            asked.answered.set()

    def hear(self, message: Any) -> None:
        """What the server says."""
        for one in message if isinstance(message, list) else (message,):
            if isinstance(one, dict):
                self._hear(one)

    def _hear(self, message: Message) -> None:
        number, method = message.get("id"), message.get("method")
        if isinstance(method, str):
            if number is not None:
                self._nursery.start_soon(self._answer, number, method)
            elif method == "notifications/tools/list_changed":
                self.has_other_tools = True
        elif isinstance(number, int) and (asked := self._asked.get(number)) is not None:
            asked.message = message
            asked.answered.set()

    def _check(self) -> None:
        """Raises ``ServerFailed`` once the server is gone."""
        if self._end is not None:
            raise ServerFailed(str(self._end))

    async def _ask(self, method: str, params: Message) -> Message:
        self._check()
        self._number += 1
        number, asked = self._number, _Asked()
        self._asked[number] = asked
        try:
            request = {"jsonrpc": "2.0", "id": number, "method": method, "params": params}
            await self._transport.send(request, asked.answered)
        except trio.Cancelled:
            with trio.move_on_after(TELL_SECONDS, shield=True), suppress(ServerFailed):
                params = {"requestId": number, "reason": "nobody waits for it any more"}
                await self._transport.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": params})
            raise
        finally:
            del self._asked[number]
        if not asked.message:
            self._check()
        return _result(asked.message)

    async def _answer(self, number: Any, method: str) -> None:
        message: Message = {"jsonrpc": "2.0", "id": number}
        if method == "ping":
            message["result"] = {}
        else:
            message["error"] = {"code": METHOD_NOT_FOUND, "message": "this client offers nothing of the kind"}
        with trio.move_on_after(TELL_SECONDS), suppress(ServerFailed):
            await self._transport.send(message)


def _result(message: Message) -> Message:
    error, result = message.get("error"), message.get("result")
    if isinstance(error, dict):
        raise CallRefused(str(error.get("message", "an error without words")))
    if not isinstance(result, dict):
        raise ServerFailed("it answers what is no answer")
    return result
