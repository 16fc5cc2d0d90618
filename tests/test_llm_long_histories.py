"""P10: a request for a long history is made in bounded pieces on each wire, whatever is in it, and the work grows with
the history and no faster."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest
from told_histories import history

from chatcluster.llm.failures import Provider
from chatcluster.llm.slices import SLICE_BYTES
from chatcluster.llm.wire import Route
from chatcluster.llm.wires import WIRES
from chatcluster.models import Kind
from chatcluster.parts import (
    ImagePart,
    Message,
    OpaquePart,
    Part,
    ReasoningPart,
    Role,
    TextPart,
    ToolCallPart,
    ToolResultPart,
)
from chatcluster.ports import ModelRequest, ToolSpec

LONG = 3 * SLICE_BYTES
NOW = datetime(2026, 1, 1, tzinfo=UTC)


def said(text: str, role: Role = Role.USER) -> tuple[Role, tuple[Part, ...]]:
    return role, (TextPart(text),)


def opaque(kind: str, data: str) -> OpaquePart:
    return OpaquePart("x", "m", kind, data)


CALL = (Role.ASSISTANT, (ToolCallPart("1", "f", "{}"),))
HISTORIES = {
    "one long text": history(said("x" * LONG)),
    "of many characters that are escaped": history(said('"\n\x01' * (LONG // 3))),
    "many texts of one role": history(*[said("a word")] * 20_000),
    "many parts": history((Role.USER, (TextPart("a"),) * 20_000)),
    "many turns": history(*[said("a word"), said("another", Role.ASSISTANT)] * 10_000),
    "many that are left out": history(*[said(""), (Role.ASSISTANT, (ReasoningPart("hm"),))] * 10_000, said("a")),
    "long arguments": history(said("a"), (Role.ASSISTANT, (ToolCallPart("1", "f", json.dumps({"a": "x" * LONG})),))),
    "a long result": history(said("a"), CALL, (Role.TOOL, (ToolResultPart("1", "x" * LONG),))),
    "a large image": history(
        said("a"), CALL, (Role.TOOL, (ToolResultPart("1", (ImagePart("image/png", "x" * LONG),)),))
    ),
    "a large opaque part": history(
        said("a"),
        (
            Role.ASSISTANT,
            (opaque("thinking", json.dumps({"type": "thinking", "signature": "x" * LONG})), TextPart("b")),
        ),
        said("c"),
    ),
    "reasoning without end that led to nothing": history(
        said("a"),
        (
            Role.ASSISTANT,
            (opaque("reasoning", '{"type":"reasoning"}'), opaque("thinking", '{"type":"thinking"}')) * 1_000,
        ),
        said("c"),
    ),
}


@pytest.mark.parametrize("kind", Kind)
@pytest.mark.parametrize("messages", HISTORIES.values(), ids=HISTORIES)
def test_a_long_history_becomes_a_request_in_slices_of_bounded_size(kind: Kind, messages: tuple[Message, ...]) -> None:
    request = ModelRequest(UUID(int=1), messages, tools=(ToolSpec("f", "x" * LONG, {"type": "object"}),))
    slices = list(WIRES[kind].body(request, Route(kind=kind, server=Provider("x"), model="m")))
    assert max(map(len, slices)) <= SLICE_BYTES * 7, "a character takes six bytes at most"
    assert json.loads(b"".join(slices))["model"] == "m"


@pytest.mark.parametrize("kind", Kind)
def test_each_message_is_looked_at_a_few_times_and_not_once_for_every_other(kind: Kind) -> None:
    looks = 0

    class Counted(tuple[Message, ...]):
        def __iter__(self) -> Iterator[Message]:
            return map(self.__getitem__, range(len(self)))

        def __getitem__(self, index: Any) -> Any:
            nonlocal looks
            looks += 1 if isinstance(index, int) else len(self)
            return super().__getitem__(index)

    result = (Role.TOOL, (ToolResultPart("1", "ok"),))
    messages = Counted(history(*[said("a"), CALL, result] * 100))
    list(WIRES[kind].body(ModelRequest(UUID(int=1), messages), Route(kind=kind, server=Provider("x"), model="m")))
    assert len(messages) <= looks < 10 * len(messages)
