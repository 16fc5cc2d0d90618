"""The tools that a chat's client runs itself: what the chat says of them. Their results come by the API."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager

from chatcluster.parts import NoticePart, TextPart
from chatcluster.ports import Chat, Progressed, RunBy, Tool, ToolCall, ToolResult, TurnTools


class ClientTools:
    """The toolbox of those that the chat was set up with."""

    def offers(self, chat: Chat) -> bool:
        return bool(chat.client_tools)

    @asynccontextmanager
    async def open(self, chat: Chat) -> AsyncIterator[TurnTools]:
        yield _ClientTools(chat)


class _ClientTools:
    notices: Sequence[NoticePart] = ()
    instructions: Sequence[tuple[str, str]] = ()
    surroundings: Sequence[str] = ()

    def __init__(self, chat: Chat) -> None:
        self._chat = chat

    async def tools(self) -> Sequence[Tool]:
        return [
            Tool(name=tool.name, description=tool.description, parameters=tool.parameters, run_by=RunBy.CLIENT)
            for tool in self._chat.client_tools or ()
        ]

    async def run(self, call: ToolCall, progressed: Callable[[Progressed], None]) -> ToolResult:  # noqa: ARG002
        """Never asked for: the ledger gives these calls to the client."""
        return ToolResult((TextPart(f"The tool {call.name!r} is run by the client."),), is_error=True)
