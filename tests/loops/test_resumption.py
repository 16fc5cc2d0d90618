"""An owner dies in mid-answer, and the next one goes on with the very answer: attached to it where its provider goes on
with it, or continued from the words that there are. Readers keep every word, and get each once (P3, P4)."""

from __future__ import annotations

from itertools import pairwise

import pytest
import trio

from chatcluster.attempt import ATTACHED_MAX
from chatcluster.chat import Underway
from chatcluster.models import Continuation
from chatcluster.parts import OpaquePart, ReasoningPart, Role, ToolCallPart, text_of
from chatcluster.ports import Attachment, Delta
from loops.cluster_world import Chat, SimulatedReplica, World
from loops.reader import Reader
from loops.scripted_model import Call
from loops.scripted_tools import tool

WORDS = [f"w{index} " for index in range(8)]
ANSWER = "".join(WORDS)


async def asked(world: World, able: Continuation, replicas: int = 2) -> tuple[Chat, Call, Reader]:
    """A chat whose first call of the model has come, and a reader on a replica that does not own it."""
    world.model.able = able
    cluster = await world.cluster(replicas, claim_poll_seconds=3600.0)
    chat = await cluster[0].create()
    call = await world.model.next_call()
    outside = next(replica for replica in cluster if replica is not world.owner_of(chat))
    return chat, call, await outside.read(chat)


async def killed(world: World, chat: Chat) -> SimulatedReplica:
    """The owner dies; readers are not on it."""
    owner = world.owner_of(chat)
    await world.settle()
    owner.kill()
    return owner


async def said_until(reader: Reader, world: World, text: str) -> None:
    await reader.until_preview(text)
    await world.settle()


def attempts_of(reader: Reader) -> list[str]:
    return [event.type for event in reader.events if event.type in ("attempt", "resumed")]


def as_shown_once(reader: Reader) -> None:
    """Each position was shown once, in order."""
    positions = [event.id.partition(".")[2] for event in reader.events if event.type == "part"]
    assert len(positions) == len(set(positions))
    assert all(tuple(map(int, a.split("-"))) < tuple(map(int, b.split("-"))) for a, b in pairwise(positions))


# --- attached ---------------------------------------------------------------------------------


@pytest.mark.parametrize("said", range(len(WORDS) + 1))
async def test_an_answer_in_the_background_is_attached_to_behind_each_of_its_words(world: World, said: int) -> None:
    chat, call, reader = await asked(world, Continuation.BACKGROUND)
    call.begin("resp_1")
    for index in range(said):
        call.say_numbered(index + 2, WORDS[index])
    if said:
        await said_until(reader, world, "".join(WORDS[:said]))
    else:
        await reader.until_line("attempt 1")
    await killed(world, chat)
    again = await world.model.next_call()
    assert again.request.attach == Attachment("resp_1", said + 1 if said else None)
    for index in range(said, len(WORDS)):
        again.say_numbered(index + 2, WORDS[index])
    again.finish()
    await reader.until_status("waiting")
    assert chat.history == ["user: hello", f"assistant: {ANSWER}"] == reader.history
    assert attempts_of(reader) == ["attempt", "resumed"]
    as_shown_once(reader)
    assert len(world.model.calls) == 2
    assert world.model.cancelled == []


async def test_a_kill_right_after_the_answer_is_known_asks_for_no_other(world: World) -> None:
    """Nothing was shown of it yet; the row has it."""
    chat, call, reader = await asked(world, Continuation.BACKGROUND)
    call.begin("resp_1")
    await chat.until(lambda chat: "resp_1" in chat.state.answer)
    await killed(world, chat)
    again = await world.model.next_call()
    assert again.request.attach == Attachment("resp_1")
    again.say_numbered(2, "All of it.")
    again.finish()
    await reader.until_status("waiting")
    assert chat.history[-1] == "assistant: All of it."
    assert chat.state.answer == "", "it is history now"


async def test_no_word_is_shown_of_an_answer_before_it_is_known_which_it_is(world: World) -> None:
    chat, call, reader = await asked(world, Continuation.BACKGROUND)
    hold = world.owner_of(chat).database_wire.hold("commit")
    call.begin("resp_1")
    call.say_numbered(2, "Half")
    await hold.reached.wait()
    await world.settle()
    assert reader.preview == ""
    hold.release()
    await reader.until_preview("Half")


