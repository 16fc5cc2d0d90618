"""A turn of a chat with a workspace, without a replica: its tools, run as a model asks for them."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from uuid import UUID, uuid4

import msgspec
import trio
from chat_values import chat_at_work

from chatcluster.arguments import ArgumentCheck
from chatcluster.chat import OpenCall
from chatcluster.parts import TextPart
from chatcluster.ports import Chat, Printed, Progressed, Tool, ToolCall, ToolResult, TurnTools
from chatcluster.ports.toolbox import Asked
from chatcluster.ports.workspaces import MadeOf, WorkspaceRow, WorkspaceState
from chatcluster.tools.workspaces import WorkspaceTools
from chatcluster.workspace_wire import InstructionFile
from loops.workspace_fakes import FakeAgent, FakeDirectory, FakeRows, template


def agents_md(content: str, **fields: Any) -> InstructionFile:
    told = {"size_bytes": len(content), "is_truncated": False, **fields}
    return InstructionFile(path="/work/AGENTS.md", content=content, **told)


class Ledger:
    """The chats' rows, as a cancelled call looks at them."""

    def __init__(self, chat: Chat) -> None:
        self.chat = chat
        self.calls: tuple[OpenCall, ...] = ()

    async def get(self, chat_id: UUID) -> Chat:
        await trio.lowlevel.checkpoint()
        return self.chat

    async def open_calls(self, chat_id: UUID) -> tuple[OpenCall, ...]:
        await trio.lowlevel.checkpoint()
        return self.calls


@dataclass
class Told:
    """A result, as the model reads it."""

    value: dict[str, Any]
    text: str
    is_error: bool
    result: ToolResult

    def __getitem__(self, name: str) -> Any:
        return self.value[name]


class Turn:
    """One turn of one chat, with its tools."""

    def __init__(self, tools: TurnTools, offered: Sequence[Tool]) -> None:
        self.tools = tools
        self._offered = {tool.name: tool for tool in offered}
        self.printed = b""
        self.has_printed = trio.Event()
        self.progress: list[str] = []
        self._number = 0

    async def run(self, name: str, call_id: str = "", /, **arguments: Any) -> Told:
        self._number += 1
        ArgumentCheck(self._offered[name].parameters).arguments(json.dumps(arguments))
        result = await self.tools.run(ToolCall(call_id or f"c{self._number}", name, arguments), self._tell)
        (text, *_) = [piece.text for piece in result.content if isinstance(piece, TextPart)]
        head = text.partition("\n\n")[0]
        return Told(json.loads(head) if head.startswith("{") else {}, text, result.is_error, result)

    async def run_until_it_prints(self, name: str, call_id: str, /, **arguments: Any) -> None:
        """The call is cancelled once there is output."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(partial(self.run, name, call_id, **arguments))
            await self.has_printed.wait()
            nursery.cancel_scope.cancel()

    def _tell(self, news: Progressed | Printed | Asked) -> None:
        if isinstance(news, Printed):
            assert news.offset == len(self.printed)
            self.printed += news.data
            self.has_printed.set()
        elif isinstance(news, Progressed) and news.message:
            self.progress.append(news.message)


class Place:
    """A chat with a workspace that runs, unless ``has_workspace`` is False."""

    def __init__(
        self, *, has_workspace: bool = True, desktop: bool = False, mcp_approval: Any = "never", **chat: Any
    ) -> None:
        self.chat = chat_at_work(**{"id": uuid4(), "owner_id": uuid4(), "epoch": 3, **chat})
        self.template = template(description="Python " + "x" * 300, desktop=desktop, mcp_approval=mcp_approval)
        self.agent, self.rows = FakeAgent(), FakeRows(self.template)
        self.directory, self.ledger = FakeDirectory(self.agent), Ledger(self.chat)
        self.touched: list[str] = []
        self.toolbox = WorkspaceTools(
            self.rows,  # type: ignore[arg-type]
            self.directory,
            self.ledger,  # type: ignore[arg-type]
            per_user_max=5,
            touched=lambda row: self.touched.append(row.name),
        )
        if has_workspace:
            self.row = WorkspaceRow(
                id=uuid4(),
                owner_id=self.chat.owner_id,
                chat_id=self.chat.family_id,
                name="python-1",
                state=WorkspaceState.RUNNING,
                made_of=MadeOf(
                    template_id=self.template.id,
                    template_name="python",
                    settings=self.template.settings,
                    parameters={},
                ),
            )

    @property
    def row(self) -> WorkspaceRow:
        (row,) = self.rows.rows.values()
        return row

    @row.setter
    def row(self, row: WorkspaceRow) -> None:
        self.rows.rows[row.id] = row

    def is_(self, state: WorkspaceState, **fields: Any) -> None:
        self.row = msgspec.structs.replace(self.row, state=state, **fields)

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[Turn]:
        async with self.toolbox.open(self.chat) as tools:
            yield Turn(tools, await tools.tools())
