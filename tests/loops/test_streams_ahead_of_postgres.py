"""A part stream that has what Postgres does not know, garbage or a forgotten tenure: Postgres wins (P2, P3, P10)."""

from __future__ import annotations

import copy
from uuid import UUID

import msgspec
import pytest
import trio
from chat_states import assistant, result

from chatcluster.chat import FinishInterruption, Status
from chatcluster.overrule import OVERRULES_MAX, Overruling
from chatcluster.parts import Frame, FrameKind, OpenFrame, PartFrame, Position, TextPart, frame, parse_cursor
from chatcluster.ports import Progressed
from chatcluster.tenure_stream import EPOCH_MAX
from chatcluster.tool_results import SHOWN_BYTES_MAX
from loops.cluster_world import Chat, World
from loops.reader import Reader
from loops.tool_scenes import running

STRANGER = UUID(int=99)

SEQ_MAX = 2**64 - 1
IMPOSSIBLE = [
    Frame(Position(999_999, 0), FrameKind.OPEN, b'{"type":"open","worker_id":"x","history_version":1}'),
    Frame(Position(1_764_345_600_000, 0), FrameKind.UNKNOWN, b""),
    Frame(Position(1, SEQ_MAX), FrameKind.PART, b"\xff"),
    Frame(Position(1, 3), FrameKind.PART, b'{"type":"part","attempt":1,"part":{"type":"text","text":"x"}}'),
    Frame(Position(EPOCH_MAX, 0), FrameKind.ATTEMPT, b"{}"),
    Frame(Position(SEQ_MAX, SEQ_MAX), FrameKind.COMMITTED, b"not json"),
]


def put(world: World, chat: Chat, *frames: Frame) -> None:
    """Somebody else writes into the chat's stream."""
    row = world.broker.create_stream(chat.id)
    row.frames.extend(frames)
    row.last = frames[-1].position


def lose_claim(world: World, chat: Chat) -> None:
    """Postgres is as it was before the chat was claimed."""
    state = chat.state
    before = msgspec.structs.replace(
        state, worker_id=None, epoch=state.epoch - 1, snapshot_version=state.snapshot_version - 1, attempt=0
    )
    world.database.change(chat.row, before)


@pytest.mark.parametrize("foreign", IMPOSSIBLE, ids=lambda foreign: str(foreign.position))
async def test_an_impossible_epoch_costs_the_chat_nothing_and_others_do_not_notice(
    world: World, foreign: Frame
) -> None:
    owner, other = await world.replica(), await world.replica(slots=0)
    chat, call, reader = await world.answering(owner)
    there = await other.read(chat)
    bystander, second_call, watcher = await world.answering(owner, "I saw")
    put(world, chat, foreign)
    call.say(" answer")
    second_call.say(" nothing")
    await watcher.until_preview("I saw nothing", within=0.1)
    for each in (reader, there):
        await each.until_preview("Half an answer")
    call.answer(" indeed")
    for each in (reader, there):
        await each.until_status("waiting")
        assert each.history == chat.history == ["user: hello", "assistant: Half an answer indeed"]
    assert "stream.overruled" in world.names_told()
    assert bystander.epoch == 1
    second_call.answer("")


async def test_a_reader_that_comes_while_the_stream_is_garbage_gets_the_answer(world: World) -> None:
    owner, other = await world.replica(), await world.replica(slots=0)
    chat, call, _ = await world.answering(owner)
    put(world, chat, IMPOSSIBLE[0])
    late = await other.read(chat)
    await trio.sleep(1)
    call.say(" answer")
    await late.until_preview("Half an answer")
    call.answer("")
    await late.until_status("waiting")
    assert late.history == chat.history


async def test_an_answer_that_is_complete_while_its_tenure_is_overruled_comes_after_its_words(world: World) -> None:
    """P3: its message names its last frame under the epoch under which readers are shown it."""
    owner, other = await world.replica(), await world.replica(slots=0)
    chat, call, _ = await world.answering(owner)
    there = await other.read(chat)
    put(world, chat, IMPOSSIBLE[0])
    overruling = owner.database_wire.hold("raise_epoch")
    call.say(" answer")
    await overruling.reached.wait()
    call.answer(" indeed")
    await world.settle()
    overruling.release()
    await there.until_status("waiting")
    assert there.history == chat.history == ["user: hello", "assistant: Half an answer indeed"]
    assert chat.row.messages[-1].position == f"{chat.epoch}-4"
    await world.settle()
    assert f"{chat.epoch}-4 part" in world.frames(chat)
    assert f"{chat.epoch}-5 part" not in world.frames(chat)