async def test_one_death_after_the_other_and_still_one_answer(world: World) -> None:
    chat, call, reader = await asked(world, Continuation.BACKGROUND, replicas=4)
    call.begin("resp_1")
    shown = ""
    for index, word in enumerate(WORDS[:2]):
        call.say_numbered(index + 2, word)
        shown += word
        await said_until(reader, world, shown)
        dead = await killed(world, chat)
        living = [replica for replica in world.replicas if replica is not dead and replica.registered]
        call = await world.model.next_call()
        assert call.request.attach == Attachment("resp_1", index + 2)
        reader = await next(r for r in living if r is not world.owner_of(chat)).resume(chat, reader)
    call.say_numbered(4, WORDS[2])
    call.finish()
    await reader.until_status("waiting")
    assert chat.history[-1] == f"assistant: {''.join(WORDS[:3])}" == reader.history[-1]
    assert [event.type for event in reader.view.events if event.type in ("attempt", "resumed")].count("attempt") == 1


async def test_of_a_thought_that_two_owners_heard_nobody_says_how_long_it_was(world: World) -> None:
    """What was thought to its end before keeps its duration, and its place to attach behind."""
    chat, call, reader = await asked(world, Continuation.BACKGROUND)
    call.begin("resp_1")
    await trio.sleep(1)
    call.play(Delta(ReasoningPart("Hm."), 2))
    await trio.sleep(1)
    call.say_numbered(3, "So")
    await said_until(reader, world, "So")
    call.play(Delta(ReasoningPart("Well, "), 4))
    await reader.until(lambda reader: any("Well" in str(event.data) for event in reader.events))
    await killed(world, chat)
    again = await world.model.next_call()
    assert again.request.attach == Attachment("resp_1", 4)
    await trio.sleep(1)
    again.play(Delta(ReasoningPart("now."), 5))
    again.say_numbered(6, " it is.")
    again.finish()
    await reader.until_status("waiting")
    first, _, second, _ = chat.row.messages[-1].parts
    assert isinstance(first, ReasoningPart)
    assert first.duration_ms == pytest.approx(2000, abs=200)
    assert second == ReasoningPart("Well, now.")


async def test_a_thought_that_ended_keeps_the_place_behind_it(world: World) -> None:
    chat, call, reader = await asked(world, Continuation.BACKGROUND)
    call.begin("resp_1")
    call.play(Delta(ReasoningPart("Hm."), 2))
    await trio.sleep(1)
    call.play(Delta(OpaquePart("p", "m", "signature", "{}"), 3))
    await reader.until(lambda reader: any("duration_ms" in str(event.data) for event in reader.events))
    await killed(world, chat)
    again = await world.model.next_call()
    assert again.request.attach == Attachment("resp_1", 2), "what is not shown comes again"


async def test_an_answer_that_the_provider_has_forgotten_is_asked_for_anew_at_once(world: World) -> None:
    chat, call, reader = await asked(world, Continuation.BACKGROUND)
    call.begin("resp_1")
    call.say_numbered(2, "Half")
    await said_until(reader, world, "Half")
    began = trio.current_time()
    await killed(world, chat)
    (await world.model.next_call()).fail("answer_forgotten")
    again = await world.model.next_call()
    assert again.request.attach is None
    assert trio.current_time() - began < 1, "nothing is waited for"
    again.answer("Anew.")
    await reader.until_status("waiting")
    assert chat.history[-1] == "assistant: Anew."
    assert chat.state.failures == 0
    assert reader.story[-3:] == ["… Anew.", "assistant: Anew.", "status waiting"]


async def test_without_the_frames_the_answer_is_listened_to_from_its_beginning(world: World) -> None:
    """P8: Redis lost all it had. Nothing is asked twice all the same; readers are told that the attempt is another."""
    chat, call, reader = await asked(world, Continuation.BACKGROUND)
    reader.view.words_may_be_lost = True
    call.begin("resp_1")
    call.say_numbered(2, "Half")
    await said_until(reader, world, "Half")
    owner = world.owner_of(chat)
    owner.redis_wire.cut = True  # it cannot bring them back
    world.broker.drop_stream(chat.id)
    await killed(world, chat)
    again = await world.model.next_call()
    assert again.request.attach == Attachment("resp_1")
    again.say_numbered(2, "Half")
    again.say_numbered(3, " and whole.")
    again.finish()
    await reader.until_status("waiting")
    assert chat.history[-1] == "assistant: Half and whole."
    assert attempts_of(reader)[-1] == "attempt"


