"""A chat that is too long for its model goes on behind a summary: told, atomic, in no spiral, nothing lost."""

from __future__ import annotations

import msgspec
import pytest

from chatcluster.chat import Busy
from chatcluster.compaction import CUT
from chatcluster.content import SummaryPart
from chatcluster.context import HEADING, INSTRUCTION, SUMMARY_CALL, TIGHT_MAX, tokens_of_text
from chatcluster.parts import Message, ToolResultPart, Usage, text_of
from chatcluster.ports import Window
from loops.cluster_world import Chat, SimulatedReplica, World
from loops.scripted_model import Call
from loops.scripted_tools import tool
from loops.tool_scenes import running

WINDOW = Window(context_tokens=1000, output_tokens=10, percent=70)
LONG = "long " * 20


def summary_of(chat: Chat) -> SummaryPart | None:
    parts = [part for message in chat.row.messages for part in message.parts if isinstance(part, SummaryPart)]
    return parts[-1] if parts else None


def shown_summaries(chat: Chat) -> list[dict[str, object]]:
    """What readers are shown of the summaries in a history."""
    results = [part for message in chat.row.messages for part in message.parts if isinstance(part, ToolResultPart)]
    return [msgspec.json.decode(part.text) for part in results if part.call_id.startswith(SUMMARY_CALL)]


def is_summary_request(call: Call) -> bool:
    return text_of(call.request.messages[-1].parts) == INSTRUCTION


def said(messages: tuple[Message, ...]) -> list[str]:
    """The words of a prompt; of a summary those of the summary alone."""
    return [text_of(message.parts).removeprefix(HEADING).strip() for message in messages]


async def long_chat(world: World, replica: SimulatedReplica, input_tokens: int = 750) -> Chat:
    """A chat at rest whose last prompt had so many tokens."""
    world.window = WINDOW
    chat = await replica.create("hello")
    call = await world.model.next_call()
    call.say("Hi there!")
    call.finish(usage=Usage(input_tokens, 10))
    await chat.until_status("waiting")
    return chat


async def summary_request(world: World) -> Call:
    call = await world.model.next_call()
    assert is_summary_request(call)
    return call


# --- when it is needed ------------------------------------------------------------------------


async def test_below_the_threshold_the_whole_history_is_told(world: World) -> None:
    a = await world.replica()
    chat = await long_chat(world, a, input_tokens=600)
    await a.send(chat, "more")
    assert (await world.model.next_call()).prompt == ["user: hello", "assistant: Hi there!", "user: more"]


async def test_above_it_a_summary_takes_the_place_of_what_is_answered(world: World) -> None:
    a = await world.replica()
    chat = await long_chat(world, a)
    await a.send(chat, "more")
    request = await summary_request(world)
    assert request.prompt[:-1] == ["user: hello", "assistant: Hi there!", "user: more"]
    assert not request.request.may_call_tools
    request.answer("They said hello.")
    call = await world.model.next_call()
    assert said(call.request.messages) == ["They said hello.", "more"]
    call.answer("Here is more.")
    await chat.until_status("waiting")
    assert [line for line in chat.history if not line.endswith(": ")] == [
        "user: hello",
        "assistant: Hi there!",
        "user: more",
        "assistant: Here is more.",
    ]


async def test_what_came_since_the_last_usage_counts_by_an_estimate(world: World) -> None:
    a = await world.replica()
    chat = await long_chat(world, a, input_tokens=600)
    await a.send(chat, "word " * 80)
    assert is_summary_request(await world.model.next_call())


async def test_a_server_that_cuts_a_prompt_without_a_word_is_not_believed(world: World) -> None:
    """It counts what it has left, which is much less than what it was sent."""
    world.window = WINDOW
    a = await world.replica()
    chat = await a.create("word " * 360)
    call = await world.model.next_call()
    call.say("Hm.")
    call.finish(usage=Usage(200, 2))
    await chat.until_status("waiting")
    await a.send(chat, "word " * 100)
    assert is_summary_request(await world.model.next_call())


async def test_where_no_limit_is_known_nothing_happens_by_itself(world: World) -> None:
    a = await world.replica()
    chat = await long_chat(world, a, input_tokens=1_000_000)
    world.window = None
    await a.send(chat, "more")
    assert not is_summary_request(await world.model.next_call())


async def test_in_the_middle_of_a_turn_what_its_user_said_is_kept_whole(world: World) -> None:
    """And the steps that were taken count, and are told in the summary."""
    world.window = Window(context_tokens=2000, output_tokens=100, percent=50)
    a = await world.replica()
    chat, run = await running(world, a)
    run.give("word " * 600)
    request = await summary_request(world)
    assert [spec.name for spec in request.request.tools] == ["read_result", "tool"], "the prefix stays as it is"
    request.answer("The tool said many words.")
    call = await world.model.next_call()
    assert said(call.request.messages) == ["The tool said many words.", "hello"]
    summary = summary_of(chat)
    assert summary is not None
    assert summary.steps == 1
    call.answer("So it is.")
    await chat.until_status("waiting")
    assert chat.state.open_calls == ()


