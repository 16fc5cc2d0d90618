"""A provider that fails: another attempt, at the right moment, or an error that everybody sees. Never silence."""

from __future__ import annotations

import copy

import pytest
import trio

from chatcluster.chat import Fence, Retry, ScheduleRetry
from chatcluster.errors import Moved
from chatcluster.parts import ToolResultPart, Usage
from loops.cluster_world import Chat, SimulatedReplica, World
from loops.scripted_model import Call


async def test_a_failed_attempt_is_tried_again_and_leaves_nothing_behind(world: World) -> None:
    owner, other = await world.cluster(2)
    chat, call, _ = await world.answering(owner, "Bro")
    reader = await other.read(chat)
    await reader.until_preview("Bro")
    call.fail("rate_limit")
    await reader.until_line("retry 1 rate_limit")
    assert reader.preview == "", "a retry drops what the failed attempt had said"
    (await world.model.next_call()).answer("Whole.")
    await reader.until_status("waiting")
    assert chat.history == ["user: hello", "assistant: Whole."]
    assert [line for line in reader.story if line.startswith(("attempt", "retry", "…", "assistant"))] == [
        "attempt 1",
        "… Bro",
        "retry 1 rate_limit",
        "attempt 2",
        "… Whole.",
        "assistant: Whole.",
    ]


async def test_the_retry_says_why_and_when_before_the_wait(world: World) -> None:
    owner = await world.replica(retry_base_seconds=8.0)
    chat, call, reader = await world.answering(owner)
    began = trio.current_time()
    call.fail("rate_limit")
    await reader.until_line("retry 1 rate_limit", within=0.1)
    (retry,) = [event.data for event in reader.events if event.type == "retry"]
    assert retry["delay_ms"] == 8000
    assert retry["provider"] == "scripted"
    assert retry["status_code"] == 429
    assert retry["error"] == "the provider says: rate_limit"
    assert retry["retrying_at"] == world.database.date(began + 8).isoformat().replace("+00:00", "Z")
    (await world.model.next_call()).finish("stop")
    assert trio.current_time() - began == pytest.approx(8.0, abs=0.1)
    assert chat.state.retry is None


async def test_a_late_subscriber_sees_the_retry_that_the_chat_waits_for(world: World) -> None:
    owner, other = await world.replica(retry_base_seconds=50.0), await world.replica(slots=0)
    chat, call, reader = await world.answering(owner)
    call.fail()
    await reader.until_line("retry 1 overloaded")
    late = await other.read(chat)
    await late.until_line("retry 1 overloaded", within=0.1)
    assert late.story == ["status running", "user: hello", "queue []", "retry 1 overloaded"]


async def begun_and_forgotten(world: World, owner: SimulatedReplica) -> tuple[Chat, Call]:
    """A chat whose second attempt is under way, and whose row says, after a failover, that it waits for it."""
    chat, call, _ = await world.answering(owner, "Bro")
    call.fail()
    await chat.until(lambda each: each.state.retry is not None)
    before = copy.deepcopy(chat.row)
    call = await world.model.next_call()
    call.say("Half an")
    world.database.chats[chat.id] = before
    world.database.fail_over()
    return chat, call


async def test_the_attempt_under_way_goes_on_before_readers_where_its_start_was_lost(world: World) -> None:
    """P3: the row says that it is waited for; whoever was shown some of it knows better, on a fresh feed as well."""
    owner = await world.replica(retry_base_seconds=1.0)
    chat, call = await begun_and_forgotten(world, owner)
    await owner.send(chat, "next")
    reader = await (await world.replica(slots=0)).read(chat)
    await reader.until_preview("Half an")
    world.broker.disconnect()
    world.broker.flush()
    late = await (await world.replica(slots=0)).resume(chat, reader)
    await late.until_line("queue ['next']")
    world.broker.connect()
    call.say(" answer")
    await late.until_preview("Half an answer", within=10.0)
    call.answer(" to it")
    (await world.model.next_call()).answer("The next one")
    await chat.until_status("waiting")
    await late.until(lambda each: each.history == chat.history)