async def test_where_a_call_had_begun_the_answer_is_listened_to_from_its_beginning(world: World) -> None:
    """Half a call is none, and the provider tells a call whole or not at all."""
    chat, call, reader = await asked(world, Continuation.BACKGROUND)
    call.begin("resp_1")
    call.say_numbered(2, "Let me look.")
    call.ask_for_tool("c1", "look", "{")
    await reader.until(lambda reader: any("look{" in line for line in reader.story))
    await killed(world, chat)
    again = await world.model.next_call()
    assert again.request.attach == Attachment("resp_1")
    again.answer("Whole.")
    await reader.until_status("waiting")
    assert chat.history[-1] == "assistant: Whole."


async def test_an_answer_that_failed_is_not_attached_to(world: World) -> None:
    chat, call, reader = await asked(world, Continuation.BACKGROUND)
    call.begin("resp_1")
    call.say_numbered(2, "Half")
    await said_until(reader, world, "Half")
    call.fail()
    await reader.until_line("retry 1 overloaded")
    assert Underway.of(chat.state) is None
    assert world.model.cancelled == ["resp_1"], "nobody waits for it any more"
    await killed(world, chat)
    assert (await world.model.next_call()).request.attach is None


# --- the connection breaks, and nobody dies ----------------------------------------------------


@pytest.mark.parametrize("said", range(len(WORDS) + 1))
async def test_an_owner_attaches_again_where_its_connection_broke(world: World, said: int) -> None:
    """Nothing is asked or paid twice, and readers notice nothing."""
    chat, call, reader = await asked(world, Continuation.BACKGROUND)
    call.begin("resp_1")
    for index in range(said):
        call.say_numbered(index + 2, WORDS[index])
    call.hang_up()
    again = await world.model.next_call()
    assert again.request.attach == Attachment("resp_1", said + 1 if said else None)
    for index in range(said, len(WORDS)):
        again.say_numbered(index + 2, WORDS[index])
    again.finish()
    await reader.until_status("waiting")
    assert chat.history == ["user: hello", f"assistant: {ANSWER}"] == reader.history
    assert attempts_of(reader) == ["attempt"]
    as_shown_once(reader)
    assert world.model.cancelled == []


async def test_an_outage_of_the_provider_is_sat_out(world: World) -> None:
    chat, call, reader = await asked(world, Continuation.BACKGROUND)
    call.begin("resp_1")
    call.say_numbered(2, "Half")
    call.hang_up()
    for _ in range(4):
        (await world.model.next_call()).fail("generic")
    again = await world.model.next_call()
    assert again.request.attach == Attachment("resp_1", 2)
    again.say_numbered(3, " an answer")
    again.finish()
    await reader.until_status("waiting")
    assert chat.history[-1] == "assistant: Half an answer"
    assert chat.state.failures == 0


async def test_a_connection_that_breaks_again_and_again_is_a_failure_of_the_attempt(world: World) -> None:
    chat, call, reader = await asked(world, Continuation.BACKGROUND)
    call.begin("resp_1")
    call.say_numbered(2, "Half")
    call.hang_up()
    for _ in range(ATTACHED_MAX):
        (await world.model.next_call()).hang_up()
    await reader.until_line("retry 1 stream_incomplete")
    await world.settle()
    assert world.model.cancelled == ["resp_1"], "nobody goes on with it"
    again = await world.model.next_call()
    assert again.request.attach is None
    again.answer("Anew.")
    await reader.until_status("waiting")
    assert chat.history[-1] == "assistant: Anew."


@pytest.mark.parametrize(("kind", "retryable"), [("answer_forgotten", True), ("config", False), ("auth", False)])
async def test_a_provider_that_one_cannot_attach_to_again_costs_an_attempt(
    world: World, kind: str, retryable: bool
) -> None:
    """It waits before the next, and has as many as any other: it would be asked, and paid, for ever. And it is no end
    of the turn that its server knows no such request."""
    chat, call, reader = await asked(world, Continuation.BACKGROUND)
    for failures in (1, 2):
        call.begin(f"resp_{failures}")
        call.say_numbered(2, "Half")
        call.hang_up()
        refused = await world.model.next_call()
        assert refused.request.attach == Attachment(f"resp_{failures}", 2)
        refused.fail(kind, retryable=retryable)
        await reader.until_line(f"retry {failures} stream_incomplete")
        call = await world.model.next_call()
        assert (call.request.attach, chat.state.failures) == (None, failures)
    call.answer("Anew.")
    await reader.until_status("waiting")
    assert chat.history[-1] == "assistant: Anew."


