"""What a feed remembers of a chat's history is bounded, and it knows how far back it goes."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from chatcluster.parts import Message, Part, ReasoningPart, Role, TextPart, ToolCallPart, ToolResultPart
from chatcluster.recent import OVERHEAD_BYTES, RecentEntries

BYTES_MAX = 10_000
MUCH = "x" * 1000
NOW = datetime(2026, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "part",
    [TextPart(MUCH), ReasoningPart(MUCH), ToolCallPart("call", "tool", MUCH), ToolResultPart("call", MUCH)],
    ids=lambda part: type(part).__name__,
)
def test_whatever_a_message_consists_of_counts(part: Part) -> None:
    recent = RecentEntries(BYTES_MAX)
    for number in range(1, 101):
        recent.add(Message(number, Role.ASSISTANT, (part,), revision=number, created_at=NOW))
    kept = recent.after(recent.since)
    assert kept
    assert len(kept) <= BYTES_MAX // (len(MUCH) + OVERHEAD_BYTES)
    assert kept[-1].revision == 100


def test_what_was_forgotten_is_not_passed_over() -> None:
    recent = RecentEntries(BYTES_MAX)
    for number in range(1, 101):
        recent.add(Message(number, Role.USER, (TextPart(MUCH),), revision=number, created_at=NOW))
    assert recent.after(recent.since - 1) is None
    assert recent.after(0) is None
    assert recent.after(100) == ()
