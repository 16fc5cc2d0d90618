"""``read_result``: the rest of a result that a model was given cut.

It is offered whenever a chat has other tools, not only once a result was cut: the list of tools is part of what a
provider has cached of a prompt, and must not change in the middle of a turn.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

from chatcluster.errors import StoreUnavailable
from chatcluster.parts import NoticePart, TextPart, storable
from chatcluster.ports import Chat, Effect, Store, Tell, Tool, Toolbox, ToolCall, ToolResult, TurnTools
from chatcluster.tool_results import KEPT_BYTES_MAX, READ_RESULT, SHOWN_BYTES_MAX, piece_of

CALL_ID_CHARS_MAX = 200
PIECE_BYTES_MAX = SHOWN_BYTES_MAX - 512
TOOL = Tool(
    name=READ_RESULT,
    description=(
        "Reads on in the result of an earlier tool call that was too long to be shown as a whole. The line in place of "
        "what was left out names the call_id and the offset, in bytes, to begin at."
    ),
    parameters={
        "type": "object",
        "properties": {
            "call_id": {"type": "string", "description": "The call whose result is read"},
            "offset": {"type": "integer", "minimum": 0, "description": "The first byte to read; default 0"},
            "limit": {
                "type": "integer",
                "minimum": 1,
                "maximum": PIECE_BYTES_MAX,
                "description": f"Bytes to read; default and maximum {PIECE_BYTES_MAX}",
            },
        },
        "required": ["call_id"],
        "additionalProperties": False,
    },
    effect=Effect.READ,
)


class WithReadResult:
    """The tools of ``inner``, and where there are any, the one that reads what was left out of their results."""

    def __init__(self, inner: Toolbox, store: Store) -> None:
        self._inner = inner
        self._store = store

    def offers(self, chat: Chat) -> bool:
        return self._inner.offers(chat)

    @asynccontextmanager
    async def open(self, chat: Chat) -> AsyncIterator[TurnTools]:
        async with self._inner.open(chat) as tools:
            yield _WithReadResult(tools, self._store, chat)


class _WithReadResult:
    def __init__(self, inner: TurnTools, store: Store, chat: Chat) -> None:
        self._inner = inner
        self._store = store
        self._chat = chat

    @property
    def notices(self) -> Sequence[NoticePart]:
        return self._inner.notices

    @property
    def instructions(self) -> Sequence[tuple[str, str]]:
        return self._inner.instructions

    @property
    def surroundings(self) -> Sequence[str]:
        return self._inner.surroundings

    async def tools(self) -> Sequence[Tool]:
        tools = await self._inner.tools()
        return [TOOL, *tools] if tools else tools

    async def run(self, call: ToolCall, progressed: Tell) -> ToolResult:
        if call.name != READ_RESULT:
            return await self._inner.run(call, progressed)
        try:
            text = await self._read(call.arguments)
        except StoreUnavailable:
            text, is_error = "The result cannot be read right now. Try again.", True
        else:
            is_error = text is None
        asked = str(call.arguments.get("call_id"))[:CALL_ID_CHARS_MAX]
        none = f"Nothing is kept of a call {asked!r}: its result was shown as a whole, or is gone."
        return ToolResult((TextPart(none if text is None else text),), is_error)

    async def _read(self, arguments: dict[str, Any]) -> str | None:
        """Arguments of which there are many come as they are (``arguments.py``)."""
        call_id = storable(str(arguments.get("call_id")))
        offset = _within(arguments.get("offset"), 0, KEPT_BYTES_MAX, otherwise=0)
        limit = _within(arguments.get("limit"), 1, PIECE_BYTES_MAX, otherwise=PIECE_BYTES_MAX)
        piece = await self._store.read_result(self._chat.id, call_id, offset=offset, limit=limit)
        return None if piece is None else piece_of(piece.data, offset, piece.total_bytes)


def _within(value: object, least: int, most: int, *, otherwise: int) -> int:
    return int(max(least, min(value, most))) if isinstance(value, int | float) else otherwise
