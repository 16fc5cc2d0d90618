"""Calls on the stream: joined like text, short enough for a frame, bounded like an answer, and whole in the history."""

from __future__ import annotations

import pytest

from chatcluster.attempt import PART_BYTES, Said, interrupted
from chatcluster.parts import (
    OpaquePart,
    Part,
    PartFrame,
    ReasoningPart,
    TextPart,
    ToolArgumentsPart,
    ToolCallPart,
    ToolProgressPart,
    ToolResultPart,
    decode_frame,
    joined,
)
from chatcluster.ports import Delta
from chatcluster.tenure_stream import FRAME_CHARACTERS_MAX
from loops.cluster_world import World
from loops.scripted_tools import tool
from loops.test_publisher import COALESCE_SECONDS, Desk, desk, settled

__all__ = ["desk"]

OPAQUE = OpaquePart("vendor", "model", "signature", '"x"')


async def parts_on(desk: Desk) -> list[Part]:
    bodies = [decode_frame(entry.data) for entry in await desk.arrived()]
    return [body.part for body in bodies if isinstance(body, PartFrame)]


async def test_arguments_are_coalesced_by_their_call(desk: Desk) -> None:
    stream = await desk.answering()
    stream.part(ToolCallPart("a", "look", ""))
    for call_id, text in (("a", "{"), ("a", '"x"'), ("b", "["), ("a", ":1"), ("a", "}")):
        stream.part(ToolArgumentsPart(call_id, text))
    stream.flush()
    await settled()
    sent = [part for part in await parts_on(desk) if isinstance(part, ToolArgumentsPart)]
    assert [(part.call_id, part.text) for part in sent] == [("a", '{"x"'), ("b", "["), ("a", ":1}")]
    assert COALESCE_SECONDS > 0


async def test_a_call_begins_at_once_behind_what_was_held_back(desk: Desk) -> None:
    stream = await desk.answering()
    for part in (TextPart("a"), TextPart("b"), ToolCallPart("c", "look", "{}")):
        stream.part(part)
    await settled()
    assert await parts_on(desk) == [TextPart("a"), TextPart("b"), ToolCallPart("c", "look", "{}")]


async def test_long_arguments_are_several_frames_that_join_to_the_same(desk: Desk) -> None:
    stream = await desk.answering()
    call = ToolCallPart("c", "look", "x" * (2 * FRAME_CHARACTERS_MAX + 1))
    stream.part(call)
    stream.part(ToolArgumentsPart("d", "y" * (FRAME_CHARACTERS_MAX + 1)))
    stream.flush()
    await settled()
    sent = await parts_on(desk)
    assert joined(sent) == (call,)
    texts = [part.text for part in sent if isinstance(part, ToolArgumentsPart)]
    assert max(map(len, texts)) == FRAME_CHARACTERS_MAX


async def test_of_a_result_its_beginning_is_streamed(desk: Desk) -> None:
    """The message that follows has all of it."""
    stream = await desk.answering()
    stream.part(ToolResultPart("c", "x" * (FRAME_CHARACTERS_MAX + 5), is_error=True))
    await settled()
    assert await parts_on(desk) == [ToolResultPart("c", "x" * FRAME_CHARACTERS_MAX, is_error=True)]


def test_an_interrupt_keeps_words_and_no_call_that_was_being_said() -> None:
    said: list[Part] = [TextPart("a"), ReasoningPart("b"), OPAQUE, ToolCallPart("c", "look", "{")]
    said.append(ToolArgumentsPart("c", "}"))
    kept = interrupted(Said(said), None)
    assert kept is not None
    assert kept.parts == (TextPart("a"), ReasoningPart("b"))
    nothing_but_tools = (ToolCallPart("c", "look", ""), ToolProgressPart("c", 1.0), ToolResultPart("c", "done"))
    assert interrupted(Said(nothing_but_tools), None) is None


async def test_what_only_the_provider_understands_is_kept_and_not_streamed(world: World) -> None:
    a = await world.replica()
    chat = await a.create()
    reader = await a.read(chat)
    call = await world.model.next_call()
    call.say("Hi")
    call.play(Delta(OPAQUE))
    call.finish()
    await reader.until_status("waiting")
    assert chat.row.messages[-1].parts == (TextPart("Hi"), OPAQUE)
    assert not any("opaque" in str(event.data) for event in reader.events)


async def test_thousands_of_pieces_of_arguments_are_one_text_in_the_history(world: World) -> None:
    """Two calls are written side by side, so that neighbours are seldom of one call."""
    a = await world.replica()
    world.tools.offered = [tool("tool")]
    chat = await a.create()
    call = await world.model.next_call()
    call.ask_for_tool("c1", "tool", '{"a": "')
    call.ask_for_tool("c2", "tool", '{"a": "')
    for number in range(3000):
        call.write_arguments(f"c{number % 2 + 1}", "xy")
    for call_id in ("c1", "c2"):
        call.write_arguments(call_id, '"}')
    call.finish("tool_calls")
    runs = [await world.tools.next_run() for _ in range(2)]
    assert [run.call.arguments for run in runs] == [{"a": "xy" * 1500}] * 2
    assert [len(part.arguments) for part in chat.row.messages[-1].parts if isinstance(part, ToolCallPart)] == [3009] * 2


@pytest.mark.parametrize("side_by_side", [False, True])
async def test_p10_pieces_that_cannot_be_joined_count_for_what_they_take(world: World, side_by_side: bool) -> None:
    a = await world.replica(attempt_bytes_max=64 << 10, attempts_max=1)
    chat = await a.create()
    reader = await a.read(chat)
    call = await world.model.next_call()
    call.ask_for_tool("c0", "tool", "")
    call.ask_for_tool("c1", "tool", "")
    for number in range((64 << 10) // PART_BYTES):
        call.write_arguments(f"c{number % 2 if side_by_side else 0}", "x")
    await world.settle()
    assert call.ended.is_set() == side_by_side
    if side_by_side:
        await reader.until_line("error answer_too_large")