async def test_what_is_queued_meanwhile_tells_nobody_of_a_retry_that_is_over(world: World) -> None:
    """P3: as above, for a reader that is there all the time."""
    owner = await world.replica(retry_base_seconds=1.0)
    chat, call = await begun_and_forgotten(world, owner)
    await owner.send(chat, "next")
    reader = await (await world.replica(slots=0)).read(chat)
    await reader.until_preview("Half an")
    told = reader.story.count("retry 1 overloaded")
    await owner.send(chat, "and more")
    await reader.until_line("queue ['next', 'and more']")
    call.say(" answer")
    await reader.until_preview("Half an answer")
    assert reader.story.count("retry 1 overloaded") == told


async def test_an_attempt_whose_start_was_lost_fails_like_any_other(world: World) -> None:
    """What comes after it has another number, and is shown."""
    owner = await world.replica(retry_base_seconds=1.0)
    chat, call = await begun_and_forgotten(world, owner)
    call.fail()
    await chat.until(lambda each: each.state.retry is not None and each.state.retry.attempt == 2)
    assert (chat.state.attempt, chat.state.failures) == (2, 2)
    reader = await owner.read(chat)
    call = await world.model.next_call()
    call.say("Whole")
    await reader.until_line("attempt 3")
    await reader.until_preview("Whole")
    call.answer(".")


async def test_a_number_that_a_tenure_has_given_is_given_to_no_other_attempt_though_a_failover_lost_all_of_it(
    world: World,
) -> None:
    """The first attempt failed, the second was stopped, and the row knows of neither: what the second cost is still to
    be booked, under its number, and the third could not be booked under the same."""
    owner, front = await world.replica(retry_base_seconds=1.0), await world.replica(slots=0)
    chat, call, _ = await world.answering(owner, "Bro")
    before = copy.deepcopy(chat.row)
    call.fail()
    (await world.model.next_call()).say("Half an")
    look = owner.database_wire.hold_answer("get")
    await front.interrupt(chat)
    await look.reached.wait()
    world.database.chats[chat.id] = before
    world.database.fail_over()
    look.release()
    call = await world.model.next_call()
    assert chat.state.attempt == 3
    call.answer("Whole.")
    await chat.until_status("waiting")


async def test_what_a_provider_refuses_of_its_own_is_left_out_from_then_on_and_asked_at_once(world: World) -> None:
    """One that refuses that as well ends the turn: it is asked no third time."""
    owner = await world.replica()
    chat, call, reader = await world.answering(owner)
    call.fail("opaque_refused", retryable=False)
    again = await world.model.next_call()
    assert (call.request.is_plain, again.request.is_plain) == (False, True)
    assert chat.state.failures == 0
    again.fail("opaque_refused", retryable=False)
    await reader.until_status("error")
    assert chat.state.last_error is not None
    assert chat.state.last_error.code == "opaque_refused"


async def test_the_wait_doubles_up_to_its_cap(world: World) -> None:
    owner = await world.replica(attempts_max=9)
    await owner.create()
    waits = []
    for _ in range(9):
        failed_at = trio.current_time()
        (await world.model.next_call()).fail()
        waits.append(round(trio.current_time() - failed_at, 1))
    assert waits == [0, 1, 2, 4, 8, 16, 32, 60, 60]


async def test_after_25_attempts_the_turn_ends_in_an_error_that_says_so(world: World) -> None:
    owner = await world.replica(retry_base_seconds=0.0)
    chat = await owner.create()
    reader = await owner.read(chat)
    for _ in range(25):
        (await world.model.next_call()).fail("overloaded")
    await reader.until_line("error overloaded")
    assert chat.state.last_error is not None
    assert chat.state.last_error.message == "gave up after 25 attempts: the provider says: overloaded"
    assert chat.state.last_error.retryable
    assert chat.owner is None
    assert world.model.idle()


async def test_the_providers_own_wait_wins(world: World) -> None:
    owner = await world.replica()
    _, call, reader = await world.answering(owner)
    began = trio.current_time()
    call.fail("rate_limit", retry_after=90.0)
    await reader.until_line("retry 1 rate_limit")
    await world.model.next_call()
    assert trio.current_time() - began == pytest.approx(90.0, abs=0.1), "also above the cap"


async def test_what_cannot_get_better_is_an_error_at_once(world: World) -> None:
    owner, other = await world.cluster(2)
    chat, call, _ = await world.answering(owner)
    reader = await other.read(chat)
    call.fail("auth", retryable=False)
    await reader.until_line("error auth", within=0.1)
    assert reader.status == "error"
    assert reader.preview == ""
    assert chat.history == ["user: hello"]


