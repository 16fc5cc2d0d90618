"""What a call prints is on the chat's stream while it runs: whole as long as it is not much, bounded in any case, and
the same to those who read on another replica, or after a takeover."""

from __future__ import annotations

import json

import pytest
import trio

from chatcluster import call_progress
from chatcluster.call_progress import (
    PACE_SECONDS,
    PIECE_BYTES_MAX,
    SHOWN_BYTES_MAX,
    TAIL_BYTES,
    WHOLE_BYTES_MAX,
    CallProgress,
)
from chatcluster.client.call_outputs import CallOutput, with_piece
from chatcluster.client.chat_view import ChatView
from chatcluster.client.events import decode_event
from chatcluster.parts import Part, ToolOutputPart
from chatcluster.ports import Effect, Printed
from loops.cluster_world import World
from loops.reader import Reader
from loops.scripted_tools import Run, tool
from loops.tool_scenes import calling, finish, running, two_runs

Shown = list[Part]


def printing(shown: Shown) -> CallProgress:
    return CallProgress(shown.append, lambda: None)


def pieces(shown: Shown) -> list[ToolOutputPart]:
    return [part for part in shown if isinstance(part, ToolOutputPart)]


def joined(shown: Shown) -> CallOutput:
    output = None
    for piece in pieces(shown):
        output = with_piece(output, piece)
    assert output is not None
    return output


class Printer:
    """A call that prints."""

    def __init__(self, progress: CallProgress, call_id: str = "c1") -> None:
        self._progress, self._call_id, self._offset = progress, call_id, 0

    def print(self, data: bytes) -> None:
        self._progress.told(self._call_id, Printed(self._offset, data))
        self._offset += len(data)


async def test_a_character_is_never_cut_and_what_is_no_text_is_said_to_be(autojump_clock: object) -> None:
    shown: Shown = []
    progress = printing(shown)
    printer = Printer(progress)
    for byte in "né€🙂".encode() + b"\xff.":
        printer.print(bytes([byte]))
        progress.show()
        await trio.sleep(PACE_SECONDS)
    progress.ended("c1", has_result=True)
    assert "".join(piece.text for piece in pieces(shown)) == "né€🙂\ufffd."
    ends = [0, *(piece.end for piece in pieces(shown))]
    assert [piece.offset for piece in pieces(shown)] == ends[:-1], "no byte twice, and none left out"


async def test_a_character_that_never_ends_is_shown_with_the_end_of_the_call(autojump_clock: object) -> None:
    shown: Shown = []
    progress = printing(shown)
    Printer(progress).print(b"a\xe2\x82")
    progress.ended("c1", has_result=True)
    assert joined(shown) == CallOutput(0, 3, "a\ufffd")


async def test_it_is_shown_at_a_pace_and_the_rest_right_before_the_result(autojump_clock: object) -> None:
    shown: Shown = []
    progress = printing(shown)
    printer = Printer(progress)
    for number in range(100):
        printer.print(b"%d " % number)
        progress.show()
    assert len(shown) == 1
    await trio.sleep(PACE_SECONDS)
    progress.show()
    assert len(shown) == 2
    printer.print(b"end")
    progress.ended("c1", has_result=True)
    assert joined(shown).text == "".join(f"{number} " for number in range(100)) + "end"


async def test_p10_whatever_a_call_prints_what_is_shown_of_it_is_bounded(autojump_clock: object) -> None:
    shown: Shown = []
    progress = printing(shown)
    printer = Printer(progress)
    for _ in range(3000):
        printer.print(b"x" * 10_000)
        progress.show()
        await trio.sleep(PACE_SECONDS)
    sizes = [piece.end - piece.offset for piece in pieces(shown)]
    assert max(sizes) <= PIECE_BYTES_MAX
    assert WHOLE_BYTES_MAX < sum(sizes) < SHOWN_BYTES_MAX + TAIL_BYTES
    assert joined(shown).offset > 0, "and it is said that something was left out"


async def test_until_much_was_printed_nothing_is_left_out(
    autojump_clock: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(call_progress, "WHOLE_BYTES_MAX", 100)
    shown: Shown = []
    progress = printing(shown)
    printer = Printer(progress)
    for number in range(40):
        printer.print(b"%02d;" % number)
        progress.show()
        await trio.sleep(PACE_SECONDS)
    assert [piece.offset for piece in pieces(shown)] == list(range(0, 120, 3))


# --- in a cluster -----------------------------------------------------------------------------


def output_of(reader: Reader, run: Run) -> CallOutput | None:
    """As the Python client shows it."""
    view = ChatView()
    for told in reader.events:
        event = decode_event(told.type, json.dumps(told.data))
        if event is not None:
            view.apply(told.id, event)
    return view.outputs.get(run.call.call_id)


async def test_readers_see_what_a_call_prints_until_its_result_is_there(world: World) -> None:
    a, b = await world.cluster(2)
    chat, run = await running(world, a)
    reader = await b.read(chat)
    run.progressed(Printed(0, b"1\n"))
    run.progressed(Printed(2, b"2\n"))
    await trio.sleep(2 * PACE_SECONDS)
    assert output_of(reader, run) == CallOutput(0, 4, "1\n2\n")
    late = await a.read(chat)
    await world.settle()
    assert output_of(late, run) == CallOutput(0, 4, "1\n2\n")
    run.give("done")
    await finish(world, chat)
    await world.settle()
    assert output_of(reader, run) is None


async def test_a_takeover_goes_on_with_a_tracked_call_and_its_output_without_a_word(world: World) -> None:
    """P7: the tool knows the call, so nothing is unknown and nothing is said."""
    a, b = await world.cluster(2)
    chat, run = await running(world, a, Effect.TRACKED)
    (left,) = (replica for replica in (a, b) if replica is not world.owner_of(chat))
    reader = await left.read(chat)
    run.progressed(Printed(0, b"1\n2"))
    await trio.sleep(2 * PACE_SECONDS)
    world.owner_of(chat).kill()
    again = await world.tools.next_run()
    assert again.call == run.call
    again.progressed(Printed(0, b"1\n2\n3\n"))
    await trio.sleep(2 * PACE_SECONDS)
    assert output_of(reader, run) == CallOutput(0, 6, "1\n2\n3\n")
    again.give("3 lines")
    await finish(world, chat)
    assert chat.results == {"c1": "3 lines"}


async def test_who_begins_to_read_in_a_later_attempt_gets_the_newest_output(world: World) -> None:
    a, b = await world.cluster(2)
    chat = await calling(world, a, "c1", "c2", tools=(tool("tool"),))
    first, second = await two_runs(world)
    first.progressed(Printed(0, b"still here"))
    await trio.sleep(2 * PACE_SECONDS)
    second.give("done")
    await chat.until(lambda chat: "c2" in chat.results)
    reader = await b.read(chat)
    await world.settle()
    assert output_of(reader, first) == CallOutput(0, 10, "still here")