@pytest.mark.parametrize("more", [[" an"], []])
async def test_what_the_provider_says_of_its_answer_on_a_later_connection_is_what_counts(
    world: World, more: list[str]
) -> None:
    _, call, reader = await asked(world, Continuation.BACKGROUND)
    call.begin("resp_1")
    call.say_numbered(2, "Half")
    call.hang_up()
    again = await world.model.next_call()
    for words in more:
        again.say_numbered(3, words)
    again.fail("content_filter", retryable=False)
    await reader.until_line("error content_filter")


async def test_a_takeover_goes_on_behind_what_came_on_the_last_connection(world: World) -> None:
    chat, call, reader = await asked(world, Continuation.BACKGROUND)
    call.begin("resp_1")
    call.say_numbered(2, WORDS[0])
    call.hang_up()
    again = await world.model.next_call()
    again.say_numbered(3, WORDS[1])
    await said_until(reader, world, WORDS[0] + WORDS[1])
    await killed(world, chat)
    last = await world.model.next_call()
    assert last.request.attach == Attachment("resp_1", 3)
    last.say_numbered(4, WORDS[2])
    last.hang_up()
    assert (await world.model.next_call()).request.attach == Attachment("resp_1", 4)


async def test_an_owner_attaches_again_where_its_connection_broke_within_a_call(world: World) -> None:
    """What the answer had said of the call stands, and it is asked for once."""
    world.tools.offered = [tool("look")]
    chat, call, reader = await asked(world, Continuation.BACKGROUND)
    call.begin("resp_1")
    call.say_numbered(2, "Let me look.")
    call.ask_numbered(3, "c1", "look", '{"at": ', "theirs")
    call.hang_up()
    again = await world.model.next_call()
    begun = ToolCallPart("c1", "look", '{"at": ', "theirs")
    assert again.request.attach == Attachment("resp_1", 3, (begun,))
    again.write_arguments("c1", '"Bern"}')
    again.finish("tool_calls")
    (await world.tools.next_run()).give("sunny")
    (await world.model.next_call()).answer("Done.")
    await reader.until_status("waiting")
    answer = next(message for message in chat.row.messages if message.role is Role.ASSISTANT)
    assert answer.parts[-1] == ToolCallPart("c1", "look", '{"at": "Bern"}', "theirs")
    assert world.model.cancelled == []


@pytest.mark.parametrize("what", ["a call", "a word without a place"])
async def test_what_cannot_be_gone_on_with_has_failed(world: World, what: str) -> None:
    _, call, reader = await asked(world, Continuation.BACKGROUND)
    call.begin("resp_1")
    if what == "a call":
        call.ask_for_tool("call-1")
    else:
        call.say("Half")
    call.hang_up()
    await reader.until_line("retry 1 stream_incomplete")
    assert (await world.model.next_call()).request.attach is None


# --- nobody wants it any more -----------------------------------------------------------------


async def test_p5_an_interrupt_cancels_the_answer_at_its_provider(world: World) -> None:
    chat, call, reader = await asked(world, Continuation.BACKGROUND)
    call.begin("resp_1")
    call.say_numbered(2, "Half")
    await said_until(reader, world, "Half")
    await world.replicas[1].interrupt(chat)
    await reader.until_status("waiting")
    await world.settle()
    assert chat.history[-1] == "assistant: Half"
    assert world.model.cancelled == ["resp_1"]


async def test_p5_so_does_one_whose_owner_died_with_it(world: World) -> None:
    chat, call, reader = await asked(world, Continuation.BACKGROUND)
    call.begin("resp_1")
    call.say_numbered(2, "Half")
    await said_until(reader, world, "Half")
    world.owner_of(chat).database_wire.hold("commit")
    await world.replicas[1].interrupt(chat)
    await killed(world, chat)
    await reader.until_status("waiting")
    await world.settle()
    assert chat.history[-1] == "assistant: Half"
    assert "resp_1" in world.model.cancelled


async def test_an_interrupt_after_a_takeover_keeps_the_words_of_both_owners(world: World) -> None:
    chat, call, reader = await asked(world, Continuation.BACKGROUND)
    call.begin("resp_1")
    call.say_numbered(2, "Half")
    await said_until(reader, world, "Half")
    await killed(world, chat)
    (await world.model.next_call()).say_numbered(3, " an answer")
    await said_until(reader, world, "Half an answer")
    await world.replicas[1].interrupt(chat)
    await reader.until_status("waiting")
    assert chat.history[-1] == "assistant: Half an answer"
    assert world.model.cancelled == ["resp_1"]


