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


async def test_a_reader_that_knows_of_a_retry_is_not_shown_the_rest_of_the_failed_attempt_elsewhere(
    world: World,
) -> None:
    """One replica showed more of the attempt, and never saw the retry: only that the next attempt is on."""
    owner, other, ahead = await world.cluster(3, retry_base_seconds=8.0)
    chat, call, _ = await world.answering(owner, "Half")
    reader, elsewhere = await other.read(chat), await ahead.read(chat)
    await reader.until_preview("Half")
    other.pubsub.disconnect()
    other.redis_wire.cut = True
    call.say(" an answer")
    await elsewhere.until_preview("Half an answer")
    next_read = ahead.database_wire.hold("read")
    call.fail()
    await reader.until_line("retry 1 overloaded")
    frames_of_next_attempt = owner.redis_wire.hold("append")
    call = await world.model.next_call()
    next_read.release()
    resumed = await ahead.resume(chat, reader)
    await resumed.until_line("queue []")
    await world.settle()
    assert resumed.story == ["status running", "queue []"]
    frames_of_next_attempt.release()
    call.answer("A whole answer")
    await resumed.until_status("waiting")
    assert resumed.story[2:] == ["attempt 2", "… A whole answer", "assistant: A whole answer", "status waiting"]
    await elsewhere.until_status("waiting")


async def test_a_reader_in_the_middle_of_a_failed_attempt_stays_there_until_the_next_one(world: World) -> None:
    """No cursor says that it was shown what was not."""
    owner, other, ahead = await world.cluster(3, retry_base_seconds=8.0)
    chat, call, _ = await world.answering(owner, "Half")
    reader, elsewhere = await other.read(chat), await ahead.read(chat)
    await reader.until_preview("Half")
    last_shown = reader.view.cursor.position
    other.pubsub.disconnect()
    other.redis_wire.cut = True
    call.say(" an answer")
    await elsewhere.until_preview("Half an answer")
    next_read = ahead.database_wire.hold("read")
    call.fail()
    frames_of_next_attempt = owner.redis_wire.hold("append")
    reader.leave()
    call = await world.model.next_call()
    next_read.release()
    await world.settle()
    resumed = await ahead.read(chat, view=reader.view)
    await ahead.rename(chat, "Patience")
    await resumed.until_line("title Patience")
    assert resumed.view.cursor.position == last_shown
    assert resumed.preview == "Half"
    frames_of_next_attempt.release()
    call.answer("A whole answer")
    await resumed.until_status("waiting")
    assert resumed.story[-4:] == ["attempt 2", "… A whole answer", "assistant: A whole answer", "status waiting"]


async def test_who_joins_when_the_next_attempt_is_shown_is_not_told_of_the_retry_before_it(world: World) -> None:
    """The state that came with the retry may be the newest that is shown, while the message waits for its frames."""
    owner, other = await world.cluster(2, retry_base_seconds=1.0)
    chat, call, _ = await world.answering(owner, "Half")
    reader = await other.read(chat)
    await reader.until_preview("Half")
    call.fail()
    await reader.until_line("retry 1 overloaded")
    next_read = other.database_wire.hold("read")
    call = await world.model.next_call()
    await next_read.reached.wait()
    await world.settle()
    frames_of_the_answer = owner.redis_wire.hold("append")
    call.answer("A whole answer")
    await chat.until_status("waiting")
    next_read.release()
    await reader.until_line("attempt 2", within=0.1)
    resumed = await other.resume(chat, reader)
    late = await other.read(chat)
    await late.until_line("attempt 2", within=0.1)
    assert late.story == ["status running", "user: hello", "queue []", "attempt 2"]
    frames_of_the_answer.release()
    for each in (resumed, late):
        await each.until_status("waiting")
        assert each.story[-3:] == ["… A whole answer", "assistant: A whole answer", "status waiting"]
        assert "retry 1 overloaded" not in each.story