async def test_messages_that_nothing_answered_are_kept_and_those_that_wait_stay_queued(world: World) -> None:
    a = await world.replica()
    chat = await long_chat(world, a)
    await a.send(chat, "first")
    request = await summary_request(world)
    await a.send(chat, "second", Busy.QUEUE)
    request.answer("They said hello.")
    (await world.model.next_call()).answer("One.")
    call = await world.model.next_call()
    assert said(call.request.messages) == ["They said hello.", "first", "One.", "second"]


# --- what readers see -------------------------------------------------------------------------


async def test_readers_see_a_call_and_its_result_and_not_what_the_model_is_told(world: World) -> None:
    a, b = await world.cluster(2)
    chat = await long_chat(world, a)
    reader = await b.read(chat)
    await a.send(chat, "more")
    (await summary_request(world)).answer("They said hello.")
    (await world.model.next_call()).answer("Here is more.")
    await reader.until_status("waiting")
    (told,) = shown_summaries(chat)
    assert told == {
        "summary": "They said hello.",
        "source": "threshold",
        "context_tokens": told["context_tokens"],
        "context_limit_tokens": 1000,
        "threshold_percent": 70,
        "usage_percent": 76,
    }
    messages = [event.data["message"] for event in reader.events if event.type == "message"]
    kinds = [part["type"] for message in messages for part in message["parts"]]
    assert "summary" not in kinds
    assert kinds.count("tool_call") == kinds.count("tool_result") == 1
    streamed = [event.data["part"]["type"] for event in reader.events if event.type == "part"]
    assert streamed[:2] == ["tool_call", "tool_result"], "the words of the summary are streamed to nobody"


# --- failures ---------------------------------------------------------------------------------


async def test_a_summary_that_fails_below_the_limit_is_told_and_the_turn_goes_on(world: World) -> None:
    a = await world.replica()
    chat = await long_chat(world, a)
    reader = await a.read(chat)
    await a.send(chat, "more")
    (await summary_request(world)).fail()
    call = await world.model.next_call()
    assert call.prompt == ["user: hello", "assistant: Hi there!", "user: more"]
    call.answer("Here is more.")
    await reader.until_status("waiting")
    notices = [event.data["part"]["code"] for event in reader.events if "notice" in str(event.data.get("part"))]
    assert notices == ["compaction_failed"]
    assert "chat.compaction_failed" in world.names_told()
    await a.send(chat, "and more")
    assert is_summary_request(await world.model.next_call()), "the next turn tries again"


async def test_an_empty_summary_is_a_failed_one(world: World) -> None:
    a = await world.replica()
    chat = await long_chat(world, a)
    await a.send(chat, "more")
    (await summary_request(world)).answer("  ")
    assert not is_summary_request(await world.model.next_call())
    assert summary_of(chat) is None


async def test_the_beginning_of_a_refusal_is_no_summary(world: World) -> None:
    """It would take the place of all that was said."""
    a = await world.replica()
    chat = await long_chat(world, a)
    await a.send(chat, "more")
    request = await summary_request(world)
    request.say("I am not able")
    request.finish("content_filter")
    call = await world.model.next_call()
    assert call.prompt == ["user: hello", "assistant: Hi there!", "user: more"]
    assert summary_of(chat) is None


async def test_where_the_model_refuses_to_summarise_what_is_too_long_it_is_told_less_of_it(world: World) -> None:
    """Above the limit there is no way on without a summary: each further turn would end in the same error."""
    a = await world.replica()
    chat = await long_chat(world, a, input_tokens=1200)
    await a.send(chat, "more")
    request = await summary_request(world)
    request.say("I am not able")
    request.finish("content_filter")
    (await summary_request(world)).answer("They said hello.")
    (await world.model.next_call()).answer("Here is more.")
    await chat.until_status("waiting")
    summary = summary_of(chat)
    assert summary is not None
    assert summary.text == "They said hello."


@pytest.mark.parametrize(("words", "reason"), [("They said", "length"), ("x" * 5000, "stop"), ("字" * 5000, "stop")])
async def test_a_summary_that_is_cut_says_so_and_leaves_room_for_what_follows(
    world: World, words: str, reason: str
) -> None:
    """One that fills the window by itself would be the end of its chat."""
    a = await world.replica()
    chat = await long_chat(world, a)
    await a.send(chat, "more")
    request = await summary_request(world)
    request.say(words)
    request.finish(reason)
    (await world.model.next_call()).answer("Here is more.")
    await chat.until_status("waiting")
    summary = summary_of(chat)
    assert summary is not None
    assert summary.text.endswith(CUT)
    assert tokens_of_text(summary.text) < WINDOW.threshold_tokens * 2 // 3
    assert summary.tight == 0