async def test_an_edit_cancels_the_answer_to_what_it_replaces(world: World) -> None:
    chat, call, reader = await asked(world, Continuation.BACKGROUND)
    call.begin("resp_1")
    call.say_numbered(2, "Half")
    await said_until(reader, world, "Half")
    await world.replicas[1].edit(chat, "hello", "better")
    (await world.model.next_call()).answer("Anew.")
    await reader.until_status("waiting")
    assert world.model.cancelled == ["resp_1"]


async def test_so_does_one_that_came_when_its_owner_was_dead(world: World) -> None:
    """It would be generated to its end, and paid, for nobody."""
    chat, call, reader = await asked(world, Continuation.BACKGROUND)
    call.begin("resp_1")
    call.say_numbered(2, "Half")
    await said_until(reader, world, "Half")
    owner = world.owner_of(chat)
    living = next(replica for replica in world.replicas if replica is not owner)
    owner.freeze()
    await living.edit(chat, "hello", "better")
    owner.kill()
    (await world.model.next_call()).answer("Anew.")
    await reader.until_status("waiting")
    await world.settle()
    assert world.model.cancelled == ["resp_1"]
    await living.send(chat, "next")
    (await world.model.next_call()).answer("And on.")
    await reader.until_line("assistant: And on.")
    assert world.model.cancelled == ["resp_1"], "once"


@pytest.mark.parametrize("end", ["hang_up", "fail"])
async def test_p2_an_owner_that_thaws_does_not_cancel_what_its_successor_is_attached_to(world: World, end: str) -> None:
    chat, call, reader = await asked(world, Continuation.BACKGROUND)
    call.begin("resp_1")
    call.say_numbered(2, "Half")
    await said_until(reader, world, "Half")
    owner = world.owner_of(chat)
    owner.heartbeat_wire.cut = owner.database_wire.cut = True
    world.database.drop_sessions(owner.worker_id)
    again = await world.model.next_call()
    assert again.request.attach == Attachment("resp_1", 2)
    call.hang_up() if end == "hang_up" else call.fail("generic")
    await trio.sleep(0.5)
    owner.find_database()
    await trio.sleep(20)
    assert world.model.cancelled == []
    again.say_numbered(3, " an answer")
    again.finish()
    await reader.until_status("waiting")
    assert chat.history[-1] == "assistant: Half an answer"


# --- continued --------------------------------------------------------------------------------


@pytest.mark.parametrize("said", range(1, len(WORDS) + 1))
async def test_a_model_goes_on_from_each_of_the_words_that_there_are(world: World, said: int) -> None:
    chat, call, reader = await asked(world, Continuation.PREFIX)
    call.say(*WORDS[:said])
    await said_until(reader, world, "".join(WORDS[:said]))
    await killed(world, chat)
    again = await world.model.next_call()
    assert again.request.begun == "".join(WORDS[:said])
    assert again.prompt == ["user: hello"]
    again.answer(*WORDS[said:])
    await reader.until_status("waiting")
    assert chat.history == ["user: hello", f"assistant: {ANSWER}"] == reader.history
    assert attempts_of(reader) == ["attempt", "resumed"]
    as_shown_once(reader)


@pytest.mark.parametrize("is_told", [True, False])
async def test_the_next_owner_knows_how_many_tokens_there_are_of_the_answer(world: World, is_told: bool) -> None:
    """What the frames say of it, also where several pieces went into one; else an estimate, rather too high."""
    chat, call, reader = await asked(world, Continuation.PREFIX)
    for index, word in enumerate(WORDS[:5]):
        call.say_numbered(index + 1, word) if is_told else call.say(word)
    await said_until(reader, world, "".join(WORDS[:5]))
    await killed(world, chat)
    assert (await world.model.next_call()).request.begun_tokens == 5


async def test_where_nothing_was_said_the_model_is_asked_anew(world: World) -> None:
    chat, _, reader = await asked(world, Continuation.PREFIX)
    await reader.until_line("attempt 1")
    await killed(world, chat)
    again = await world.model.next_call()
    assert again.request.begun == ""
    again.answer("Whole.")
    await reader.until_status("waiting")
    assert attempts_of(reader) == ["attempt", "attempt"]