async def test_an_error_is_shown_to_late_readers_until_the_chat_runs_again(world: World) -> None:
    """The last error is stored with the chat and cleared by the next run."""
    owner, other = await world.cluster(2)
    chat, call, reader = await world.answering(owner)
    call.fail("auth", retryable=False)
    await reader.until_line("error auth")
    late = await other.read(chat)
    await late.until_line("error auth")
    assert late.story == ["status error", "user: hello", "queue []", "error auth"]
    await owner.send(chat, "again")
    (await world.model.next_call()).answer("Now it works.")
    await late.until_status("waiting")
    assert chat.state.last_error is None
    fresh = await other.read(chat)
    await fresh.until_line("queue []")
    await world.settle()
    assert "error auth" not in fresh.story


async def test_an_error_comes_once(world: World) -> None:
    owner, other = await world.cluster(2)
    chat, call, _ = await world.answering(owner)
    reader = await other.read(chat)
    call.fail("auth", retryable=False)
    await reader.until_line("error auth")
    await owner.rename(chat, "Trouble")
    await reader.until_line("title Trouble")
    await trio.sleep(5)
    assert reader.story.count("error auth") == 1


async def test_an_end_without_a_terminal_event_is_an_error_and_no_answer(world: World) -> None:
    owner = await world.replica()
    chat, call, reader = await world.answering(owner, "Half an ans")
    call.hang_up()
    await reader.until_line("retry 1 stream_incomplete")
    (await world.model.next_call()).answer("Whole.")
    await reader.until_status("waiting")
    assert chat.history == ["user: hello", "assistant: Whole."]


@pytest.mark.parametrize("reason", ["stop", "length"])
async def test_an_empty_answer_is_an_error_and_not_silence(world: World, reason: str) -> None:
    owner = await world.replica(attempts_max=2, retry_base_seconds=0.0)
    chat = await owner.create()
    reader = await owner.read(chat)
    for _ in range(2):
        (await world.model.next_call()).finish(reason)
    await reader.until_line("error empty_answer")
    assert chat.history == ["user: hello"], "no empty message"


async def test_a_silent_model_is_given_up_after_a_while(world: World) -> None:
    owner = await world.replica(model_silence_seconds=600.0)
    _, call, reader = await world.answering(owner)
    began = trio.current_time()
    await reader.until_line("retry 1 stream_silence_timeout", within=601)
    assert trio.current_time() - began == pytest.approx(600, abs=0.1)
    assert call.ended.is_set()


async def test_every_sign_of_life_starts_the_silence_anew(world: World) -> None:
    owner = await world.replica(model_silence_seconds=10.0)
    chat, call, reader = await world.answering(owner, "a")
    for _ in range(5):
        await trio.sleep(9)
        call.keep_alive()
        await trio.sleep(9)
        call.say("b")
    call.finish()
    await reader.until_status("waiting")
    assert chat.history[-1] == "assistant: abbbbb"


async def test_silence_can_be_allowed_for_ever(world: World) -> None:
    owner = await world.replica(model_silence_seconds=0.0)
    chat, call, _ = await world.answering(owner, "Wait")
    await trio.sleep(3600)
    call.answer(" for it.")
    await chat.until_status("waiting")
    assert chat.history[-1] == "assistant: Wait for it."


async def test_a_bug_in_a_runner_ends_the_turn_and_never_the_replica(world: World) -> None:
    owner, other = await world.cluster(2)
    chat, call, _ = await world.answering(owner)
    reader = await other.read(chat)
    call.crash(RuntimeError("a bug"))
    await reader.until_line("error internal", within=0.1)
    assert "a bug" not in str(reader.events[-1].data), "what went wrong inside is for the log"
    assert "runner.crashed" in world.names_told()
    another = await owner.create("are you alive?")
    (await world.model.next_call()).answer("Yes.")
    await another.until_status("waiting")
    assert owner.registered
    await other.send(chat, "go on")
    (await world.model.next_call()).answer("Gladly.")
    await reader.until_line("assistant: Gladly.")


