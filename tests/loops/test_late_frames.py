"""Frames that arrive after the news of what became of them: they show nothing that was dropped (P3)."""

from __future__ import annotations

from loops.cluster_world import World


async def test_frames_of_a_failed_attempt_that_come_after_its_retry_are_not_shown(world: World) -> None:
    owner = await world.replica()
    chat, call, reader = await world.answering(owner, "Half")
    held = owner.redis_wire.hold("append")
    call.say(" an answer")
    await held.reached.wait()
    call.fail()
    await reader.until_line("retry 1 overloaded")
    held.release()
    await world.until(lambda: len(world.frames(chat)) == 4)
    await world.settle()
    assert reader.preview == ""
    call = await world.model.next_call()
    call.answer("A whole answer")
    await reader.until_status("waiting")
    assert reader.story[-6:] == [
        "… Half",
        "retry 1 overloaded",
        "attempt 2",
        "… A whole answer",
        "assistant: A whole answer",
        "status waiting",
    ]


async def test_frames_of_a_failed_turn_that_come_after_its_error_are_not_shown(world: World) -> None:
    owner = await world.replica()
    chat, call, reader = await world.answering(owner, "Half")
    held = owner.redis_wire.hold("append")
    call.say(" an answer")
    await held.reached.wait()
    call.fail("auth", retryable=False)
    await reader.until_line("error auth")
    held.release()
    await world.until(lambda: world.frames(chat)[-1].endswith("close"))
    await world.settle()
    assert reader.preview == ""
    assert reader.story[-3:] == ["… Half", "status error", "error auth"]


async def test_an_answer_that_is_done_before_its_tenure_is_open_on_the_stream_is_streamed_all_the_same(
    world: World,
) -> None:
    owner = await world.replica()
    held = owner.redis_wire.hold("open")
    chat = await owner.create("hello")
    reader = await owner.read(chat)
    (await world.model.next_call()).answer("Hi there!")
    await chat.until_status("waiting")
    assert held.reached.is_set()
    held.release()
    await reader.until_status("waiting")
    assert reader.story[-4:] == ["attempt 1", "… Hi there!", "assistant: Hi there!", "status waiting"]