async def test_an_answer_that_begins_while_its_tenure_is_overruled_comes_after_its_words(world: World) -> None:
    """P3"""
    owner = await world.replica()
    chat = await world.one_turn(owner)
    put(world, chat, IMPOSSIBLE[0])
    reader = await owner.read(chat)
    overruling = owner.database_wire.hold("raise_epoch")
    await owner.send(chat, "again")
    call = await world.model.next_call()
    await overruling.reached.wait()
    call.answer("Once more")
    await world.settle()
    overruling.release()
    await reader.until_line("assistant: Once more")
    assert chat.row.messages[-1].position == f"{chat.epoch}-2"


async def test_a_tenure_that_ends_while_it_overrules_a_stream_is_not_sent_again(world: World) -> None:
    """P10: nothing is left of it to be sent, and the streams of other chats go on."""
    owner = await world.replica()
    chat, call, _ = await world.answering(owner)
    put(world, chat, IMPOSSIBLE[0])
    overruled = owner.database_wire.hold_answer("raise_epoch")
    call.say(" answer")
    await overruled.reached.wait()
    overruled.release()
    owner.loop.tenures.fence()
    await world.settle()
    _, second_call, _ = await world.answering(owner, "Others go on")
    second_call.answer("")


async def test_a_chat_at_rest_whose_stream_is_garbage_works_in_its_next_turn(world: World) -> None:
    owner = await world.replica()
    chat = await world.one_turn(owner)
    put(world, chat, IMPOSSIBLE[0])
    reader = await owner.read(chat)
    await owner.send(chat, "again")
    call = await world.model.next_call()
    call.say("Once")
    await reader.until_preview("Once")
    assert chat.epoch == 1_000_000
    call.answer(" more")
    await chat.until_status("waiting")


async def test_one_epoch_given_twice_is_told_apart_by_its_worker(world: World) -> None:
    """A failover lost a claim, and the worker that made it goes on for as long as it does not know."""
    first = await world.replica(slots=1)
    chat, call, _ = await world.answering(first, "The first worker's words")
    second, other = await world.replica(slots=1), await world.replica(slots=0)
    reader = await other.read(chat)
    await reader.until_preview("The first worker's words")
    first.lose_database()
    lose_claim(world, chat)
    again = await world.model.next_call()
    assert chat.owner == second.worker_id
    assert chat.epoch == 1, "the same again"
    call.say(" go on")
    again.say("Other")
    await reader.until_preview("Other")
    call.say(" and on")
    again.say(" words")
    await reader.until_preview("Other words")
    again.answer("")
    await reader.until_status("waiting")
    assert chat.epoch == 2
    assert reader.history == chat.history == ["user: hello", "assistant: Other words"]
    assert all("first" not in line for line in world.frames(chat))


async def test_what_a_forgotten_tenure_said_is_kept_by_an_interruption(world: World) -> None:
    """P5: it was shown, and builds on the history that there is."""
    first = await world.replica()
    chat, _, reader = await world.answering(first, "Half an answer")
    first.kill()
    lose_claim(world, chat)
    state = msgspec.structs.replace(
        chat.state, status=Status.INTERRUPTING, snapshot_version=chat.state.snapshot_version + 1
    )
    world.database.change(chat.row, state)
    await world.replica()
    await chat.until_status("waiting")
    assert chat.history == ["user: hello", "assistant: Half an answer"]
    assert chat.epoch == 2
    reader.leave()


async def test_history_that_postgres_has_forgotten_is_taken_back_from_readers(world: World) -> None:
    """P3: readers are told to start anew, and a cursor of what is lost leads to the same."""
    owner, other = await world.replica(), await world.replica(slots=0)
    chat = await world.one_turn(owner, "hello", "Hi there!")
    before = chat.state, list(chat.row.messages)
    reader = await other.read(chat)
    await reader.until_line("queue []")
    await world.exchange(owner, chat, "lost", "Also lost")
    await reader.until_line("assistant: Also lost")
    lost_cursor = reader.ids()[-1]
    chat.row.messages = before[1]
    world.database.change(chat.row, before[0])
    await until_history(reader, chat)
    resumed = await other.read(chat, lost_cursor)
    await resumed.until_line("history_reset")
    await until_history(resumed, chat)
    assert parse_cursor(lost_cursor) > parse_cursor(reader.ids()[-1])