async def test_a_bug_while_a_chat_is_stopped_still_stops_it(world: World) -> None:
    owner = await world.replica()
    chat, call, reader = await world.answering(owner)
    reader.view.words_may_be_lost = True
    hold = owner.database_wire.hold("commit")
    call.crash(ZeroDivisionError())
    await hold.reached.wait()
    await owner.interrupt(chat)
    hold.release()
    await reader.until_status("waiting")
    assert chat.owner is None


async def test_a_tool_that_does_not_exist_is_a_result_that_says_so_and_the_turn_goes_on(world: World) -> None:
    owner = await world.replica()
    chat = await owner.create()
    reader = await owner.read(chat)
    call = await world.model.next_call()
    call.ask_for_tool("call-1", "teleport")
    call.finish("tool_calls")
    call = await world.model.next_call()
    assert [message.role for message in call.request.messages] == ["user", "assistant", "tool"]
    call.answer("There is no teleport.")
    await reader.until_status("waiting")
    assert chat.state.open_calls == ()
    (part,) = chat.row.messages[2].parts
    assert isinstance(part, ToolResultPart)
    assert part.is_error
    assert "There is no tool 'teleport'" in part.text


async def test_what_the_provider_reports_is_stored_with_the_answer(world: World) -> None:
    owner = await world.replica()
    chat, call, _ = await world.answering(owner, "Hi")
    call.finish("length", Usage(input_tokens=3, output_tokens=1))
    await chat.until_status("waiting")
    message = chat.row.messages[-1]
    assert message.finish_reason == "length"
    assert message.usage == Usage(input_tokens=3, output_tokens=1)


async def test_an_answer_beyond_the_bound_on_memory_is_an_error(world: World) -> None:
    owner = await world.replica(attempt_bytes_max=64 << 10)
    chat, call, reader = await world.answering(owner)
    call.say("x" * (64 << 10))
    await reader.until_line("error answer_too_large")
    assert chat.history == ["user: hello"]


async def test_each_turn_has_a_budget_of_attempts_of_its_own(world: World) -> None:
    owner = await world.replica(attempts_max=2, retry_base_seconds=0.0)
    chat = await owner.create()
    for turn in range(3):
        (await world.model.next_call()).fail()
        (await world.model.next_call()).answer(f"answer {turn}")
        await chat.until_status("waiting")
        await owner.send(chat, "again")
    assert [line for line in chat.history if line.startswith("assistant")] == [
        "assistant: answer 0",
        "assistant: answer 1",
        "assistant: answer 2",
    ]


async def test_a_retry_outlives_its_owner(world: World) -> None:
    """The wait is in the database: whoever takes the chat over waits for what is left of it."""
    a, b = await world.cluster(2, retry_base_seconds=20.0)
    chat, call, _ = await world.answering(a)
    reader = await b.read(chat)
    await reader.until_preview("Half an")
    failed_at = trio.current_time()
    call.fail()
    await reader.until_line("retry 1 overloaded")
    await trio.sleep(5)
    a.kill()
    await chat.until(lambda chat: chat.owner == b.worker_id, within=1.0)
    assert chat.state.attempt == 1, "the takeover is no attempt while the wait is on"
    (await world.model.next_call()).answer("Whole.")
    assert trio.current_time() - failed_at == pytest.approx(20.0, abs=0.2)
    await reader.until_status("waiting")
    assert "attempt 2" in reader.story


async def test_word_of_a_failed_attempt_that_arrives_when_the_next_one_is_on_changes_nothing(world: World) -> None:
    """A request that its sender gave up, and made again, may get through all the same, much later (P3)."""
    owner = await world.replica(retry_base_seconds=1.0)
    chat, call, reader = await world.answering(owner, "Half")
    call.fail()
    await reader.until_line("retry 1 overloaded")
    call = await world.model.next_call()
    call.say("Whole")
    await reader.until_preview("Whole")
    fence = Fence(chat.id, owner.worker_id, chat.epoch, chat.state.history_version)
    with pytest.raises(Moved):
        await owner.store.commit(fence, ScheduleRetry(Retry(1, 0, "busy", "overloaded")))
    call.answer(" again.")
    await reader.until_status("waiting")
    assert reader.story.count("retry 1 overloaded") == 1
    assert chat.history == ["user: hello", "assistant: Whole again."]