async def test_nobody_goes_on_with_a_summary_that_is_broken_off(world: World) -> None:
    """So it does not stay at its provider in the background either, where it would cost all the same."""
    a = await world.replica()
    chat = await long_chat(world, a)
    await a.send(chat, "more")
    request = await summary_request(world)
    assert request.request.is_aside
    request.answer("They said hello.")
    assert not (await world.model.next_call()).request.is_aside


async def test_above_the_limit_a_summary_that_fails_is_a_failed_attempt(world: World) -> None:
    """It is tried again, up to the last attempt; then the turn ends."""
    a = await world.replica(attempts_max=3)
    chat = await long_chat(world, a, input_tokens=1100)
    await a.send(chat, "more")
    for _ in range(3):
        (await summary_request(world)).fail()
    await chat.until_status("error")
    assert chat.state.last_error is not None
    assert chat.state.last_error.code == "overloaded"


async def test_a_provider_that_says_too_long_gets_a_summary_once(world: World) -> None:
    a = await world.replica()
    chat = await long_chat(world, a)
    world.window = None
    await a.send(chat, "more")
    (await world.model.next_call()).fail("context_overflow", retryable=False)
    request = await summary_request(world)
    assert len(request.prompt) == 2, "what is too long is told as one text, of which the oldest is left out"
    request.answer("They said hello.")
    (await world.model.next_call()).answer("Here is more.")
    await chat.until_status("waiting")
    assert shown_summaries(chat)[0]["source"] == "overflow"


async def test_if_it_says_so_again_the_turn_ends_and_the_error_names_the_way_out(world: World) -> None:
    a = await world.replica()
    chat = await long_chat(world, a)
    world.window = None
    await a.send(chat, "more")
    (await world.model.next_call()).fail("context_overflow", retryable=False)
    (await summary_request(world)).answer("They said hello.")
    (await world.model.next_call()).fail("context_overflow", retryable=False)
    await chat.until_status("error")
    error = chat.state.last_error
    assert error is not None
    assert error.code == "context_overflow"
    assert "edit the last message" in error.message
    assert "the provider says: context_overflow" in error.message, "it may have meant images, or bytes"
    assert world.model.idle()


async def test_a_history_that_is_too_long_to_be_summarised_is_halved_until_it_is_not(world: World) -> None:
    a = await world.replica()
    chat = await a.create("hello")
    (await world.model.next_call()).answer(LONG * 200)
    await chat.until_status("waiting")
    await a.send(chat, "more")
    (await world.model.next_call()).fail("context_overflow", retryable=False)
    lengths = []
    for _ in range(3):
        request = await summary_request(world)
        lengths.append(sum(map(len, request.prompt)))
        request.fail("context_overflow", retryable=False)
    assert lengths == sorted(lengths, reverse=True)
    assert lengths[2] < lengths[0]
    (await summary_request(world)).answer("Much was said.")
    assert said((await world.model.next_call()).request.messages) == ["Much was said.", "more"]


async def test_two_summaries_in_a_row_without_headroom_end_the_turn(world: World) -> None:
    """What is kept alone is above the threshold, so each step would be followed by a summary."""
    world.window = Window(context_tokens=4000, output_tokens=100, percent=50)
    a = await world.replica()
    world.tools.offered = [tool("tool")]
    chat = await a.create("word " * 1300)
    for number in range(TIGHT_MAX):
        (await world.model.next_call()).call_tools(f"c{number}")
        (await world.tools.next_run()).give("42")
        (await summary_request(world)).answer("They count.")
    await chat.until_status("error")
    assert chat.state.last_error is not None
    assert chat.state.last_error.code == "context_overflow"
    await a.send(chat, "never mind")
    (await world.model.next_call()).answer("Well.")
    await chat.until_status("waiting")


async def test_a_first_message_above_the_limit_is_an_error_at_once(world: World) -> None:
    world.window = WINDOW
    a = await world.replica()
    chat = await a.create("word " * 1000)
    await chat.until_status("error")
    assert world.model.idle()


# --- what others do meanwhile -----------------------------------------------------------------


async def test_an_interrupt_in_a_summary_keeps_nothing_of_it(world: World) -> None:
    a = await world.replica()
    chat = await long_chat(world, a)
    await a.send(chat, "more")
    (await summary_request(world)).say("They said")
    await a.interrupt(chat)
    await chat.until_status("waiting")
    assert chat.history == ["user: hello", "assistant: Hi there!", "user: more"]


