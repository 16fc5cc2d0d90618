"""Servers that keep a connection alive and say nothing, ask for odd waits, or send what no database can store."""

from __future__ import annotations

from math import inf, nan

import pytest
import trio

from chatcluster.config import Settings
from chatcluster.errors import ProviderError
from chatcluster.parts import ReasoningPart, TextPart, ToolCallPart, Usage
from chatcluster.ports import Delta, Progress
from chatcluster.setting_sections import Turns
from chatcluster.turn import retry_delay_seconds
from loops.cluster_world import Chat, SimulatedReplica, World
from loops.reader import Reader
from loops.scripted_model import Call


async def keep_alive_until_ended(call: Call, every_seconds: float) -> None:
    while not call.ended.is_set():
        call.keep_alive()
        await trio.sleep(every_seconds)


async def test_signs_of_life_without_a_word_end_the_attempt(world: World) -> None:
    """P10: a model that never answers behind a gateway that always does would hold a slot for ever."""
    owner = await world.replica(model_silence_seconds=2.0, attempts_max=2, retry_base_seconds=0.1)
    chat = await owner.create()
    reader = await owner.read(chat)
    began = trio.current_time()
    for _ in range(2):
        await keep_alive_until_ended(await world.model.next_call(), 0.5)
    await reader.until_line("error stream_standstill_timeout")
    assert trio.current_time() - began == pytest.approx(2 * 4.0 + 0.1, abs=1.1)
    assert chat.state.last_error is not None
    assert "signs of life for 4 s, and no word" in chat.state.last_error.message
    assert chat.owner is None


async def test_a_long_thought_lives_as_long_as_something_comes_of_it(world: World) -> None:
    """Reasoning, text and pieces of a call count; between them signs of life may come for a while."""
    owner = await world.replica(model_silence_seconds=10.0, model_standstill_seconds=60.0)
    chat, call, _ = await world.answering(owner, "a")
    for event in (Delta(ReasoningPart("hm")), Delta(TextPart("b")), Progress()):
        for _ in range(6):
            await trio.sleep(9)
            call.keep_alive()
        call.play(event)
    call.finish()
    await chat.until_status("waiting")
    assert chat.history[-1] == "assistant: ab"


async def test_the_bound_on_a_standstill_can_be_set_apart_from_that_on_silence(world: World) -> None:
    owner = await world.replica(model_silence_seconds=600.0, model_standstill_seconds=30.0)
    _, call, reader = await world.answering(owner)
    began = trio.current_time()
    await keep_alive_until_ended(call, 1)
    await reader.until_line("retry 1 stream_standstill_timeout")
    assert trio.current_time() - began == pytest.approx(30, abs=1.1)


def test_a_standstill_is_twice_the_silence_unless_it_is_set() -> None:
    assert Settings().turns.standstill_seconds == 1200
    assert Settings.of(model_silence_seconds=2.0).turns.standstill_seconds == 4
    assert Settings.of(model_silence_seconds=2.0, model_standstill_seconds=60.0).turns.standstill_seconds == 60
    assert Settings.of(model_silence_seconds=0.0, model_standstill_seconds=60.0).turns.standstill_seconds == 60
    assert Settings.of(model_silence_seconds=0.0).turns.standstill_seconds == float("inf")


@pytest.mark.parametrize(
    ("asked", "waits"),
    [
        (None, 4.0),
        (0.0, 4.0),
        (-5.0, 4.0),
        (3.9, 4.0),
        (30.0, 30.0),
        (1e300, 600.0),
        (inf, 600.0),
        (nan, 4.0),
        (-inf, 4.0),
    ],
)
def test_a_provider_can_ask_for_a_longer_wait_and_never_for_a_shorter_one(asked: float | None, waits: float) -> None:
    error = ProviderError("busy", retryable=True, retry_after_seconds=asked)
    assert retry_delay_seconds(error, 3, Turns()) == waits


def test_the_last_of_a_thousand_attempts_waits_no_longer_than_the_cap() -> None:
    assert retry_delay_seconds(ProviderError("busy"), 1000, Turns(attempts_max=1000)) == 60


async def test_asked_to_come_back_at_once_the_chat_keeps_its_distance(world: World) -> None:
    owner = await world.replica(attempts_max=4)
    await owner.create()
    began = trio.current_time()
    for _ in range(4):
        (await world.model.next_call()).fail("rate_limit", retry_after=0.0)
    assert trio.current_time() - began == pytest.approx(1 + 2 + 4, abs=0.1)


ODD = "a\0b\ud800c"
CLEAN = "a\ufffdb\ufffdc"


async def asked(world: World, owner: SimulatedReplica) -> tuple[Chat, Call, Reader]:
    """A chat whose model has not said anything yet."""
    chat = await owner.create()
    reader = await owner.read(chat)
    return chat, await world.model.next_call(), reader


async def test_what_no_database_can_store_is_replaced_in_every_string_of_an_answer(world: World) -> None:
    owner = await world.replica()
    chat, call, reader = await asked(world, owner)
    call.say(ODD)
    call.think(ODD)
    call.play(Delta(ToolCallPart(ODD, ODD, ODD)))
    call.finish(ODD, Usage(1), model=ODD)
    (await world.model.next_call()).answer("No tool, then.")
    await reader.until_status("waiting")
    answer = next(message for message in chat.row.messages if message.role == "assistant")
    assert answer.parts[0] == TextPart(CLEAN)
    assert answer.parts[2] == ToolCallPart(CLEAN, CLEAN, CLEAN)
    assert (answer.finish_reason, answer.model) == (CLEAN, CLEAN)


async def test_halves_of_a_character_become_it_again_where_they_meet(world: World) -> None:
    owner = await world.replica()
    chat, call, _ = await asked(world, owner)
    call.answer("\ud83c\udf0d")
    await chat.until_status("waiting")
    assert chat.history[-1] == "assistant: \U0001f30d"


async def test_an_error_message_can_be_stored_whatever_is_in_it(world: World) -> None:
    owner = await world.replica(attempts_max=1)
    _, call, reader = await world.answering(owner)
    call.crash(ProviderError(ODD, kind="generic", retryable=True))
    await reader.until_line("error generic")
    assert CLEAN in str(reader.events[-1].data)


@pytest.mark.parametrize("words", ["", " ", " \n\t", "\u200b\u2060\ufeff"])
async def test_an_answer_with_nothing_to_see_is_an_error(world: World, words: str) -> None:
    owner = await world.replica(attempts_max=1)
    chat, call, reader = await asked(world, owner)
    call.think("Let me see.")
    call.answer(words)
    await reader.until_line("error empty_answer")
    assert chat.history == ["user: hello"]


async def test_calls_without_a_word_are_an_answer(world: World) -> None:
    owner = await world.replica()
    chat, call, _ = await asked(world, owner)
    call.ask_for_tool("call-1")
    call.finish("tool_calls")
    (await world.model.next_call()).finish()
    await chat.until(lambda chat: len(chat.row.messages) == 3)
    assert [str(message.role) for message in chat.row.messages] == ["user", "assistant", "tool"]
