"""``read_result`` reads within what there is, whatever a model makes of its arguments."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from loops.scripted_tools import ScriptedTools
from mcp_world import ChatStub

from chatcluster.ports import ToolCall
from chatcluster.ports.ledger import ResultSlice
from chatcluster.tool_results import KEPT_BYTES_MAX
from chatcluster.tools.read_result import PIECE_BYTES_MAX, WithReadResult


class KeptStub:
    """Of call ``c1`` a result is kept."""

    def __init__(self) -> None:
        self.asked: list[tuple[int, int]] = []

    async def read_result(self, chat_id: UUID, call_id: str, *, offset: int, limit: int) -> ResultSlice | None:
        self.asked.append((offset, limit))
        return ResultSlice(b"0123456789"[offset : offset + limit], 10) if call_id == "c1" else None


@pytest.mark.parametrize(
    ("arguments", "asked"),
    [
        ({}, (0, PIECE_BYTES_MAX)),
        ({"offset": 4.0, "limit": 2}, (4, 2)),
        ({"offset": -1, "limit": 0}, (0, 1)),
        ({"offset": 10**30, "limit": 10**30}, (KEPT_BYTES_MAX, PIECE_BYTES_MAX)),
        ({"offset": float("inf"), "limit": "all"}, (KEPT_BYTES_MAX, PIECE_BYTES_MAX)),
        ({"offset": [1], "limit": None}, (0, PIECE_BYTES_MAX)),
    ],
    ids=str,
)
async def test_what_is_out_of_bounds_reads_what_is_nearest(arguments: dict[str, Any], asked: tuple[int, int]) -> None:
    store = KeptStub()
    async with WithReadResult(ScriptedTools(), store).open(ChatStub()) as tools:  # type: ignore[arg-type]
        result = await tools.run(ToolCall("c2", "read_result", {"call_id": "c1", **arguments}), lambda _: None)
    assert (result.is_error, store.asked) == (False, [asked])


@pytest.mark.parametrize(
    "arguments",
    [{}, {"call_id": "c9\0"}, {"call_id": ["c1"]}, {"call_id": "c" * 10_000}],
    ids=["none", "nul", "list", "long"],
)
async def test_a_call_of_which_nothing_is_kept_is_an_error_in_few_words(arguments: dict[str, Any]) -> None:
    async with WithReadResult(ScriptedTools(), KeptStub()).open(ChatStub()) as tools:  # type: ignore[arg-type]
        result = await tools.run(ToolCall("c2", "read_result", arguments), lambda _: None)
    (part,) = result.content
    assert result.is_error
    assert "Nothing is kept" in str(part)
    assert len(str(part)) < 500