@pytest.mark.parametrize("interrupted", [False, True])
async def test_a_replica_that_dies_in_a_summary_leaves_the_old_history(world: World, interrupted: bool) -> None:
    a, b = await world.replica(), await world.replica(slots=0)
    chat = await long_chat(world, a)
    c = await world.replica()
    await a.send(chat, "more")
    (await summary_request(world)).say("They said")
    owner = world.owner_of(chat)
    before = chat.history
    owner.kill()
    if interrupted:
        await b.interrupt(chat)
        await chat.until_status("waiting")
        assert chat.history == before
        return
    (await summary_request(world)).answer("They said hello.")
    assert said((await world.model.next_call()).request.messages) == ["They said hello.", "more"]
    assert world.owner_of(chat) in (a, c)


async def test_one_that_dies_after_it_leaves_the_new_one_and_the_next_owner_reads_no_more(world: World) -> None:
    a = await world.replica()
    chat = await long_chat(world, a)
    b = await world.replica()
    await a.send(chat, "more")
    (await summary_request(world)).answer("They said hello.")
    call = await world.model.next_call()
    world.owner_of(chat).kill()
    assert said((await world.model.next_call()).request.messages) == said(call.request.messages)
    assert world.owner_of(chat) in (a, b)


async def test_an_edit_behind_a_summary_leaves_it_and_one_before_it_removes_it(world: World) -> None:
    a = await world.replica()
    chat = await long_chat(world, a)
    await a.send(chat, "more")
    (await summary_request(world)).answer("They said hello.")
    (await world.model.next_call()).answer("Here is more.")
    await chat.until_status("waiting")
    await world.exchange(a, chat, "thanks", "Welcome.")
    await a.edit(chat, "thanks", "many thanks")
    call = await world.model.next_call()
    assert said(call.request.messages) == ["They said hello.", "more", "Here is more.", "many thanks"]
    call.answer("Very welcome.")
    await chat.until_status("waiting")
    world.window = None
    await a.edit(chat, "more", "less")
    assert said((await world.model.next_call()).request.messages) == ["hello", "Hi there!", "less"]
    assert summary_of(chat) is None
    assert chat.state.summaries == ()


# --- by request -------------------------------------------------------------------------------


async def test_a_user_has_a_chat_summarised_and_it_rests(world: World) -> None:
    a = await world.replica()
    chat = await world.one_turn(a)
    reader = await a.read(chat)
    await a.compact(chat)
    (await summary_request(world)).answer("They said hello.")
    await chat.until_status("waiting")
    assert shown_summaries(chat)[0]["source"] == "manual"
    await reader.until_status("waiting")
    assert len(reader.turns) == 1, "that is no turn: it answers nobody"
    await a.send(chat, "and?")
    assert said((await world.model.next_call()).request.messages) == ["They said hello.", "and?"]


async def test_a_chat_in_an_error_is_summarised_with_a_fresh_retry_budget(world: World) -> None:
    a = await world.replica(attempts_max=2, retry_base_seconds=0.0)
    chat = await world.one_turn(a)
    await a.send(chat, "more")
    for _ in range(2):
        (await world.model.next_call()).fail()
    await chat.until_status("error")
    await a.compact(chat)
    (await summary_request(world)).fail()
    (await summary_request(world)).answer("They said hello.")
    await chat.until_status("waiting")
    await a.send(chat, "so?")
    assert said((await world.model.next_call()).request.messages) == ["They said hello.", "more", "so?"]


async def test_what_is_sent_meanwhile_is_answered_behind_the_summary(world: World) -> None:
    a = await world.replica()
    chat = await world.one_turn(a)
    await a.compact(chat)
    request = await summary_request(world)
    await a.send(chat, "and?")
    request.answer("They said hello.")
    call = await world.model.next_call()
    assert said(call.request.messages) == ["They said hello.", "and?"]
    call.answer("So.")
    await chat.until_status("waiting")


async def test_where_there_is_nothing_to_summarise_nothing_is_asked(world: World) -> None:
    a = await world.replica()
    chat = await world.one_turn(a)
    await a.compact(chat)
    (await summary_request(world)).answer("They said hello.")
    await chat.until_status("waiting")
    history = chat.history
    await a.compact(chat)
    await chat.until_status("waiting")
    assert world.model.idle()
    assert chat.history == history


@pytest.mark.parametrize("end", ["interrupt", "edit", "archive"])
async def test_a_summary_that_a_user_asked_for_is_stopped_like_any_work(world: World, end: str) -> None:
    a = await world.replica()
    chat = await world.one_turn(a)
    await a.compact(chat)
    await summary_request(world)
    if end == "edit":
        await a.edit(chat, "hello", "good evening")
        assert (await world.model.next_call()).prompt == ["user: good evening"]
    else:
        await (a.interrupt(chat) if end == "interrupt" else a.archive(chat))
        await chat.until(lambda chat: chat.owner is None and chat.state.status == "waiting")
    assert summary_of(chat) is None
    assert not chat.state.compacting