@pytest.mark.parametrize("what", ["call", "reasoning"])
async def test_only_text_is_continued(world: World, what: str) -> None:
    chat, call, reader = await asked(world, Continuation.PREFIX)
    if what == "reasoning":
        call.think("Hm.")
    call.say("Half")
    if what == "call":
        call.ask_for_tool("c1", "look", "{")
    await reader.until(lambda reader: any("look{" in line or reader.preview == "Half" for line in reader.story))
    await killed(world, chat)
    again = await world.model.next_call()
    assert again.request.begun == ""
    again.answer("Whole.")
    await reader.until_status("waiting")
    assert chat.history[-1] == "assistant: Whole."


async def test_a_model_that_refuses_to_go_on_is_asked_anew(world: World) -> None:
    chat, call, reader = await asked(world, Continuation.PREFIX)
    call.say("Half")
    await said_until(reader, world, "Half")
    await killed(world, chat)
    (await world.model.next_call()).fail("config", retryable=False)
    again = await world.model.next_call()
    assert again.request.begun == ""
    again.answer("Anew.")
    await reader.until_status("waiting")
    assert chat.history[-1] == "assistant: Anew."


async def test_what_was_asked_in_vain_is_not_booked(world: World) -> None:
    """The words before it are another attempt's, which is booked as lost."""
    chat, call, reader = await asked(world, Continuation.PREFIX)
    call.say("Half")
    await said_until(reader, world, "Half")
    await killed(world, chat)
    (await world.model.next_call()).fail("config", retryable=False)
    (await world.model.next_call()).answer("Anew.")
    await reader.until_status("waiting")
    outcomes = [str(row.spent.outcome) for row in world.database.kept.usage.values()]
    assert outcomes == ["lost", "committed"]


async def test_a_failure_in_the_rest_is_a_failure_of_the_attempt(world: World) -> None:
    chat, call, reader = await asked(world, Continuation.PREFIX)
    call.say("Half")
    await said_until(reader, world, "Half")
    await killed(world, chat)
    again = await world.model.next_call()
    again.say(" an")
    await reader.until_preview("Half an")
    again.fail()
    await reader.until_line("retry 2 overloaded")
    third = await world.model.next_call()
    assert third.request.begun == ""
    third.answer("Anew.")
    await reader.until_status("waiting")
    assert chat.history[-1] == "assistant: Anew."
    assert attempts_of(reader) == ["attempt", "resumed", "attempt"]


@pytest.mark.parametrize("able", [Continuation.PREFIX, Continuation.BACKGROUND])
async def test_a_reader_that_comes_later_gets_all_of_it_once(world: World, able: Continuation) -> None:
    chat, call, reader = await asked(world, able)
    if able is Continuation.BACKGROUND:
        call.begin("resp_1")
    call.say_numbered(2, "Half")
    await said_until(reader, world, "Half")
    await killed(world, chat)
    (await world.model.next_call()).say_numbered(3, " an answer")
    await reader.until_preview("Half an answer")
    late = await world.owner_of(chat).read(chat)
    await late.until_preview("Half an answer")
    assert attempts_of(late) == ["attempt", "resumed"]
    third = await world.replica()
    cold = await third.read(chat)
    await cold.until_preview("Half an answer")


async def test_a_reader_between_two_owners_keeps_its_preview(world: World) -> None:
    """It joins when the chat has been claimed, and before the next owner has said that it goes on."""
    chat, call, reader = await asked(world, Continuation.PREFIX)
    call.say("Half")
    await said_until(reader, world, "Half")
    survivor = next(replica for replica in world.replicas if replica is not world.owner_of(chat))
    hold = survivor.redis_wire.hold("open")
    await killed(world, chat)
    await hold.reached.wait()
    between = await survivor.read(chat)
    await between.until_preview("Half")
    hold.release()
    (await world.model.next_call()).answer(" an answer.")
    await between.until_status("waiting")
    assert between.history == chat.history == ["user: hello", "assistant: Half an answer."]
    assert text_of(chat.row.messages[-1].parts) == "Half an answer."


async def test_without_redis_the_model_is_asked_anew_and_soon(world: World) -> None:
    chat, call, reader = await asked(world, Continuation.PREFIX)
    reader.view.words_may_be_lost = True
    call.say("Half")
    await said_until(reader, world, "Half")
    world.broker.disconnect()
    began = trio.current_time()
    await killed(world, chat)
    again = await world.model.next_call()
    assert again.request.begun == ""
    assert trio.current_time() - began < 3
    again.answer("Whole.")
    await chat.until_status("waiting")
    assert chat.history[-1] == "assistant: Whole."