async def test_a_version_that_is_given_out_twice_is_told_apart(world: World) -> None:
    """A failover lost what a user did, and what came instead has its number."""
    owner, other = await world.replica(), await world.replica(slots=0)
    chat, call, _ = await world.answering(owner)
    reader = await other.read(chat)
    before = copy.deepcopy(chat.row)
    await owner.send(chat, "lost")
    await reader.until_line("queue ['lost']")
    other.lose_database()
    world.database.chats[chat.id] = before
    call.answer("")
    await chat.until_status("waiting")
    assert chat.state.snapshot_version == parse_cursor(reader.ids()[-1]).version
    other.find_database()
    await reader.until_status("waiting")
    await until_history(reader, chat)


async def test_an_owner_whose_history_postgres_has_forgotten_goes_on_from_what_there_is(world: World) -> None:
    """P4: what it has seen of the lost history does not keep it from working on the one that is left."""
    owner = await world.replica()
    chat, call, reader = await world.answering(owner, "First")
    await owner.send(chat, "second")
    before = copy.deepcopy(chat.row)
    call.answer("")
    second = await world.model.next_call()
    await owner.send(chat, "third")
    await trio.sleep(1)
    world.database.chats[chat.id] = before
    await trio.sleep(3)  # so readers are told
    second.answer("Lost")
    for words in ("First again", "Second again"):
        (await world.model.next_call()).answer(words)
    await chat.until_status("waiting", within=10)
    assert chat.history == ["user: hello", "assistant: First again", "user: second", "assistant: Second again"]
    await until_history(reader, chat)


async def until_history(reader: Reader, chat: Chat) -> None:
    with trio.fail_after(30):
        await reader.until(lambda each: each.history == chat.history)


async def test_somebody_who_goes_on_writing_costs_the_chat_its_parts_and_no_more(world: World) -> None:
    owner = await world.replica()
    chat, call, reader = await world.answering(owner)
    reader.view.words_may_be_lost = True
    for number in range(1, OVERRULES_MAX + 4):
        put(world, chat, frame(Position(10 * chat.epoch, number), OpenFrame(str(STRANGER), 1)))
        call.say(f" {number}")
        await trio.sleep(1)
    assert world.names_told().count("stream.overruled") == OVERRULES_MAX + 1
    call.answer(" end")
    await reader.until_status("waiting")
    assert reader.history == chat.history
    assert chat.history[-1].endswith(" end")


async def test_words_of_a_stranger_within_our_tenure_are_not_taken_for_ours(world: World) -> None:
    owner = await world.replica()
    chat, call, reader = await world.answering(owner)
    put(world, chat, frame(Position(1, 7), PartFrame(1, TextPart("injected"))))
    call.say(" answer")
    await reader.until_preview("Half an answer")
    call.answer("")
    await reader.until_status("waiting")
    assert chat.history == ["user: hello", "assistant: Half an answer"]


async def test_an_interruption_keeps_its_results_where_its_partial_answer_is_placed(world: World) -> None:
    """P7: what has run is not said to have been cancelled."""
    a = await world.replica()
    stream = a.publisher.stream(STRANGER, a.worker_id, 1, on_fenced=lambda: None)
    overruling = Overruling(a.store, a.streams, stream, a.worker_id)
    command = FinishInterruption(assistant("half an ans"), (result("call"),))
    assert overruling.placed(command) == command


async def test_a_long_result_that_comes_while_the_stream_is_overruled_is_kept_by_the_same_tenure(world: World) -> None:
    a = await world.replica()
    chat, run = await running(world, a)
    worker = chat.owner
    look, keep = a.database_wire.hold("get"), a.database_wire.hold("keep_result")
    put(world, chat, IMPOSSIBLE[0])
    run.progressed(Progressed(1.0))
    await look.reached.wait()
    run.give("x" * 2 * SHOWN_BYTES_MAX)
    await world.settle()
    look.release()
    await world.settle()
    assert chat.epoch > IMPOSSIBLE[0].position.epoch
    keep.release()
    call = await world.model.next_call()
    assert (chat.owner, len(chat.row.calls.results["c1"])) == (worker, 2 * SHOWN_BYTES_MAX)
    assert "runner.crashed" not in world.names_told()
    call.answer("There.")
    await chat.until_status("waiting")
    assert chat.owner is None
