"""Whatever stands in any place of what a model's server sends: an answer that can be kept, or an error that says what
the server said; nothing else leaves a decoder (P10)."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import count
from pathlib import Path
from typing import Any
from uuid import UUID

import msgspec
import pytest
from played_transcripts import SERVER, played

from chatcluster.errors import ProviderError
from chatcluster.llm.wire import Route
from chatcluster.llm.wires import WIRES
from chatcluster.models import Kind
from chatcluster.parts import Message, Role, TextPart, ToolCallPart, encode
from chatcluster.ports import Delta, Finished, ModelEvent, ModelRequest

TRANSCRIPTS = Path(__file__).parent / "transcripts"
FOLDERS = {Kind.OPENAI: "", Kind.ANTHROPIC: "anthropic", Kind.RESPONSES: "responses"}
ODD: tuple[Any, ...] = (
    None, True, 0, -1, 2**70, 1e308, "", "x", "\0", "\ud800", "1", " ", [], {}, [None], [[]], ["x"], {"": None},
    {"text": 7, "type": 7}, [{"type": "text", "text": None}], "x" * 100_000,
)  # fmt: skip
BIGINT_MAX = 2**63 - 1
REQUEST = ModelRequest(
    UUID(int=1), (Message(1, Role.USER, (TextPart("hi"),), 1, datetime(2026, 1, 1, tzinfo=UTC)),), "m"
)


def replaced(value: Any, draw: Iterator[int]) -> Iterator[Any]:
    """``value`` with one of its places changed into something odd, for each of its places, itself among them."""
    yield ODD[next(draw) % len(ODD)]
    places = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, inner in places:
        for other in replaced(inner, draw):
            copy = value.copy()
            copy[key] = other
            yield copy


def odd_bodies(body: bytes, draw: Iterator[int]) -> Iterator[bytes]:
    """A response's body with one place of one of its events changed, for each place."""
    lines = body.split(b"\n")
    for number, line in enumerate(lines):
        name, _, payload = line.partition(b":")
        try:
            event = json.loads(payload)
        except ValueError:
            continue
        for other in replaced(event, draw):
            yield b"\n".join((*lines[:number], name + b": " + json.dumps(other).encode(), *lines[number + 1 :]))


def check(event: ModelEvent) -> None:
    """That it can be told, and counted."""
    assert encode(event)
    if isinstance(event, Finished) and event.usage is not None:
        counts = msgspec.structs.astuple(event.usage)
        assert all(0 <= number <= BIGINT_MAX for number in counts if isinstance(number, int))
    if isinstance(event, Delta) and isinstance(event.part, ToolCallPart):
        assert event.part.id
        assert event.part.name


def play(kind: Kind, body: bytes) -> None:
    route = Route(kind=kind, server=SERVER, base_url="https://test.example/v1", model="m")
    try:
        events = played(WIRES[kind].decoder(REQUEST, route), body)
    except ProviderError as error:
        events, said = [], error.message
    else:
        said = "an answer"
    assert said
    assert b"\0" not in said.encode()
    for event in events:
        check(event)


@pytest.mark.parametrize("kind", FOLDERS)
def test_whatever_a_server_says_is_an_answer_or_an_error_of_its_own(kind: Kind) -> None:
    draw = count()
    for path in sorted((TRANSCRIPTS / FOLDERS[kind]).glob("*.sse")):
        for body in odd_bodies(path.read_bytes(), draw):
            try:
                play(kind, body)
            except Exception as error:
                error.add_note(f"{path.name}: {body[-2000:]!r}")
                raise
